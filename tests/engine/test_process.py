"""Steps with ``process=True``: what they can do in their process, and that nothing is left when they end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from cerebelum_nb import (
    ProgressReporter,
    Secret,
    WorkflowError,
    foreach,
    poll,
    retry,
    sleep,
    step,
    workflow,
)
from cerebelum_nb.errors import (
    ExecutionStoppedError,
    SerializationError,
    StepDefinitionError,
    StepProcessError,
    StepTimeoutError,
)
from cerebelum_nb.testing import MemoryStore

pytestmark = [pytest.mark.process, pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups")]


def timeline(*items, name="w"):
    return workflow(name=name)(lambda wf: wf.timeline(*items))


@pytest.fixture
def log():
    made = MemoryStore()
    yield made
    made.close()


def fails(flow, log, inputs=None):
    with pytest.raises(WorkflowError) as caught:
        flow.run(inputs, store=log, execution_id="k1")
    return caught.value


def of_kind(log, kind):
    return [event for event in log.events("k1") if type(event).__name__ == kind]


def is_alive(pid):
    """Whether a process is at work; a zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(pid):
    """Wait for the end of a process."""
    for _ in range(500):
        if not is_alive(pid):
            return True
        time.sleep(0.02)
    return False


def appears(path):
    """Wait for a file, and return what is in it."""
    for _ in range(1000):
        if path.exists() and (text := path.read_text()):
            return text
        time.sleep(0.02)
    pytest.fail(f"{path} never appeared")


# -- what works in it ---------------------------------------------------------------------------------------


def test_what_a_step_can_do_it_can_do_there(log, capsys):
    @step(process=True)
    def work(inputs, context):
        print("at work in another process:", os.getpid() != inputs["pid"])
        print("or not", file=sys.stderr)
        tries = []

        def check():
            tries.append(1)
            return len(tries) > 1 and {"ready": len(tries)}

        ProgressReporter(context).update(40, "polling")
        found = poll(check, interval=1)
        sleep("1ms")
        context.note("url", "http://localhost")
        twice = context.run("double", lambda n: 2 * n, 21)
        flaky = iter([ZeroDivisionError, None])

        def sometimes():
            if error := next(flaky):
                raise error("not yet")
            return "done"

        return [found, twice, retry(sometimes, delay=1), threading.current_thread() is threading.main_thread()]

    result = timeline(work).run({"pid": os.getpid()}, store=log, execution_id="k1")
    assert result.output == [{"ready": 2}, 42, "done", True]
    (progress,) = of_kind(log, "StepProgressed")
    assert (progress.percent, progress.message) == (40, "polling")
    printed = "".join(event.text for event in of_kind(log, "StepPrinted"))
    assert printed == "at work in another process: True\nor not\n"
    assert [event.name for event in of_kind(log, "StepNoted")] == ["url"]
    assert "another process: True" in capsys.readouterr().out


def test_what_it_did_is_not_done_again_by_a_resume(log, tmp_path):
    done = tmp_path / "done"

    @step(process=True)
    def work(context):
        context.run("append", lambda: done.open("a").write("x"))
        poll(lambda: done.open("a").write("y"), interval=1)
        if len(done.read_text()) == 2 and not (done.parent / "fixed").exists():
            raise ValueError("broken")
        return done.read_text()

    w = timeline(work)
    fails(w, log)
    (tmp_path / "fixed").touch()
    assert w.resume_sync("k1", store=log).output == "xy"


def test_it_waits_for_a_person_and_for_a_signal(log):
    from cerebelum_nb import ExecutionClient, wait_for_approval, wait_for_signal

    @step(process=True)
    def ask():
        answer = wait_for_approval("production", data={"price": 5}, validate=lambda response: response["ok"])
        return [answer, wait_for_signal("paid", match=lambda data: data == 2)]

    async def scenario():
        run = timeline(ask).start(store=log, execution_id="k1")
        client = ExecutionClient(store=log)
        while not of_kind(log, "ApprovalRequested"):
            await asyncio.sleep(0.01)
        await client.send_signal("k1", "paid", 1)
        await client.send_signal("k1", "paid", 2)
        await client.approve("k1", response={"ok": True})
        return (await run).output

    async def bounded():
        async with asyncio.timeout(60):
            return await scenario()

    assert asyncio.run(bounded()) == [{"ok": True}, 2]


