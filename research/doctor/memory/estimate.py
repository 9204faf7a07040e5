"""Estimate of a recipe's memory on a device, part by part, before any weight is loaded."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from research.doctor.memory.blank import blank_model, blank_policy, body_bytes, parameter_bytes, stored_bytes
from research.doctor.memory.passes import sampling_bytes, stand_ins, update_bytes
from research.doctor.memory.workload import Workload
from research.policy import PolicySpec
from research.rollouts import StartPolicy, VLLMSampler

MOMENTS = 2
"""AdamW keeps two numbers for each trained one."""
DRAWING, TRUNCATING = 3, 9
"""Tensors of the logits' size beside the logits, while a token is drawn without and with top-p or top-k."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the memory, in one phase of a step or in both."""

    name: str
    note: str
    """Its content, in words."""
    sampling: int = 0
    """Bytes while completions are sampled."""
    update: int = 0
    """Bytes while the policy is updated."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A recipe's parts on one device."""

    parts: tuple[Part, ...]
    trained: int
    """Number of trained parameters."""
    parameters: int
    """Number of parameters of the policy, adapters included; a tied output layer counts once."""

    @property
    def sampling(self) -> int:
        """Bytes at the peak of sampling."""
        return sum(part.sampling for part in self.parts)

    @property
    def update(self) -> int:
        """Bytes at the peak of the update."""
        return sum(part.update for part in self.parts)

    @property
    def peak(self) -> int:
        """Bytes at the peak of a step."""
        return max(self.sampling, self.update)


def estimate(work: Workload) -> Estimate:
    """Every part of a step's memory on one device.

    Weights, gradients and moments are counted on the model's own parameters. Activations and the key-value cache are
    counted while the model runs on tensors of the step's shapes without data (`research.doctor.memory.passes`).

    Raises: UserError if the model's configuration cannot be read.
    """
    model = blank_policy(work.module.spec)
    kept = _kept(work, model)
    with stand_ins(model):
        passes = [*_sampling_parts(work, model), *_update_parts(work, model)]
    return _estimate(model, [*kept, *passes])


def estimate_kept(work: Workload) -> Estimate:
    """The parts that stay from step to step, without passes and cache: exact, and quick.

    Raises: UserError if the model's configuration cannot be read.
    """
    model = blank_policy(work.module.spec)
    return _estimate(model, _kept(work, model))


def state_bytes(spec: PolicySpec) -> int:
    """Bytes of weights, gradients and moments, which training the policy needs with any algorithm and batch.

    Raises: UserError if the model's configuration cannot be read.
    """
    model = blank_policy(spec)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return stored_bytes(model, spec) + (1 + MOMENTS) * parameter_bytes(trained)


def _estimate(model: PreTrainedModel, parts: list[Part]) -> Estimate:
    parameters = list(model.parameters())
    return Estimate(
        parts=tuple(parts),
        trained=sum(p.numel() for p in parameters if p.requires_grad),
        parameters=sum(p.numel() for p in parameters),
    )


def _both(size: int) -> dict[str, int]:
    return {"sampling": size, "update": size}


def _kept(work: Workload, model: PreTrainedModel) -> list[Part]:
    """The process itself, the models with their gradients and moments."""
    note = "CUDA context" if work.device.cuda else "Python and its libraries"
    return [
        Part(name="process", note=note, **_both(work.device.overhead)),
        *_states(work, model),
        *_models(work, model),
    ]


