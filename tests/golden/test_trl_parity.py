"""TRL's own loss and gradient beside ours, on the same rewards, masks and log-probabilities.

TRL's code runs, from rewards to the loss: a real `GRPOTrainer`, whose sampling and whose forward pass are replaced by
the numbers of a batch. Where the settings mean the same, values and gradients agree; where TRL differs by design, the
test states the difference exactly. The table "Where implementations differ" in research/README.md is about the second.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import datasets
import pytest
import torch
import transformers
from torch import Tensor

from research.credit import (
    BatchScaled,
    ConstantLength,
    Credit,
    EachZScore,
    GroupMean,
    GroupZScore,
    MaskedImportance,
    SequenceMean,
    SkipTruncated,
    TokenMean,
    TopEntropy,
    TruncatedImportance,
)
from research.objective import (
    K3,
    Clip,
    ClippedWeight,
    DualClip,
    EntropyBonus,
    ImportanceWeightedK3,
    NoBonus,
    NoKL,
    Objective,
    OffPolicyMask,
    SequenceRatio,
    SequenceTokenRatio,
    SigmoidGate,
    TokenRatio,
    Unclipped,
)
from research.types import UpdateBatch, length_mask

pytestmark = pytest.mark.skipif(find_spec("trl") is None, reason="TRL comes with the dev extra")

RELATIVE = 2e-6
"""Log-probabilities are float64 on both sides; advantages and our coefficients are float32, 6e-8 an operation, and a
standard deviation, a division and a sum of some 60 terms lose about 20 of these."""
ABSOLUTE = 1e-7
"""The same of the largest entries of a gradient, which are about 0.1, where an entry cancels to near 0."""

LENGTH = 16
"""The limit on a completion: TRL's constant for Dr. GRPO."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A loss, its gradients, and the rows of advantages behind it."""

    loss: Tensor
    logprobs: Tensor
    entropies: Tensor
    advantages: Tensor


