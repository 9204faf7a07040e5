"""What `research doctor` counts is what there is: parameters, states, caches, and what the passes really hold."""

import json
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from research.cli import main
from research.doctor.memory import refusal
from research.doctor.memory.advice import advise
from research.doctor.memory.blank import blank_policy, parameter_bytes, stored_bytes
from research.doctor.memory.device import Device, device_of, read_bytes
from research.doctor.memory.estimate import estimate, estimate_kept, state_bytes
from research.doctor.memory.passes import LiveBytes, MicroBatch, Sampling, sampling_bytes, stand_ins, update_bytes
from research.doctor.memory.plan import Plan, Prompts, plan
from research.doctor.memory.refusal import refuse_impossible
from research.doctor.memory.tables import gib, plan_table
from research.doctor.memory.tables import refusal as sentence
from research.doctor.memory.workload import Workload, ranks_of
from research.errors import UserError
from research.policy import LoRA, Policy, PolicySpec
from research.recipe import Recipe, constructed
from research.training import memory
from research.types import UpdateBatch

QWEN25 = {"model_type": "qwen2", "vocab_size": 151936, "num_key_value_heads": 2, "tie_word_embeddings": True}
"""What the smaller Qwen2.5 models have in common."""
PUBLISHED: Mapping[str, tuple[dict[str, Any], int]] = {
    "Qwen2.5-0.5B": (
        {
            **QWEN25,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
        },
        494_032_768,
    ),
    "Qwen2.5-1.5B": (
        {
            **QWEN25,
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
        },
        1_543_714_304,
    ),
    "Qwen2.5-7B": (
        {
            **QWEN25,
            "vocab_size": 152064,
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "tie_word_embeddings": False,
        },
        7_615_616_512,
    ),
    "Qwen3-4B": (
        {
            "model_type": "qwen3",
            "vocab_size": 151936,
            "hidden_size": 2560,
            "intermediate_size": 9728,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "tie_word_embeddings": True,
        },
        4_022_468_096,
    ),
}
"""Configurations as the models' authors publish them, and how many parameters their checkpoints hold."""

MEDIUM = {
    "model_type": "qwen2",
    "vocab_size": 600,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "max_position_embeddings": 256,
}
LORA = LoRA(rank=4, alpha=8.0)
A100 = Device(name="a device with 80GiB", memory=80 * 2**30, overhead=0, cuda=True)

Write = Callable[[Mapping[str, Any]], str]


@pytest.fixture
def saved(tmp_path: Path) -> Write:
    """A folder with this config.json and nothing else."""

    def write(config: Mapping[str, Any]) -> str:
        folder = tmp_path / str(config["hidden_size"])
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        return str(folder)

    return write


def spec(path: str, **settings: Any) -> PolicySpec:
    return PolicySpec(path=path, **{"lora": None, "precision": "float32", **settings})


def part(found: Any, name: str) -> Any:
    return next(part for part in found.parts if part.name == name)


