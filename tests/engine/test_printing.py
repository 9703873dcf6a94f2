"""What a step prints reaches the cell; its end reaches the log, without secrets."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from datetime import timedelta

import pytest

from cerebelum_nb import ProgressReporter, Secret, WorkflowError, sleep, step, wait_for_approval, workflow
from cerebelum_nb._core.events import StepCompleted, StepFailed, StepPrinted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._engine.scope import current_scope
from cerebelum_nb._engine.stdout import MOST_PENDING, MOST_PER_EVENT, Printed, as_seen, capture_output
from cerebelum_nb._values import MASK


def printed(store, name, execution_id="k1"):
    return "".join(e.text for e in store.events(execution_id) if isinstance(e, StepPrinted) and e.step == name)


def run(store, *steps, inputs=None):
    @workflow
    def w(wf):
        wf.timeline(list(steps))

    asyncio.run(w.execute(inputs, store=store, execution_id="k1"))


def test_what_steps_print_is_kept_by_step_and_still_reaches_the_cell(memory, capsys):
    @step
    def first():
        print("from a thread")
        print("to stderr", file=sys.stderr)

    @step
    async def second(first):
        print("from the loop")

    run(memory, first, second)
    assert printed(memory, "first") == "from a thread\nto stderr\n"
    assert printed(memory, "second") == "from the loop\n"
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("from a thread\nfrom the loop\n", "to stderr\n")
    assert fold(memory.events("k1")).steps["first"].printed == "from a thread\nto stderr\n"


@pytest.mark.parametrize("wait", [lambda: sleep("2h"), lambda: wait_for_approval("go?")], ids=["sleep", "approval"])
def test_what_was_printed_before_the_run_left_its_process_is_kept(store, go, clock, wait):
    @step
    async def order():
        print("ORDER PLACED")
        await wait()
        print("after")

    store.hibernate_after = timedelta(hours=1)

    @workflow
    def w(wf):
        wf.timeline(order)

    go(w.execute(store=store, execution_id="k1"))
    assert store.execution("k1").summary.state in ("SLEEPING", "WAITING_FOR_APPROVAL")
    assert printed(store, "order") == "ORDER PLACED\n"


def test_what_is_on_its_way_into_the_log_stays_in_sight(memory):
    seen = []

    @step
    async def one():
        scope = current_scope.get()
        print("hello")
        scope.note_printed()
        seen.append(scope.execution.state.steps["one"].printed + scope.printed.peek(str))

    run(memory, one)
    assert seen == ["hello\n"]
    assert printed(memory, "one") == "hello\n"


def test_parallel_steps_are_told_apart(memory):
    @step
    async def one():
        for _ in range(3):
            print("1")
            await asyncio.sleep(0)

    @step
    async def two():
        for _ in range(3):
            print("2")
            await asyncio.sleep(0)

    @workflow
    def w(wf):
        wf.timeline([one, two])

    asyncio.run(w.execute(store=memory, execution_id="k1"))
    assert (printed(memory, "one"), printed(memory, "two")) == ("1\n1\n1\n", "2\n2\n2\n")


def test_it_costs_no_commit_of_its_own_and_stands_before_the_outcome(memory):
    @step
    def speak():
        print("hello")

    @step
    def fail(speak):
        print("last words", end="")
        raise ValueError("no")

    with pytest.raises(WorkflowError):
        run(memory, speak, fail)
    kinds = [type(e) for e in memory.events("k1") if isinstance(e, (StepPrinted, StepCompleted, StepFailed))]
    assert kinds == [StepPrinted, StepCompleted, StepPrinted, StepFailed]
    assert printed(memory, "fail") == "last words"


def test_secrets_are_masked_in_the_log_and_in_the_cell_also_when_two_writes_make_one(memory, capsys):
    @step
    def leak(inputs):
        key = inputs["key"].reveal()
        print("the key is", key[:4], end="")
        print(key[4:], "or", key)
        print("no key: open", end="")

    run(memory, leak, inputs={"key": Secret("open-sesame")})
    assert "open-sesame" not in printed(memory, "leak")
    shown = capsys.readouterr().out
    assert shown == printed(memory, "leak") == f"the key is {MASK} or {MASK}\nno key: open"


def test_a_logging_handler_made_before_is_heard_too(memory):
    stream = io.StringIO()
    old, sys.stderr = sys.stderr, stream
    logger, handler = logging.getLogger("of_the_user"), logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:

        @step
        def log():
            logger.warning("careful")

        run(memory, log)
    finally:
        sys.stderr = old
        logger.removeHandler(handler)
    assert printed(memory, "log") == "careful\n"
    assert stream.getvalue() == "careful\n"


def test_the_streams_are_left_as_they_were(memory):
    before = vars(sys.stdout).get("write")  # another listener may exist: a worker in another test

    @step
    def nothing():
        return None

    run(memory, nothing)
    assert vars(sys.stdout).get("write") is before


def test_listeners_nest(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    heard = []
    ends = [capture_output(lambda text, _: heard.append(text)) for _ in range(2)]
    print("a")
    ends.pop()()
    print("b")
    ends.pop()()
    print("c")
    assert "".join(heard) == "a\nb\n"
    assert "write" not in vars(sys.stdout)


def test_a_stream_that_lets_nobody_listen_still_prints(memory, monkeypatch):
    class Closed:
        __slots__ = ("lines",)

        def __init__(self):
            self.lines = []

        def write(self, text):
            self.lines.append(text)

        def flush(self):
            pass

    stream = Closed()
    monkeypatch.setattr(sys, "stdout", stream)

    @step
    def speak():
        print("hello")

    run(memory, speak)
    assert "".join(stream.lines) == "hello\n"
    assert printed(memory, "speak") == ""


def test_a_flood_is_bounded_and_says_so():
    kept = Printed()
    for number in range(100_000):
        kept.add(f"line {number}\n")
    text, dropped = kept.take(str)
    assert dropped
    assert len(text) <= MOST_PER_EVENT <= MOST_PENDING
    assert text.startswith("line ") and text.endswith("line 99999\n")


def test_a_line_that_is_not_over_waits():
    kept = Printed()
    kept.add("whole\nhalf")
    assert kept.take(str) == ("whole\n", False)
    assert kept.peek(str) == "half"
    kept.add(" done\n")
    assert kept.take(str) == ("half done\n", False)


@pytest.mark.parametrize(
    ("written", "seen"), [("1%\r2%\r3%\nend\n", "3%\nend\n"), ("a\r\nb\r\n", "a\nb\n"), ("1%\r2%\r", "2%")]
)
def test_a_line_written_over_counts_as_it_looks_in_the_end(written, seen):
    assert as_seen(written) == seen


def test_the_lines_of_a_progress_bar_are_not_what_the_step_printed(memory, capsys):
    @step
    def work(context):
        ProgressReporter(context).update(100, "all of it")
        print("done")

    run(memory, work)
    assert capsys.readouterr().err == "work: 100% all of it\n"
    assert printed(memory, "work") == "done\n"