def made(rewards: Tensor, lengths: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Quantities in multiples of 2⁻¹⁰, so that float32 and float64 hold the same numbers and the same differences."""
    shape = (lengths.numel(), int(lengths.max()))

    def table(low: float, high: float) -> Tensor:
        drawn = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
        return (drawn * 1024).round() / 1024

    old = table(-5.0, -1.0)
    return {
        "mask": length_mask(lengths),
        "lengths": lengths.reshape(rewards.shape),
        "truncated": torch.rand(len(lengths), generator=generator) < 0.3,
        "rewards": rewards,
        "columns": torch.stack([rewards - (rewards % 1), rewards % 1]),
        "old_logprobs": old,
        "rollout_logprobs": old + table(-0.5, 0.5),
        "logprobs": old + table(-0.75, 0.75),
        "ref_logprobs": old + table(-1.0, 1.0),
        "entropies": table(0.0, 4.0),
    }


def ragged(seed: int, *, N: int = 4, G: int = 4, longest: int = 9) -> dict[str, Tensor]:
    """N groups of G completions of 1 to `longest` tokens; the first group is dead, the others have both outcomes."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (N * G,), generator=generator)
    outcomes = torch.where(torch.rand(N, G, generator=generator) < 0.5, 1.0, -1.0)
    outcomes[:, :2] = torch.tensor([1.0, -1.0])
    rewards = outcomes + torch.randint(0, 8, (N, G), generator=generator) / 8
    rewards[0] = 0.75
    return made(rewards, lengths, generator)


SEEDS = (1, 2, 3)

# ----------------------------------------------------------------------------------------------------------- the two


@pytest.fixture(scope="module")
def trl_trainer(tiny_policy: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """`trl_trainer(shape, micro_batches, settings)`: TRL's trainer for rewards of the shape [K N G], made once."""
    from trl import GRPOConfig, GRPOTrainer  # here, since it takes seconds

    output = str(tmp_path_factory.mktemp("trl"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_policy)
    trainers: dict[str, Any] = {}

    def build(shape: tuple[int, int, int], micro_batches: int, settings: Mapping[str, Any]) -> Any:
        def reward(k: int) -> Any:
            return lambda **_: trainer.columns[k].flatten().tolist()

        K, N, G = shape
        args = GRPOConfig(
            output_dir=output,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            per_device_train_batch_size=N * G // micro_batches,
            gradient_accumulation_steps=micro_batches,
            num_generations=G,
            num_iterations=2,  # so that the policy that sampled is not the policy now
            max_completion_length=LENGTH,
            **settings,
        )
        trainer: Any = GRPOTrainer(
            model=tiny_policy,
            reward_funcs=[reward(k) for k in range(K)],
            args=args,
            train_dataset=datasets.Dataset.from_list([{"prompt": "1"}]),
            processing_class=tokenizer,
        )
        trainer.model.train()
        return trainer

    def once(*wanted: Any) -> Any:
        key = repr(wanted)
        if key not in trainers:
            trainers[key] = build(*wanted)
        return trainers[key]

    transformers.logging.disable_progress_bar()
    yield once
    transformers.logging.enable_progress_bar()


def of_trl(
    trl_trainer: Callable[..., Any],
    batch: Mapping[str, Tensor],
    *,
    micro_batches: int = 1,
    vllm: bool = False,
    **settings: Any,
) -> Result:
    """What TRL makes of the batch: `_generate_and_score_completions`, then `_compute_loss` of each micro-batch."""
    from trl.trainer.utils import split_tensor_dict

    several = settings.get("multi_objective_aggregation") == "normalize_then_sum"
    columns = batch["columns"] if several else batch["rewards"][None]
    trainer = trl_trainer(tuple(columns.shape), micro_batches, settings)
    trainer.columns = columns
    trainer.use_vllm = vllm  # only now, or TRL would start an engine
    trainer.current_gradient_accumulation_steps = micro_batches
    logprobs, entropies = (batch[name].clone().requires_grad_() for name in ("logprobs", "entropies"))
    parts = iter(zip(logprobs.chunk(micro_batches), entropies.chunk(micro_batches), strict=True))

    def generate(prompts: list[str]) -> tuple:
        lengths = batch["mask"].sum(-1).tolist()
        end = trainer.processing_class.eos_token_id
        last = [end + 1 if truncated else end for truncated in batch["truncated"].tolist()]
        ids = [[end + 1] * (length - 1) + [token] for length, token in zip(lengths, last, strict=True)]
        sampled = [row[:length] for row, length in zip(batch["rollout_logprobs"].tolist(), lengths, strict=True)]
        return [[end + 1]] * len(ids), ids, None, [""] * len(ids), sampled if vllm else None, {}, None, None

    def forward(model: Any, *args: Any, **kwargs: Any) -> tuple:
        if model is trainer.ref_model:
            return batch["ref_logprobs"], None, None
        if not torch.is_grad_enabled():
            return batch["old_logprobs"], None, None
        return *next(parts), None

    trainer._generate = generate
    trainer._get_per_token_logps_and_entropies = forward
    inputs = trainer._generate_and_score_completions([{"prompt": "1"} for _ in batch["mask"]])
    losses = [trainer._compute_loss(trainer.model, part) for part in split_tensor_dict(inputs, micro_batches)]
    return result(torch.stack(losses).sum(), logprobs, entropies, inputs["advantages"])


GRPO_SLOTS: Mapping[str, Any] = {
    "advantage": GroupZScore(ddof=1, eps=1e-4),
    "weights": [],
    "aggregate": SequenceMean(),
    "denominator": "all",
    "ratio": TokenRatio(),
    "surrogate": Clip(eps_low=0.2, eps_high=0.28),
    "gates": [],
    "kl": NoKL(),
    "entropy": NoBonus(),
}
"""GRPO at TRL's ε."""


def ours(**changes: Any) -> Callable[[Mapping[str, Tensor]], Result]:
    """What the package makes of a batch: GRPO, with some slots filled otherwise."""
    slots = {**GRPO_SLOTS, **changes}
    credit = Credit(**{name: slots[name] for name in ("advantage", "weights", "aggregate", "denominator")})
    objective = Objective(**{name: slots[name] for name in ("ratio", "surrogate", "gates", "kl", "entropy")})

    def of(batch: Mapping[str, Tensor]) -> Result:
        quantities = dict(credit(update_batch(batch)).quantities)
        for name in ("logprobs", "entropies"):
            quantities[name] = quantities[name].clone().requires_grad_()
        loss = objective(quantities).loss
        return result(loss, quantities["logprobs"], quantities["entropies"], quantities["advantages"][:, 0])

    return of


def update_batch(batch: Mapping[str, Tensor]) -> UpdateBatch:
    """The rows behind one prompt token each."""
    B, T = batch["mask"].shape
    return UpdateBatch(
        input_ids=torch.zeros(B, 1 + T, dtype=torch.long),
        prompt_lengths=torch.ones(B, dtype=torch.long),
        lengths=batch["lengths"].flatten(),
        quantities=batch,
    )


def result(loss: Tensor, logprobs: Tensor, entropies: Tensor, advantages: Tensor) -> Result:
    gradients = torch.autograd.grad(loss, [logprobs, entropies], allow_unused=True, materialize_grads=True)
    return Result(loss=loss.detach(), logprobs=gradients[0], entropies=gradients[1], advantages=advantages.float())


def assert_same(ours: Result, trl: Result) -> None:
    for name in ("advantages", "loss", "logprobs", "entropies"):
        torch.testing.assert_close(
            getattr(ours, name),
            getattr(trl, name),
            rtol=RELATIVE,
            atol=ABSOLUTE,
            check_dtype=False,
            msg=lambda message, name=name: f"{name}: {message}",
        )


# ------------------------------------------------------------------------------------------------------- the same

CLIP = {"epsilon": 0.2, "epsilon_high": 0.28}
GRPO = {"loss_type": "grpo", **CLIP}
DAPO = {"loss_type": "dapo", **CLIP}
VLLM = {**DAPO, "vllm": True}
K3_PLAIN = {"beta": 0.5, "use_bias_correction_kl": False}
TRUNCATED = {"mask_truncated_completions": True}

SAME: Mapping[str, tuple[dict[str, Any], Callable[[Mapping[str, Tensor]], Result]]] = {
    # How tokens are counted.
    "grpo": (GRPO, ours()),
    "dapo": (DAPO, ours(aggregate=TokenMean())),
    "bnpo": ({**GRPO, "loss_type": "bnpo"}, ours(aggregate=TokenMean())),
    "dr_grpo": (
        {**GRPO, "loss_type": "dr_grpo", "scale_rewards": "none"},
        ours(advantage=GroupMean(), aggregate=ConstantLength(length=LENGTH)),
    ),
    "luspo": ({**GRPO, "loss_type": "luspo"}, ours(aggregate=ConstantLength(length=1))),
    # What is divided by.
    "scale batch": ({**GRPO, "scale_rewards": "batch"}, ours(advantage=BatchScaled(ddof=1, eps=1e-4))),
    "scale none": ({**GRPO, "scale_rewards": "none"}, ours(advantage=GroupMean())),
    "normalize then sum": (
        {**GRPO, "multi_objective_aggregation": "normalize_then_sum", "reward_weights": [0.5, 2.0]},
        ours(advantage=EachZScore(ddof=1, eps=1e-4, column_weights=(0.5, 2.0))),
    ),
    # Whose ratio, and its bounds.
    "gspo": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.1, "epsilon_high": 0.12},
        ours(ratio=SequenceRatio(), surrogate=Clip(eps_low=0.1, eps_high=0.12)),
    ),
    "gspo, our token form": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.1, "epsilon_high": 0.12},
        ours(ratio=SequenceTokenRatio(), surrogate=Clip(eps_low=0.1, eps_high=0.12)),
    ),
    "sequence ratio, token mean": (
        {**DAPO, "importance_sampling_level": "sequence"},
        ours(ratio=SequenceRatio(), aggregate=TokenMean()),
    ),
    "cispo": (
        {"loss_type": "cispo", "epsilon_high": 1.5},
        ours(surrogate=ClippedWeight(floor=0.0, cap=1.5), aggregate=TokenMean()),
    ),
    "sapo": (
        {"loss_type": "sapo", "sapo_temperature_pos": 1.5, "sapo_temperature_neg": 3.0},
        ours(surrogate=SigmoidGate(tau_positive=1.5, tau_negative=3.0)),
    ),
    "delta": ({**GRPO, "delta": 1.5}, ours(surrogate=DualClip(eps_low=0.2, eps_high=0.28, c=1.5))),
    "off-policy mask": ({**GRPO, "off_policy_mask_threshold": 0.05}, ours(gates=[OffPolicyMask(delta=0.05)])),
    # Penalty and bonus.
    "k3": ({**GRPO, **K3_PLAIN}, ours(kl=K3(beta=0.5, gradient="value"))),
    "k3 with importance": ({**GRPO, "beta": 0.5}, ours(kl=ImportanceWeightedK3(beta=0.5))),
    "k3, dr_grpo": (
        {**GRPO, **K3_PLAIN, "loss_type": "dr_grpo"},
        ours(kl=K3(beta=0.5, gradient="value"), aggregate=ConstantLength(length=LENGTH)),
    ),
    "entropy bonus": ({**DAPO, "entropy_coef": 0.25}, ours(entropy=EntropyBonus(alpha=0.25), aggregate=TokenMean())),
    # Which tokens train; TRL divides by all of them, and the penalty stays on all.
    "top entropy": (
        {**DAPO, "top_entropy_quantile": 0.2},
        ours(weights=[TopEntropy(fraction=0.2)], aggregate=TokenMean()),
    ),
    "top entropy, k3": (
        {**GRPO, **K3_PLAIN, "top_entropy_quantile": 0.5},
        ours(weights=[TopEntropy(fraction=0.5)], kl=K3(beta=0.5, gradient="value")),
    ),
    # Truncated completions leave TRL's mask: its counts of tokens lose them, its counts of completions do not.
    "truncated, grpo": ({**GRPO, **TRUNCATED}, ours(weights=[SkipTruncated()], denominator="all")),
    "truncated, dr_grpo": (
        {**GRPO, **TRUNCATED, "loss_type": "dr_grpo"},
        ours(weights=[SkipTruncated()], denominator="all", aggregate=ConstantLength(length=LENGTH)),
    ),
    "truncated, dapo": (
        {**DAPO, **TRUNCATED, **K3_PLAIN},
        ours(weights=[SkipTruncated()], denominator="kept", aggregate=TokenMean(), kl=K3(beta=0.5, gradient="value")),
    ),
    # The sampler's importance.
    **{
        f"importance, {level} truncate": (
            {
                **VLLM,
                "vllm_importance_sampling_mode": f"{level}_truncate",
                "vllm_importance_sampling_clip_max": 1.25,
            },
            ours(weights=[TruncatedImportance(cap=1.25, level=level)], aggregate=TokenMean()),
        )
        for level in ("token", "sequence")
    },
    **{
        f"importance, {level} mask": (
            {
                **VLLM,
                "vllm_importance_sampling_mode": f"{level}_mask",
                "vllm_importance_sampling_clip_min": 0.75,
                "vllm_importance_sampling_clip_max": 1.25,
                **K3_PLAIN,
            },
            ours(
                weights=[MaskedImportance(low=0.75, high=1.25, level=level)],
                aggregate=TokenMean(),
                kl=K3(beta=0.5, gradient="value"),
            ),
        )
        for level in ("token", "sequence")
    },
}
"""TRL's settings and ours that mean the same."""