class TestWhatIsExact:
    @pytest.mark.parametrize("name", PUBLISHED)
    def test_parameters_of_published_models(self, name: str, saved: Write) -> None:
        config, count = PUBLISHED[name]
        model = blank_policy(spec(saved(config)))
        assert sum(parameter.numel() for parameter in model.parameters()) == count
        assert parameter_bytes(model.parameters()) == 4 * count
        assert all(parameter.is_meta for parameter in model.parameters())

    @pytest.mark.parametrize("lora", [None, LORA])
    def test_state_is_that_of_the_loaded_policy(self, lora: LoRA | None, tiny_policy: str) -> None:
        policy = Policy(spec(tiny_policy, lora=lora), temperature=1.0, with_reference=False)
        assert state_bytes(policy.spec) == memory.state_bytes([policy])

    def test_moments_are_those_of_the_optimizer(self, tiny_policy: str, recipe: Callable[..., Recipe]) -> None:
        module, data = constructed(recipe("grpo"))
        policy = Policy(module.spec, temperature=1.0, with_reference=False)
        for parameter in policy.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer, _ = module.optimization.build(policy)
        optimizer.step()
        moments = [t for state in optimizer.state.values() for t in state.values() if t.numel() > 1]
        counted = estimate_kept(Workload(module=module, data=data, prompt=8, device=A100))
        assert part(counted, "AdamW moments").update == sum(t.numel() * t.element_size() for t in moments)

    def test_an_adapter_on_a_small_base(self, saved: Write) -> None:
        config, count = PUBLISHED["Qwen2.5-7B"]
        path, layers, hidden, feedforward, values = saved(config), 28, 3584, 18944, 4 * 128
        # Both factors of an adapter on q, k, v, o, gate, up and down: rank × (in + out).
        sides = 2 * (hidden + hidden) + 2 * (hidden + values) + 3 * (hidden + feedforward)
        adapters = layers * 32 * sides
        half = spec(path, lora=LoRA(rank=32, alpha=64.0), precision="bfloat16", weights="bfloat16")
        assert stored_bytes(blank_policy(half), half) == 2 * count + 4 * adapters
        assert state_bytes(half) == 2 * count + 16 * adapters

    def test_a_quarter_of_a_base(self, saved: Write) -> None:
        config, count = PUBLISHED["Qwen2.5-7B"]
        path, layers, hidden, feedforward, values = saved(config), 28, 3584, 18944, 4 * 128
        linear = layers * hidden * (2 * hidden + 2 * values + 3 * feedforward)
        quarter = spec(path, lora=LoRA(rank=32, alpha=64.0), precision="bfloat16", weights="4bit")
        adapters = sum(p.numel() for p in blank_policy(quarter).parameters() if p.requires_grad)
        bits = 4 + 8 / 64 + 32 / (64 * 256)  # NF4, a byte for every block of 64, a float for 256 of those
        expected = linear * bits / 8 + 4 * (count - linear + adapters)
        assert stored_bytes(blank_policy(quarter), quarter) == pytest.approx(expected, abs=1)

    def test_the_key_value_cache(self, saved: Write) -> None:
        model = blank_policy(spec(saved(MEDIUM)))
        with stand_ins(model):
            counted = sampling_bytes(model, Sampling(prompts=2, rows=6, prompt=10, completion=5), copies=3)
        rows, positions, layers, width, both, size = 6, 10 + 5 - 1, 3, 2 * 16, 2, 4
        assert counted.cache == rows * positions * layers * width * both * size


class TestPasses:
    """Against the bytes that are really alive when a real policy of the same shape does the same."""

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory, tiny_policy: str) -> str:
        from transformers import AutoConfig, AutoTokenizer

        folder = tmp_path_factory.mktemp("medium")
        config = AutoConfig.for_model(**MEDIUM)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(tiny_policy).save_pretrained(folder)
        return str(folder)

    @pytest.mark.parametrize(
        "settings",
        [{}, {"precision": "bfloat16"}, {"gradient_checkpointing": True}, {"lora": LORA}, {"attention": "eager"}],
        ids=lambda settings: " ".join(map(str, settings)) or "plain",
    )
    def test_the_update_holds_what_is_predicted(self, settings: dict[str, Any], folder: str) -> None:
        batch = MicroBatch(rows=9, width=50, completion=8)
        policy = Policy(spec(folder, **settings), temperature=1.0, with_reference=False)
        model = blank_policy(policy.spec)
        with stand_ins(model):
            predicted = update_bytes(model, batch, bf16=policy.bf16, temperature=1.0, entropy_gradient=False)
        rows = UpdateBatch(
            input_ids=torch.zeros(batch.rows, batch.width, dtype=torch.long),
            prompt_lengths=torch.full((batch.rows,), batch.width - batch.completion),
            lengths=torch.full((batch.rows,), batch.completion),
            quantities={"mask": torch.ones(batch.rows, batch.completion, dtype=torch.bool)},
        )
        for parameter in policy.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        with LiveBytes() as live:
            policy.values(rows, entropy_gradient=False).logprobs.sum().backward()
        assert predicted == pytest.approx(live.peak, rel=0.1)  # kernels of a few operators reserve less than is planned

    def test_checkpointing_keeps_less_and_attention_scores_keep_more(self, folder: str) -> None:
        batch = MicroBatch(rows=8, width=120, completion=8)

        def counted(**settings: Any) -> int:
            model = blank_policy(spec(folder, **settings))
            with stand_ins(model):
                return update_bytes(model, batch, bf16=False, temperature=1.0, entropy_gradient=False)

        assert counted(gradient_checkpointing=True) < 0.6 * counted() < 0.6 * counted(attention="eager")

    def test_nothing_is_left_out_between_live_and_freed(self) -> None:
        with LiveBytes() as live:
            kept = [torch.zeros(100) for _ in range(3)]
            view, kept[0] = kept[1].reshape(10, 10), torch.zeros(0)
            view += 1
        assert (live.now, live.peak) == (800, 1200)


