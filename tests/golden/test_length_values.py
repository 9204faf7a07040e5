"""Length rewards, KL in the reward, steps and retirement: the papers' numbers, and the slow twins.

The numbers follow from the papers' equations, worked out apart from the package. Never regenerate them with it.
"""

import random
from inspect import signature

import pytest
import reference_rewards
import torch
from test_slow_reference import ragged_batch, tensors

from research.catalogue import discover
from research.component import apply
from research.prompts import Arithmetic, accepted_steps, worked_solution
from research.rewards import (
    ArithmeticSteps,
    CosineLength,
    GroupRelativeOverlong,
    KimiLength,
    LengthExact,
    LengthMax,
    NoSteps,
    OverlongPenalty,
    ReferenceKL,
    RepetitionPenalty,
    Shaping,
    TokenKL,
)
from research.rollouts import RetireNone, RetireSolved
from research.types import Completion, Prompt

ENTRIES = {e.name: e for e in discover() if e.slot in ("rewards.Shaping", "rewards.TokenReward")}
SLOW, SETTINGS = reference_rewards.SLOW, reference_rewards.SETTINGS

# arXiv:2503.04697 at the paper's α = 0.0003 and δ = 0.5, target 2,000: (length, right, reward).
EXACT = [(2000, True, 1.0), (1000, True, 0.7), (3000, True, 0.7), (2000, False, 0.0), (1000, False, -0.3)]
MAX = [(2000, True, 0.5), (1500, True, 0.65), (4000, True, 0.0), (2000, False, 0.0), (1500, False, 0.0), (1, True, 1.0)]


def rewarded(term: Shaping, length: int, right: bool, outcome: float, target: float = 2000.0) -> float:
    """The outcome plus the term, of a completion alone in its group."""
    quantities = {
        "lengths": torch.tensor([[length]]),
        "right": torch.tensor([[right]]),
        "outcomes": torch.tensor([[outcome]]),
        "targets": torch.tensor([[target]]),
    }
    return outcome + apply(term, quantities).item()


@pytest.mark.parametrize(("length", "right", "reward"), EXACT)
def test_lcpo_exact(length: int, right: bool, reward: float):
    # One float32 product and difference of numbers below 1: 1e-7 each.
    assert rewarded(LengthExact(), length, right, float(right)) == pytest.approx(reward, abs=1e-6)


@pytest.mark.parametrize(("length", "right", "reward"), MAX)
def test_lcpo_max(length: int, right: bool, reward: float):
    # The same.
    assert rewarded(LengthMax(), length, right, float(right)) == pytest.approx(reward, abs=1e-6)


# arXiv:2502.03373: right 2 → 1, wrong −10 → 0, over-length −10, T = 14,336; half-way and at a quarter by the cosine,
# (1 + cos(π/4))/2 = 0.853553.
COSINE = [
    (0, True, 2.0),
    (3584, True, 1.853553),
    (7168, True, 1.5),
    (10752, True, 1.146447),
    (14335, True, 1.0),
    (0, False, -10.0),
    (3584, False, -8.535534),
    (7168, False, -5.0),
    (14335, False, 0.0),
    (14336, True, -10.0),
    (14336, False, -10.0),
    (20000, True, -10.0),
]


@pytest.mark.parametrize(("length", "right", "reward"), COSINE)
@pytest.mark.parametrize("outcome", [1.0, -1.0, 0.0])
def test_cosine(length: int, right: bool, reward: float, outcome: float):
    """Whatever the verifiers are worth."""
    # Float32 at 10 carries 1e-6; the cosine one token before the end is 2.4e-8 from its end.
    assert rewarded(CosineLength(max_length=14336), length, right, outcome) == pytest.approx(reward, abs=5e-6)


