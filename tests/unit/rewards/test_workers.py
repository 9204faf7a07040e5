"""Verifiers in worker processes: real timeouts, from any thread, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from research.errors import UserError
from research.rewards import (
    ExactAnswer,
    FunctionReward,
    FunctionVerifier,
    MathVerifyAnswer,
    NoSteps,
    ReasoningGymAnswer,
    Rewards,
)
from research.rewards.pool import Pool, Reply, Worker, shared_pool
from research.rewards.verdicts import Fault
from research.rewards.worker import GRACE
from research.types import Completion, Group, Prompt

PATIENT = 60.0
"""Seconds that no healthy request takes on any machine."""
BRIEF = 0.2
"""Seconds after which a request that hangs is given up."""
FOREVER = {"gold": "$1$", "answer": "$\\int_0^1 x^{x^{x^{x}}} dx$"}


def completed(text: str, *, truncated: bool = False) -> Completion:
    reason = "length" if truncated else "stop"
    return Completion(token_ids=(1,), rollout_logprobs=(0.0,), text=text, finish_reason=reason)


def group(answer: str, *texts: str) -> Group:
    prompt = Prompt(id="0", text="What?", answer=answer)
    return Group(prompt=prompt, prompt_ids=(2,), completions=tuple(completed(text) for text in texts))


def rewards(*verifiers: Any, functions: tuple[Any, ...] = ()) -> Rewards:
    return Rewards(verifiers=list(verifiers), functions=list(functions), shaping=[], tokens=[], steps=NoSteps())


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool("function", ("rewards_by_import.hangs",), 1, 2048)
    yield made
    made.close()


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def gone(pid: int, seconds: float) -> bool:
    """Whether the process ends within so many seconds."""
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(pid)


# The pool -------------------------------------------------------------------------------------------------------------


class TestPool:
    def test_a_worker_is_kept(self, pool: Pool) -> None:
        replies = [pool({"completion": "fine"}, PATIENT) for _ in range(3)]
        assert replies == [Reply("value", 1.0)] * 3
        worker = pool.free.queue[-1]
        assert worker is not None
        pid = worker.process.pid
        assert pool({"completion": "fine"}, PATIENT) == Reply("value", 1.0)
        assert pool.free.queue[-1] is worker
        pool.close()
        assert not alive(pid)
        assert pool({"completion": "fine"}, PATIENT) == Reply("value", 1.0)

    def test_one_that_hangs_is_killed_and_replaced(self, pool: Pool) -> None:
        pool({"completion": "fine"}, PATIENT)
        worker = pool.free.queue[-1]
        assert worker is not None
        assert pool({"completion": "hang"}, BRIEF) == Reply("timeout")
        assert not alive(worker.process.pid)
        assert pool({"completion": "fine"}, PATIENT) == Reply("value", 1.0)

    @pytest.mark.process
    def test_waiting_for_a_worker_is_not_counted(self, pool: Pool) -> None:
        """One worker, six requests, of which each second one hangs: the others wait longer than the timeout."""
        texts = ["hang", "fine"] * 3
        with ThreadPoolExecutor(6) as threads:
            replies = list(threads.map(lambda text: pool({"completion": text}, 1.0), texts))
        assert [reply.kind for reply in replies] == ["timeout", "value"] * 3

    def test_one_that_died_between_requests_is_replaced(self, pool: Pool) -> None:
        pool({"completion": "fine"}, PATIENT)
        worker = pool.free.queue[-1]
        assert worker is not None
        os.kill(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        assert pool({"completion": "fine"}, PATIENT) == Reply("value", 1.0)

    def test_an_interrupted_request_does_not_answer_the_next(self, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
        pool({"completion": "fine"}, PATIENT)
        with monkeypatch.context() as patched:
            patched.setattr(Worker, "__call__", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                pool({"completion": "fine"}, PATIENT)
        assert pool.free.queue[-1] is None
        assert pool({"completion": "fine"}, PATIENT) == Reply("value", 1.0)

    def test_a_pool_is_shared_by_what_it_does(self) -> None:
        assert shared_pool("math-verify", size=1, memory=None) is shared_pool("math-verify", size=1, memory=None)
        assert shared_pool("math-verify", size=1, memory=None) is not shared_pool("math-verify", size=2, memory=None)


@pytest.mark.parametrize(
    ("function", "text", "kind"),
    [("dies", "die", "crash"), ("gluttonous", "eat", "memory"), ("hangs", "hang", "timeout")],
)
def test_each_end_has_its_name_and_the_next_one_is_judged(function: str, text: str, kind: str):
    pool = Pool("function", (f"rewards_by_import.{function}",), 1, 2048)
    assert pool({"completion": text}, BRIEF if kind == "timeout" else PATIENT) == Reply(kind)
    assert pool({"completion": "fine"}, PATIENT) == Reply("value", 1.0)
    pool.close()


def test_a_task_that_does_not_start():
    with pytest.raises(UserError, match="the worker for function does not start: ModuleNotFoundError: No module named"):
        Pool("function", ("no_such_module.f",), 1, 2048)({"completion": ""}, PATIENT)


ORPHAN = """
import sys, threading, time
sys.path[:0] = {path!r}
from research.rewards.pool import Pool
pool = Pool("math-verify", (), 2, 2048)
pool({{"gold": "$1$", "answer": "$1$"}}, 60.0)
threading.Thread(target=pool, args=({request!r}, {seconds}), daemon=True).start()
time.sleep(0.5)
import psutil
print(*[child.pid for child in psutil.Process().children()], flush=True)
time.sleep(60)
"""


@pytest.mark.process
def test_workers_do_not_outlive_a_parent_that_is_killed():
    """Not even one that is deep in a computation: the kernel's alarm ends it."""
    seconds = 1.0
    root = str(Path(__file__).parents[3])
    program = ORPHAN.format(path=[root], request=FOREVER, seconds=seconds)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert workers
    assert all(gone(pid, seconds + GRACE + 20.0) for pid in workers)


