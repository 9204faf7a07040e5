"""The policy's weights as an engine takes them over: all of them, whole, by the names of a checkpoint."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

import research.rollouts.weights as weights_module
from research.errors import UserError
from research.policy import TinyModel, character_tokenizer, tiny_model
from research.prompts.arithmetic import ALPHABET
from research.rollouts.weights import AdapterFolder, Counted, full_weights, save_adapter, save_shape

SHAPE = TinyModel(hidden=16, layers=2, heads=2, feedforward=32, positions=32)


@pytest.fixture
def tied() -> Any:
    return tiny_model(SHAPE, character_tokenizer(ALPHABET), seed=0)


@pytest.fixture
def untied(tied: Any) -> Any:
    tied.config.tie_word_embeddings = False
    tied.lm_head.weight = nn.Parameter(torch.randn_like(tied.lm_head.weight))
    return tied


@pytest.fixture
def adapted(tied: Any) -> Any:
    model = get_peft_model(tied, LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"]))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter)
    return model


def in_checkpoint(model: Any, folder: Path) -> dict[str, torch.Tensor]:
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


class TestFullWeights:
    def test_of_an_untied_model_are_its_checkpoint(self, untied: Any, tmp_path: Path) -> None:
        assert same(dict(full_weights(untied)), in_checkpoint(untied, tmp_path))

    def test_of_a_tied_model_have_the_output_layer_too(self, tied: Any, tmp_path: Path) -> None:
        checkpoint = in_checkpoint(tied, tmp_path)
        assert "lm_head.weight" not in checkpoint
        found = dict(full_weights(tied))
        assert same(found, {**checkpoint, "lm_head.weight": checkpoint["model.embed_tokens.weight"]})

    def test_of_a_peft_model_are_those_of_the_model_inside(self, adapted: Any, tmp_path: Path) -> None:
        before = dict(full_weights(tiny_model(SHAPE, character_tokenizer(ALPHABET), seed=0)))
        assert same(dict(full_weights(adapted)), before)

    def test_of_a_mixture_of_experts_are_its_checkpoint(self, tmp_path: Path) -> None:
        """In memory the experts are fused."""
        config = Qwen3MoeConfig(
            vocab_size=16,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=8,
            num_experts=3,
            num_experts_per_tok=2,
            moe_intermediate_size=8,
        )
        model = Qwen3MoeForCausalLM(config)
        checkpoint = in_checkpoint(model, tmp_path)
        assert set(checkpoint) != set(model.state_dict())
        assert same(dict(full_weights(model)), checkpoint)

    def test_that_are_quantized_are_refused(self, tied: Any) -> None:
        tied.register_buffer("packed", torch.zeros(2, dtype=torch.uint8))
        with pytest.raises(UserError, match="packed is quantized"):
            list(full_weights(tied))

    def test_are_counted_on_the_way(self, untied: Any) -> None:
        counted = Counted(full_weights(untied))
        assert len(list(counted)) == len(untied.state_dict())
        assert counted.bytes == sum(4 * p.numel() for p in untied.parameters())


class TestShards:
    @pytest.fixture
    def group(self) -> Iterator[None]:
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
        yield
        distributed.destroy_process_group()

    def shard(self, model: nn.Module) -> None:
        mesh = init_device_mesh("cpu", (1,))
        for module in model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(distribute_tensor(parameter.data, mesh, [Shard(0)])))

    def test_are_gathered(self, untied: Any, group: None) -> None:
        before = {name: value.clone() for name, value in full_weights(untied)}
        self.shard(untied)
        found = dict(full_weights(untied))
        assert {type(value) for value in found.values()} == {torch.Tensor}
        assert same(found, before)

    def test_of_adapters_are_gathered(self, adapted: Any, group: None, tmp_path: Path) -> None:
        save_adapter(adapted, tmp_path / "whole")
        self.shard(adapted)
        save_adapter(adapted, tmp_path / "sharded")
        files = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "sharded")]
        assert same(*files)


class TestAdapters:
    def test_are_saved_as_peft_reads_them(self, adapted: Any, tmp_path: Path) -> None:
        written = save_adapter(adapted, tmp_path)
        ids = torch.arange(2, 8)[None]
        expected = adapted(ids).logits
        assert written == sum(4 * p.numel() for name, p in adapted.named_parameters() if "lora_" in name)
        fresh = tiny_model(SHAPE, character_tokenizer(ALPHABET), seed=0)
        assert not torch.allclose(fresh(ids).logits, expected, atol=1e-3)
        assert torch.allclose(PeftModel.from_pretrained(fresh, tmp_path)(ids).logits, expected, atol=1e-6)

    @pytest.mark.parametrize("room", [True, False], ids=["in memory", "on disk"])
    def test_of_the_newest_version_alone_stay(
        self, adapted: Any, room: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory = tmp_path / "memory"
        memory.mkdir()
        monkeypatch.setattr(weights_module, "SHARED_MEMORY", memory)
        if not room:
            monkeypatch.setattr(weights_module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100})())
        folder = AdapterFolder()
        first, _ = folder.save(adapted, 3)
        second, _ = folder.save(adapted, 4)
        assert first.is_relative_to(memory) == room
        assert [path.name for path in second.parent.iterdir()] == ["version-4"]
        folder.save(adapted, 4)
        assert (second / "adapter_model.safetensors").exists()
        folder.close()
        assert not second.parent.exists()
        assert list(memory.iterdir()) == []


def test_the_shape_names_the_class_of_the_model_inside(adapted: Any, tmp_path: Path) -> None:
    save_shape(adapted, tmp_path)
    assert '"Qwen3ForCausalLM"' in (tmp_path / "config.json").read_text()
