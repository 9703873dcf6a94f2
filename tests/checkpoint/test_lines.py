"""A step with ``checkpoint="lines"`` continues at the last statement that ran, wherever it was stopped."""

from __future__ import annotations

import asyncio
import itertools
import linecache
import time

import pytest

from cerebelum_nb import (
    ExecutionBusyError,
    ExecutionStoppedError,
    StepDefinitionError,
    WorkflowError,
    sleep,
    step,
    workflow,
)
from cerebelum_nb._core.events import StepCheckpointed
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._store.base import Commit
from cerebelum_nb.testing import FakeClock, MemoryStore

_numbers = itertools.count()


def timeline(body):
    @workflow(name="lines")
    def made(wf):
        wf.timeline(body)

    return made


def cell(source, sent, **others):
    """Run a notebook's cell that defines a step named ``one``; return its workflow."""
    name = f"<lines {next(_numbers)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space = {"sleep": sleep, "step": step, "send": sent.append, "__name__": "__main__", **others}
    exec(compile(source, name, "exec"), space)
    return timeline(space["one"])


def run(made, log, **how):
    with FakeClock():
        return asyncio.run(made.execute({}, execution_id="k1", resume=True, store=log, **how)).output


def when_free(resume):
    """Do it after the thread of the stopped attempt has ended."""
    while True:
        try:
            return resume()
        except ExecutionBusyError:
            time.sleep(0.01)


def fail(made, log):
    with pytest.raises(WorkflowError) as failed:
        run(made, log)
    return str(failed.value)


def line_of(made, log):
    """Return the line at which the step continues, according to the plan."""
    return int(str(made.plan_resume("k1", store=log)["one"]).partition("line ")[2].split()[0].rstrip(";,:)"))


SENDS = """
@step(checkpoint="lines")
async def one():
    names = []
    send("begins")
    for number in range(2):
        send(("round", number, names[:]))
        names.append(number)
        if number:
            send("odd")
            await sleep("1h")
        else:
            send("even")
    while len(names) < 4:
        names.append(len(names))
        send("grows")
    try:
        send("in the try")
        names = [names, names]
    finally:
        send("finally")
    send("ends")
    return names
"""


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_it_may_die_after_any_event(kind):
    sent, log, seen = [], MemoryStore(), []
    made = cell(SENDS if kind == "async" else SENDS.replace("async ", "").replace("await ", ""), sent)
    commit = log.commit

    def noted(written):
        done = commit(written)
        seen.append((log.events("k1"), sent[:]))
        return done

    log.commit = noted
    result, whole = run(made, log), sent[:]
    assert sum(isinstance(event, StepCheckpointed) for event in log.events("k1")) > 20
    for events, before in seen[:-1]:
        sent.clear()
        left = MemoryStore()
        holder, summary = left.register(0, 1), summarise(fold(events))
        left.commit([Commit(execution_id="k1", after=0, events=events, summary=summary, holder=holder, release=True)])
        assert run(made, left) == result and result[0] == result[1]
        # What the running statement had done may be done again: a `finally` belongs to its `try`.
        again = len(before) + len(sent) - len(whole)
        assert before + sent[again:] == whole and sent[:again] == before[len(before) - again :]
        assert again <= (2 if "finally" in sent[:again] else 1)


FAILS = """
@step(checkpoint="lines")
def one():
    orders = ["a", "b"]
    send("top")
    taken = [orders.pop(), check()]
    return taken
"""


def test_a_statement_that_failed_runs_again_with_the_variables_it_began_with():
    sent, log, answers = [], MemoryStore(), [0, 1]

    def check():
        return 1 / answers.pop(0)

    made = cell(FAILS, sent, check=check)
    assert "it continues at line 6" in fail(made, log)
    assert run(made, log) == ["b", 1.0]
    assert sent == ["top"]


LEAVES = """
@step(checkpoint="lines")
def one():
    send("top")
    try:
        send("try")
        check()
    finally:
        send("finally")
    if bad():
        send("bad")
        raise ValueError("it is bad")
    return "done"
"""


def test_a_failure_that_left_a_try_goes_back_to_its_beginning():
    sent, log, answers = [], MemoryStore(), [0, 1]
    made = cell(LEAVES, sent, check=lambda: 1 / answers.pop(0), bad=lambda: False)
    fail(made, log)
    assert line_of(made, log) == 5
    assert run(made, log) == "done"
    assert sent == ["top", "try", "finally", "try", "finally"]


def test_a_raise_that_is_first_in_an_if_is_decided_again():
    sent, log, answers = [], MemoryStore(), [True, False]
    source = LEAVES.replace('        send("bad")\n', "")
    made = cell(source, sent, check=lambda: 1, bad=lambda: answers.pop(0))
    fail(made, log)
    assert line_of(made, log) == 10
    assert run(made, log) == "done"
    assert sent == ["top", "try", "finally"]


def test_a_statement_that_raises_again_without_a_change_goes_back_a_statement():
    sent, log = [], MemoryStore()
    source = FAILS.replace("taken = [orders.pop(), check()]", "send(1)\n    taken = 1 / 0")
    made = cell(source, sent)
    lines = []
    for _ in range(3):
        fail(made, log)
        lines.append(line_of(made, log))
    assert lines == [7, 6, 7]
    assert sent == ["top", 1, 1]


def test_an_edit_behind_the_statement_continues_there_and_one_before_it_at_the_top():
    for old, new, lines in (("1 / 0", "1", ["top", 1]), ('send("top")', 'send("TOP")', ["top", 1, "TOP", 1])):
        sent, log = [], MemoryStore()
        source = FAILS.replace("taken = [orders.pop(), check()]", "send(1)\n    taken = 1 / 0")
        fail(cell(source, sent), log)
        assert run(cell(source.replace("1 / 0", "1").replace(old, new), sent), log) == 1
        assert sent == lines


def test_a_plain_step_stops_at_its_next_statement():
    sent, log = [], MemoryStore()
    source = """
@step(checkpoint="lines")
def one():
    for number in range(3):
        send(number)
        stop()
        send("between")
    return "done"
"""

    async def live():
        handle = made.start({}, execution_id="k1", store=log)
        stops.append(handle.stop)
        with pytest.raises(ExecutionStoppedError):
            await handle

    stops = []
    made = cell(source, sent, stop=lambda: stops.pop()() if stops else None)
    asyncio.run(live())
    assert sent == [0]
    assert when_free(lambda: run(made, log)) == "done"
    assert sent == [0, "between", 1, "between", 2, "between"]


def test_a_step_may_change_between_lines_and_waits():
    sent, log = [], MemoryStore()
    source = SENDS.replace('send("ends")', "1 / 0")
    fail(cell(source.replace("lines", "waits"), sent), log)
    fixed = source.replace("1 / 0", 'send("ends")')
    assert run(cell(fixed, sent), log)[0] == [0, 1, 2, 3]
    assert sent.count("begins") == sent.count("ends") == 1


def test_an_unknown_checkpoint_is_refused():
    with pytest.raises(StepDefinitionError, match="checkpoint must be 'waits', 'lines' or None, not 'line'"):
        step(name="one", checkpoint="line")(lambda: 1)
