"""The statistics of a study: paired differences, intervals, exact permutation tests, crossed seeds and items."""

from research.statistics.crossed import (
    VarianceSplit,
    binomial_variance,
    crossed_interval,
    mean_squares,
    variance_split,
)
from research.statistics.intervals import (
    BOOTSTRAP_FROM,
    Interval,
    bootstrap_interval,
    gain_interval,
    mean_interval,
    t_interval,
)
from research.statistics.jackknife import improvement, iqm, iqm_gain, iqm_interval, jackknife_interval
from research.statistics.paired import (
    EXACT_UP_TO,
    Direction,
    holm,
    paired_gains,
    sign_flip_p,
    smallest_p,
)
from research.statistics.power import POWER, detectable_gain, paired_power
from research.statistics.verdicts import Verdict, verdict

__all__ = [
    "BOOTSTRAP_FROM",
    "EXACT_UP_TO",
    "POWER",
    "Direction",
    "Interval",
    "VarianceSplit",
    "Verdict",
    "binomial_variance",
    "bootstrap_interval",
    "crossed_interval",
    "detectable_gain",
    "gain_interval",
    "holm",
    "improvement",
    "iqm",
    "iqm_gain",
    "iqm_interval",
    "jackknife_interval",
    "mean_interval",
    "mean_squares",
    "paired_gains",
    "paired_power",
    "sign_flip_p",
    "smallest_p",
    "t_interval",
    "variance_split",
    "verdict",
]