@pytest.mark.parametrize("name", SAME)
def test_loss_and_gradient_are_trls(trl_trainer: Callable[..., Any], name: str):
    settings, recipe = SAME[name]
    for seed in SEEDS:
        batch = ragged(seed)
        assert_same(recipe(batch), of_trl(trl_trainer, batch, **settings))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_batches_reach_every_branch(seed: int):
    batch = ragged(seed)
    advantages = GRPO_SLOTS["advantage"](rewards=batch["rewards"], mask=batch["mask"])
    ratio = (batch["logprobs"] - batch["old_logprobs"]).exp()
    importance = (batch["old_logprobs"] - batch["rollout_logprobs"]).exp()
    counted = batch["mask"]
    assert (counted & (advantages > 0) & (ratio > 1.5)).any()
    assert (counted & (advantages > 0) & (ratio < 0.8)).any()
    assert (counted & (advantages < 0) & (ratio > 1.5)).any()
    assert (counted & (advantages < 0) & (ratio < 0.8)).any()
    assert (counted & (importance > 1.25)).any()
    assert (counted & (importance < 0.75)).any()
    assert (advantages[:4] == 0).all()
    assert len(set(batch["lengths"].flatten().tolist())) > 3
    assert 0 < batch["truncated"].sum() < len(batch["truncated"])


