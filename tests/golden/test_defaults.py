"""Every default of credit/ and objective/, once more, with the paper or the repository that it is from."""

from dataclasses import MISSING, fields
from math import log

import pytest

from research.catalogue import discover
from research.credit import importance, moments
from research.objective import ratio

VERL = "verl, core_algos.py: epsilon 1e-6"
SAMPLE = "verl, TRL and oat take the sample deviation; the papers say std"
NO_VALUE = "no value in the paper; here the deviation's ε"
PPO_CLIP = "arXiv:1707.06347, ε"
DEFAULTS = {
    "GroupZScore": {"ddof": (1, SAMPLE), "eps": (1e-6, VERL)},
    "BatchScaled": {"ddof": (1, SAMPLE), "eps": (1e-6, VERL)},
    "EachZScore": {"ddof": (1, SAMPLE), "eps": (1e-6, VERL)},
    "ProcessZScore": {"ddof": (1, SAMPLE), "eps": (1e-6, NO_VALUE)},
    "EntropyShapedTokens": {
        "alpha1": (1.0, "arXiv:2508.04349, hyperparameters"),
        "alpha2": (0.1, "arXiv:2508.04349, hyperparameters"),
        "ddof": (1, SAMPLE),
        "eps": (1e-6, NO_VALUE),
        "entropy_floor": (1e-6, NO_VALUE),
    },
    "EntropyShapedSequences": {
        "alpha1": (1.0, "arXiv:2508.04349, hyperparameters (β1)"),
        "alpha2": (0.1, "arXiv:2508.04349, hyperparameters (β2)"),
        "ddof": (1, SAMPLE),
        "eps": (1e-6, NO_VALUE),
        "entropy_floor": (1e-6, NO_VALUE),
    },
    "GAE": {"gamma": (1.0, "verl"), "lam": (1.0, "verl")},
    "TopEntropy": {"fraction": (0.2, "arXiv:2506.01939, ρ")},
    "CovarianceBand": {"share": (2e-4, "arXiv:2505.22617, Clip-Cov, r")},
    "SkipHighEntropy": {"limit": (log(2), "arXiv:2508.03772")},
    "Clip": {"eps_low": (0.2, PPO_CLIP), "eps_high": (0.2, PPO_CLIP)},
    "DualClip": {"eps_low": (0.2, PPO_CLIP), "eps_high": (0.2, PPO_CLIP), "c": (3.0, "verl, clip_ratio_c")},
    "DynamicClip": {
        "width_low": (0.16, "arXiv:2509.02333"),
        "width_high": (0.2, "arXiv:2509.02333"),
        "r_max": (10.0, "arXiv:2509.02333"),
    },
    "SigmoidGate": {"tau_positive": (1.0, "TRL, for arXiv:2511.20347"), "tau_negative": (1.05, "the same")},
    "ClippedWeight": {
        "floor": (0.0, "arXiv:2506.13585: only the upper bound is tuned"),
        "cap": (5.0, "TRL, for arXiv:2510.13786, which finds 4 to 8 alike"),
    },
    "GeometricClip": {"log_bound": (0.4, "arXiv:2507.20673: (e^-0.4, e^0.4)")},
    "TopCovarianceKL": {"fraction": (2e-3, "arXiv:2505.22617, KL-Cov at 7B")},
    "AdaptiveEntropyBonus": {
        "step": (0.005, "arXiv:2505.22312, from TRL"),
        "initial": (0.0, "arXiv:2505.22312, from TRL"),
        "largest": (1.0, "arXiv:2505.22312, from TRL"),
    },
}
ENTRIES = [entry for entry in discover() if entry.stage in ("credit", "objective")]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_defaults_are_the_papers(entry):
    """What a recipe leaves out is what the source uses; a setting without a default is not in the table."""
    given = {field.name: field.default for field in fields(entry.cls) if field.default is not MISSING}
    assert given == {name: value for name, (value, _) in DEFAULTS.get(entry.name, {}).items()}


def test_bounds_and_small_numbers_without_a_setting():
    assert ratio.LOG_RATIO_BOUND == 20.0  # verl, core_algos.py: negative_approx_kl clamped at ±20
    assert importance.LOG_IMPORTANCE_BOUND == 20.0  # verl, rollout correction: the log ratio clamped at ±20
    assert moments.VARIANCE_EPS == 1e-8  # verl, masked_whiten
    assert moments.ROUNDING == 1e-12  # our own: some 10⁴ roundings of float64
