"""Loading a policy, and asking it (or its reference) for log-probabilities and entropies."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from research.component import require
from research.errors import UserError
from research.policy.logprobs import completion_positions, entropies_from, gathered
from research.policy.shared import SharedPrompts, can_share, runs
from research.types import UpdateBatch


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank adapters on the policy; the reference is then the policy with its adapters disabled."""

    rank: int
    """Rank of the update; at least 1."""
    alpha: float
    """The update is scaled by alpha / rank; above 0."""
    targets: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    """Names of the linear layers that get an adapter."""

    def __post_init__(self) -> None:
        require(self.rank >= 1 and self.alpha > 0, f"LoRA: rank is at least 1 and alpha above 0, got {self}")


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """Which model the policy starts from, and how it is trained."""

    path: str
    """A folder or a hub id that transformers can load; `builtin` is the built-in model's cached warm start."""
    lora: LoRA | None
    """Train low-rank adapters only; null trains all weights."""
    precision: Literal["float32", "bfloat16"]
    """What forward and backward passes compute in; weights, log-probabilities and optimizer stay float32."""
    trust_remote_code: bool = False
    """Allow the model's own code to run while loading."""


@dataclass(frozen=True, kw_only=True)
class TokenValues:
    """What the policy says of each completion token; 0 on padding."""

    logprobs: Float[Tensor, "B T"]
    entropies: Float[Tensor, "B T"]