def test_an_error_comes_back_as_what_it_was(log):
    class RefusedError(Exception):
        def __init__(self, code, why):
            super().__init__(f"{why} ({code})")
            self.code = code

    @step(process=True, retries=1, retry_on=RefusedError)
    def work():
        raise RefusedError(503, "too busy")

    error = fails(timeline(work), log)
    assert type(error.__cause__) is RefusedError
    assert (error.__cause__.code, str(error.__cause__)) == (503, "too busy (503)")
    assert 'raise RefusedError(503, "too busy")' in str(error.__cause__.__cause__)
    (failed,) = of_kind(log, "StepFailed")
    assert (failed.error.type, len(of_kind(log, "StepRetried"))) == ("RefusedError", 1)
    assert 'raise RefusedError(503, "too busy")' in failed.error.traceback
    assert "cerebelum_nb" not in failed.error.traceback


def test_an_error_that_cannot_be_restored_says_what_it_was(log):
    @step(process=True)
    def work():
        error = ValueError("bad")
        error.lock = threading.Lock()
        raise error

    error = fails(timeline(work), log)
    assert (type(error.__cause__), str(error.__cause__)) == (StepProcessError, "ValueError: bad")
    (failed,) = of_kind(log, "StepFailed")
    assert (failed.error.type, failed.error.message) == ("ValueError", "bad")


def test_secrets_travel_and_are_masked_where_they_are_shown(log, capsys):
    @step(process=True)
    def work(inputs):
        print("token", inputs["token"].reveal(), "made here", Secret("hunter2-too").reveal())
        print("again hunter2-too")
        raise ValueError("no entry for " + inputs["token"].reveal())

    error = fails(timeline(work), log, {"token": Secret("s3cr3t-token")})
    said = capsys.readouterr().out + str(error) + str([*log.events("k1")])
    assert "********" in said
    assert "s3cr3t-token" not in said
    assert "hunter2-too" not in said


def test_big_values_go_both_ways(log):
    @step
    def load():
        return b"x" * 20_000_000

    @step(process=True)
    def double(load):
        return load + load

    @step
    def measure(double):
        return len(double)

    assert timeline(load >> double >> measure).run(store=log).output == 40_000_000


@pytest.mark.soak
def test_twenty_at_once(log):
    @step
    def numbers():
        return list(range(20))

    @step(process=True)
    def square(number):
        return [number**2, os.getpid()]

    @step
    def total(square):
        return [sum(n for n, _ in square), len({pid for _, pid in square})]

    w = timeline(numbers >> foreach(square, number=numbers, max_concurrency=20) >> total)
    assert w.run(store=log).output == [sum(n**2 for n in range(20)), 20]


# -- its end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "said", "code"),
    [
        ("import ctypes; ctypes.string_at(0)", "was killed by SIGSEGV (a segmentation fault", -11),
        ("import os; os._exit(3)", "ended with exit code 3", 3),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "the system often does so when memory runs out",
            -9,
        ),
    ],
)
def test_a_process_that_dies_is_a_failed_attempt_that_says_how(log, how, said, code):
    @step(process=True)
    def work():
        exec(how)

    @step
    def instead(work=None):
        return "went on"

    @workflow
    def w(wf):
        wf.timeline(work)
        wf.diverge(from_step=work, patterns={StepProcessError: instead})

    assert w.run(store=log, execution_id="k1").output == "went on"
    (failed,) = of_kind(log, "StepFailed")
    assert said in failed.error.message
    if code == -11:
        trace = failed.error.traceback
        assert "in work" in trace and trace.index("in work") < trace.index("ctypes") and "process_child" not in trace


def test_a_timeout_ends_it_and_what_it_started(log, tmp_path):
    pids = tmp_path / "pids"

    @step(process=True, timeout="1.5s")
    def work():
        started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
        pids.write_text(f"{os.getpid()} {started.pid}")
        sum(range(10**12))  # in C, with the interpreter's lock

    error = fails(timeline(work), log)
    assert isinstance(error.__cause__, StepTimeoutError)
    assert str(error.__cause__).endswith("Its process was killed")
    own, started = map(int, pids.read_text().split())
    assert not Path(f"/proc/{own}").exists()  # gone and reaped when the run ends
    assert ends(started)


