"""What cannot be a policy, and what cannot be asked of one: one sentence each."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

from research.errors import UserError
from research.policy import LoRA, Policy, PolicySpec, character_tokenizer
from research.policy.loading import _storage
from research.prompts.arithmetic import ALPHABET

ADAPTERS = LoRA(rank=2, alpha=4.0)


def model(**fields: Any) -> LlamaForCausalLM:
    ids = {"vocab_size": len(ALPHABET) + 2, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    size = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 64}
    return LlamaForCausalLM(LlamaConfig(**ids, **size, **fields))


def made(folder: Path, **fields: Any) -> str:
    """The folder of a model and its tokenizer."""
    for part in (model(**fields), character_tokenizer(ALPHABET)):
        part.save_pretrained(folder)
    return str(folder)


def build(path: str, **fields: Any) -> Policy:
    spec = PolicySpec(**{"path": path, "lora": None, "precision": "float32", **fields})
    return Policy(spec, temperature=1.0, with_reference=False)


class TestUnreadable:
    def test_folder_without_a_tokenizer(self, tmp_path: Path) -> None:
        model().save_pretrained(tmp_path)
        with pytest.raises(UserError, match=r"cannot load the tokenizer of .* Save the model's tokenizer beside it"):
            build(str(tmp_path))

    @pytest.mark.parametrize("kept", [0.5, 0.001])
    def test_weights_that_were_cut_short(self, kept: float, tmp_path: Path) -> None:
        file = Path(made(tmp_path)) / "model.safetensors"
        whole = file.read_bytes()
        file.write_bytes(whole[: int(kept * len(whole))])
        with pytest.raises(UserError, match="download it again, complete"):
            build(str(tmp_path))

    def test_weights_of_another_shape(self, tmp_path: Path) -> None:
        config = Path(made(tmp_path)) / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "intermediate_size": 48}))
        with pytest.raises(UserError, match="cannot load the policy from"):
            build(str(tmp_path))

    def test_no_weights_at_all(self, tmp_path: Path) -> None:
        (Path(made(tmp_path)) / "model.safetensors").unlink()
        with pytest.raises(UserError, match=r"no file named model\.safetensors"):
            build(str(tmp_path))

    def test_hub_id_without_the_hub(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(UserError, match=r"nobody/no-such-model.*Give a folder with a saved model, or a hub id"):
            build("nobody/no-such-model")

    def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="there is no such folder"):
            build(str(tmp_path / "nothing"))

    def test_folder_that_is_empty(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="Give a folder with a saved model"):
            build(str(tmp_path))

    def test_code_of_its_own(self, tmp_path: Path) -> None:
        config = Path(made(tmp_path)) / "config.json"
        own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
        config.write_text(json.dumps({**json.loads(config.read_text()), **own}))
        with pytest.raises(UserError, match=r"set policy\.trust_remote_code to true"):
            build(str(tmp_path))

    def test_tokenizer_without_padding_and_end(self, tmp_path: Path) -> None:
        made(tmp_path)
        settings = tmp_path / "tokenizer_config.json"
        kept = {k: v for k, v in json.loads(settings.read_text()).items() if k not in ("pad_token", "eos_token")}
        settings.write_text(json.dumps(kept))
        with pytest.raises(UserError, match="neither a padding token nor an end token"):
            build(str(tmp_path))


class TestSettings:
    def test_four_bits_need_bitsandbytes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("research.policy.loading.find_spec", lambda name: None)
        with pytest.raises(UserError, match="pip install bitsandbytes"):
            build(made(tmp_path), lora=ADAPTERS, precision="bfloat16", weights="4bit")

    def test_four_bits_need_a_device(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("research.policy.loading.find_spec", lambda name: object())
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        with pytest.raises(UserError, match="need a CUDA device"):
            build(made(tmp_path), lora=ADAPTERS, precision="bfloat16", weights="4bit")

    def test_four_bits_are_experimental(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("research.policy.loading.find_spec", lambda name: object())
        monkeypatch.setattr("research.policy.loading.BitsAndBytesConfig", MagicMock(spec=BitsAndBytesConfig))
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
        _storage(PolicySpec(path="x", lora=ADAPTERS, precision="bfloat16", weights="4bit"))
        assert "weights in 4bit are experimental, and have never run on a GPU" in caplog.text

    def test_attention_that_is_not_installed(self, tmp_path: Path) -> None:
        if torch.cuda.is_available():
            pytest.skip("it may be installed here")
        with pytest.raises(UserError, match=r"cannot be trained as policy asks: .*[Ff]lash"):
            build(made(tmp_path), attention="flash_attention_2", precision="bfloat16")

    @pytest.mark.parametrize("weights", ["bfloat16", "4bit"])
    def test_weights_of_low_precision_are_not_trained(self, weights: str) -> None:
        with pytest.raises(ValueError, match=f"stored in {weights} lose small steps: train adapters"):
            PolicySpec(path="x", lora=None, precision="bfloat16", weights=weights)  # pyright: ignore

    @pytest.mark.parametrize(
        "fields", [{"weights": "4bit"}, {"weights": "bfloat16"}, {"attention": "flash_attention_2"}]
    )
    def test_what_computes_in_bfloat16_says_so(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="computes in bfloat16"):
            PolicySpec(path="x", lora=ADAPTERS, precision="float32", **fields)
        PolicySpec(path="x", lora=ADAPTERS, precision="bfloat16", **fields)

    def test_prompts_are_not_shared_where_blocks_are_computed_again(self, tmp_path: Path) -> None:
        assert build(made(tmp_path))._shares
        assert not build(str(tmp_path), gradient_checkpointing=True)._shares


class TestTargets:
    def test_on_a_layer_that_does_not_exist(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"no linear layer called typo: its linear layers are down_proj, .*v_proj$"):
            build(made(tmp_path), lora=LoRA(rank=2, alpha=4.0, targets=["q_proj", "typo"]))

    def test_on_the_embedding(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="lm_head is also the model's embedding"):
            build(made(tmp_path, tie_word_embeddings=True), lora=LoRA(rank=2, alpha=4.0, targets=["q_proj", "lm_head"]))

    def test_that_are_none(self) -> None:
        with pytest.raises(ValueError, match="LoRA: targets are at least one name"):
            LoRA(rank=2, alpha=4.0, targets=[])
