"""Our side of the comparison: a real run of a recipe, timed step by step from a Lightning callback."""

from collections import defaultdict
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import torch
from lightning import Callback

from benchmarks.limit import Shape, matmul_rates, sampling_flops, training_flops, training_positions
from benchmarks.work import Work, peak_bytes, prompts_digest
from research.policy.shared import SharedPrompts
from research.recipe import Recipe, instantiate, parse
from research.recipe_file import override, read_recipe
from research.runs.fit import fit
from research.tracking import merged_steps
from research.training import module as training
from research.training.warm_start.builtin import resolve_path


def recipe_of(work: Work, precision: str) -> Recipe:
    """The recipe with one on-policy update a step, no KL penalty, and next to no evaluation."""
    config = read_recipe([Path(work.recipe)])
    config = override(
        config,
        [
            f"--model.policy.path={work.model}",
            f"--model.policy.precision={precision}",
            "--model.objective.kl={class_path: NoKL}",
            "--model.updates.epochs=1",
            "--model.updates.minibatches=1",
            "--model.optimization.warmup_steps=0",
            "--model.evaluation.completions_per_prompt=1",
            "--data.evaluation.init_args.size=1",
            f"--model.rollouts.completions_per_prompt={work.completions}",
            f"--model.rollouts.sampler.init_args.max_rows={work.prompts * work.completions}",
            f"--data.prompts_per_step={work.prompts}",
            f"--run.steps={work.all_steps + 1}",
            f"--run.evaluate_every={work.all_steps + 1}",
            f"--run.checkpoint_every={work.all_steps + 1}",
            "--run.save_policy=false",
        ],
    )
    if work.max_completion_tokens is not None:
        config = override(config, [f"--model.rollouts.max_completion_tokens={work.max_completion_tokens}"])
    return parse(config)


def plan(work: Work, recipe: Recipe) -> dict[str, Any]:
    """What the peer must be given to do the same work: weights, prompts and settings, as plain data."""
    with TemporaryDirectory() as folder:
        _, data, _ = instantiate(recipe, default_root_dir=folder, logger=False, enable_checkpointing=False)
    data.setup()
    prompts = data.stream.draw(work.steps_a_repetition * work.prompts)
    model = recipe.config["model"]
    return {
        "model": resolve_path(work.model),
        "prompts": [(prompt.text, prompt.answer) for prompt in prompts],
        "marker": model["rewards"]["verifiers"][0]["init_args"]["marker"],
        "max_completion_tokens": model["rollouts"]["max_completion_tokens"],
        "temperature": model["rollouts"]["temperature"],
        "eps": model["objective"]["surrogate"]["init_args"]["eps_low"],
        "optimization": model["optimization"],
        "micro_batch_tokens": model["updates"]["micro_batch_tokens"],
    }