def test_a_timeout_ends_it_while_its_operation_waits(log):
    @step(process=True, timeout="1.5s")
    def work():
        sleep("100s")

    assert isinstance(fails(timeline(work), log).__cause__, StepTimeoutError)
    (failed,) = of_kind(log, "StepFailed")
    assert failed.at - of_kind(log, "StepStarted")[0].at < 50_000_000, "not after the sleep"


def test_a_stop_ends_it_and_a_resume_may_follow_at_once(log, tmp_path):
    place = tmp_path / "pid"

    @step(process=True)
    def work():
        if not place.exists():
            place.write_text(str(os.getpid()))
            time.sleep(100)
        return "done"

    w = timeline(work)

    async def scenario():
        run = w.start(store=log, execution_id="k1")
        pid = int(await asyncio.to_thread(appears, place))
        run.stop()
        with pytest.raises(ExecutionStoppedError):
            await run
        return pid, (await w.resume("k1", store=log)).output

    pid, output = asyncio.run(scenario())
    assert ends(pid)
    assert output == "done"
    assert [type(event).__name__ for event in log.events("k1")].count("StepInterrupted") == 1


@pytest.mark.parametrize("at_work", ["time.sleep(100)", "sum(range(10**12))"])
def test_it_ends_with_the_process_that_runs_the_execution(tmp_path, at_work):
    place = tmp_path / "pid"
    script = tmp_path / "flow.py"
    script.write_text(
        textwrap.dedent(f"""
        import os, pathlib, time
        from cerebelum_nb import step, workflow

        @step(process=True)
        def work():
            pathlib.Path({str(place)!r}).write_text(str(os.getpid()))
            {at_work}

        @workflow
        def w(wf):
            wf.timeline(work)

        w.run(execution_id="k1")
        """)
    )
    with subprocess.Popen([sys.executable, script], cwd=tmp_path, stdout=subprocess.DEVNULL) as runner:
        pid = int(appears(place))
        assert is_alive(pid)
        runner.send_signal(signal.SIGKILL)
    assert ends(pid)


def test_nothing_is_left_of_one_that_returned(log):
    @step(process=True)
    def work():
        return os.getpid()

    pid = timeline(work).run(store=log).output
    for _ in range(500):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.02)
    pytest.fail("it is a zombie")


# -- wrong uses ---------------------------------------------------------------------------------------------


def test_what_it_cannot_be_combined_with_is_refused_where_it_is_written():
    async def fetch():
        return 1

    def plain():
        return 1

    with pytest.raises(StepDefinitionError, match=r"'fetch': process=True is for a plain def"):
        step(process=True)(fetch)
    with pytest.raises(StepDefinitionError, match=r"'plain': the lines of a step in its own process"):
        step(process=True, checkpoint="lines")(plain)
    with pytest.raises(StepDefinitionError, match=r"'plain': process must be True or False, not 'yes'"):
        step(process="yes")(plain)


def test_what_cannot_be_sent_is_named(log):
    lock = threading.Lock()

    @step(process=True)
    def work():
        return lock

    error = fails(timeline(work), log).__cause__
    assert isinstance(error, SerializationError)
    assert "step 'work' runs in its own process, and its function.closure['lock'], a _thread.lock" in str(error)


def test_a_result_that_cannot_be_sent_is_named(log):
    @step(process=True)
    def work():
        return {"all": [1, threading.Lock()]}

    error = fails(timeline(work), log).__cause__
    assert isinstance(error, SerializationError)
    assert "output['all'][1] is a _thread.lock and cannot be stored" in str(error)


def test_a_child_workflow_is_refused(log):
    @step
    def inner():
        return 1

    child = timeline(inner, name="child")

    @step(process=True)
    def work():
        return child.run({})

    error = fails(timeline(work), log).__cause__
    assert "runs in its own process, which cannot start children" in str(error)


def test_a_coroutine_in_disguise_is_refused(log):
    async def fetch():
        return 1

    @step(process=True)
    def work():
        return fetch()

    assert "process=True is for a plain def" in str(fails(timeline(work), log).__cause__)


def test_where_no_process_can_be_started_it_says_so(log, monkeypatch):
    @step(process=True)
    def work():
        return 1

    monkeypatch.setattr(sys, "platform", "emscripten")
    assert "no process can be started here (Python in a browser" in str(fails(timeline(work), log).__cause__)