# ------------------------------------------------------------------------------------------------- the difference


def assert_gradient(ours: Tensor, trl: Tensor) -> None:
    torch.testing.assert_close(ours, trl, rtol=RELATIVE, atol=ABSOLUTE, check_dtype=False)


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo", "bnpo"])
def test_split_into_micro_batches(trl_trainer: Callable[..., Any], loss_type: str):
    """TRL's bnpo averages each micro-batch by itself; the others count over the whole batch, as here."""
    batch, parts = ragged(1), 4
    aggregate = {"grpo": SequenceMean(), "dr_grpo": ConstantLength(length=LENGTH)}.get(loss_type, TokenMean())
    trl = of_trl(trl_trainer, batch, micro_batches=parts, **{**GRPO, "loss_type": loss_type})
    whole = ours(aggregate=aggregate)(batch)
    tokens = batch["mask"].sum(-1)
    factor = torch.ones(len(tokens), 1)
    if loss_type == "bnpo":
        factor = torch.cat([(tokens.sum() / (parts * part.sum())).expand(len(part)) for part in tokens.chunk(parts)])
        factor = factor[:, None]
        assert factor.max() > 1.1 * factor.min()
    assert_gradient(whole.logprobs * factor, trl.logprobs)


def test_truncated_completions_stay_in_trls_count_of_completions(trl_trainer: Callable[..., Any]):
    batch = ragged(1)
    kept = ours(weights=[SkipTruncated()], denominator="kept")(batch)
    share = (~batch["truncated"]).double().mean()
    assert_gradient(kept.logprobs * share, of_trl(trl_trainer, batch, **GRPO, **TRUNCATED).logprobs)


