"""The recipes for real models train, from a folder and a file, a model of the same class that is small."""

import json
import string
from pathlib import Path
from typing import Any

import pytest
from conftest import EXPERIMENTS, replaced
from transformers import AutoConfig, AutoModelForCausalLM

from research.policy import character_tokenizer
from research.recipe import parse
from research.recipe_file import read_recipe
from research.runs.fit import fit
from research.tracking import merged_steps
from research.training.budget import tokens_processed

RECIPES = sorted((EXPERIMENTS / "models").glob("*.yaml"))
SMALL: dict[str, Any] = {
    "model.policy.precision": "float32",
    "model.policy.weights": "float32",
    "model.rollouts.sampler": {"class_path": "CompactSampler", "init_args": {"max_rows": 16}},
    "model.rollouts.completions_per_prompt": 2,
    "model.rollouts.collect.max_rounds": 1,
    "model.rollouts.max_completion_tokens": 6,
    "model.rewards.shaping": [],
    "model.evaluation.completions_per_prompt": 1,
    "data.prompts_per_step": 2,
    "trainer.accelerator": "cpu",
    "run.steps": 1,
    "run.evaluate_every": 1,
    "run.save_policy": False,
}


def rows(path: Path, numbers: range) -> str:
    """A file whose rows have the fields of every dataset that the recipes read."""
    made = []
    for n in numbers:
        text = f"A box holds {n} pens. How many do 2 boxes hold?"
        made.append(
            {"question": text, "problem": text, "prompt": text, "solution": f"{2 * n}", "answer": f"#### {2 * n}"}
            | {"expected_answer": f"{2 * n}", "generated_solution": f"<think>2 * {n}</think>"}
        )
        if "aime" in path.name:
            made[-1]["answer"] = f"{2 * n}"
    path.write_text("\n".join(map(json.dumps, made)))
    return str(path)


def model(folder: Path, kind: str) -> str:
    config = AutoConfig.for_model(
        kind,
        vocab_size=128,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=True,
        max_position_embeddings=1024,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=None,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    character_tokenizer("".join(dict.fromkeys(string.printable))).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_step_of_a_small_model(path: Path, tmp_path: Path) -> None:
    written = read_recipe([path])
    kind = "qwen3" if "Qwen3" in written["model"]["policy"]["path"] else "qwen2"
    name = written["data"]["evaluation"]["init_args"]["name"]
    files = {
        "data.train.init_args.path": rows(tmp_path / "train.jsonl", range(2, 10)),
        "data.evaluation.init_args.path": rows(tmp_path / f"{name}.jsonl", range(20, 22)),
    }
    if "priming" in path.stem:
        files["model.rollouts.completions_per_prompt"] = 1
    recipe = parse(replaced(written, {**SMALL, **files, "model.policy.path": model(tmp_path / "model", kind)}))
    fit(recipe, tmp_path / "run")
    measured = merged_steps(tmp_path / "run")[1]
    assert tokens_processed(measured) > 0
    assert "evaluation/avg_at_k" in measured
    assert measured["cost/optimizer_steps"] > 0 or measured["cost/groups_dropped"] > 0


def test_there_are_five() -> None:
    assert len(RECIPES) == 5
