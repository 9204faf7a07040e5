"""Length terms and repetition: hand-checkable cases, refusals, and which combinations of rewards are refused."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from conftest import replaced
from jsonargparse import ArgumentParser
from torch import tensor

from research.credit import Credit, GroupMean, SequenceMean
from research.errors import UserError
from research.objective import K3, Clip, NoBonus, NoKL, Objective, TokenRatio
from research.recipe import parse
from research.rewards import (
    ArithmeticSteps,
    CosineLength,
    ExactAnswer,
    GroupRelativeOverlong,
    KimiLength,
    LengthExact,
    LengthMax,
    NoSteps,
    OverlongPenalty,
    ReferenceKL,
    RepetitionPenalty,
    Rewards,
    Shaping,
    TokenKL,
)
from research.training.legality import rewards_fault

RIGHT_OR_WRONG = ExactAnswer(marker="#", right=1.0, wrong=0.0)
PLUS_MINUS = ExactAnswer(marker="#")


def rewards(**slots: Any) -> Rewards:
    return Rewards(**{"verifiers": [PLUS_MINUS], "shaping": [], "tokens": [], "steps": NoSteps(), **slots})


class TestOutOfRange:
    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (lambda: LengthExact(alpha=0.0), "LengthExact: alpha is above 0, got 0.0"),
            (lambda: LengthMax(alpha=-1.0), "LengthMax: alpha is above 0, got -1.0"),
            (lambda: LengthMax(delta=0.0), r"LengthMax: delta is in \(0, 1\], got 0.0"),
            (lambda: LengthMax(delta=1.5), r"LengthMax: delta is in \(0, 1\], got 1.5"),
            (lambda: KimiLength(weight=0.0), "KimiLength: weight is above 0, got 0.0"),
            (lambda: CosineLength(max_length=0), "CosineLength: max_length is at least 1 token, got 0"),
            (lambda: RepetitionPenalty(ngram=0), "RepetitionPenalty: ngram is at least 1 token, got 0"),
            (lambda: RepetitionPenalty(penalty=0.5), "RepetitionPenalty: penalty is at most 0, got 0.5"),
            (lambda: TokenKL(beta=0.0, estimator="k1"), "TokenKL: beta is above 0, got 0.0; for no penalty"),
            (lambda: ReferenceKL(beta=-0.1, estimator="k1"), "ReferenceKL: beta is above 0, got -0.1; for no penalty"),
            (lambda: ArithmeticSteps(right=0.0, wrong=0.0), "ArithmeticSteps: right is above wrong, got 0.0 and 0.0"),
        ],
    )
    def test_is_refused(self, make: Callable[[], object], says: str) -> None:
        with pytest.raises(ValueError, match=says):
            make()

    @pytest.mark.parametrize("gamma1", [0.5, 0.2, 1.0])
    def test_no_group_is_easy_and_hard_at_once(self, gamma1: float) -> None:
        with pytest.raises(ValueError, match=rf"gamma1 is in \(0.5, 1\), got {gamma1}"):
            GroupRelativeOverlong(gamma1=gamma1, hard=None, medium_minority="none")


class TestTerms:
    def test_exact_is_symmetric_and_max_is_not(self) -> None:
        lengths, targets = tensor([[6, 10]]), tensor([[8.0, 8.0]])
        assert LengthExact(alpha=0.25)(lengths=lengths, targets=targets).tolist() == [[-0.5, -0.5]]
        terms = LengthMax(alpha=0.25, delta=0.5)(outcomes=tensor([[1.0, 1.0]]), lengths=lengths, targets=targets)
        assert terms.tolist() == [[0.0, -1.0]]

    def test_kimi_never_pays_a_wrong_completion_for_being_short(self) -> None:
        terms = KimiLength()(right=tensor([[False, True, False]]), lengths=tensor([[2, 2, 6]]))
        assert terms.tolist() == [[0.0, 0.5, -0.5]]

    def test_cosine_takes_the_place_of_the_outcome(self) -> None:
        term = CosineLength(max_length=10, right_at_zero=1.0, right_at_max=0.5, wrong_at_zero=-1.0, wrong_at_max=-0.5)
        lengths, right = tensor([[5, 5]]), tensor([[True, False]])
        for outcomes in (tensor([[1.0, -1.0]]), tensor([[3.0, 0.25]])):
            values = outcomes + term(right=right, outcomes=outcomes, lengths=lengths)
            assert values.tolist() == [pytest.approx([0.75, -0.75])]

    def test_each_group_has_its_own_lengths(self) -> None:
        """The second group's lengths say nothing to the first."""
        right, lengths = tensor([[True, True], [True, True]]), tensor([[2, 4], [20, 40]])
        assert KimiLength()(right=right, lengths=lengths).tolist() == [[0.5, -0.5], [0.5, -0.5]]
        term = GroupRelativeOverlong(gamma1=0.75, hard=None, medium_minority="none")
        terms = term(right=right, outcomes=right.float(), lengths=lengths)
        # L = 3 and 30: −½ · 1/3 and −½ · 10/30.
        assert terms.tolist() == [pytest.approx([0.0, -1 / 6]), pytest.approx([0.0, -1 / 6])]

    def test_repetition_ignores_padding(self) -> None:
        ids, mask = tensor([[1, 2, 3, 9, 9, 9]]), tensor([[True] * 3 + [False] * 3])
        assert RepetitionPenalty(ngram=1)(token_ids=ids, mask=mask, lengths=tensor([[3]])).item() == 0.0

    @pytest.mark.parametrize("term", [KimiLength(), CosineLength(max_length=8), LengthMax(alpha=0.1)])
    def test_half_precision_becomes_float32(self, term: Shaping) -> None:
        known = {
            "right": tensor([[True, False]]),
            "outcomes": tensor([[1.0, 0.0]]).bfloat16(),
            "lengths": tensor([[3, 5]]),
            "targets": tensor([[4.0, 4.0]]).bfloat16(),
        }
        assert term(**{name: known[name] for name in term.needs()}).dtype == torch.float32

    @pytest.mark.parametrize("written", ["{max_length: 12, buffer: 4}", "null"])
    def test_what_hard_groups_pay_is_written_in_a_recipe(self, written: str) -> None:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--term", type=Shaping)
        text = f"term: {{class_path: research.rewards.GroupRelativeOverlong, init_args: {{gamma1: 0.75, hard: {written}"
        config = parser.parse_string(text + ", medium_minority: wrong}}")
        expected = None if written == "null" else OverlongPenalty(max_length=12, buffer=4)
        assert parser.instantiate_classes(config).term.hard == expected