def test_top_entropy_is_divided_by_all_tokens(trl_trainer: Callable[..., Any]):
    batch = ragged(1)
    weight = TopEntropy(fraction=0.2)
    kept = ours(weights=[weight], aggregate=TokenMean(), denominator="kept")(batch)
    share = weight(entropies=batch["entropies"], mask=batch["mask"]).sum() / batch["mask"].sum()
    assert 0.19 < share < 0.25
    assert_gradient(kept.logprobs * share, of_trl(trl_trainer, batch, **DAPO, top_entropy_quantile=0.2).logprobs)


def seven_tokens() -> dict[str, Tensor]:
    """A right and a wrong completion of seven tokens together, on policy."""
    batch = made(torch.tensor([[1.0, -1.0]]), torch.tensor([3, 4]), torch.Generator().manual_seed(0))
    return {**batch, "logprobs": batch["old_logprobs"]}


def test_top_entropy_threshold_between_two_ranks(trl_trainer: Callable[..., Any]):
    """0.3 of 7 tokens is 2.1: three here, rounded up; an interpolated quantile leaves TRL 1 + ⌊0.3 · 6⌋ = 2."""
    batch = seven_tokens()
    here = ours(weights=[TopEntropy(fraction=0.3)], aggregate=TokenMean())(batch)
    trl = of_trl(trl_trainer, batch, **DAPO, top_entropy_quantile=0.3)
    assert (here.logprobs != 0).sum() == 3
    assert (trl.logprobs != 0).sum() == 2
    common = trl.logprobs != 0
    assert_gradient(here.logprobs[common], trl.logprobs[common])