class TestDevices:
    @pytest.mark.parametrize(
        ("text", "size"),
        [("24GiB", 24 * 2**30), ("80GB", 80 * 10**9), ("0.5 TiB", 2**39), ("16", 2**34), ("512m", 512 * 10**6)],
    )
    def test_sizes(self, text: str, size: int) -> None:
        assert read_bytes(text) == size

    @pytest.mark.parametrize("text", ["", "much", "-3GiB", "0GiB", "24 gibibytes"])
    def test_what_is_no_size(self, text: str) -> None:
        with pytest.raises(UserError, match="24GiB"):
            read_bytes(text)

    def test_a_device_that_is_not_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert device_of({"accelerator": "gpu"}).memory is None
        assert device_of({"accelerator": "gpu"}, "24GiB").memory == 24 * 2**30
        assert not device_of({"accelerator": "auto"}).cuda
        assert (device_of({"accelerator": "cpu"}).memory or 0) > 0

    @pytest.mark.parametrize(
        ("trainer", "ranks"),
        [
            ({"devices": 1, "num_nodes": 1, "strategy": "auto"}, (1, False)),
            ({"devices": [0, 1], "num_nodes": 2, "strategy": "ddp"}, (4, False)),
            (
                {
                    "devices": 8,
                    "num_nodes": 1,
                    "strategy": {"class_path": "research.training.strategies.FullyShardedStrategy"},
                },
                (8, True),
            ),
        ],
    )
    def test_ranks(self, trainer: dict[str, Any], ranks: tuple[int, bool]) -> None:
        assert ranks_of(trainer) == ranks

    def test_devices_that_are_not_counted(self) -> None:
        with pytest.raises(UserError, match="devices"):
            ranks_of({"devices": "0,1", "num_nodes": 1, "strategy": "auto"})