# arXiv:2501.12599, by hand: λ = 0.5 − (len − min)/(max − min), and min(0, λ) of a wrong completion.
KIMI = [
    ([10, 20, 30], [True, True, True], [0.5, 0.0, -0.5]),
    ([10, 20, 30], [False, False, False], [0.0, 0.0, -0.5]),
    ([10, 15, 25, 30], [True, False, False, True], [0.5, 0.0, -0.25, -0.5]),
    ([7, 7, 7], [True, False, True], [0.0, 0.0, 0.0]),
    ([5], [True], [0.0]),
]


@pytest.mark.parametrize(("lengths", "right", "terms"), KIMI)
def test_kimi(lengths: list[int], right: list[bool], terms: list[float]):
    # Quarters are exact in float32.
    assert KimiLength()(right=torch.tensor([right]), lengths=torch.tensor([lengths])).tolist() == [terms]


# arXiv:2508.04349 appendix D, by hand at γ1 = 0.75 (the paper gives no value).
SOFT = OverlongPenalty(max_length=12, buffer=4)
PUNISHED = {
    # right lengths 2, 4, 6: L = max(4, 4); the wrong one does not pay.
    "easy": ([2, 4, 6, 9], [1, 1, 1, 0], None, "none", [0.0, 0.0, -0.25, 0.0]),
    # right lengths 10, 10, 40: half-way 25 beats the mean 20; −½ · 15/25.
    "easy, half-way": ([10, 10, 40, 99], [1, 1, 1, 0], None, "none", [0.0, 0.0, -0.3, 0.0]),
    # right lengths 10, 38, 39: the mean 29 beats half-way 24.5; −½ · 9/29 and −½ · 10/29.
    "easy, mean": ([10, 38, 39, 1], [1, 1, 1, 0], None, "none", [0.0, -0.155172, -0.172414, 0.0]),
    "hard": ([4, 10, 12, 13], [1, 0, 0, 0], None, "wrong", [0.0, 0.0, 0.0, 0.0]),
    "hard, soft overlong": ([4, 10, 12, 13], [1, 0, 0, 0], SOFT, "none", [0.0, -0.5, -1.0, -1.0]),
    "hard, none right": ([4, 10, 12, 13], [0, 0, 0, 0], SOFT, "none", [0.0, -0.5, -1.0, -1.0]),
    # all lengths 4, 8, 12, 10, 6: L = 8; three right of five.
    "medium": ([4, 8, 12, 10, 6], [1, 1, 1, 0, 0], SOFT, "wrong", [0.0, 0.0, -0.25, 0.0, 0.0]),
    "medium, n ≤ m": ([4, 12, 12, 4], [1, 1, 0, 0], SOFT, "none", [0.0, 0.0, 0.0, 0.0]),
    "medium, n ≤ m, wrong pay": ([4, 12, 12, 4], [1, 1, 0, 0], None, "wrong", [0.0, 0.0, -0.25, 0.0]),
    # two of three judged are right, where two of four would be as many as are not; L = max(8, 28/3) of 4, 12, 12.
    "medium, one not judged": ([4, 12, 12, 99], [1, 1, 0, None], None, "wrong", [0.0, -0.142857, 0.0, 0.0]),
    "medium, wrong pay, one not judged": ([4, 12, 99], [1, 0, None], None, "wrong", [0.0, -0.25, 0.0]),
    # all that were judged are right: L = 4, the half-way of 2, 4, 6.
    "easy, one not judged": ([2, 4, 6, 9], [1, 1, 1, None], None, "none", [0.0, 0.0, -0.25, 0.0]),
    "none judged": ([4, 10, 12, 13], [None] * 4, SOFT, "none", [0.0, -0.5, -1.0, -1.0]),
}


@pytest.mark.parametrize(("lengths", "right", "hard", "minority", "terms"), PUNISHED.values(), ids=PUNISHED)
def test_group_relative_overlong(lengths, right, hard, minority, terms):
    term = GroupRelativeOverlong(gamma1=0.75, hard=hard, medium_minority=minority)
    outcomes = [float("nan") if one is None else 2.0 * one - 1.0 for one in right]
    values = term(
        right=torch.tensor([[one == 1 for one in right]]),
        outcomes=torch.tensor([outcomes]),
        lengths=torch.tensor([lengths]),
    )
    # Half a unit of the sixth decimal, which is all that the table prints.
    assert values[0].tolist() == pytest.approx(terms, abs=5e-7)