def test_top_entropy_threshold_of_each_micro_batch(trl_trainer: Callable[..., Any]):
    batch, weight = ragged(1), TopEntropy(fraction=0.2)
    plain = ours(aggregate=TokenMean())(batch)
    halves = zip(batch["entropies"].chunk(2), batch["mask"].chunk(2), strict=True)
    chosen = torch.cat([weight(entropies=entropies, mask=mask) for entropies, mask in halves])
    assert not torch.equal(chosen, weight(entropies=batch["entropies"], mask=batch["mask"]))
    trl = of_trl(trl_trainer, batch, micro_batches=2, **DAPO, top_entropy_quantile=0.2)
    assert_gradient(plain.logprobs * chosen, trl.logprobs)


def test_cispo_with_trls_default_bound_is_a_fifth_of_the_gradient(trl_trainer: Callable[..., Any]):
    """TRL's bound is a ratio, and its default the clip's 0.2, so that on policy it scales every token."""
    batch = ragged(1)
    on_policy = {**batch, "logprobs": batch["old_logprobs"]}
    plain = ours(surrogate=Unclipped(), aggregate=TokenMean())(on_policy)
    assert_gradient(0.2 * plain.logprobs, of_trl(trl_trainer, on_policy, loss_type="cispo").logprobs)
    with pytest.raises(ValueError, match="cap is a ratio, at least 1"):
        ClippedWeight(cap=0.2)


def test_dead_group_keeps_a_residue_in_trl(trl_trainer: Callable[..., Any]):
    """In float32 the mean of three rewards of 0.9 is not 0.9; one rounding of 6e-8 over ε = 1e-4 is 6e-4."""
    batch = made(torch.tensor([[0.9] * 3]), torch.tensor([3, 4, 5]), torch.Generator().manual_seed(0))
    assert (ours()(batch).advantages == 0).all()
    residue = of_trl(trl_trainer, batch, **GRPO).advantages.abs()
    assert (residue > 5e-4).all()
    assert (residue < 2e-3).all()


def test_log_ratio_is_clamped_here_and_not_in_trl(trl_trainer: Callable[..., Any]):
    batch = seven_tokens()
    on_policy = ours()(batch).logprobs[1, 0]  # −c Â at ρ = 1, of the wrong completion
    far = {**batch, "logprobs": batch["logprobs"].clone()}
    far["logprobs"][1, 0] += 25
    here, trl = ours()(far), of_trl(trl_trainer, far, **GRPO)
    assert here.logprobs[1, 0] == 0
    near_e25 = torch.tensor(25.0, dtype=torch.float64).exp() * on_policy
    torch.testing.assert_close(trl.logprobs[1, 0], near_e25, rtol=RELATIVE, atol=0)
    # 4.9e8 of TRL's 7.2e10 are left here.
    torch.testing.assert_close(here.loss, trl.loss * torch.tensor(-5.0).double().exp(), rtol=1e-5, atol=0)


