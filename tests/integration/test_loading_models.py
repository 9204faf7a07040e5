"""Models of other classes as policies: what they say, how they are stored and computed, and which are refused."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from test_policy import LORA, rows_of, values_and_gradient
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from research.errors import UserError
from research.policy import LoRA, Policy, PolicySpec, character_tokenizer
from research.policy import reader as reader_module
from research.prompts.arithmetic import ALPHABET
from research.recipe import Recipe
from research.runs.fit import fit
from research.types import UpdateBatch

VOCABULARY = len(ALPHABET) + 2
IDS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
SIZE = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "initializer_range": 0.15}
WIDE = {**IDS, **SIZE, "intermediate_size": 64, "num_key_value_heads": 2}
HEADS = {"head_dim": 8}
MODELS: Mapping[str, Callable[[], Any]] = {
    "Llama": lambda: LlamaForCausalLM(LlamaConfig(**WIDE, tie_word_embeddings=False)),
    "Qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**WIDE, tie_word_embeddings=True)),
    "Qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**WIDE, **HEADS)),
    "Mistral": lambda: MistralForCausalLM(MistralConfig(**WIDE, sliding_window=8)),
    "Phi3": lambda: Phi3ForCausalLM(Phi3Config(**WIDE)),
    "Gemma": lambda: GemmaForCausalLM(GemmaConfig(**WIDE, **HEADS)),
    "Gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**WIDE, **HEADS, final_logit_softcapping=None)),
    "GPT2": lambda: GPT2LMHeadModel(GPT2Config(**IDS, **SIZE)),
}
REFUSED: Mapping[str, Callable[[], Any]] = {
    "after the output layer|Gemma2": lambda: Gemma2ForCausalLM(
        Gemma2Config(**WIDE, **HEADS, final_logit_softcapping=1.0)
    ),
    "after the output layer|Cohere": lambda: CohereForCausalLM(CohereConfig(**WIDE, logit_scale=0.5)),
    "after the output layer|Granite": lambda: GraniteForCausalLM(GraniteConfig(**WIDE, logits_scaling=2.0)),
    "lets a token attend to later ones|Bert": lambda: BertForMaskedLM(BertConfig(**IDS, **SIZE, intermediate_size=64)),
    "is no causal language model|T5": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=VOCABULARY, d_model=32, num_layers=1, d_ff=32, num_heads=2)
    ),
    "lacks 1 weights of LlamaForCausalLM, such as lm_head.weight|a body": lambda: LlamaModel(
        LlamaConfig(**WIDE, tie_word_embeddings=False)
    ),
}


def build(path: str, *, reference: bool = False, temperature: float = 1.0, **fields: Any) -> Policy:
    spec = PolicySpec(**{"path": path, "lora": None, "precision": "float32", **fields})
    return Policy(spec, temperature=temperature, with_reference=reference)


def saved(model: Any, folder: Path) -> str:
    """The folder of a model, with its tokenizer."""
    model.save_pretrained(folder)
    character_tokenizer(ALPHABET).save_pretrained(folder)
    return str(folder)


def made(kind: str, folder: Path) -> str:
    torch.manual_seed(0)
    return saved(MODELS[kind](), folder)


def moved(policy: Policy) -> Policy:
    """The policy after its trained weights have gone somewhere else."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return policy


def twin(policy: Policy, path: str) -> Policy:
    """The policy with weights in float32."""
    other = build(path, lora=LoRA(**LORA))
    trained = {name: p for name, p in policy.model.named_parameters() if "lora_" in name}
    assert not other.model.load_state_dict(trained, strict=False).unexpected_keys
    return other


