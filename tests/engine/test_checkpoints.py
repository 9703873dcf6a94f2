"""A step that was left in a wait is entered again at that statement, or starts at its top if it must."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import linecache
import os
import subprocess
import sys
from datetime import timedelta

import pandas
import pytest

from cerebelum_nb import (
    ExecutionCancelledError,
    ExecutionClient,
    ExecutionStoppedError,
    Secret,
    WorkflowError,
    connect,
    history,
    poll,
    sleep,
    step,
    wait_for_approval,
    workflow,
)
from cerebelum_nb._core.events import StepCheckpointed
from cerebelum_nb.archive import pack, prune, unpack, verify


@pytest.fixture
def log(store):
    """A log whose runs hibernate after an hour, also in memory."""
    store.hibernate_after = timedelta(hours=1)
    return store


def timeline(body, name="waiting"):
    @workflow(name=name)
    def made(wf):
        wf.timeline(body)

    return made


async def to_its_end(made, log, clock, inputs=None, then=None, days=3):
    """Run a workflow that hibernates, waking it again and again; ``then`` gives the code of the later attempts."""
    result = await made.execute(inputs or {}, execution_id="k1", store=log)
    made = then or made
    while str(result.status) == "SLEEPING":
        clock.advance(timedelta(days=days))
        result = await made.resume("k1", store=log)
    return result


_numbers = itertools.count()


def cell(source, sent):
    """Run a notebook's cell that defines a step named ``one``; return its workflow."""
    name = f"<cell {next(_numbers)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space = {"sleep": sleep, "step": step, "sent": sent, "__name__": "__main__"}
    exec(compile(source, name, "exec"), space)
    return timeline(space["one"])


def checkpoints(log):
    return [event for event in log.events("k1") if isinstance(event, StepCheckpointed)]


def test_code_before_a_long_wait_does_not_run_again(log, clock):
    sent = []

    @step
    async def remind(inputs):
        sent.append("welcome")
        names = [inputs["to"]]
        await sleep(timedelta(days=1))
        names.append("again")
        sent.append("reminder")
        await sleep(timedelta(days=1))
        return names

    result = asyncio.run(to_its_end(timeline(remind), log, clock, {"to": "ada"}))
    assert sent == ["welcome", "reminder"]
    assert result.output == ["ada", "again"]


def test_a_plain_step_continues_at_its_line_too(log, clock):
    sent = []

    @step
    def remind():
        for number in range(3):
            sent.append(number)
            sleep("2h")
        return sent

    assert asyncio.run(to_its_end(timeline(remind), log, clock)).output == [0, 1, 2]
    assert sent == [0, 1, 2]


def test_an_approval_is_waited_for_at_its_line(log, clock):
    sent = []

    @step
    async def ask():
        sent.append("asked")
        await sleep("2h")
        answer = await wait_for_approval("deploy")
        sent.append(answer)

    async def live():
        made = timeline(ask)
        await made.execute({}, execution_id="k1", store=log)
        clock.advance("3h")
        await made.resume("k1", store=log)
        await ExecutionClient(log).approve("k1", {"yes": 1})
        return await made.resume("k1", store=log)

    asyncio.run(live())
    assert sent == ["asked", {"yes": 1}]


def test_waits_that_asyncio_gathers_are_entered_again_together(log, clock):
    sent = []

    @step
    async def both():
        sent.append("top")
        await asyncio.gather(sleep("2h"), sleep("4h"))
        sent.append("end")

    asyncio.run(to_its_end(timeline(both), log, clock))
    assert sent == ["top", "end"]


def test_a_task_that_waits_beside_its_step_is_not_lost(log, clock):
    sent = []

    async def beside():
        sent.append("beside")
        await sleep("2h")

    @step
    async def both():
        task = asyncio.ensure_future(beside())
        await sleep("5h")
        await task
        return "done"

    assert asyncio.run(to_its_end(timeline(both), log, clock)).output == "done"
    assert sent[-1] == "beside" and not checkpoints(log)