# math-verify ----------------------------------------------------------------------------------------------------------


class TestMathVerifyAnswer:
    @pytest.mark.parametrize(
        ("answer", "text", "right"),
        [
            ("\\frac{1}{2}", "It is $0.5$.", True),
            ("\\frac{1}{2}", "It is \\boxed{\\frac{2}{4}}.", True),
            ("\\frac{1}{2}", "\\boxed{2}", False),
            ("\\frac{1}{2}", "nothing at all", False),
            ("\\frac{1}{2}", "", False),
            ("x^2 - 1", "\\boxed{(x-1)(x+1)}", True),
            ("(1, 2)", "\\boxed{(1,2)}", True),
            ("(1, 2)", "\\boxed{(2,1)}", False),
            ("\\text{Evelyn}", "\\boxed{\\text{Evelyn}}", True),
            ("\\$32,\\!348", "\\boxed{32348}", True),
        ],
    )
    def test_worked_cases(self, answer: str, text: str, right: bool) -> None:
        prompt = Prompt(id="0", text="", answer=answer)
        assert MathVerifyAnswer(marker="", timeout=PATIENT)(prompt=prompt, completion=completed(text)) is right

    def test_markers(self) -> None:
        prompt = Prompt(id="0", text="", answer="\\frac{1}{2}")
        tagged = MathVerifyAnswer(marker="<answer>", timeout=PATIENT)
        assert tagged(prompt=prompt, completion=completed("<answer>0.5</answer> so 7")) is True
        assert tagged(prompt=prompt, completion=completed("\\boxed{0.5}")) is False
        assert tagged(prompt=prompt, completion=completed("<answer>0.5</answer>", truncated=True)) is False

    def test_two_boxes_are_one_set_to_the_library_and_the_last_one_to_the_marker(self) -> None:
        prompt = Prompt(id="0", text="", answer="\\frac{1}{2}")
        twice = completed("first \\boxed{1}, no: \\boxed{\\frac12}")
        assert MathVerifyAnswer(marker="", timeout=PATIENT)(prompt=prompt, completion=twice) is False
        assert MathVerifyAnswer(marker="\\boxed", timeout=PATIENT)(prompt=prompt, completion=twice) is True

    def test_only_the_end_of_a_long_completion_is_read(self) -> None:
        prompt = Prompt(id="0", text="", answer="2")
        text = "\\boxed{2}" + "so " * 10_000
        assert MathVerifyAnswer(marker="", timeout=PATIENT)(prompt=prompt, completion=completed(text)) is False
        text = "so " * 100_000 + "\\boxed{2}"
        assert MathVerifyAnswer(marker="", timeout=PATIENT)(prompt=prompt, completion=completed(text)) is True

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            ("9**9**9**9", "tower"),
            ("9^{9^{9^{9}}}", "tower"),
            ("(" * 101 + ")" * 101, "nesting"),
            ("7" * 1001, "digits"),
        ],
        ids=["tower", "latex tower", "nesting", "digits"],
    )
    def test_refused_before_a_worker_sees_it(self, answer: str, reason: str) -> None:
        prompt = Prompt(id="0", text="", answer="2")
        for unverified, verdict in (("abstain", None), ("wrong", False)):
            verifier = MathVerifyAnswer(marker="\\boxed", unverified=unverified)
            found = verifier(prompt=prompt, completion=completed(f"\\boxed{{{answer}}}"))
            assert found == Fault(reason=reason, verdict=verdict)

    def test_works_off_the_main_thread_and_never_scores_a_timeout_as_wrong(self) -> None:
        """A signal would fail in a thread, and the failure count as a wrong answer."""
        verifier = MathVerifyAnswer(marker="", timeout=1.0, workers=1)
        shared_pool("math-verify", size=1, memory=2048)({"gold": "$1$", "answer": "$1$"}, PATIENT)
        found: list[Group] = []
        hostile = FOREVER["answer"]
        one = group("1", "\\boxed{2-1}", f"so {hostile}", "\\boxed{2}")
        thread = Thread(target=lambda: found.append(rewards(verifier).verify(one)))
        thread.start()
        thread.join()
        (verified,) = found
        assert verified.scored == (True, False, True)
        assert verified.right == (True, False, False)
        assert verified.faults == (None, "timeout", None)

    def test_a_reference_that_cannot_be_read_is_no_wrong_answer(self) -> None:
        prompt = Prompt(id="0", text="", answer="")
        with pytest.raises(UserError, match="math-verify cannot read the reference answer"):
            MathVerifyAnswer(marker="", timeout=PATIENT)(prompt=prompt, completion=completed("\\boxed{2}"))

    def test_the_size_of_the_pool_changes_nothing(self) -> None:
        texts = [f"\\boxed{{{k}}}" for k in ("1", "2-1", "x", "\\frac{2}{2}", "{1}", "1,0", "\\sqrt{1}", "")]
        one = group("1", *texts)
        alone, three = (
            rewards(MathVerifyAnswer(marker="\\boxed", timeout=PATIENT, workers=n)).verify(one) for n in (1, 3)
        )
        assert alone.right == three.right
        assert alone.outcomes == three.outcomes
        assert sum(alone.right) == 5

    @pytest.mark.parametrize("fields", [{"timeout": 0.0}, {"memory": 255}, {"workers": 0}])
    def test_out_of_range(self, fields: dict[str, Any]) -> None:
        (name,) = fields
        for component, settings in (
            (MathVerifyAnswer, {"marker": ""}),
            (ReasoningGymAnswer, {"marker": "#"}),
            (FunctionVerifier, {"function": "a.b"}),
            (FunctionReward, {"function": "a.b"}),
        ):
            with pytest.raises(ValueError, match=f"^{component.__name__}: {name} is"):
                component(**settings, **fields)