class TestRewards:
    @pytest.mark.parametrize("term", [LengthExact(), LengthMax()])
    @pytest.mark.parametrize(
        ("verifiers", "says"),
        [
            ([PLUS_MINUS], "not 1/-1"),
            ([RIGHT_OR_WRONG, RIGHT_OR_WRONG], "not 1/0 and 1/0"),
            ([ExactAnswer(marker="#", right=2.0, wrong=0.0)], "not 2/0"),
        ],
    )
    def test_terms_for_outcomes_of_one_and_zero(self, term: Shaping, verifiers: list, says: str) -> None:
        with pytest.raises(ValueError, match=f"{type(term).__name__} is written for an outcome of 1 or 0.*{says}"):
            rewards(verifiers=verifiers, shaping=[term])
        assert rewards(verifiers=[RIGHT_OR_WRONG], shaping=[term]).shaping == [term]

    def test_token_rewards_add_up_and_are_zero_without_any(self) -> None:
        quantities = {
            "outcomes": tensor([[1.0]]),
            "columns": tensor([[[1.0]]]),
            "mask": tensor([[True, False]]),
            "old_logprobs": tensor([[-1.0, -7.0]]),
            "ref_logprobs": tensor([[-1.5, 7.0]]),
        }
        assert rewards()(quantities)["token_rewards"].tolist() == [[0.0, 0.0]]
        kl = TokenKL(beta=1.0, estimator="k1")
        assert rewards(tokens=[kl, kl])(quantities)["token_rewards"].tolist() == [[-1.0, 0.0]]
        assert rewards(tokens=[kl])(quantities)["rewards"].tolist() == [[1.0]]

    def test_needs_are_those_of_shaping_and_tokens(self) -> None:
        assert rewards().needs() == set()
        both = rewards(shaping=[KimiLength()], tokens=[TokenKL(beta=1.0, estimator="k2")])
        assert both.needs() == {"right", "lengths", "mask", "old_logprobs", "ref_logprobs"}


class Reads(GroupMean):
    """An advantage that reads what it is told to: only its needs are asked for."""

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", frozenset(names))

    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.names  # pyright: ignore[reportAttributeAccessIssue]