class TestParts:
    @pytest.fixture(scope="class")
    def work(self, recipe: Callable[..., Recipe]) -> Callable[..., Workload]:
        """What a recipe asks of a device; its module is constructed once."""
        made: dict[str, Any] = {}

        def make(name: str, changes: Mapping[str, Any] | None = None, **settings: Any) -> Workload:
            recipe_ = recipe(name, changes)
            if recipe_.digest not in made:
                made[recipe_.digest] = constructed(recipe_)
            module, data = made[recipe_.digest]
            return Workload(module=module, data=data, **{"prompt": 8, "device": A100, **settings})

        return make

    def test_a_reference_is_counted_where_one_is_kept(self, work: Callable[..., Workload]) -> None:
        names = [{part.name for part in estimate_kept(work(name)).parts} for name in ("grpo", "dapo", "rft", "ppo")]
        assert ["reference" in found for found in names] == [True, False, False, True]
        assert ["start" in found for found in names] == [False, False, True, False]
        assert ["critic" in found for found in names] == [False, False, False, True]
        lora = estimate_kept(work("grpo", {"model.policy.lora": {"rank": 4, "alpha": 8.0}}))
        assert "reference" not in {part.name for part in lora.parts}

    def test_gradients_are_there_in_the_update_only(self, work: Callable[..., Workload]) -> None:
        found = estimate(work("grpo"))
        assert part(found, "gradients").sampling == 0
        assert part(found, "gradients").update == part(found, "weights").update == part(found, "reference").update
        assert part(found, "AdamW moments").sampling == 2 * part(found, "weights").sampling
        assert found.update == sum(part.update for part in found.parts)
        assert found.peak == max(found.update, found.sampling)

    def test_shards(self, work: Callable[..., Workload]) -> None:
        whole, ddp, fsdp = (
            estimate_kept(work("dapo", ranks=ranks, sharded=sharded))
            for ranks, sharded in ((1, False), (4, False), (4, True))
        )
        assert whole.parts == ddp.parts
        assert part(fsdp, "AdamW moments").update * 4 == part(whole, "AdamW moments").update
        weights, quarter = part(whole, "weights").update, part(whole, "weights").update // 4
        assert part(fsdp, "weights").sampling == weights + quarter
        assert quarter < part(fsdp, "weights").update <= 3 * weights

    def test_rows_of_a_micro_batch(self, work: Callable[..., Workload]) -> None:
        tokens = {"model.updates.micro_batch_tokens": 60, "model.policy.gradient_checkpointing": True}
        assert work("grpo", tokens).micro_batch == MicroBatch(rows=3, width=20, completion=12)
        assert work("grpo", tokens, prompt=100).micro_batch.rows == 1
        assert work("grpo", {**tokens, "model.updates.micro_batch_tokens": 10**6}).micro_batch.rows == 8
        shared = work("grpo", {**tokens, "model.policy.gradient_checkpointing": False})
        assert (
            shared.micro_batch.rows == 3
        )  # 2 prompts of 8 and 3 completions of 12: 52 tokens, no more than whole rows

    def test_rows_of_the_sampler(self, work: Callable[..., Workload]) -> None:
        train, evaluation = work("grpo", {"model.rollouts.sampler.init_args.max_rows": 10}).samplings
        assert train == Sampling(prompts=2, rows=8, prompt=8, completion=12)
        assert evaluation == Sampling(prompts=4, rows=8, prompt=8, completion=12)
        plain = {"model.rollouts.sampler": {"class_path": "TransformersSampler", "init_args": {"max_rows": 10}}}
        assert work("grpo", plain).samplings[0].prompts == 8

    @pytest.mark.parametrize(("level", "stays"), [(0, True), (1, False)])
    def test_an_engine_has_its_share_and_sleeps(self, level: int, stays: bool, work: Callable[..., Workload]) -> None:
        settings = {"gpu_memory_utilization": 0.25, "sleep_level": level}
        engine = {"model.rollouts.sampler": {"class_path": "VLLMSampler", "init_args": settings}}
        found = part(estimate(work("dapo", engine)), "vLLM")
        assert found.sampling == 20 * 2**30
        assert found.update == (found.sampling if stays else 0)
        small = {"model.rollouts.sampler": {"class_path": "VLLMSampler", "init_args": {"kv_cache_gib": 0.5}}}
        found = estimate(work("dapo", small))
        assert part(found, "vLLM").sampling == part(found, "weights").sampling + 2**29


