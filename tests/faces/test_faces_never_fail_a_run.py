"""Whatever a view raises, the run continues and its log is correct."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cerebelum_nb import ProgressReporter, WorkflowError, history, step, workflow
from cerebelum_nb._engine import display_hooks
from cerebelum_nb._engine.execution import Execution
from cerebelum_nb._engine.user_errors import error_info
from cerebelum_nb.testing import MemoryStore

from ..programs import Popen, run


@step
def work(context):  # type: ignore[no-untyped-def]
    progress = ProgressReporter(context)
    progress.update(0)
    progress.update(100, "all of it")
    return "worked"


@workflow
def job(wf):  # type: ignore[no-untyped-def]
    wf.timeline(work)


class _ClosedPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def _closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [_ClosedPipe(), _closed(), None], ids=["broken pipe", "closed", "none"])
def test_progress_that_cannot_be_written_does_not_fail_the_step(
    stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    assert job.run(store=MemoryStore()).output == "worked"


def test_progress_outside_a_run_on_a_closed_stream_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        execution_id, step_name = "k1", "work"

    monkeypatch.setattr(sys, "stderr", _ClosedPipe())
    reporter = ProgressReporter(Context())
    reporter.update(10)
    reporter.update(100)


@pytest.mark.parametrize("where", ["factory", "enter", "exit"])
def test_a_view_that_raises_does_not_fail_the_run(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def broken(execution: Execution) -> Iterator[None]:
        if where == "enter":
            raise RuntimeError("no widgets here")
        yield
        raise RuntimeError("no widgets any more")

    def factory(execution: Execution):  # type: ignore[no-untyped-def]
        if where == "factory":
            raise OSError("no terminal")
        return broken(execution)

    monkeypatch.setattr(display_hooks, "factories", [factory])
    assert job.run(store=MemoryStore()).output == "worked"


def test_a_view_that_raises_does_not_replace_the_error_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def broken(execution: Execution) -> Iterator[None]:
        yield
        raise RuntimeError("no widgets any more")

    @step
    def fails():  # type: ignore[no-untyped-def]
        raise ValueError("the step's own")

    @workflow
    def failing(wf):  # type: ignore[no-untyped-def]
        wf.timeline(fails)

    monkeypatch.setattr(display_hooks, "factories", [broken])
    with pytest.raises(WorkflowError, match="the step's own"):
        failing.run(store=MemoryStore())


SCRIPT = """
import sys
from cerebelum_nb import ProgressReporter, connect, step, workflow

connect("h.db")

@step
def work(context):
    ProgressReporter(context).update(50, "half way")
    return 1

@workflow
def job(wf):
    wf.timeline(work)

job.run(execution_id="k1")
"""


@pytest.mark.process
def test_a_script_whose_stderr_has_no_reader_completes(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    reader, writer = os.pipe()
    os.close(reader)
    run([sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=writer, timeout=120)
    os.close(writer)
    (state,) = history.open(tmp_path / "h.db").executions()["state"]
    assert state == "COMPLETED"


@pytest.mark.process
@pytest.mark.parametrize("columns", ["1", "0", "nonsense"])
def test_a_terminal_of_an_odd_width_shows_the_run_and_keeps_what_goes_into_a_file(tmp_path: Path, columns: str) -> None:
    import pty

    (tmp_path / "script.py").write_text(SCRIPT.replace("return 1", "print('to the file')"))
    ours, theirs = pty.openpty()
    with (tmp_path / "out.txt").open("w") as out:
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": columns}
        process = Popen(
            [sys.executable, "script.py"], cwd=tmp_path, stdin=theirs, stdout=out, stderr=theirs, env=environment
        )
        os.close(theirs)
        try:
            while os.read(ours, 65_536):
                pass
        except OSError:  # the other end is closed
            pass
        assert process.wait(120) == 0
    os.close(ours)
    assert (tmp_path / "out.txt").read_text() == "to the file\n"


class _OddError(Exception):
    def with_traceback(self, trace):  # type: ignore[no-untyped-def]
        raise RuntimeError("not to be had")


class _UnspeakableError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


def _odd_syntax_error() -> SyntaxError:
    error = SyntaxError("bad")
    error.filename, error.lineno, error.offset, error.text = "x.py", 1, 1, object()  # type: ignore[assignment]
    return error


@pytest.mark.parametrize(
    "error", [_OddError("odd"), _odd_syntax_error(), _UnspeakableError()], ids=lambda e: type(e).__name__
)
def test_an_exception_that_cannot_be_formatted_is_still_the_error_of_its_step(error: Exception) -> None:
    @step
    def fails():  # type: ignore[no-untyped-def]
        raise error

    @workflow
    def failing(wf):  # type: ignore[no-untyped-def]
        wf.timeline(fails)

    with pytest.raises(WorkflowError) as raised:
        failing.run(store=MemoryStore())
    assert raised.value.failed_step == "fails"
    assert raised.value.__cause__ is error
    assert error_info(error).type == type(error).__name__