BASE = """
@step
async def one(inputs):
    sent.append("mail 1")
    n = 5
    try:
        for i in range(2):
            if n > 1:
                await sleep("1d")
                sent.append(f"mail {i + 2}")
    finally:
        sent.append("finally")
    return n
"""
CONTINUES = ["mail 1", "|", "mail 2", "mail 3", "finally"]


@pytest.mark.parametrize(
    ("old", "new", "effects"),
    [
        ("n = 5\n", "n = 5\n", CONTINUES),
        ("n = 5\n", "n = 5  # five\n\n", CONTINUES),
        ("async def one(inputs):\n", 'async def one(inputs):\n    "Send mails."\n', CONTINUES),
        ('sleep("1d")', 'sleep("2d")', CONTINUES),
        ("mail {i + 2}", "MAIL {i + 2}", ["mail 1", "|", "MAIL 2", "MAIL 3", "finally"]),
        ('"finally"', '"at last"', ["mail 1", "|", "mail 2", "mail 3", "at last"]),
        ("n = 5\n", "n = 6\n", ["mail 1", "|", "mail 1", "mail 2", "mail 3", "finally"]),
        ("n = 5\n", "n = 5\n    print(end='')\n", ["mail 1", "|", "mail 1", "mail 2", "mail 3", "finally"]),
        ("range(2)", "range(3)", ["mail 1", "|", "mail 1", "mail 2", "mail 3", "mail 4", "finally"]),
        ("if n > 1", "if n > 0", ["mail 1", "|", "mail 1", "mail 2", "mail 3", "finally"]),
        ("one(inputs)", "one(inputs, context)", ["mail 1", "|", "mail 1", "mail 2", "mail 3", "finally"]),
    ],
)
def test_an_edit_before_the_wait_starts_at_the_top_and_no_other(log, clock, old, new, effects):
    sent = []
    first, then = cell(BASE, sent), cell(BASE.replace(old, new), sent)

    async def live():
        await first.execute({}, execution_id="k1", store=log)
        sent.append("|")
        plan = str(then.plan_resume("k1", store=log)["one"])
        result = None
        while result is None or str(result.status) == "SLEEPING":
            clock.advance("3d")
            result = await then.resume("k1", store=log)
        return plan

    plan = asyncio.run(live())
    assert sent == effects
    continues = sent.count("mail 1") == 1
    assert ("continues at line" in plan) == continues
    assert ("code before line 9 was changed" in plan) != continues
    assert any(not event.place for event in checkpoints(log)) != continues


def test_other_inputs_start_it_at_the_top(log, clock):
    sent = []

    @step
    async def one(inputs):
        sent.append(inputs["n"])
        await sleep("1d")

    async def live():
        made = timeline(one)
        await made.execute({"n": 1}, execution_id="k1", store=log)
        clock.advance("2d")
        await made.resume("k1", inputs={"n": 2}, store=log)

    asyncio.run(live())
    assert sent == [1, 2]
    assert [event.reason for event in checkpoints(log) if not event.place] == ["its arguments have changed"]


def test_a_retry_starts_at_the_top(log, clock):
    sent = []

    @step(retries=1)
    async def one():
        sent.append("top")
        await sleep("2h")
        if len(sent) < 3:
            sent.append("fails")
            raise OSError("no")

    asyncio.run(to_its_end(timeline(one), log, clock))
    assert sent == ["top", "fails", "top"]


def test_a_failed_step_continues_at_its_last_wait(log, clock):
    sent = []
    source = BASE.replace("    return n\n", "    return n / 0\n")
    broken, fixed = cell(source, sent), cell(source.replace("n / 0", "n"), sent)

    async def live():
        with pytest.raises(WorkflowError):
            await to_its_end(broken, log, clock)
        return await fixed.resume("k1", store=log)

    assert asyncio.run(live()).output == 5
    assert sent.count("mail 1") == 1


def test_finally_and_except_around_the_wait_run_at_the_true_end_only(log, clock):
    sent = []

    @step
    def one():
        try:
            sleep("2h")
        except BaseException:
            sent.append("except")
            raise
        finally:
            sent.append("finally")

    asyncio.run(to_its_end(timeline(one), log, clock))
    assert sent == ["finally"]