class TestVerdicts:
    PROMPTS = Prompts(tokens=8, note="given")

    def found(self, recipe: Recipe, memory: str) -> Plan:
        return plan(recipe, memory=memory, prompts=self.PROMPTS)

    def test_what_fits(self, recipe: Callable[..., Recipe]) -> None:
        assert self.found(recipe("grpo"), "4GiB").verdict == "fits"
        tight = self.found(recipe("grpo"), f"{1.05 * 0.8}GiB")
        assert tight.fits
        assert tight.verdict == "fits, with less than a tenth to spare"

    def test_a_smaller_micro_batch_is_found(self, recipe: Callable[..., Recipe]) -> None:
        changes = {"model.updates.micro_batch_tokens": 200_000, "data.prompts_per_step": 4000}
        big = recipe("dapo", {**changes, "model.rollouts.sampler.init_args.max_rows": 8})
        current = self.found(big, "0.9GiB")
        assert not current.fits
        advice = advise(big, current, memory="0.9GiB")
        assert advice is not None
        assert advice.plan.fits
        assert advice.learns_the_same
        (word,) = advice.words
        rows, rest = divmod(int(word.removeprefix("--model.updates.micro_batch_tokens=")), current.work.width)
        assert rest == 0
        assert 100 < rows < current.work.micro_batch.rows
        text = sentence("r.yaml", current, advice)
        assert word in text
        assert "nothing that is learned" in text

    @pytest.mark.slow
    def test_what_helps_depends_on_what_is_too_large(self, saved: Write, recipe: Callable[..., Recipe]) -> None:
        wide = {**MEDIUM, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 4, "vocab_size": 5000}
        changes = {"model.policy.path": saved(wide), "model.updates.micro_batch_tokens": 20}
        large = recipe("grpo", changes)  # 4 layers of 59 million: 3.9 GiB with moments and reference
        adapters = advise(large, self.found(large, "2.5GiB"), memory="2.5GiB")
        assert adapters is not None
        assert not adapters.learns_the_same
        assert any("lora" in word for word in adapters.words)
        hopeless = self.found(large, "0.81GiB")
        assert advise(large, hopeless, memory="0.81GiB") is None
        assert "no smaller batch" in sentence("r.yaml", hopeless, None)

    def test_the_table_has_every_part(self, recipe: Callable[..., Recipe]) -> None:
        from rich.console import Console

        found = self.found(recipe("grpo"), "4GiB")
        console = Console(width=160, record=True, file=StringIO())
        console.print(plan_table(found, "r.yaml"))
        text = console.export_text()
        for part in found.estimate.parts:
            assert part.name in text
        assert gib(found.estimate.update) in text
        assert f"{found.estimate.parameters:,}" in text

    def test_the_longest_prompt_is_measured(self, recipe: Callable[..., Recipe]) -> None:
        _, data = constructed(recipe("grpo"))
        measured = plan(recipe("grpo"), memory="4GiB").prompts
        data.setup()
        assert measured.tokens == max(len(p.text) for p in [*data.train_prompts, *data.evaluation_prompts])


class TestRefusals:
    def test_the_command(
        self, small: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "r.yaml"
        path.write_text(yaml.safe_dump(small("grpo")))
        words = ["doctor", str(path), "--prompt-tokens", "8", "--model.updates.micro_batch_tokens=40"]
        assert main([*words, "--memory", "4GiB"]) == 0
        printed = capsys.readouterr()
        assert "update pass" in printed.out
        assert "2 rows × 20 tokens" in printed.out
        assert main([*words, "--memory", "0.5GiB"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "no smaller batch" in line
        assert main(["doctor", "--memory", "4GiB"]) == 2
        assert "RECIPE" in capsys.readouterr().err

    def test_certain_ones_only(
        self, recipe: Callable[..., Recipe], tiny_policy: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        needed = state_bytes(spec(tiny_policy))
        for memory_, refused in ((needed, False), (needed - 1, True)):
            monkeypatch.setattr(refusal, "_all_memory", lambda _, memory_=memory_: memory_)
            if refused:
                with pytest.raises(UserError, match="research doctor"):
                    refuse_impossible(recipe("grpo"))
                refuse_impossible(recipe("grpo", {"trainer.strategy": "fsdp"}))
                refuse_impossible(recipe("grpo", {"model.policy.path": "builtin"}))
                refuse_impossible(recipe("grpo", {"model.policy.path": "/nowhere"}))
            else:
                refuse_impossible(recipe("grpo"))

    def test_a_model_that_cannot_be_read(self, tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
        with pytest.raises(UserError, match=r"config\.json"):
            plan(recipe("grpo", {"model.policy.path": str(tmp_path)}), memory="4GiB")
        (tmp_path / "config.json").write_text('{"model_type": "vit"}')
        with pytest.raises(UserError, match="no causal language model"):
            plan(recipe("grpo", {"model.policy.path": str(tmp_path)}), memory="4GiB")