@torch.no_grad()
def of_all_logits(model: Any, batch: UpdateBatch, temperature: float) -> Tensor:
    """log p of every completion token, from a plain call of the model with whole rows."""
    logprobs = torch.zeros(batch["mask"].shape)
    for i, (p, n) in enumerate(zip(batch.prompt_lengths.tolist(), batch.lengths.tolist(), strict=True)):
        ids = batch.input_ids[i : i + 1, : p + n]
        log_p = torch.log_softmax(model(input_ids=ids).logits[0] / temperature, -1)
        logprobs[i, :n] = log_p[range(p - 1, p + n - 1), ids[0, p:]]
    return logprobs


@pytest.mark.parametrize("kind", MODELS)
class TestModels:
    def test_log_probabilities_are_those_of_the_models_own_logits(self, kind: str, tmp_path: Path) -> None:
        path = made(kind, tmp_path)
        policy = build(path, temperature=0.7)
        batch = rows_of(policy, 0.7)
        own = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        expected = of_all_logits(own, batch, 0.7)
        assert expected.std() > 0.01
        for values in (policy.values(batch, entropy_gradient=True), policy.annotate(batch, 64)):
            assert (values.logprobs - expected).abs().max() < 1e-5  # float32 at a few nats

    def test_chunks_and_checkpointing_change_nothing(self, kind: str, tmp_path: Path) -> None:
        path = made(kind, tmp_path)
        plain = build(path)
        batch = rows_of(plain)
        expected = values_and_gradient(plain, batch, [torch.arange(len(batch.lengths))])
        assert expected[2].norm() > 0
        again = build(path, gradient_checkpointing=True)
        assert again.causal_lm.is_gradient_checkpointing
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reader_module, "LOGITS", VOCABULARY * 7)  # seven tokens at a time
            for tokens in (10_000, 60):
                mine = values_and_gradient(again, batch, again.micro_batches(batch, tokens))
                assert (mine[0] - expected[0]).abs().max() < 1e-5  # float32 at a few nats
                assert (mine[1] - expected[1]).abs().max() < 1e-5
                assert (mine[2] - expected[2]).norm() / expected[2].norm() < 1e-5  # float32 sums in another order


