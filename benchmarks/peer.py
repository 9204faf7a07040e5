"""The other side of the comparison: TRL's GRPOTrainer, set up to do the same work as fast as it can."""

import warnings
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

from benchmarks.work import Work, peak_bytes, prompts_digest


def serve(connection: Connection, work: Work) -> None:
    """Child process: receive the plan and how many completions a forward pass has, then run repetitions on demand."""
    import datasets
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOTrainer

    torch.set_num_threads(work.threads)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()

    plan, rows = connection.recv()
    model = AutoModelForCausalLM.from_pretrained(plan["model"], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(plan["model"])
    dataset = datasets.Dataset.from_list([{"prompt": text, "answer": answer} for text, answer in plan["prompts"]])
    seen: dict[str, Any] = {}

    def exact_answer(prompts: list, completions: list, completion_ids: list, answer: list, **_: Any) -> list[float]:
        seen["prompts"] = prompts_digest(prompts)
        seen["completion_tokens"] = sum(len(ids) for ids in completion_ids)
        found = [text.rpartition(plan["marker"]) for text in completions]
        return [
            1.0 if mark and text.strip() == right.strip() else -1.0
            for (_, mark, text), right in zip(found, answer, strict=True)
        ]

    with TemporaryDirectory(prefix="step_vs_trl-") as folder:
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=exact_answer,
            args=settings(work, plan, rows, folder),
            train_dataset=dataset,
            processing_class=tokenizer,
            callbacks=[_meter(connection, work, model, seen)],
        )
        try:
            trainer.train()
        except EOFError:  # the other end was closed: no more repetitions
            return


def settings(work: Work, plan: dict[str, Any], rows: int, folder: str) -> Any:
    """The same algorithm and optimizer, float32, and nothing that costs time without being needed."""
    from trl import GRPOConfig

    optimization = plan["optimization"]
    return GRPOConfig(
        output_dir=folder,
        # The algorithm: one optimizer step on each rollout, no KL penalty, group z-score, mean over completions.
        num_generations=work.completions,
        max_completion_length=plan["max_completion_tokens"],
        temperature=plan["temperature"],
        top_p=1.0,
        top_k=0,
        num_iterations=1,
        beta=0.0,
        epsilon=plan["eps"],
        loss_type="grpo",
        scale_rewards="group",
        # The optimizer.
        learning_rate=optimization["learning_rate"],
        lr_scheduler_type="constant",
        max_grad_norm=optimization["gradient_clip"],
        weight_decay=optimization["weight_decay"],
        adam_beta1=optimization["betas"][0],
        adam_beta2=optimization["betas"][1],
        adam_epsilon=optimization["eps"],
        optim="adamw_torch_fused",
        # The batch.
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=work.prompts * work.completions // rows,
        max_steps=1_000_000,  # until told to stop
        shuffle_dataset=False,
        # Speed. Gradient checkpointing is on unless it is turned off.
        gradient_checkpointing=False,
        bf16=False,
        use_vllm=False,
        use_cpu=True,
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="no",
        log_completions=False,
        report_to="none",
        disable_tqdm=True,
    )


def _meter(connection: Connection, work: Work, model: Any, seen: dict[str, Any]) -> Any:
    from transformers import TrainerCallback

    class Meter(TrainerCallback):
        """A step's time is from the end of the step before it to its own end; the first of a repetition warms up."""

        done, ended, cpu_ended = 0, 0.0, 0.0
        steps: tuple[dict[str, Any], ...] = ()
        start = {name: value.clone() for name, value in model.state_dict().items()}  # noqa: RUF012

        def on_step_begin(self, *args: Any, optimizer: Any, **kwargs: Any) -> None:
            if self.done % work.steps_a_repetition == 0:
                connection.recv()
                model.load_state_dict(self.start)
                optimizer.state.clear()
                self.steps, self.ended, self.cpu_ended = (), perf_counter(), process_time()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ended, cpu_ended = perf_counter(), process_time()
            step = {"seconds": ended - self.ended, "cpu_seconds": cpu_ended - self.cpu_ended, **seen}
            self.ended, self.cpu_ended = ended, cpu_ended
            if self.done % work.steps_a_repetition > 0:
                self.steps = (*self.steps, step)
            self.done += 1
            if self.done % work.steps_a_repetition == 0:
                connection.send({"steps": list(self.steps), "peak_bytes": peak_bytes()})

    return Meter()