def load_pretrained(path: str, *, trust_remote_code: bool = False) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model (float32) and tokenizer from a folder or a hub id.

    Raises: UserError if either cannot be loaded; the message names the path and the reason.
    """
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"cannot load the policy from {path!r}: {reason} Give a folder with a saved model, or a hub id."
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


class Policy(nn.Module):
    """A causal language model that is being trained, and its frozen reference where one is asked for.

    Args:
        spec: what to load and how to train it; `spec.path` is loadable here (no `builtin` any more).
        temperature: log-probabilities are of the distribution that completions are sampled from, logits / temperature.
        with_reference: keep a frozen copy of the start (with LoRA nothing is copied).

    Raises: UserError if the model cannot be loaded, or does not read its logits straight off its last hidden state.
    """

    def __init__(self, spec: PolicySpec, *, temperature: float, with_reference: bool) -> None:
        super().__init__()
        self.spec, self.temperature = spec, temperature
        model, self.tokenizer = load_pretrained(spec.path, trust_remote_code=spec.trust_remote_code)
        _check_head(model, spec.path)
        self._shares = can_share(model)
        self._prompts: SharedPrompts | None = None
        # A plain list hides the frozen copy from parameters() and state_dict(): it is loaded again, never saved.
        self._reference = [deepcopy(model).requires_grad_(False).eval()] if with_reference and spec.lora is None else []
        self.model = _with_adapters(model, spec.lora) if spec.lora else model
        self.model.train()

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The transformers model inside, adapters and all."""
        return self.model.get_base_model() if self.spec.lora else self.model  # pyright: ignore

    @property
    def tied(self) -> bool:
        """Whether the output layer is the embedding."""
        return _head(self.causal_lm).weight is self.causal_lm.get_input_embeddings().weight  # pyright: ignore

    @contextmanager
    def at_temperature(self, temperature: float) -> Iterator[None]:
        """Values of the distribution at another temperature."""
        own, self.temperature = self.temperature, temperature
        try:
            yield
        finally:
            self.temperature = own

    def save(self, folder: Path) -> None:
        """Write model and tokenizer as transformers reads them, adapters merged into the weights they adapt."""
        model = deepcopy(self.model).merge_and_unload() if self.spec.lora else self.model  # pyright: ignore
        model.save_pretrained(folder)  # pyright: ignore[reportCallIssue]
        self.tokenizer.save_pretrained(folder)

    def forward(self, batch: UpdateBatch, *, entropy_gradient: bool = True) -> TokenValues:
        """Log-probabilities and entropies of every completion token of the rows, in one pass, with gradient.

        Args:
            batch: the rows.
            entropy_gradient: whether the entropies carry one too; it costs as much memory as the logits.
        """
        return self._values(self.causal_lm, batch, self._prompts, entropy_gradient)

    def micro_batches(
        self, batch: UpdateBatch, tokens: int, apart: Bool[Tensor, " B"] | None = None
    ) -> Iterator[Int[Tensor, " R"]]:
        """Rows in runs of at most `tokens` padded tokens; those that `apart` marks share no run with the others.

        Until the next run is asked for, `forward` of this one's rows shares prompts with other runs: each is read once.
        The gradient reaches all weights when the iterator is exhausted.
        """
        try:
            for rows, prompts in runs(self.causal_lm if self._shares else None, batch, tokens, apart):
                self._prompts = prompts
                yield rows
        finally:
            self._prompts = None

    @torch.no_grad()
    def annotate(self, batch: UpdateBatch, tokens: int) -> TokenValues:
        """The same without gradient, in micro-batches of at most `tokens` padded tokens."""
        return self._in_micro_batches(self.causal_lm, batch, tokens)

    @torch.no_grad()
    def reference(self, batch: UpdateBatch, tokens: int) -> TokenValues:
        """The same from the frozen reference."""
        with self._reference_model() as model:
            return self._in_micro_batches(model, batch, tokens)

    @property
    def frozen(self) -> list[PreTrainedModel]:
        """The reference, where it is a model of its own."""
        return self._reference

    def reset_reference(self) -> None:
        """The reference becomes the policy as it is now."""
        self._reference[0].load_state_dict(self.model.state_dict())

    def reference_state(self) -> dict[str, Tensor]:
        """The reference's weights, for a checkpoint."""
        return self._reference[0].state_dict()

    def load_reference(self, state: Mapping[str, Tensor]) -> None:
        """Take the reference's weights back from a checkpoint."""
        self._reference[0].load_state_dict(state)

    @contextmanager
    def _reference_model(self) -> Iterator[PreTrainedModel]:
        if self.spec.lora:
            with self.model.disable_adapter():  # pyright: ignore
                yield self.causal_lm
        else:
            yield self._reference[0].to(self.model.device)  # pyright: ignore[reportArgumentType]

    def _in_micro_batches(self, model: PreTrainedModel, batch: UpdateBatch, tokens: int) -> TokenValues:
        logprobs = torch.zeros(batch["mask"].shape, device=batch.input_ids.device)
        entropies = torch.zeros_like(logprobs)
        for rows, prompts in runs(model if self._shares else None, batch, tokens):
            part = batch.rows(rows)
            values = self._values(model, part, prompts)
            width = part["mask"].shape[1]
            logprobs[rows, :width], entropies[rows, :width] = values.logprobs, values.entropies
        return TokenValues(logprobs=logprobs, entropies=entropies)

    def _values(
        self, model: PreTrainedModel, batch: UpdateBatch, prompts: SharedPrompts | None, entropy_gradient: bool = False
    ) -> TokenValues:
        rows, t, positions = completion_positions(batch.prompt_lengths, batch.lengths)
        bf16 = self.spec.precision == "bfloat16"
        with torch.autocast(batch.input_ids.device.type, dtype=torch.bfloat16, enabled=bf16):
            if prompts is not None:
                hidden = prompts.hidden(batch)
            else:
                # Right padding under a causal mask is never attended to by a real token: no attention mask is needed.
                # A row's last token predicts nothing, so the last column is never read.
                whole = model.get_decoder()(input_ids=batch.input_ids[:, :-1], use_cache=False).last_hidden_state
                hidden = whole[rows, positions]
            logits = _head(model)(hidden).float() / self.temperature
        log_p = torch.log_softmax(logits, -1)
        logprobs = gathered(log_p, batch.input_ids[rows, positions + 1])
        entropies = entropies_from(log_p if entropy_gradient else log_p.detach())
        shape = batch["mask"].shape
        return TokenValues(logprobs=_scatter(logprobs, rows, t, shape), entropies=_scatter(entropies, rows, t, shape))


def _scatter(values: Float[Tensor, " K"], rows: Tensor, t: Tensor, shape: torch.Size) -> Float[Tensor, "B T"]:
    return torch.zeros(shape, dtype=values.dtype, device=values.device).index_put((rows, t), values)


def _head(model: PreTrainedModel) -> nn.Module:
    head = model.get_output_embeddings()
    assert head is not None, "a causal language model has an output layer"
    return head


def _with_adapters(model: PreTrainedModel, lora: LoRA) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.targets))  # pyright: ignore


@torch.no_grad()
def _check_head(model: PreTrainedModel, path: str) -> None:
    """Refuse a model whose logits are not simply head(hidden): a soft cap or scale would be missed by `Policy`."""
    ids = torch.arange(4)[None, :] % model.config.get_text_config().vocab_size
    model.eval()
    direct = _head(model)(model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state)
    if not torch.allclose(direct, model(input_ids=ids, use_cache=False).logits, atol=1e-4):
        raise UserError(
            f"{path!r} changes its logits after the output layer (a soft cap or a scale), which is not supported yet"
        )
