"""Crashes on demand: a workflow runs in its own process, which is killed at one of its events."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .._core import events as e
from .._core.arguments import ExecutionLike, id_of
from .._engine.clock import Clock
from .._store.connect import resolve_store
from .._store.sqlite import SqliteStore
from .._text.html import Html, small_table
from .._text.text import did_you_mean
from .._text.times import at as moment_of
from .._workflow.execution_id import new_id
from .._workflow.workflow import Workflow
from ..errors import CerebelumError
from .evidence import Evidence, RecordedRun
from .fork_server import run_jobs
from .killed_process import KILLED, ONLY_PROCESS, Job, Lives, Moment, dumps, run_here
from .language import say, say_counted

if TYPE_CHECKING:
    import pandas as pd

    from .._store.base import Store

__all__ = ["Crash", "crash", "every_crash"]


@dataclass(frozen=True)
class Crash:
    """A run whose process was killed, and what was on disk by then.

    It will do wherever an execution's id is asked for: ``await shop.resume(order)``.

    Attributes:
        execution_id: which execution.
        pid: the process that was killed.
        has_died: False if the run ended before the event at which it was to die.
        run: what the log held when the process was gone.
        printed: what the process printed.

    Example:
        >>> Crash("k3v9", 4711, True, RecordedRun("k3v9", "shop", []))
        process 4711 was killed; 0 events of execution k3v9 are on disk
    """

    execution_id: str
    pid: int
    has_died: bool
    run: RecordedRun
    printed: str = ""

    @property
    def at(self) -> datetime:
        """When the last event on disk happened, UTC."""
        return moment_of(self.run.events[-1].at)

    def __str__(self) -> str:
        if not self.has_died:
            return say("execution {id} ended, and the event to die at did not happen", id=self.execution_id)
        return say_counted(
            len(self.run.events),
            "process {pid} was killed; 1 event of execution {id} is on disk",
            "process {pid} was killed; {n} events of execution {id} are on disk",
            pid=self.pid,
            id=self.execution_id,
        )

    def __repr__(self) -> str:
        rows = [f"{n:>4}  {kind:<20} {step or ''}".rstrip() for n, (kind, step) in enumerate(self.run.pairs(), 1)]
        return "\n".join([str(self), *rows])

    def _repr_html_(self) -> str:
        rows = [(str(n), kind, step or "") for n, (kind, step) in enumerate(self.run.pairs(), 1)]
        return Html("<p>{}</p>{}").format(str(self), small_table([(say("version"), say("type"), say("step")), *rows]))


def crash(
    workflow: Workflow,
    inputs: dict[str, Any] | None = None,
    *,
    after: int | str | None = None,
    before: int | str | None = None,
    nth: int = 1,
    execution_id: ExecutionLike | None = None,
    resume: bool = False,
    clock: Clock | None = None,
    store: Store | str | os.PathLike[str] | None = None,
    timeout: float = 120,
) -> Crash:
    """Run a workflow in another process, and kill that process at one event.

    It is killed as by ``kill -9``: nothing is cleaned up, and only what is on disk is left. Resume the execution as any
    other.

    Args:
        workflow: the workflow. What it uses of the notebook goes along by value.
        inputs: its inputs.
        after: kill it once this event is on disk: its number, or its type and perhaps its step,
            ``"StepCompleted charge"``.
        before: kill it when this event has happened and is not written down yet: the gap that no log can close.
        nth: which of several such events: ``after="SleepCompleted", nth=17``.
        execution_id: the id of the new execution, or which one to resume.
        resume: resume ``execution_id`` instead of starting it, and die on the way.
        clock: the clock of the other process, such as ``FastClock("1d/s")``.
        store: the log, a file; by default the session's.
        timeout: seconds after which a process that neither dies nor ends is killed.

    Returns:
        The crash, with the events that are on disk.

    Raises:
        ValueError: neither or both of ``after`` and ``before`` are given, or there is no such type of event.
        CerebelumError: the workflow cannot be taken along, or failed by itself before it could die.

    Example:
        >>> log = connect(Path(tempfile.mkdtemp(), "history.db"))
        >>> order = crash(release, after="StepStarted build")
        >>> order.has_died
        True
        >>> release.resume_sync(order).output
        'image'
        >>> log.close()
    """
    log = resolve_store(store)
    if not isinstance(log, SqliteStore) or log.path is None:
        raise CerebelumError("This log is in memory, and would die with its process: connect(path) to a file first.")
    if resume and execution_id is None:
        raise ValueError("resume=True needs the execution_id to resume")
    chosen = new_id() if execution_id is None else id_of(execution_id)
    moment = replace(_moment(after, before), nth=nth)
    job = Job(workflow, inputs, log.location, chosen, moment, "resume" if resume else "start", clock)
    pid, code, printed = _run_jobs([[job]], timeout)
    return Crash(chosen, pid, code in KILLED, Evidence(log).run(chosen), printed)


def every_crash(
    workflow: Workflow, inputs: dict[str, Any] | None = None, *, clock: Clock | None = None, timeout: float = 120
) -> pd.DataFrame:
    """Kill a run after each of its commits in turn, resume each, and say what it cost.

    Events that are written down together cannot be torn apart, so a process cannot die between them. Every run has a
    log of its own in a temporary folder: the session's log does not see them.

    Args:
        workflow: the workflow.
        inputs: its inputs.
        clock: the clock of all these processes.
        timeout: seconds for all of them together.

    Returns:
        One row per death:

        - ``killed after`` (str): the last event on disk
        - ``kept`` (str): the steps that were finished then
        - ``ran`` (str): the steps that the resume ran
        - ``finished twice`` (str): the steps that had finished, and ran again all the same
        - ``same end`` (bool): whether every step has the result that it has without a death

    Raises:
        CerebelumError: the workflow fails also when nobody kills it.

    Example:
        >>> deaths = every_crash(release)
        >>> list(deaths["killed after"]), bool(deaths["same end"].all())
        (['2 StepStarted build'], True)
    """
    import pandas as pd

    with tempfile.TemporaryDirectory(prefix="cerebelum-crash-") as folder:

        def log(name: object) -> str:
            return str(Path(folder, f"{name}.db"))

        def job(name: object, moment: Moment | None, how: Literal["start", "finish"] = "start", marks: str = "") -> Job:
            return Job(workflow, inputs, log(name), str(name), moment, how, clock, marks)

        marks = Path(folder, "marks")
        _run_jobs([[job("whole", None, marks=str(marks))]], timeout)
        whole = _run(log("whole"))
        versions = [version for version in map(int, marks.read_text().split()) if version < len(whole.events)]
        lives = [[job(version, Moment(version)), job(version, None, "finish")] for version in versions]
        if hasattr(os, "fork") or ONLY_PROCESS:
            _run_jobs(lives, timeout)
        else:
            for each in lives:
                for one in each:
                    _run_jobs([[one]], timeout)
        return pd.DataFrame([_row(whole, version, _run(log(version))) for version in versions])


def _run(log: str) -> RecordedRun:
    """Read the only execution in a log; its id is the name of the file, so idempotency keys differ between logs."""
    with SqliteStore(log) as store:
        return Evidence(store).run(Path(log).stem)


def _row(whole: RecordedRun, version: int, resumed: RecordedRun) -> dict[str, Any]:
    """Return the row of one death."""
    kept = resumed.results(version)
    again = [event.step for event in resumed.events[version:] if isinstance(event, e.StepStarted)]
    kind, step = resumed.pairs()[version - 1]
    return {
        "killed after": " ".join(filter(None, (str(version), kind, step))),
        "kept": ", ".join(kept),
        "ran": ", ".join(dict.fromkeys(again)),
        "finished twice": ", ".join(sorted({*kept} & {*again})),
        "same end": _results(resumed) == _results(whole),
    }


def _results(run: RecordedRun) -> dict[str, str]:
    return {step: value.json or value.digest for step, value in run.state.outputs.items()}


def _moment(after: int | str | None, before: int | str | None) -> Moment:
    if (after is None) == (before is None):
        raise ValueError('say when to die: after="StepCompleted charge", or before=, or the number of an event')
    at = after if before is None else before
    if isinstance(at, bool) or not isinstance(at, (int, str)):
        raise TypeError(f"an event is given by its number or its type, such as 'StepCompleted charge', not {at!r}")
    if isinstance(at, str) and at.partition(" ")[0] not in e.EVENT_TYPES:
        kind = at.partition(" ")[0]
        hint = did_you_mean(kind, e.EVENT_TYPES, "history.events(id) shows those of a run.")
        raise ValueError(f"There is no type of event {kind!r}. {hint}")
    return Moment(at, is_before=before is not None)


def _run_jobs(lives: Lives, timeout: float) -> tuple[int, int, str]:
    """Run jobs in another process; return its id, its exit code and what it printed.

    Raises:
        CerebelumError: the workflow cannot be taken along, or a job failed by itself.
    """
    if ONLY_PROCESS:
        return os.getpid(), run_here(lives), ""
    with tempfile.TemporaryDirectory(prefix="cerebelum-crash-") as folder:
        path = Path(folder, "jobs")
        try:
            path.write_bytes(dumps(lives))
        except Exception as error:  # pickling runs whatever the objects define
            raise CerebelumError(
                f"The workflow cannot be taken to another process: {type(error).__name__}: {error}. Its steps use "
                "something that only this process has, such as an open file or a connection: make it inside the step."
            ) from error
        try:
            pid, code, printed, errors = run_jobs(path, timeout)
        except TimeoutError as error:
            raise CerebelumError(
                f"After {timeout:g} seconds the other process had neither died nor ended, and was killed."
            ) from error
    if code and code not in KILLED:
        last = errors.strip().splitlines()[-12:]
        raise CerebelumError("The run failed before anybody could kill it:\n" + "\n".join(last))
    return pid, code, printed