def test_a_stopped_step_continues_at_its_line_and_cleans_up_once(log, clock):
    sent = []

    @step
    async def one():
        sent.append("top")
        try:
            await sleep("30m")
        finally:
            sent.append("finally")

    async def live():
        made = timeline(one)
        run = made.start({}, execution_id="k1", store=log)
        while not any(type(event).__name__ == "SleepStarted" for event in log.events("k1")):
            await asyncio.sleep(0)
        run.stop()
        with pytest.raises(ExecutionStoppedError):
            await run
        await made.resume("k1", store=log)

    asyncio.run(live())
    assert sent == ["top", "finally"]


def test_finally_runs_when_it_is_cancelled_in_the_wait(log, clock):
    sent = []

    @step
    async def one():
        try:
            await sleep("10m")
        finally:
            sent.append("finally")

    async def live():
        run = timeline(one).start({}, execution_id="k1", store=log)
        while not any(type(event).__name__ == "SleepStarted" for event in log.events("k1")):
            await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(ExecutionCancelledError):
            await run

    asyncio.run(live())
    assert sent == ["finally"]


def test_finally_runs_when_its_time_is_over(log, clock):
    sent = []

    @step(timeout="1m")
    async def one():
        try:
            await sleep("10m")
        finally:
            sent.append("finally")

    with pytest.raises(WorkflowError):
        timeline(one).run({}, store=log)
    assert sent == ["finally"]


def test_what_the_function_closes_over_is_not_kept(log, clock):
    sent = []

    @step
    async def one():
        alias = sent
        alias.append("top")
        await sleep("2h")
        alias.append(alias is sent)

    asyncio.run(to_its_end(timeline(one), log, clock))
    assert sent == ["top", True]
    assert [event.variables.json for event in checkpoints(log)] == ["{}"]


def test_values_that_cannot_be_kept_leave_the_checkpoint_before(log, clock):
    sent = []

    @step
    async def one():
        sent.append("top")
        await sleep("2h")
        sent.append("middle")
        numbers = (n for n in range(3))
        next(numbers)
        await sleep("3h")
        return next(numbers)

    assert asyncio.run(to_its_end(timeline(one), log, clock)).output == 1
    assert sent == ["top", "middle", "middle"]


def test_a_secret_is_not_kept_and_is_given_again_with_the_arguments(log, clock):
    sent = []

    @step
    async def one(inputs):
        sent.append("top")
        await sleep("2h")
        sent.append(inputs["token"].reveal())

    asyncio.run(to_its_end(timeline(one), log, clock, {"token": Secret("s3cr3t-token")}))
    assert sent == ["top", "s3cr3t-token"]
    assert "s3cr3t" not in str([event.variables for event in checkpoints(log)])


def test_a_variable_that_is_a_secret_of_the_inputs_is_taken_from_them_again(log, clock):
    sent = []

    @step
    async def one(inputs):
        token, whole = inputs["token"].reveal(), inputs["others"][0]
        sent.append("top")
        await sleep("2h")
        sent.append((token, whole.reveal()))
        token += "!"
        await sleep("2h")
        return len(token)

    inputs = {"token": Secret("s3cr3t-token"), "others": [Secret("an0ther-one")]}
    assert asyncio.run(to_its_end(timeline(one), log, clock, inputs)).output == 13
    assert sent == ["top", ("s3cr3t-token", "an0ther-one"), ("s3cr3t-token", "an0ther-one")]
    assert "s3cr3t" not in str(log.events("k1")) and "an0ther" not in str(log.events("k1"))


def logged(sent):
    """A decorator as people write it; its own code runs in every attempt."""

    def decorate(function):
        @functools.wraps(function)
        async def wrapper(*args, **kwargs):
            sent.append("begins")
            return await function(*args, **kwargs)

        return wrapper

    return decorate