def test_log_ratio_of_k3_is_clamped_here_and_not_in_trl(trl_trainer: Callable[..., Any]):
    batch = seven_tokens()
    far = {**batch, "ref_logprobs": batch["logprobs"].clone()}
    far["ref_logprobs"][0, 0] += 25
    here, trl = ours(kl=K3(beta=0.5, gradient="value"))(far), of_trl(trl_trainer, far, **GRPO, **K3_PLAIN)
    coefficient = 0.5 / (2 * 3)  # β / (B · |o|)
    e25, e20 = torch.tensor([25.0, 20.0], dtype=torch.float64).exp()
    added = coefficient * ((e25 - 26) - (e20 - 21))
    torch.testing.assert_close(trl.loss - here.loss, added, rtol=RELATIVE, atol=0)
    slope = trl.logprobs[0, 0] - here.logprobs[0, 0]
    torch.testing.assert_close(slope, coefficient * (1 - e25), rtol=RELATIVE, atol=0)


def test_entropy_bonus_is_a_mean_over_tokens_whatever_the_loss_type(trl_trainer: Callable[..., Any]):
    batch, alpha = ragged(1), 0.25
    here = ours(entropy=EntropyBonus(alpha=alpha))(batch)
    trl = of_trl(trl_trainer, batch, **GRPO, entropy_coef=alpha)
    assert_gradient(here.logprobs, trl.logprobs)
    mask = batch["mask"].double()
    assert_gradient(trl.entropies, -alpha * mask / mask.sum())
    assert_gradient(here.entropies, -alpha * mask / mask.sum(-1, keepdim=True) / len(mask))


def test_importance_of_the_penalty_follows_the_ratio_in_trl(trl_trainer: Callable[..., Any]):
    """With a ratio of completions, TRL's corrected k3 takes it; `ImportanceWeightedK3` takes each token's own."""
    batch = ragged(1)
    here = ours(ratio=SequenceRatio())(batch)
    logprobs = batch["logprobs"].clone().requires_grad_()
    k3 = K3(beta=0.5, gradient="value")(
        logprobs=logprobs, old_logprobs=batch["old_logprobs"], ref_logprobs=batch["ref_logprobs"]
    )
    ratio = SequenceRatio()(logprobs=logprobs, old_logprobs=batch["old_logprobs"], mask=batch["mask"])
    (penalty,) = torch.autograd.grad((SequenceMean()(mask=batch["mask"]) * ratio * k3).sum(), logprobs)
    trl = of_trl(trl_trainer, batch, **GRPO, beta=0.5, importance_sampling_level="sequence")
    assert_gradient(here.logprobs + penalty, trl.logprobs)


def test_off_policy_mask_measures_from_the_sampler_where_trl_has_it(trl_trainer: Callable[..., Any]):
    batch = ragged(1)
    advantages = GRPO_SLOTS["advantage"](rewards=batch["rewards"], mask=batch["mask"])
    gate, places = OffPolicyMask(delta=0.05), {name: batch[name] for name in ("logprobs", "mask")}
    from_sampler = gate(old_logprobs=batch["rollout_logprobs"], advantages=advantages, **places)
    from_trainer = gate(old_logprobs=batch["old_logprobs"], advantages=advantages, **places)
    assert not torch.equal(from_sampler, from_trainer)
    settings = {"off_policy_mask_threshold": 0.05, "vllm_importance_sampling_correction": False, "vllm": True}
    trl = of_trl(trl_trainer, batch, **GRPO, **settings)
    assert_gradient(ours()(batch).logprobs * from_sampler, trl.logprobs)


def test_truncation_of_the_importance_has_a_floor_in_trl(trl_trainer: Callable[..., Any]):
    batch = ragged(1)
    weight = (batch["old_logprobs"] - batch["rollout_logprobs"]).exp().clamp(0.75, 1.25)
    trl = of_trl(
        trl_trainer,
        batch,
        **VLLM,
        vllm_importance_sampling_mode="token_truncate",
        vllm_importance_sampling_clip_min=0.75,
        vllm_importance_sampling_clip_max=1.25,
    )
    assert_gradient(ours(aggregate=TokenMean())(batch).logprobs * weight, trl.logprobs)