class Meter(Callback):
    """Runs repetitions when told to, each from the same weights on the same prompts, and accounts for every step.

    A step's time is from the end of the step before it to its own end: nothing that Lightning does is left out. The
    first step of each repetition warms up and is not counted.
    """

    def __init__(self, connection: Connection, work: Work) -> None:
        self.connection, self.work = connection, work
        self.done, self.ended, self.cpu_ended = 0, 0.0, 0.0
        self.steps: list[dict[str, Any]] = []
        self.all: list[dict[str, Any]] = []
        self.now: dict[str, Any] = defaultdict(float)

    # --- instruments ---------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.module = pl_module
        self.start = {name: value.clone() for name, value in pl_module.state_dict().items()}
        model, sampler = pl_module.model.causal_lm, pl_module.rollouts.sampler
        drawing = sampler if hasattr(sampler, "generate") else model
        drawing.generate = self.timed("generate", drawing.generate)
        pl_module.backward_rows = self.timed("rows", pl_module.backward_rows)
        SharedPrompts.backward = self.timed("rows", SharedPrompts.backward)
        pl_module.optimizer_step = self.timed("optimizer", pl_module.optimizer_step)
        measures = training.UpdateMeasures
        measures.add_rows = self.timed("measures", measures.add_rows)
        pl_module.update = self.seen(pl_module.update)
        model.get_decoder().register_forward_hook(self.count, with_kwargs=True)

    def timed(self, name: str, work: Callable) -> Callable:
        def measured(*args: Any, **kwargs: Any) -> Any:
            began = perf_counter()
            result = work(*args, **kwargs)
            self.now[name] += perf_counter() - began
            return result

        return measured

    def seen(self, update: Callable) -> Callable:
        def observed(batch: Any) -> Any:
            live = batch.gains
            columns = batch.prompt_lengths.tolist(), batch.lengths.tolist(), live.tolist()
            self.now["rows_seen"] = list(zip(*columns, strict=True))
            return update(batch)

        return observed

    def count(self, decoder: Any, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        hidden = output.last_hidden_state
        rows, columns = hidden.shape[:2]
        kind = "trained" if decoder.training else "prefilled" if columns > 1 else "decoded"
        self.now[f"{kind}_calls"] += 1
        self.now[f"{kind}_positions"] += rows * columns
        if hidden.requires_grad:
            hidden.register_hook(lambda _: self.went_back(rows * columns))

    def went_back(self, positions: int) -> None:
        self.now["backward_positions"] += positions

    # --- steps ---------------------------------------------------------------------------------------------------

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if self.done % self.work.steps_a_repetition == 0 and self.connection.recv() == "go":
            pl_module.load_state_dict(self.start)
            trainer.optimizers[0].state.clear()
            trainer.datamodule.stream.position = 0
            self.steps, self.ended, self.cpu_ended = [], perf_counter(), process_time()
        self.now = defaultdict(float)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.now["prompts"] = prompts_digest(prompt.text for prompt in batch)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        ended, cpu_ended = perf_counter(), process_time()
        self.now["seconds"], self.ended = ended - self.ended, ended
        self.now["cpu_seconds"], self.cpu_ended = cpu_ended - self.cpu_ended, cpu_ended
        self.now["completion_tokens"] = sum(length for _, length, _ in self.now["rows_seen"])
        self.done += 1
        if self.done > self.work.all_steps:
            return
        if self.done % self.work.steps_a_repetition != 1:
            self.now["step"] = pl_module.steps_done
            self.steps.append(dict(self.now))
            self.all.append(self.steps[-1])
        if self.done % self.work.steps_a_repetition == 0:
            kept = ("seconds", "cpu_seconds", "completion_tokens", "prompts")
            sent = [{key: step[key] for key in kept} for step in self.steps]
            self.connection.send({"steps": sent, "peak_bytes": peak_bytes()})


def serve(connection: Connection, work: Work, precision: str) -> None:
    """Child process: send the plan, run repetitions on demand, then say where the time went."""
    torch.set_num_threads(work.threads)
    recipe = recipe_of(work, precision)
    connection.send(plan(work, recipe))
    meter = Meter(connection, work)
    with TemporaryDirectory(prefix="step_vs_trl-") as folder:
        fit(recipe, Path(folder), [meter])
        metrics = merged_steps(Path(folder))
    connection.send(account(meter, work, metrics))


# --- where the time goes -----------------------------------------------------------------------------------------


def account(meter: Meter, work: Work, metrics: dict[int, dict[str, float]]) -> dict[str, Any]:
    """Breakdown by phase, arithmetic limit, and what stands between the limit and the clock; means over timed steps."""

    def mean(name: str) -> float:
        return fmean(step.get(name, 0.0) for step in meter.all)

    step = mean("seconds")
    parts = {
        "generate": mean("generate"),
        "forward and backward": mean("rows") - mean("measures"),
        "optimizer": mean("optimizer"),
    }
    parts["harness"] = step - sum(parts.values())
    phases = {
        name: fmean(metrics[s["step"]].get(name, 0.0) for s in meter.all)
        for name in sorted(metrics[meter.all[0]["step"]])
        if name.startswith("time/")
    }
    limit = _limit(meter, work, mean, parts)
    return {
        "step_seconds_mean": step,
        "breakdown_seconds": parts,
        "breakdown_percent": {name: 100 * seconds / step for name, seconds in parts.items()},
        "harness_under_5_percent": parts["harness"] < 0.05 * step,
        "phases_seconds": phases,
        "limit": limit,
    }


def _limit(meter: Meter, work: Work, mean: Callable[[str], float], parts: dict[str, float]) -> dict[str, Any]:
    shape = Shape.of(meter.module.model.causal_lm)
    rows = [step["rows_seen"] for step in meter.all]
    train = fmean(training_flops(shape, seen, work.completions) for seen in rows)
    sample = fmean(sampling_flops(shape, seen, work.completions) for seen in rows)
    trained = fmean(training_positions(seen, work.completions) for seen in rows)
    prompts_once = fmean(sum(p for p, _, _ in seen[:: work.completions]) for seen in rows)
    decoded = fmean(sum(c - 1 for _, c, _ in seen) for seen in rows)
    per_batch = median(step.get("trained_positions", 0) / step.get("trained_calls", 1) for step in meter.all)
    rates = matmul_rates(shape, trained_rows=max(1, round(per_batch)), decoded_rows=work.prompts * work.completions)
    fixed = _fixed_costs(meter.module)

    products = {"update": train / rates["update"], "sampling": sample / rates["decode"]}
    spare = 2 * (mean("trained_positions") - trained) + 4 * (mean("backward_positions") - trained)
    update_waste = spare * shape.body_parameters / rates["update"]
    prefill_waste = 2 * shape.body_parameters * (mean("prefilled_positions") - prompts_once) / rates["decode"]
    waiting = 2 * shape.body_parameters * (mean("decoded_positions") - decoded) / rates["decode"]
    decode_fixed = fixed["decode_step"] * (mean("decoded_calls") + mean("prefilled_calls"))
    update_fixed = fixed["micro_batch"] * mean("trained_calls")
    floor = (train + sample) / max(rates.values())
    return {
        "parameters": {"body": shape.body_parameters, "head": shape.head_parameters},
        "flops": {"update": train, "sampling": sample},
        "matmul_flops_per_second": rates,
        "floor_seconds": {
            "square_matrices": (train + sample) / rates["square"],
            "model_shapes": sum(products.values()),
        },
        "padding": {
            "micro_batch_positions_per_token": mean("trained_positions") / trained if trained else 1.0,
            "backward_positions_per_token": mean("backward_positions") / trained if trained else 1.0,
            "decoded_rows_per_token": mean("decoded_positions") / decoded,
            "prefilled_positions_per_prompt_token": mean("prefilled_positions") / prompts_once,
        },
        "calls": {name: mean(f"{name}_calls") for name in ("trained", "prefilled", "decoded")},
        "fixed_seconds": fixed,
        "between_floor_and_measured_seconds": {
            "floor: arithmetic at the fastest rate measured": floor,
            "the rates of this model's own matrix shapes": sum(products.values()) - floor,
            "update: padding": update_waste,
            "update: Python and dispatch, a fixed cost per micro-batch": update_fixed,
            "update: normalization, attention, softmax, elementwise": parts["forward and backward"]
            - products["update"]
            - update_waste
            - update_fixed,
            "sampling: prompts read once per completion, and their padding": prefill_waste,
            "sampling: rows that wait for the longest completion": waiting,
            "sampling: Python and dispatch, a fixed cost per token position": decode_fixed,
            "sampling: attention, cache, softmax, drawing": parts["generate"]
            - products["sampling"]
            - prefill_waste
            - waiting
            - decode_fixed,
            "optimizer": parts["optimizer"],
            "harness": parts["harness"],
        },
    }


def _fixed_costs(module: Any) -> dict[str, float]:
    """Seconds of the least possible piece of work: what is paid for Python and dispatch whatever the size."""
    policy, sampler = module.model, module.rollouts.sampler
    ids = torch.full((1, 2), 2)
    prompt = module.trainer.datamodule.evaluation_prompts[0]

    def update() -> None:
        hidden = policy.causal_lm.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        torch.log_softmax(policy.causal_lm.get_output_embeddings()(hidden), -1).sum().backward()

    def seconds(work: Callable[[], None]) -> float:
        work()
        times = []
        for _ in range(5):
            began = perf_counter()
            work()
            times.append(perf_counter() - began)
        return median(times)

    def decode_step(seed: int) -> float:
        began = perf_counter()
        (group,) = sampler.sample([prompt], n=1, decoding=module.rollouts.decoding(), seed=seed)
        return (perf_counter() - began) / len(group.completions[0].token_ids)

    policy.train()
    micro_batch = seconds(update)
    policy.zero_grad()
    return {"micro_batch": micro_batch, "decode_step": median(decode_step(seed) for seed in range(9))}