def test_reasoning_gym_refuses_prompts_of_other_sources():
    with pytest.raises(UserError, match="ReasoningGymAnswer: 0 is no prompt of ReasoningGym: take another"):
        ReasoningGymAnswer(marker="#")(prompt=Prompt(id="0", text="", answer="3"), completion=completed("#3"))


# A user's own function ------------------------------------------------------------------------------------------------


def function(name: str, **settings: Any) -> FunctionReward:
    return FunctionReward(function=f"rewards_by_import.{name}", timeout=PATIENT, **settings)


def given(name: str, text: str = "abc", **meta: Any) -> Any:
    prompt = Prompt(id="0", text="What?", answer="b", meta=meta)
    return function(name)(prompt=prompt, completion=completed(text))


class TestFunctions:
    def test_sync_async_and_by_name(self) -> None:
        assert given("brevity") == -3.0
        assert given("slow_brevity") == -3.0
        assert given("everything") == 4.0

    def test_as_a_verifier(self) -> None:
        verifier = FunctionVerifier(function="rewards_by_import.mentions", timeout=PATIENT)
        prompt = Prompt(id="0", text="", answer="b")
        assert verifier(prompt=prompt, completion=completed("abc")) is True
        assert verifier(prompt=prompt, completion=completed("xyz")) is False
        skipped = Prompt(id="0", text="", answer="b", meta={"skip": True})
        assert verifier(prompt=skipped, completion=completed("abc")) is None

    @pytest.mark.process
    def test_a_group_is_judged_by_several_processes_at_once(self) -> None:
        """Each hangs until its timeout; if they took turns, the second would only then begin."""
        texts = ["hang"] * 2
        slow = FunctionReward(function="rewards_by_import.hangs", timeout=2.0, workers=2)
        verified = rewards(ExactAnswer(marker="#"), functions=(slow,)).verify(group("1", *texts))
        assert verified.faults == ("timeout", "timeout")
        pids = FunctionReward(function="rewards_by_import.process", timeout=PATIENT, workers=2)
        assert os.getpid() not in set(
            rewards(ExactAnswer(marker="#"), functions=(pids,)).verify(group("1", *"abcdefgh")).columns[1]
        )

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("brevity", "'brevity' is not the import path of a function"),
            ("no_such_module.brevity", "cannot import no_such_module: ModuleNotFoundError"),
            ("rewards_by_import.no_such", "rewards_by_import has no function no_such"),
            ("rewards_by_import.not_a_function", "rewards_by_import has no function not_a_function"),
            ("rewards_by_import.wants_more", "needs tokenizer: a function is given prompt, completion, answer, meta"),
            ("rewards_by_import.wants_nothing", "takes none of prompt, completion, answer, meta"),
        ],
    )
    def test_mistakes_show_before_a_run_begins(self, path: str, reason: str) -> None:
        for wrong in ({"functions": (FunctionReward(function=path),)}, {}):
            judges = (ExactAnswer(marker="#"),) if wrong else (FunctionVerifier(function=path),)
            with pytest.raises(UserError, match=reason) as caught:
                rewards(*judges, **wrong)
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("raises", r"rewards_by_import.raises raised KeyError: 'no\\nsuch key'"),
            ("wordy", "rewards_by_import.wordy returned str, not a number, a bool or None"),
            ("infinite", "rewards_by_import.infinite returned inf: a reward is finite"),
        ],
    )
    def test_what_it_does_wrong_is_said_in_a_sentence(self, name: str, reason: str) -> None:
        with pytest.raises(UserError) as caught:
            given(name)
        assert reason.replace("\\\\", "\\") in str(caught.value)

    def test_a_verifier_that_returns_a_number(self) -> None:
        verifier = FunctionVerifier(function="rewards_by_import.numeric", timeout=PATIENT)
        with pytest.raises(UserError, match=r"numeric returned 0.5: a verifier returns True, False or None"):
            verifier(prompt=Prompt(id="0", text="", answer=""), completion=completed(""))

    @pytest.mark.parametrize(("unverified", "verdict"), [("abstain", None), ("wrong", False)])
    def test_a_timeout_is_what_the_recipe_says(self, unverified: Any, verdict: bool | None) -> None:
        verifier = FunctionVerifier(function="rewards_by_import.hangs", timeout=BRIEF, unverified=unverified)
        found = verifier(prompt=Prompt(id="0", text="", answer=""), completion=completed("hang"))
        assert found == Fault(reason="timeout", verdict=verdict)