@pytest.mark.parametrize("reason", REFUSED)
def test_models_that_cannot_be_policies(reason: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = saved(REFUSED[reason](), tmp_path)
    with pytest.raises(UserError, match=reason.partition("|")[0]):
        build(path)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_the_one_asked_for(attention: str, tmp_path: Path) -> None:
    path = made("Llama", tmp_path)
    policy, plain = build(path, attention=attention), build(path)
    assert policy.causal_lm.config._attn_implementation == attention
    batch = rows_of(plain)
    gap = policy.annotate(batch, 64).logprobs - plain.annotate(batch, 64).logprobs
    assert gap.abs().max() < 1e-5  # float32 at a few nats


def test_dropout_is_off(tmp_path: Path) -> None:
    """GPT-2's configuration has it, in three places."""
    policy = build(made("GPT2", tmp_path))
    assert AutoModelForCausalLM.from_pretrained(tmp_path).train().transformer.drop.p == 0.1
    batch = rows_of(policy)
    assert policy.training
    values = [policy.values(batch, entropy_gradient=False).logprobs.detach() for _ in range(2)]
    assert torch.equal(values[0], values[1])
    assert (values[0] - policy.annotate(batch, 10_000).logprobs).abs().max() < 1e-5


class TestWeightsInBfloat16:
    FIELDS: Mapping[str, Any] = {"lora": LoRA(**LORA), "precision": "bfloat16", "weights": "bfloat16"}

    def test_adapters_and_values_stay_in_float32(self, tmp_path: Path) -> None:
        policy = moved(build(made("Llama", tmp_path), **self.FIELDS))
        kinds = {("lora_" in name, p.dtype, p.requires_grad) for name, p in policy.named_parameters()}
        assert kinds == {(True, torch.float32, True), (False, torch.bfloat16, False)}
        batch = rows_of(policy)
        values = policy.values(batch, entropy_gradient=True)
        assert values.logprobs.dtype == values.entropies.dtype == torch.float32
        exact = twin(policy, str(tmp_path))
        gap = (values.logprobs - exact.annotate(batch, 64).logprobs).abs()
        assert 0 < gap.max() < 0.2  # bfloat16 has three digits
        assert policy._shares

    def test_saved_policy_is_the_sum_in_float32(self, tmp_path: Path) -> None:
        """A sum in bfloat16 would lose most of a small update."""
        policy = moved(build(made("Llama", tmp_path / "start"), **self.FIELDS))
        policy.save(tmp_path / "end")
        exact = twin(policy, str(tmp_path / "start"))
        exact.save(tmp_path / "exact")
        mine, expected = (
            AutoModelForCausalLM.from_pretrained(tmp_path / name).state_dict() for name in ("end", "exact")
        )
        assert all(torch.equal(mine[name], value) and value.dtype == torch.float32 for name, value in expected.items())


class TestFourBit:
    FIELDS: Mapping[str, Any] = {"lora": LoRA(**LORA), "precision": "bfloat16", "weights": "4bit"}

    @pytest.mark.gpu
    def test_trains_adapters_on_quantized_weights(self, tmp_path: Path) -> None:
        pytest.importorskip("bitsandbytes")
        policy = moved(build(made("Llama", tmp_path), **self.FIELDS))
        assert policy.causal_lm.is_loaded_in_4bit
        batch = rows_of(policy)
        exact = twin(policy, str(tmp_path))
        gap = (policy.annotate(batch, 64).logprobs.cpu() - exact.annotate(batch, 64).logprobs).abs()
        assert 0 < gap.mean() < 1


class TestAdapters:
    def test_on_every_linear_layer_but_the_last(self, tmp_path: Path) -> None:
        policy = build(made("GPT2", tmp_path), lora=LoRA(rank=2, alpha=4.0, targets="all-linear"))
        adapted = {name.split(".lora_")[0].rpartition(".")[2] for name in policy.state_dict() if "lora_" in name}
        assert adapted == {"c_attn", "c_proj", "c_fc"}

    def test_on_an_output_layer_of_its_own(self, tmp_path: Path) -> None:
        lora = LoRA(rank=2, alpha=4.0, targets=["q_proj", "lm_head"])
        policy = moved(build(made("Llama", tmp_path / "start"), lora=lora))
        batch = rows_of(policy)
        policy.save(tmp_path / "end")
        expected = build(str(tmp_path / "end")).annotate(batch, 64).logprobs
        assert (policy.annotate(batch, 64).logprobs - expected).abs().max() < 1e-5
        assert (policy.reference(batch, 64).logprobs - expected).abs().max() > 1e-2

    @pytest.mark.parametrize("kind", ["Llama", "Qwen2"])
    def test_without_them_the_policy_is_the_model_bit_for_bit(self, kind: str, tmp_path: Path) -> None:
        path = made(kind, tmp_path)
        policy, bare = moved(build(path, lora=LoRA(**LORA))), build(path)
        batch = rows_of(policy)
        for mine, expected in zip(policy.reference(batch, 64), bare.annotate(batch, 64), strict=True):
            assert torch.equal(mine, expected)
        assert (policy.annotate(batch, 64).logprobs - bare.annotate(batch, 64).logprobs).abs().max() > 1e-2


@pytest.mark.parametrize("shares_body", [True, False])
def test_a_critic_learns_beside_adapters(shares_body: bool, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    options = {"model.policy.lora": LORA, "model.policy.gradient_checkpointing": True, "model.critic.pretrain_steps": 0}
    fit(recipe("ppo", {**options, "model.critic.shares_body": shares_body, "run.steps": 2}), tmp_path)
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert all("lora_" in name or name.startswith("critic.") for name in state)
    assert any(name.startswith("critic.model.own") for name in state) is not shares_body
    assert state["critic.model.head.weight"].abs().sum() > 0
    assert any(float(value.abs().sum()) > 0 for name, value in state.items() if "lora_B" in name)
