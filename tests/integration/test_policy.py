"""Log-probabilities and entropies of a real model, its reference, its adapters."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
)

from research.errors import UserError
from research.policy import LoRA, Policy, PolicySpec, character_tokenizer
from research.prompts.arithmetic import ALPHABET
from research.recipe import Recipe, instantiate
from research.rollouts import CompactSampler, Decoding, TransformersSampler
from research.runs.evaluate import evaluate
from research.runs.fit import fit
from research.tracking import merged_steps
from research.training.batch import assemble
from research.types import Group, Prompt, UpdateBatch

PROMPTS = ["1+2=", "9-3+4+5-6+7=", "8-1="]
LORA = {"rank": 2, "alpha": 4.0}


def build(path: str, *, lora: LoRA | None = None, temperature: float = 1.0, reference: bool = False) -> Policy:
    spec = PolicySpec(path=path, lora=lora, precision="float32")
    return Policy(spec, temperature=temperature, with_reference=reference)


def sampled(policy: Policy, temperature: float, kind: type[TransformersSampler] = TransformersSampler) -> list[Group]:
    sampler = kind()
    sampler.attach(policy.model, policy.tokenizer)
    prompts = [Prompt(id=str(k), text=text, answer="") for k, text in enumerate(PROMPTS)]
    groups = sampler.sample(prompts, n=4, decoding=Decoding(max_tokens=12, temperature=temperature), seed=5)
    return [
        Group(prompt=g.prompt, prompt_ids=g.prompt_ids, completions=g.completions, outcomes=(0.0,) * 4) for g in groups
    ]


def rows_of(
    policy: Policy, temperature: float = 1.0, kind: type[TransformersSampler] = TransformersSampler
) -> UpdateBatch:
    return assemble(sampled(policy, temperature, kind), pad=policy.tokenizer.pad_token_id, device=torch.device("cpu"))


@torch.no_grad()
def naive(model: Any, batch: UpdateBatch, temperature: float) -> tuple[Tensor, Tensor]:
    """One row at a time, no padding, all logits, float64, loops over tokens."""
    logprobs, entropies = torch.zeros(2, *batch["mask"].shape, dtype=torch.float64)
    for i in range(len(batch.lengths)):
        p, n = int(batch.prompt_lengths[i]), int(batch.lengths[i])
        logits = model(input_ids=batch.input_ids[i : i + 1, : p + n]).logits[0].double() / temperature
        log_p = torch.log_softmax(logits, -1)
        for t in range(n):
            logprobs[i, t] = log_p[p + t - 1, batch.input_ids[i, p + t]]
            entropies[i, t] = -sum(float(v.exp() * v) for v in log_p[p + t - 1])
    return logprobs, entropies


@pytest.mark.parametrize("temperature", [1.0, 0.7])
class TestValues:
    def test_agree_with_all_logits_row_by_row(self, tiny_policy: str, temperature: float) -> None:
        policy = build(tiny_policy, temperature=temperature)
        batch = rows_of(policy, temperature)
        assert len(set(batch.lengths.tolist())) > 2
        assert len(set(batch.prompt_lengths.tolist())) == 2
        logprobs, entropies = naive(policy.model, batch, temperature)
        for values in (
            policy.values(batch, entropy_gradient=True),
            policy.annotate(batch, 40),
            policy.annotate(batch, 10_000),
        ):
            assert (values.logprobs - logprobs).abs().max() < 1e-6  # float32 at a few nats
            assert (values.entropies - entropies).abs().max() < 1e-6
            assert (values.logprobs[~batch["mask"]] == 0).all()
            assert (values.entropies[~batch["mask"]] == 0).all()

    @pytest.mark.parametrize("kind", [TransformersSampler, CompactSampler])
    def test_the_sampler_and_the_trainer_agree(
        self, tiny_policy: str, temperature: float, kind: type[TransformersSampler]
    ) -> None:
        policy = build(tiny_policy, temperature=temperature)
        batch = rows_of(policy, temperature, kind)
        gap = (policy.annotate(batch, 64).logprobs - batch["rollout_logprobs"]).abs().max()
        assert gap < 1e-4  # left padding and a cache change float32 sums
        other = build(tiny_policy, temperature=2.0)
        assert (other.annotate(batch, 64).logprobs - batch["rollout_logprobs"]).abs().max() > 1e-2


class TestGradientOfTheValues:
    def test_only_completion_tokens_have_one(self, tiny_policy: str) -> None:
        policy = build(tiny_policy)
        batch = rows_of(policy)
        values = policy.values(batch, entropy_gradient=True)
        assert values.logprobs.requires_grad
        assert values.entropies.requires_grad
        assert not policy.annotate(batch, 64).logprobs.requires_grad
        policy.zero_grad()
        values.logprobs[~batch["mask"]].sum().backward()
        assert all(float(p.grad.abs().sum()) == 0 for p in policy.parameters() if p.grad is not None)

    def test_is_that_of_all_logits(self, tiny_policy: str) -> None:
        policy = build(tiny_policy)
        batch = rows_of(policy).rows(torch.tensor([2]))
        policy.values(batch, entropy_gradient=True).logprobs.sum().backward()
        mine = torch.cat([p.grad.flatten() for p in policy.parameters()])
        policy.zero_grad()
        p, n = int(batch.prompt_lengths[0]), int(batch.lengths[0])
        log_p = torch.log_softmax(policy.model(input_ids=batch.input_ids).logits[0, p - 1 : p + n - 1], -1)
        log_p.gather(-1, batch.input_ids[0, p : p + n, None]).sum().backward()
        whole = torch.cat([p.grad.flatten() for p in policy.parameters()])
        assert (mine - whole).norm() / whole.norm() < 1e-5


def saved_model(kind: str, folder: Path) -> str:
    """A tiny random model of another class than the built-in one, with its tokenizer."""
    tokenizer = character_tokenizer(ALPHABET)
    ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    size = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
    wide = {**ids, **size, "intermediate_size": 64, "num_key_value_heads": 2}
    still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    torch.manual_seed(0)
    model = {
        "grouped heads": lambda: LlamaForCausalLM(LlamaConfig(**wide, tie_word_embeddings=False)),
        "learned positions": lambda: GPT2LMHeadModel(GPT2Config(**ids, **size, **still)),
        "positions from the mask": lambda: BloomForCausalLM(BloomConfig(**ids, hidden_size=32, n_head=4, n_layer=2)),
        "places in the cache": lambda: MptForCausalLM(MptConfig(**ids, d_model=32, n_heads=4, n_layers=2)),
        "sliding window": lambda: MistralForCausalLM(MistralConfig(**wide, sliding_window=8)),
    }[kind]()
    for saved in (model, tokenizer):
        saved.save_pretrained(folder)
    return str(folder)


def values_and_gradient(policy: Policy, batch: UpdateBatch, runs: Iterable[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Of a sum in which every token has a weight of its own, and entropies take part."""
    policy.zero_grad()
    weights = torch.rand(2, *batch["mask"].shape, generator=torch.Generator().manual_seed(1))
    logprobs, entropies = torch.zeros(2, *batch["mask"].shape)
    for rows in runs:
        part = batch.rows(rows)
        values, width = policy.values(part, entropy_gradient=True), part["mask"].shape[1]
        (weights[0, rows, :width] * values.logprobs + weights[1, rows, :width] * values.entropies).sum().backward()
        logprobs[rows, :width], entropies[rows, :width] = values.logprobs.detach(), values.entropies.detach()
    return logprobs, entropies, torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])