def _states(work: Workload, model: PreTrainedModel) -> Iterator[Part]:
    """The policy's weights, gradients and moments."""
    module, share = work.module, work.ranks if work.sharded else 1
    weights = stored_bytes(model, module.spec)
    trained = parameter_bytes(p for p in model.parameters() if p.requires_grad)
    kind = "adapters and frozen base" if module.spec.lora else "all trained"
    gathered = _gathered(model) if work.sharded else 0
    yield Part(
        name="weights",
        note=f"{kind}, {module.spec.weights}" + (f"; a {share}th, and what is gathered" if work.sharded else ""),
        sampling=weights // share + (weights if work.sharded else 0),
        update=weights // share + gathered,
    )
    yield Part(name="gradients", note="of what is trained", update=trained // share + gathered)
    yield Part(name="AdamW moments", note="two numbers for each trained one", **_both(MOMENTS * trained // share))


def _models(work: Workload, model: PreTrainedModel) -> Iterator[Part]:
    """The models beside the policy."""
    module, weights = work.module, stored_bytes(model, work.module.spec) // (work.ranks if work.sharded else 1)
    if "ref_logprobs" in module.needs and module.spec.lora is None:
        yield Part(name="reference", note="a frozen copy of the start", **_both(weights))
    if isinstance(module.rollouts.source, StartPolicy):
        yield Part(name="start", note="a frozen copy to sample from", **_both(weights))
    if module.critic_spec is not None and not module.critic_spec.shares_body:
        yield _learner("critic", body_bytes(module.spec))
    if module.iterations is not None and module.iterations.reward_model is not None:
        yield _learner("reward model", parameter_bytes(blank_model(module.spec, torch.float32).parameters()))


def _learner(name: str, weights: int) -> Part:
    """A separate model, all of it trained."""
    return Part(
        name=name,
        note="weights, moments, and gradients in the update",
        sampling=(1 + MOMENTS) * weights,
        update=(2 + MOMENTS) * weights,
    )


def _gathered(model: PreTrainedModel) -> int:
    """Bytes of sharded weights that a rank gathers at a time: two blocks, and everything outside of the blocks."""
    layers = model.get_decoder().get_submodule("layers")
    blocks = [parameter_bytes(block.parameters()) for block in layers.children()]
    return parameter_bytes(model.parameters()) - sum(blocks) + 2 * max(blocks)


def _sampling_parts(work: Workload, model: PreTrainedModel) -> Iterator[Part]:
    """The parts of sampling: with the policy itself, or with an engine beside it."""
    sampler = work.module.rollouts.sampler.engine
    if isinstance(sampler, VLLMSampler):
        yield _engine(work, sampler, sum(parameter.numel() for parameter in model.parameters()))
    if not work.samplings:
        return
    rollouts, evaluation = work.module.rollouts, work.module.evaluation
    truncates = (rollouts.decoding().truncates, evaluation.top_p < 1)
    counted = [
        sampling_bytes(model, shape, copies=TRUNCATING if truncated else DRAWING)
        for shape, truncated in zip(work.samplings, truncates, strict=True)
    ]
    k = max(range(len(counted)), key=lambda k: counted[k].cache + counted[k].passes)
    shape = work.samplings[k]
    where = f"{shape.rows} rows{' of evaluation' if k else ''} × {shape.prompt + shape.completion} tokens"
    yield Part(name="key-value cache", note=where, sampling=counted[k].cache)
    yield Part(name="sampling passes", note="reading the prompts, or a token of each row", sampling=counted[k].passes)


def _engine(work: Workload, sampler: VLLMSampler, parameters: int) -> Part:
    """vLLM's share of the device, at least its own weights; nothing in the update if it sleeps then."""
    weights = parameters * (4 if sampler.dtype == "float32" else 2)
    if sampler.kv_cache_gib is not None:
        size, note = weights + sampler.kv_cache_gib * 2**30, "its weights and cache"
    else:
        size = max(weights, sampler.gpu_memory_utilization * (work.device.memory or 0))
        note = f"{sampler.gpu_memory_utilization:.0%} of the device, of which {weights / 2**30:.2f} are weights"
    stays = sampler.sleep_level == 0 or not work.device.cuda
    return Part(name="vLLM", note=note, sampling=int(size), update=int(size) if stays else 0)


def _update_parts(work: Workload, model: PreTrainedModel) -> Iterator[Part]:
    module, batch = work.module, work.micro_batch
    size = update_bytes(
        model,
        batch,
        bf16=module.spec.precision == "bfloat16",
        temperature=module.rollouts.temperature,
        entropy_gradient="entropies" in module.objective.needs(),
    )
    if work.ranks > 1 and not work.sharded:  # the gradients are copied into one tensor to be summed over the ranks
        size = max(size, parameter_bytes(p for p in model.parameters() if p.requires_grad))
    kept = ", checkpointed" if module.spec.gradient_checkpointing else ""
    yield Part(
        name="update pass", note=f"{batch.rows} rows × {batch.width} tokens{kept}: activations, logits", update=size
    )