def test_a_step_under_decorators_continues_at_its_line(log, clock):
    sent = []

    @step
    @logged(sent)
    @logged(sent)
    async def one(inputs):
        sent.append(inputs["n"])
        await sleep("2h")
        return "done"

    assert asyncio.run(to_its_end(timeline(one), log, clock, {"n": 5})).output == "done"
    assert sent == ["begins", "begins", 5, "begins", "begins"]


def test_what_a_decorator_gives_is_given_again(log, clock):
    sent = []

    class Connection:
        def __reduce__(self):
            raise TypeError("a connection is open")

    def connected(function):
        @functools.wraps(function)
        def wrapper():
            return function(Connection())

        wrapper.__signature__ = inspect.Signature()
        return wrapper

    @step
    @connected
    def one(connection):
        sent.append("top")
        sleep("2h")
        return type(connection).__name__

    assert asyncio.run(to_its_end(timeline(one), log, clock)).output == "Connection"
    assert sent == ["top"]


def test_of_a_decorator_that_calls_the_function_twice_the_first_call_continues_at_its_line(log, clock):
    sent = []

    def twice(function):
        @functools.wraps(function)
        def wrapper():
            function()
            return function()

        return wrapper

    @step
    @twice
    def one():
        sent.append("top")
        sleep("2h")
        sent.append("end")

    asyncio.run(to_its_end(timeline(one), log, clock))
    assert sent == ["top", *["end", "top"] * 2, "end"]  # at least once, as without checkpoints


def test_nothing_is_unpickled_from_a_log_that_is_not_trusted(tmp_path, clock):
    sent = []

    @step
    async def one():
        sent.append("top")
        pair = (1, {2})
        await sleep("2h")
        return len(pair)

    made = timeline(one)
    path = tmp_path / "log.db"
    with connect(path, hibernate_after=timedelta(hours=1)) as log:
        asyncio.run(made.execute({}, execution_id="k1", store=log))
    clock.advance("3h")
    with connect(path, hibernate_after=timedelta(hours=1), trusted=False) as log:
        assert asyncio.run(made.resume("k1", store=log)).output == 2
        assert any("is not trusted" in event.reason for event in checkpoints(log))
    assert sent == ["top", "top"]


def test_variables_are_packed_verified_and_not_pruned_away(tmp_path, clock):
    sent = []

    @step
    async def one():
        sent.append("top")
        pair = (1, {2})
        await sleep("2h")
        return pair[0]

    made = timeline(one)
    with connect(tmp_path / "log.db", hibernate_after=timedelta(hours=1)) as log:
        asyncio.run(made.execute({}, execution_id="k1", store=log))
        prune(older_than="1d", store=log)
        assert verify(store=log).ok
        pack("k1", tmp_path / "k1.cb", store=log)
    clock.advance("3h")
    with connect(tmp_path / "other.db", hibernate_after=timedelta(hours=1)) as other:
        unpack(tmp_path / "k1.cb", store=other, trusted=True)
        assert verify(store=other).ok
        assert asyncio.run(made.resume("k1", store=other)).output == 1
    assert sent == ["top"]


def test_a_checkpoint_is_in_the_commit_of_its_wait(memory, clock, monkeypatch):
    commits, commit = [], memory.commit

    def noted(written):
        commits.append([type(event).__name__ for event in written[0].events])
        return commit(written)

    monkeypatch.setattr(memory, "commit", noted)

    @step
    async def one():
        for _ in range(2):
            await sleep("10s")

    timeline(one).run({}, store=memory)
    assert [events for events in commits if "SleepStarted" in events] == [["StepCheckpointed", "SleepStarted"]] * 2


def test_without_checkpoints_it_starts_at_its_top(log, clock):
    sent = []

    @step(checkpoint=None)
    async def one():
        sent.append("top")
        await sleep("2h")

    asyncio.run(to_its_end(timeline(one), log, clock))
    assert sent == ["top", "top"] and not checkpoints(log)


def test_a_poll_keeps_what_its_check_changed(log, clock):
    @step
    async def one():
        seen = []

        def check():
            seen.append(len(seen))
            return len(seen) > 3

        await poll(check, interval="2h", max_attempts=10)
        return seen

    assert asyncio.run(to_its_end(timeline(one), log, clock)).output == [0, 1, 2, 3]