# n-grams by hand, TRL's default n = 3, p = −1: (tokens, n, penalty).
REPEATED = [
    ([1, 2, 3, 4], 3, 0.0),  # 123 234
    ([1, 2, 1, 2, 1, 2], 3, -0.5),  # 121 212 121 212: two of four
    ([7, 7, 7, 7, 7], 3, -2 / 3),  # one of three
    ([7, 7], 3, 0.0),  # too short
    ([7, 7, 7], 3, 0.0),  # one n-gram
    ([1, 2, 1, 3], 1, -0.25),
]


@pytest.mark.parametrize(("tokens", "ngram", "penalty"), REPEATED)
def test_repetition(tokens: list[int], ngram: int, penalty: float):
    ids = torch.tensor([[*tokens, 0, 0, 0]])
    mask = torch.arange(len(tokens) + 3)[None] < len(tokens)
    value = RepetitionPenalty(ngram=ngram)(token_ids=ids, mask=mask, lengths=torch.tensor([[len(tokens)]]))
    # One float32 rounding.
    assert value.item() == pytest.approx(penalty, abs=1e-7)


# k3 at d = log π_ref − log π: arXiv:2402.03300 eq. 4, six decimals; k1 = −d and k2 = ½ d² by hand.
DIVERGENCES = [(-1.0, 0.367879), (-0.1, 0.004837), (0.0, 0.0), (0.1, 0.005171), (1.0, 0.718282)]


@pytest.mark.parametrize(("d", "k3"), DIVERGENCES)
def test_kl_estimators_in_the_reward(d: float, k3: float):
    old, mask = torch.tensor([[-2.0, -2.0]]), torch.tensor([[True, True]])
    for estimator, value in (("k1", -d), ("k2", d * d / 2), ("k3", k3)):
        read = {"old_logprobs": old, "ref_logprobs": old + d, "mask": mask}
        of_tokens = TokenKL(beta=0.5, estimator=estimator)(**read)
        whole = ReferenceKL(beta=0.5, estimator=estimator)(**read, lengths=torch.tensor([[2]]))
        # −2 + d rounds at 2.4e-7, and the table at half a unit of the sixth decimal.
        assert of_tokens[0].tolist() == pytest.approx([-0.5 * value] * 2, abs=1e-6)
        assert whole.item() == pytest.approx(-value, abs=2e-6)


def test_k1_of_the_whole_completion_is_its_log_ratio():
    """arXiv:2402.14740: the completion is one action; the padding says nothing."""
    old, ref = torch.tensor([[-1.0, -0.5, -9.0]]), torch.tensor([[-1.5, -0.75, 9.0]])
    mask, lengths = torch.tensor([[True, True, False]]), torch.tensor([[2]])
    value = ReferenceKL(beta=0.03, estimator="k1")(old_logprobs=old, ref_logprobs=ref, mask=mask, lengths=lengths)
    # log π(y) = −1.5 and log π_ref(y) = −2.25, both exact.
    assert value.item() == pytest.approx(-0.03 * 0.75, rel=1e-6)


def test_log_ratios_of_a_hundred_nats_stay_finite():
    ref, mask = torch.tensor([[-1.0, -101.0]]), torch.tensor([[True, True]])
    old = torch.tensor([[-101.0, -1.0]])
    for estimator in ("k1", "k2", "k3"):
        read = {"old_logprobs": old, "ref_logprobs": ref, "mask": mask}
        assert torch.isfinite(TokenKL(beta=1.0, estimator=estimator)(**read)).all()
        assert torch.isfinite(ReferenceKL(beta=1.0, estimator=estimator)(**read, lengths=torch.tensor([[2]]))).all()