class TestLegality:
    KL = TokenKL(beta=0.01, estimator="k1")
    WHOLE = ReferenceKL(beta=0.03, estimator="k1")

    def fault(self, reads: tuple[str, ...], kl: Any = None, **slots: Any) -> str | None:
        credit = Credit(advantage=Reads(*reads), weights=[], aggregate=SequenceMean(), denominator="all")
        objective = Objective(ratio=TokenRatio(), surrogate=Clip(), gates=[], kl=kl or NoKL(), entropy=NoBonus())
        return rewards_fault(rewards(**slots), credit, objective)

    def test_token_rewards_that_nobody_reads(self) -> None:
        said = "Reads reads no rewards of tokens, so TokenKL would be ignored: leave it out"
        assert self.fault(("rewards",), tokens=[self.KL]) == said
        assert self.fault(("rewards", "token_rewards"), tokens=[self.KL]) is None

    def test_shaping_that_nobody_reads(self) -> None:
        said = "Reads reads no shaped rewards, so KimiLength would be ignored: leave it out"
        assert self.fault(("right",), shaping=[KimiLength()]) == said
        assert self.fault(("columns",), shaping=[KimiLength()]) is None
        assert self.fault(("right",)) is None

    def test_one_distance_from_the_reference(self) -> None:
        reads, k3 = ("rewards", "token_rewards"), K3(beta=0.1, gradient="value")
        message = self.fault(reads, kl=k3, tokens=[self.KL])
        assert message is not None
        assert message.startswith("TokenKL and K3 all charge for the distance from the reference")
        assert "ReferenceKL and K3" in str(self.fault(reads, kl=k3, shaping=[self.WHOLE]))
        assert "ReferenceKL and TokenKL" in str(self.fault(reads, tokens=[self.KL], shaping=[self.WHOLE]))
        for alone in ({"kl": k3}, {"tokens": [self.KL]}, {"shaping": [self.WHOLE]}):
            assert self.fault(reads, **alone) is None

    def test_a_distance_that_is_scaled_by_itself(self) -> None:
        assert "cancels the beta of ReferenceKL" in str(self.fault(("columns",), shaping=[self.WHOLE]))

    def test_steps_and_their_reader_come_together(self) -> None:
        assert "verify them in rewards.steps" in str(self.fault(("step_rewards", "step_ends")))
        assert "ArithmeticSteps would be ignored" in str(self.fault(("rewards",), steps=ArithmeticSteps()))
        assert self.fault(("step_rewards",), steps=ArithmeticSteps()) is None


class TestRecipes:
    LCPO: Mapping[str, Any] = {
        "model.rewards.verifiers": [
            {"class_path": "ExactAnswer", "init_args": {"marker": "#", "right": 1.0, "wrong": 0.0}}
        ],
        "model.rewards.shaping": [{"class_path": "LengthExact", "init_args": {"alpha": 0.01}}],
        "data.targets": {
            "class_path": "LengthTarget",
            "init_args": {"template": "({target}){text}", "low": 8, "high": 32, "seed": 0},
        },
    }

    def refused(self, config: dict[str, Any]) -> str:
        with pytest.raises(UserError) as caught:
            parse(config)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_targets_that_nobody_asks_for(self, small: Callable[..., dict[str, Any]]) -> None:
        parse(small("grpo", self.LCPO))
        message = self.refused(small("grpo", {**self.LCPO, "data.targets": {"class_path": "NoTarget"}}))
        assert (
            "LengthExact reads length targets, and the prompts have none: take LengthTarget in data.targets" in message
        )

    def test_a_term_that_would_be_ignored(self, small: Callable[..., dict[str, Any]]) -> None:
        kl = {"class_path": "TokenKL", "init_args": {"beta": 0.01, "estimator": "k1"}}
        assert "TokenKL would be ignored" in self.refused(small("grpo", {"model.rewards.tokens": [kl]}))
        steps = {"class_path": "ArithmeticSteps"}
        assert "take NoSteps" in self.refused(small("grpo", {"model.rewards.steps": steps}))

    @pytest.mark.parametrize("slot", ["model.rewards.steps", "model.rollouts.retire", "data.targets"])
    def test_a_misspelt_name(self, slot: str, small: Callable[..., dict[str, Any]]) -> None:
        message = self.refused(replaced(small("grpo"), {slot: {"class_path": "Nosuch"}}))
        assert f"{slot}: nothing is called Nosuch" in message