def test_the_reminder_of_the_letters_sends_each_mail_once_in_a_month(log, clock):
    mails = []

    def send_email(kind):
        mails.append(kind)

    @step
    async def send_reminder(inputs):
        send_email("welcome")
        await sleep(timedelta(days=30))
        send_email("reminder")
        return "ok"

    assert asyncio.run(to_its_end(timeline(send_reminder), log, clock, {"to": "ada"}, days=7)).output == "ok"
    assert mails == ["welcome", "reminder"]


KILLED = """
import asyncio, os, signal, sys
from cerebelum_nb import sleep, step, workflow, connect

@step
async def one(inputs):
    for number in range(3):
        with open("effects", "a") as file:
            file.write(f"{number}\\n")
        await sleep(0.01)
        if number == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
    return number

@workflow
def made(wf):
    wf.timeline(one)

with connect("log.db") as log:
    print(asyncio.run(made.execute({}, execution_id="k1", resume=True, store=log)).output)
"""


@pytest.mark.process
def test_a_killed_step_continues_at_its_line(tmp_path):
    (tmp_path / "program.py").write_text(KILLED)
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    outputs = [
        subprocess.run(
            [sys.executable, "program.py", str(number)], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        for number in (0, 1, 9)
    ]
    assert [one.returncode for one in outputs] == [-9, -9, 0], outputs[-1].stderr
    assert (tmp_path / "effects").read_text().split() == ["0", "1", "2"]


def test_arguments_that_were_not_changed_are_not_recorded_again(log, clock):
    seen = []

    @step
    def rows():
        return [{"number": number} for number in range(100)]

    @step
    def frame():
        return pandas.DataFrame({"a": range(100)})

    @step
    async def use(rows, frame, inputs):
        for number in range(3):
            await sleep("2h")
            seen.append(number)
        return len(rows) + len(frame) + len(inputs["text"])

    @workflow
    def made(wf):
        wf.timeline(rows >> frame >> use)

    assert asyncio.run(to_its_end(made, log, clock, {"text": "x" * 1000})).output == 1200
    assert seen == [0, 1, 2]
    for event in checkpoints(log):
        assert set(event.given) == {"rows", "frame", "inputs"}
        assert not event.kept and len(event.variables.json) < 50


def test_an_argument_that_was_changed_is_recorded(log, clock):
    @step
    def rows():
        return [{"number": number} for number in range(100)]

    @step
    async def use(rows):
        first = rows[0]
        rows.pop()
        first["number"] = 5
        await sleep("2h")
        return len(rows), first["number"], rows[0] is first

    @workflow
    def made(wf):
        wf.timeline(rows >> use)

    assert asyncio.run(to_its_end(made, log, clock)).output == (99, 5, True)


def test_many_operations_make_no_long_checkpoints(memory, clock):
    @step
    async def one(context):
        for number in range(200):
            await context.run("count", int, number)

    timeline(one).run(execution_id="k1", store=memory)
    found = checkpoints(memory)
    assert len(found) == 200
    assert max(len(event.counts or {}) for event in found) == 1


def test_counts_of_many_operations_are_whole_when_it_is_entered_again(log, clock):
    sent = []

    @step
    async def one(context):
        for number in range(5):
            sent.append(await context.run("send", int, number % 2))
            await sleep("2h")
        return len(sent)

    assert asyncio.run(to_its_end(timeline(one), log, clock)).output == 5
    assert sent == [0, 1, 0, 1, 0]


def test_the_slider_takes_time_as_there_are_operations(memory, clock):
    def calls(count):
        @step
        async def one(context):
            for number in range(count):
                await context.run("count", int, number)

        timeline(one).run(execution_id=f"n{count}", store=memory)
        made = 0

        def see(*_):
            nonlocal made
            made += 1

        sys.setprofile(see)
        try:
            history.slider(f"n{count}", store=memory)._repr_mimebundle_()
        finally:
            sys.setprofile(None)
        return made / count

    calls(5)  # imports at first use are not counted
    assert calls(160) < 2 * calls(40)
