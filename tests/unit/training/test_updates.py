"""How an update batch is taken apart: each row once an epoch, by the seed, with coefficients that keep the gradient."""

from typing import Any

import pytest
import torch

from research.errors import UserError
from research.policy import micro_batches
from research.training.batch import assemble
from research.training.optimization import NonFiniteGuard, Optimization
from research.training.updates import Updates
from research.types import Completion, Group, Prompt, UpdateBatch, length_mask

ROWS = 7


def batch(rows: int = ROWS) -> UpdateBatch:
    """Row k has prompt length 2, k + 1 completion tokens, and k everywhere in `advantages`."""
    lengths = torch.arange(1, rows + 1)
    mask = length_mask(lengths)
    numbers = torch.arange(rows).float()[:, None].expand(mask.shape) * mask
    return UpdateBatch(
        input_ids=torch.arange(rows)[:, None].expand(rows, rows + 2).clone(),
        prompt_lengths=torch.full((rows,), 2),
        lengths=lengths,
        quantities={"mask": mask, "advantages": numbers, "coefficients": mask.float() / mask.sum()},
    )


def rows_in(pieces: list[UpdateBatch]) -> list[list[int]]:
    return [(piece.lengths - 1).tolist() for piece in pieces]


def updates(**fields: int) -> Updates:
    return Updates(**{"epochs": 1, "minibatches": 1, "micro_batch_tokens": 16, **fields})


class TestSplit:
    @pytest.mark.parametrize("minibatches", [1, 2, 3, ROWS])
    def test_each_row_once_an_epoch(self, minibatches: int) -> None:
        pieces = rows_in(list(updates(epochs=3, minibatches=minibatches).split(batch(), seed=0)))
        assert len(pieces) == 3 * minibatches
        for epoch in range(3):
            part = pieces[epoch * minibatches : (epoch + 1) * minibatches]
            assert sorted(row for piece in part for row in piece) == list(range(ROWS))
            assert max(map(len, part)) - min(map(len, part)) <= 1

    def test_order_is_the_seeds_and_the_epochs(self) -> None:
        split = updates(epochs=2, minibatches=3).split
        first = rows_in(list(split(batch(), seed=0)))
        torch.manual_seed(1)
        assert rows_in(list(split(batch(), seed=0))) == first
        assert rows_in(list(split(batch(), seed=1))) != first
        assert first[:3] != first[3:]

    def test_more_minibatches_than_rows(self) -> None:
        pieces = list(updates(minibatches=10).split(batch(3), seed=0))
        assert sorted(rows_in(pieces)) == [[0], [1], [2]]
        # scaled by the three there are, not by the ten that were asked for
        assert sum(float(piece["coefficients"].sum()) for piece in pieces) == pytest.approx(3.0)

    def test_coefficients_are_scaled_and_the_rest_is_not(self) -> None:
        whole = batch()
        pieces = list(updates(minibatches=3).split(whole, seed=0))
        assert sum(float(piece["coefficients"].sum()) for piece in pieces) == pytest.approx(3.0)
        for piece in pieces:
            assert torch.equal(piece["advantages"], (piece.lengths - 1).float()[:, None] * piece["mask"])
        assert float(whole["coefficients"].sum()) == pytest.approx(1.0)

    def test_rows_are_cut_to_the_longest_among_them(self) -> None:
        for piece in updates(minibatches=ROWS).split(batch(), seed=0):
            k = int(piece.lengths[0])
            assert piece["mask"].shape == (1, k)
            assert piece.input_ids.tolist() == [[k - 1] * (k + 2)]

    @pytest.mark.parametrize("field", ["epochs", "minibatches", "micro_batch_tokens"])
    def test_out_of_range(self, field: str) -> None:
        with pytest.raises(ValueError, match=f"{field} is at least 1"):
            updates(**{field: 0})

    def test_on_policy_is_one_step(self) -> None:
        assert updates().on_policy
        assert not updates(epochs=2).on_policy
        assert not updates(minibatches=2).on_policy