# The slow twins -------------------------------------------------------------------------------------------------------


def groups_batch(seed: int) -> dict:
    """A ragged batch with groups of every difficulty."""
    batch = ragged_batch(seed, N=5, G=5)
    draw = random.Random(seed)
    batch["right"] = [[draw.random() < share for _ in range(5)] for share in (0.0, 1.0, 0.4, 0.6, 0.8)]
    batch["outcomes"] = [[float(one) for one in group] for group in batch["right"]]
    return batch


def test_every_term_has_a_slow_twin():
    assert set(SLOW) == set(ENTRIES) == set(SETTINGS)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        pytest.param(name, settings, id="-".join([name, *map(str, settings.values())]))
        for name, several in SETTINGS.items()
        for settings in several
    ],
)
def test_term_is_its_slow_twin(name: str, settings: dict, seed: int):
    batch = groups_batch(seed)
    made = {key: OverlongPenalty(**value) if isinstance(value, dict) else value for key, value in settings.items()}
    value = apply(ENTRIES[name].cls(**made), tensors(batch))
    read = {key: batch[key] for key in signature(SLOW[name]).parameters if key in batch}
    expected = torch.tensor(SLOW[name](**read, **settings), dtype=torch.float64)
    # Float32 carries 6e-8 an operation; sums of at most nine differences of log-probabilities near −5 lose some 30.
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=3e-6)


def test_the_batches_have_groups_of_every_difficulty():
    counts = {sum(group) for seed in (1, 2, 3) for group in groups_batch(seed)["right"]}
    assert counts == {0, 1, 2, 3, 4, 5}


def test_steps_are_their_slow_twin():
    """On solutions that are checked, mistaken, cut anywhere, and with characters changed."""
    draw = random.Random(0)
    found = set()
    for prompt in Arithmetic(size=150, seed=4).load():
        checks, slips = [draw.random() < 0.4 for _ in range(3)], [draw.choice((0, 0, 1)) for _ in range(3)]
        text = worked_solution(prompt.text, checks, slips)
        if draw.random() < 0.5:
            at = draw.randrange(len(text))
            text = text[:at] + draw.choice("0;#=(") + text[at + draw.randint(0, 1) :]
        text = text[: draw.randint(0, len(text))] if draw.random() < 0.3 else text
        done = Completion(token_ids=(0,), rollout_logprobs=(0.0,), text=text, finish_reason="stop")
        steps = ArithmeticSteps()(prompt=prompt, completion=done)
        assert steps == reference_rewards.arithmetic_steps(prompt=prompt.text, completion=text)
        assert NoSteps()(prompt=prompt, completion=done) == reference_rewards.no_steps(prompt="", completion="")
        found |= {verdict for _, verdict in steps}
    assert found == {True, False}


def test_accepted_steps_are_in_the_meta_of_the_built_in_task():
    (prompt,) = Arithmetic(size=1, seed=0).load()
    assert prompt.meta["steps"] == accepted_steps(prompt.text)
    assert worked_solution(prompt.text) == prompt.meta["solution"]
    assert isinstance(prompt, Prompt)


@pytest.mark.parametrize("pass_rate", [0.5, 0.9, 1.0])
def test_retirement_is_its_slow_twin(pass_rate: float):
    """arXiv:2510.13786: 0.9; at 16 completions that is 15 right ones."""
    for G in (1, 4, 10, 16):
        for n in range(G + 1):
            right = [True] * n + [False] * (G - n)
            expected = reference_rewards.retire_solved(right=right, pass_rate=pass_rate)
            assert RetireSolved(pass_rate=pass_rate)(right=right) is expected
            assert RetireNone()(right=right) is reference_rewards.retire_none(right=right)
    assert [RetireSolved()(right=[True] * n + [False] * (16 - n)) for n in (14, 15)] == [False, True]