class TestSharedPrompts:
    def check(self, policy: Policy, batch: UpdateBatch, apart: Tensor | None = None) -> None:
        whole = values_and_gradient(policy, batch, [torch.arange(len(batch.lengths))])
        assert whole[2].norm() > 0
        for tokens in (10_000, 60, 20):  # both prompts in one part; runs of few rows; each prompt a part of its own
            shared = values_and_gradient(policy, batch, policy.micro_batches(batch, tokens, apart))
            assert (shared[0] - whole[0]).abs().max() < 3e-6  # float32 at a few nats, through adapters
            assert (shared[1] - whole[1]).abs().max() < 3e-6
            assert (shared[2] - whole[2]).norm() / whole[2].norm() < 2e-6  # float32 sums in another order

    @pytest.mark.parametrize("lora", [None, LoRA(**LORA)], ids=["all weights", "adapters"])
    def test_values_and_gradient_are_those_of_rows_read_whole(self, tiny_policy: str, lora: LoRA | None) -> None:
        policy = build(tiny_policy, lora=lora, temperature=0.7)
        with torch.no_grad():
            for parameter in policy.parameters():
                if parameter.requires_grad:
                    parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
        batch = rows_of(policy, 0.7)
        assert policy._shares
        self.check(policy, batch)
        self.check(policy, batch, apart=torch.arange(len(batch.lengths)) % 3 == 0)

    @pytest.mark.parametrize(
        ("kind", "shares"),
        [
            ("grouped heads", True),
            ("learned positions", True),
            ("positions from the mask", True),
            ("places in the cache", False),
            ("sliding window", False),
        ],
    )
    def test_other_models_share_or_are_read_whole(self, kind: str, shares: bool, tmp_path: Path) -> None:
        policy = build(saved_model(kind, tmp_path))
        assert policy._shares is shares
        self.check(policy, rows_of(policy))

    def test_a_row_of_one_token_is_predicted_by_the_prompt_alone(self, tiny_policy: str) -> None:
        policy = build(tiny_policy)
        batch = rows_of(policy)
        ones = torch.ones_like(batch.lengths)
        mask = torch.ones(len(ones), 1, dtype=torch.bool)
        short = UpdateBatch(
            input_ids=batch.input_ids, prompt_lengths=batch.prompt_lengths, lengths=ones, quantities={"mask": mask}
        )
        self.check(policy, short)

    def test_each_prompt_is_read_once(self, tiny_policy: str) -> None:
        policy = build(tiny_policy)
        batch, read = rows_of(policy), []
        handle = policy.causal_lm.get_input_embeddings().register_forward_hook(
            lambda _, given, __: read.append(given[0].shape)
        )
        values_and_gradient(policy, batch, policy.micro_batches(batch, 10_000))
        handle.remove()
        prompt = int(batch.prompt_lengths.max())
        assert read == [(len(PROMPTS), prompt), (len(batch.lengths), int(batch.lengths.max()) - 1)]

    def test_nothing_is_shared_where_each_row_has_a_prompt_of_its_own(self, tiny_policy: str) -> None:
        policy = build(tiny_policy)
        batch = rows_of(policy)
        alone = batch.rows(torch.arange(len(PROMPTS)) * (len(batch.lengths) // len(PROMPTS)))
        for _ in policy.micro_batches(alone, 10_000):
            assert policy._prompts is None
        for _ in policy.micro_batches(batch, 10_000):
            assert policy._prompts is not None
        assert policy._prompts is None

    def test_rows_set_apart_share_no_run_with_the_others(self, tiny_policy: str) -> None:
        policy = build(tiny_policy)
        batch = rows_of(policy)
        apart = torch.arange(len(batch.lengths)) % 3 == 0
        seen = list(policy.micro_batches(batch, 60, apart))
        assert torch.equal(torch.cat(seen).sort().values, torch.arange(len(batch.lengths)))
        assert all(len(set(apart[rows].tolist())) == 1 for rows in seen)

    def test_a_loop_that_breaks_off_leaves_nothing_behind(self, tiny_policy: str) -> None:
        policy = build(tiny_policy)
        batch = rows_of(policy)
        loop = policy.micro_batches(batch, 10_000)
        policy.values(batch.rows(next(iter(loop))), entropy_gradient=True)
        loop.close()
        assert policy._prompts is None
        assert all(p.grad is None for p in policy.parameters())

    def test_bfloat16_is_as_near_as_bfloat16_is(self, tiny_policy: str) -> None:
        spec = PolicySpec(path=tiny_policy, lora=None, precision="bfloat16")
        policy = Policy(spec, temperature=1.0, with_reference=False)
        batch = rows_of(policy)
        exact = values_and_gradient(build(tiny_policy), batch, [torch.arange(len(batch.lengths))])
        whole = values_and_gradient(policy, batch, [torch.arange(len(batch.lengths))])
        shared = values_and_gradient(policy, batch, policy.micro_batches(batch, 60))
        for k in (0, 1, 2):
            assert 0 < (shared[k] - exact[k]).norm() < 1.5 * (whole[k] - exact[k]).norm()


class TestReference:
    def test_is_built_only_where_it_is_needed(self, recipe: Callable[..., Recipe]) -> None:
        no_kl = {"model.objective.kl": {"class_path": "NoKL"}}
        for overrides, copies in (({}, 1), (no_kl, 0), ({"model.policy.lora": LORA}, 0)):
            module, _, _ = instantiate(recipe("grpo", overrides))
            module.setup("fit")
            assert len(module.model._reference) == copies

    def test_is_the_start_and_stays_there(self, tiny_policy: str) -> None:
        policy = build(tiny_policy, reference=True)
        batch = rows_of(policy)
        start = policy.annotate(batch, 64).logprobs
        assert torch.equal(policy.reference(batch, 64).logprobs, start)
        optimizer = torch.optim.AdamW(policy.parameters(), lr=0.01, weight_decay=0.1)
        for _ in range(2):
            (
                policy.values(batch, entropy_gradient=True).logprobs.mean()
                + policy.values(batch, entropy_gradient=True).entropies.mean()
            ).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert torch.equal(policy.reference(batch, 64).logprobs, start)
        assert (policy.annotate(batch, 64).logprobs - start).abs().max() > 1e-2

    def test_is_neither_trained_nor_saved(self, tiny_policy: str) -> None:
        policy, alone = build(tiny_policy, reference=True), build(tiny_policy)
        assert [name for name, _ in policy.named_parameters()] == [name for name, _ in alone.named_parameters()]
        assert list(policy.state_dict()) == list(alone.state_dict())
        assert not any(p.requires_grad for p in policy._reference[0].parameters())


class TestLoRA:
    @pytest.fixture
    def adapted(self, tiny_policy: str) -> Policy:
        """A policy whose adapters do something."""
        policy = build(tiny_policy, lora=LoRA(**LORA), reference=True)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in policy.parameters():
                if parameter.requires_grad:
                    parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
        return policy

    def test_reference_is_the_policy_without_its_adapters(self, adapted: Policy, tiny_policy: str) -> None:
        batch = rows_of(adapted)
        bare = build(tiny_policy).annotate(batch, 64).logprobs
        assert (
            adapted.reference(batch, 64).logprobs - bare
        ).abs().max() < 3e-6  # float32 at three nats, through adapters
        assert (adapted.annotate(batch, 64).logprobs - bare).abs().max() > 1e-2  # and they are on again

    def test_values_are_those_of_the_adapted_model(self, adapted: Policy) -> None:
        batch = rows_of(adapted)
        logprobs, _ = naive(adapted.model, batch, 1.0)
        assert (adapted(batch).logprobs - logprobs).abs().max() < 3e-6  # float32 at three nats, through adapters
        assert (adapted.annotate(batch, 64).logprobs - batch["rollout_logprobs"]).abs().max() < 1e-4

    def test_checkpoint_holds_adapters_only_and_continues(
        self, recipe: Callable[..., Recipe], tmp_path: Path, tiny_policy: str
    ) -> None:
        small = recipe("grpo", {"model.policy.lora": LORA, "run.save_policy": True})
        fit(small, tmp_path / "whole")
        state = torch.load(tmp_path / "whole/last.ckpt", weights_only=True)["state_dict"]
        assert state
        assert all("lora_" in name for name in state)

        def stop(*_: Any) -> None:
            raise RuntimeError("stopped")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("research.training.module.RLModule.record", stop_after(2))
            with pytest.raises(RuntimeError, match="stopped"):
                fit(small, tmp_path / "resumed")
        fit(small, tmp_path / "resumed")
        again = torch.load(tmp_path / "resumed/last.ckpt", weights_only=True)["state_dict"]
        assert state.keys() == again.keys()
        assert all(torch.equal(state[name], again[name]) for name in state)
        assert any(float(value.abs().sum()) > 0 for name, value in state.items() if "lora_B" in name)
        assert untimed(tmp_path / "whole") == untimed(tmp_path / "resumed")

        last = merged_steps(tmp_path / "whole")[4]
        metrics = evaluate(small, tmp_path / "whole", tmp_path / "whole/last.ckpt").settings["metrics"][0]
        assert {k: last[k] for k in metrics} == metrics

    def test_saved_policy_is_loaded_without_the_library_of_adapters(
        self, recipe: Callable[..., Recipe], tmp_path: Path
    ) -> None:
        """`run.save_policy` promises what transformers can load, and it must be the trained policy."""
        fast = {"model.policy.lora": LORA, "model.optimization.learning_rate": 0.1, "run.steps": 2}
        small = recipe("grpo", {**fast, "run.save_policy": True})
        fit(small, tmp_path)
        module, data, trainer = instantiate(small, logger=False)
        trainer.validate(module, data, ckpt_path=str(tmp_path / "last.ckpt"), verbose=False, weights_only=True)
        ids = torch.tensor([[3, 4, 5, 6, 7]])
        with torch.no_grad():
            trained = module.model.model.eval()(input_ids=ids).logits
            with module.model.model.disable_adapter():
                start = module.model.model(input_ids=ids).logits
            saved = AutoModelForCausalLM.from_pretrained(tmp_path / "policy").eval()(input_ids=ids).logits
        assert (trained - start).abs().max() > 1e-2
        assert (saved - trained).abs().max() < 1e-4


def stop_after(steps: int) -> Callable[..., None]:
    """`RLModule.record`, until so many steps are done."""
    from research.training.module import RLModule

    record = RLModule.record

    def stopping(self: Any, *args: Any) -> None:
        if self.steps_done == steps:
            raise RuntimeError("stopped")
        record(self, *args)

    return stopping


def untimed(folder: Path) -> dict[int, dict[str, float]]:
    return {
        step: {name: value for name, value in metrics.items() if not name.startswith("time/")}
        for step, metrics in merged_steps(folder).items()
    }


class TestRefusals:
    def test_logits_that_are_capped_after_the_output_layer(self, tmp_path: Path) -> None:
        tokenizer = character_tokenizer(ALPHABET)
        shape = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "initializer_range": 1.0}
        for name, cap in (("capped", 1.0), ("plain", None)):
            config = Gemma2Config(
                **shape, **heads, final_logit_softcapping=cap, pad_token_id=0, eos_token_id=1, bos_token_id=None
            )
            torch.manual_seed(0)
            Gemma2ForCausalLM(config).save_pretrained(tmp_path / name)
            tokenizer.save_pretrained(tmp_path / name)
        with pytest.raises(UserError, match="after the output layer"):
            build(str(tmp_path / "capped"))
        build(str(tmp_path / "plain"))

    @pytest.mark.parametrize("fields", [{"rank": 0, "alpha": 1.0}, {"rank": 1, "alpha": 0.0}])
    def test_adapters_out_of_range(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="LoRA"):
            LoRA(**fields)