class TestMicroBatches:
    @pytest.mark.parametrize("tokens", [1, 20, 33, 1000])
    def test_each_row_once_within_the_budget(self, tokens: int) -> None:
        spans = torch.tensor([3, 10, 4, 9, 10, 1, 12])
        parts = [part.tolist() for part in micro_batches(spans, tokens)]
        assert sorted(row for part in parts for row in part) == list(range(7))
        for part in parts:
            assert len(part) == 1 or len(part) * max(int(spans[row]) for row in part) <= tokens


class TestAssemble:
    def test_rows_are_the_groups_completions_in_order(self) -> None:
        def done(*ids: int, reason: Any = "stop") -> Completion:
            return Completion(token_ids=ids, rollout_logprobs=(-0.5,) * len(ids), text="", finish_reason=reason)

        groups = [
            Group(
                prompt=Prompt(id=str(k), text="", answer=""),
                prompt_ids=prompt_ids,
                completions=completions,
                outcomes=(1.0, -1.0),
                annotations={"old_logprobs": tuple(torch.full((len(c.token_ids),), float(k)) for c in completions)},
            )
            for k, (prompt_ids, completions) in enumerate(
                [((5,), (done(7, 1), done(8))), ((5, 6), (done(9, 9, 9, reason="length"), done(1)))]
            )
        ]
        made = assemble(groups, pad=0, device=torch.device("cpu"))
        assert made.input_ids.tolist() == [[5, 7, 1, 0, 0], [5, 8, 0, 0, 0], [5, 6, 9, 9, 9], [5, 6, 1, 0, 0]]
        assert made.prompt_lengths.tolist() == [1, 1, 2, 2]
        assert made["lengths"].tolist() == [[2, 1], [3, 1]]
        assert made["outcomes"].tolist() == [[1, -1], [1, -1]]
        assert made["truncated"].tolist() == [False, False, True, False]
        assert made["mask"].int().tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0]]
        assert made["old_logprobs"].tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0]]
        assert made["rollout_logprobs"].tolist()[2] == [-0.5, -0.5, -0.5]


class TestOptimization:
    def test_warm_up_is_linear_and_ends(self) -> None:
        module = torch.nn.Linear(1, 1)
        optimizer, schedule = Optimization(learning_rate=1.0, warmup_steps=4).build(module)
        rates = []
        for _ in range(6):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]

    def test_no_warm_up(self) -> None:
        optimizer, _ = Optimization(learning_rate=0.5, warmup_steps=0).build(torch.nn.Linear(1, 1))
        assert optimizer.param_groups[0]["lr"] == 0.5

    def test_frozen_parameters_are_left_out(self) -> None:
        module = torch.nn.Linear(1, 1)
        module.bias.requires_grad_(False)
        optimizer, _ = Optimization(learning_rate=0.5, warmup_steps=0).build(module)
        assert [p for group in optimizer.param_groups for p in group["params"]] == [module.weight]

    @pytest.mark.parametrize(
        "fields",
        [
            {"learning_rate": 0.0},
            {"warmup_steps": -1},
            {"gradient_clip": 0.0},
            {"weight_decay": -0.1},
            {"betas": (0.9, 1.0)},
            {"eps": 0.0},
            {"max_nonfinite": 0},
        ],
    )
    def test_out_of_range(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(fields))):
            Optimization(**{"learning_rate": 1.0, "warmup_steps": 0, **fields})


class TestNonFiniteGuard:
    def test_counts_and_stops_at_the_limit_in_a_row(self) -> None:
        guard = NonFiniteGuard(limit=3)
        admitted = [guard.admit(norm) for norm in (1.0, float("nan"), float("inf"), 0.0, float("nan"), float("-inf"))]
        assert admitted == [True, False, False, True, False, False]
        assert (guard.skipped, guard.in_a_row) == (4, 2)
        with pytest.raises(UserError, match="3 updates in a row"):
            guard.admit(float("nan"))
