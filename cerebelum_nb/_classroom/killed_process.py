"""The process that is killed: it runs a workflow from a notebook and kills itself at one event.

``python -m cerebelum_nb._classroom.killed_process JOBS``: JOBS is a file that `crash` wrote. Without JOBS, this is the
fork server. The jobs are pickled by the process that starts this one, for this one only.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .._core.events import Event
from .._dsl.step import Step
from .._engine.clock import Clock, current_clock
from .._engine.crash import Crashed, armed
from .._store.base import Commit
from .._store.sqlite import SqliteStore
from .._values.classes import MAIN
from .._workflow.definition import Definition
from .._workflow.workflow import Workflow
from .fork_server import exit_code, serve

__all__ = ["KILLED", "ONLY_PROCESS", "Death", "Job", "Lives", "Moment", "dumps", "run_file", "run_here"]

KILLED = (-9, 137)
"""Exit codes of a process that was killed."""
ONLY_PROCESS = sys.platform == "emscripten"
"""Whether no other process can be started, as in a browser."""
_MOST_AT_ONCE = 4
"""How many processes run at a time."""


@dataclass(frozen=True, slots=True)
class Moment:
    """An event at which a process dies.

    Attributes:
        at: its number, or its type and perhaps its step.
        is_before: whether to die right before the event is recorded, instead of right after.
        nth: which of several events of that type.
    """

    at: int | str
    is_before: bool = False
    nth: int = 1

    def matches(self, version: int, event: Event) -> bool:
        """Whether this is the event."""
        if isinstance(self.at, int):
            return version == self.at
        kind, _, step = self.at.partition(" ")
        return type(event).__name__ == kind and (not step or getattr(event, "step", None) == step)


@dataclass(slots=True)
class Death:
    """Kills this process right before, or right after, the commit that holds an event.

    Attributes:
        moment: when to die; None if it does not.
        marks: a file for the last version of each commit; a process cannot die within a commit.
    """

    moment: Moment | None
    marks: str = ""
    _seen: int = 0

    def strikes(self, commits: Sequence[Commit], *, before: bool) -> Crashed | None:
        """Die at the moment; the engine calls this before and after each commit.

        If this is the only process, as in a browser, return a crash: the engine then drops its runs as if it had died.
        """
        if self.marks and not before:
            with Path(self.marks).open("a", encoding="utf-8") as file:
                file.writelines(f"{commit.after + len(commit.events)}\n" for commit in commits)
        if self.moment is None or self.moment.is_before is not before:
            return None
        for commit in commits:
            for version, event in enumerate(commit.events, start=commit.after + 1):
                self._seen += self.moment.matches(version, event)
                if self._seen >= self.moment.nth:
                    if not ONLY_PROCESS:
                        _kill_self()
                    step = getattr(event, "step", None) or ""
                    return Crashed(commit.execution_id, version, type(event).__name__, step, before=before)
        return None


@dataclass(frozen=True, slots=True)
class Job:
    """A run for the process."""

    workflow: Workflow
    inputs: dict[str, Any] | None
    log: str
    execution_id: str
    moment: Moment | None = None
    how: Literal["start", "resume", "finish"] = "start"
    clock: Clock | None = None
    marks: str = ""

    def run(self) -> None:
        """Run the workflow to its end or to the moment."""
        death = Death(self.moment, self.marks)
        armed.append(death)
        with SqliteStore(self.log, durability="normal") as store:
            token = None if self.clock is None else current_clock.set(self.clock)
            try:
                if self.how == "resume":
                    self.workflow.resume_sync(self.execution_id, store=store)
                else:
                    is_finish = self.how == "finish"
                    self.workflow.run(self.inputs, store=store, execution_id=self.execution_id, resume=is_finish)
            finally:
                armed.remove(death)
                if token is not None:
                    current_clock.reset(token)


Lives = Sequence[Sequence[Job]]
"""Lists of jobs. The jobs of a list run one after the other, each in a new process; several lists run at a time."""


def dumps(lives: Lives) -> bytes:
    """Pickle jobs with the notebook's definitions, which the other process does not have."""
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, Step) and obj.__module__ == MAIN:
                return type(obj), (obj.fn, obj.name, obj.policy), {"undo": obj.undo}
            if isinstance(obj, Definition) and obj.__module__ == MAIN:
                return type(obj), (obj._fn, obj.name, obj.max_jumps, obj.on_failure, obj._inputs)
            return super().reducer_override(obj)

    out = io.BytesIO()
    Pickler(out).dump(lives)
    return out.getvalue()


def run_file(path: Path) -> int:
    """Run the jobs in a file; return the exit code of a single job, or else of the first job that failed."""
    lives: Lives = pickle.loads(path.read_bytes())
    if len(lives) == 1 and len(lives[0]) == 1:
        lives[0][0].run()
        return 0
    return _run_in_parallel(lives)


def run_here(lives: Lives) -> int:
    """Run jobs in this process, one after the other; return the exit code that the last one would have had."""
    code = 0
    for jobs in lives:
        for job in jobs:
            try:
                job.run()
            except Crashed:
                code = KILLED[1]
            else:
                code = 0
    return code


def _run_in_parallel(lives: Lives) -> int:
    """Run several lists of jobs at a time, each job in a fork of this process, which has no threads and no open log."""
    waiting, at_work, code = list(lives), 0, 0
    while waiting or at_work:
        if waiting and at_work < _MOST_AT_ONCE:
            jobs = waiting.pop(0)
            if os.fork() == 0:
                os._exit(_run_in_sequence(jobs))
            at_work += 1
            continue
        _, status = os.wait()
        at_work, code = at_work - 1, code or os.waitstatus_to_exitcode(status)
    return code


def _run_in_sequence(jobs: Sequence[Job]) -> int:
    for job in jobs:
        child = os.fork()
        if child == 0:
            os._exit(exit_code(job.run))
        _, status = os.waitpid(child, 0)
        if (code := os.waitstatus_to_exitcode(status)) and code not in KILLED:
            return code
    return 0


def _kill_self() -> None:
    """End this process as a power cut would: no handler runs, nothing is written."""
    sys.stdout.flush()  # a person would have seen what it printed
    if hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(137)


if __name__ == "__main__":
    # Not as `__main__`: the jobs name the classes of the module under its own name.
    from cerebelum_nb._classroom import killed_process

    if len(sys.argv) > 1:
        sys.exit(killed_process.run_file(Path(sys.argv[1])))
    serve(sys.stdin, sys.stdout, killed_process.run_file)
