"""What components promise of themselves, once more by hand: other tests read these promises instead of names."""

import pytest

from research.catalogue import discover

ENTRIES = [entry for entry in discover() if entry.stage in ("credit", "objective")]
OF_TOKENS = {"EntropyShapedTokens", "GAE", "ProcessZScore", "WhitenedReturns"}
"""The advantages that differ within a completion."""
NOT_CENTRED = {"CorrectOnly", "EachZScore", "GAE", "Imitate", "ProcessZScore", "WhitenedReturns"}
"""The advantages that give a group of equal rewards something; the others at their examples' settings do not."""


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.slot == "credit.Advantage"], ids=lambda entry: entry.name)
def test_advantage(entry):
    example = entry.example()
    assert example.per_completion is (entry.name not in OF_TOKENS)
    assert example.centred is (entry.name not in NOT_CENTRED)


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.slot == "objective.Ratio"], ids=lambda entry: entry.name)
def test_ratio(entry):
    assert entry.example().per_completion is (entry.name in {"SequenceRatio", "MeanTokenRatio"})


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.slot == "objective.Surrogate"], ids=lambda entry: entry.name)
def test_surrogate(entry):
    of_token_ratios = {"ClippedWeight", "DynamicClip", "GeometricClip"}
    assert entry.example().token_ratio_only is (entry.name in of_token_ratios)
    assert entry.example().per_completion is (entry.name == "GeometricClip")


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.slot == "objective.Entropy"], ids=lambda entry: entry.name)
def test_entropy_starts_at_nothing_and_a_fixed_one_does_not_adapt(entry):
    example = entry.example()
    assert example.start == 0.0
    if entry.name != "AdaptiveEntropyBonus":
        assert example.adapt(0.25, entropy=1.0) == 0.25
