"""Advice on how to resume an execution, worded for its reader: the only place with such advice.

Exceptions, cards, results, the command line and exported pages all call :func:`advise`, so that they agree. Every call
and command it returns must work when pasted.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from .._core.graph import Plan, step_of, undone_by
from .._core.record import frozen, record
from .._core.resume import unknown_outcomes
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.step_state import Operation
from .._host.caller import in_cells
from .._store.base import Store
from .._store.connect import default_path
from .children import open_children
from .code_location import Origin, is_cell, is_script

if TYPE_CHECKING:
    from .ports import ExecutionView

__all__ = [
    "Advice",
    "Reader",
    "advise",
    "advise_on",
    "called",
    "command_for",
    "execute_call",
    "from_sync",
    "in_terminal",
    "rerun_stale",
    "resume_call",
    "sweep_call",
    "ways",
]

from_sync: ContextVar[bool] = ContextVar("from_sync", default=False)
"""Set while sync code waits for a run: the advised calls are sync too."""

in_terminal: ContextVar[bool] = ContextVar("in_terminal", default=False)
"""Set while a command runs something: the advice is commands."""


class Reader(Enum):
    """Who reads the advice, and therefore what they can do."""

    CELL = "a notebook's cell, which can await and runs in the process that has the code"
    SYNC = "sync code: a script, whose process may be gone when it is read"
    ASYNC = "async code of a script"
    TERMINAL = "a command line, or an exported page"

    @classmethod
    def now(cls) -> Reader:
        """Return who reads the current output."""
        if in_terminal.get():
            return cls.TERMINAL
        if in_cells():
            return cls.CELL
        return cls.SYNC if from_sync.get() else cls.ASYNC


@record
class Advice:
    """What to do next.

    Attributes:
        what: the sentence before the calls or commands; it ends with a colon.
        ways: the calls or commands to choose from, the best first.
        short: the first way without an id, so that it is the same in every run.
    """

    what: str
    ways: tuple[str, ...]
    short: str = ""

    @property
    def call(self) -> str:
        """The Python call among the ways, or the best way if there is none."""
        return next((way for way in reversed(self.ways) if not way.startswith("cerebelum ")), self.ways[0])

    def __str__(self) -> str:
        """Format the advice as the last lines of a message."""
        *commands, last = self.ways
        has_both = commands and commands[0].startswith("cerebelum ") and not last.startswith("cerebelum ")
        note = "    # in a terminal; the same in Python:" if has_both else ""
        return "\n".join([self.what, "", *(f"    {command}{note}" for command in commands), f"    {last}"])


Command = Callable[[str], str]
"""Completes a command of the command line with the options that select the log."""


def advise_on(execution: ExecutionView, what: str = "") -> Advice | None:
    """Advise how to resume a run of this process; ``what`` as for :func:`advise`."""
    return advise(
        execution.state,
        execution.id,
        what=what,
        plan=execution.plan,
        variable=execution.variable,
        handle=execution.handle,
        command=command_for(execution.store),
        on_cluster=execution.on_cluster,
    )


def advise(
    state: State,
    execution_id: str,
    *,
    plan: Plan | None = None,
    interrupted: bool = False,
    what: str = "",
    reader: Reader | None = None,
    variable: str = "",
    handle: Callable[[str | None], str] | None = None,
    command: Command | None = "cerebelum {}".format,
    on_cluster: bool = False,
) -> Advice | None:
    """Advise how to resume an execution.

    Args:
        state: its state.
        execution_id: its id.
        plan: its workflow as it is now, if known.
        interrupted: whether the process that ran it has died.
        what: the sentence before the call, for a run that ended in a way that its state does not show.
        reader: who reads the advice; by default the current caller.
        variable: the name of its workflow in the caller's code, if known.
        handle: given the step that must run again, returns the call that resumes the execution, if not ``resume()``.
        command: completes a command for its log; None for a log that no other process can read.
        on_cluster: whether it is on a cluster, which wakes it when it is due.

    Returns:
        The advice; None if the execution is running, will be woken, or cannot be resumed.

    Example:
        >>> print(advise(State(lifecycle=ExecutionState.PAUSED, qualname="deploy"), "k1"))
        No process is running it. To resume:
        <BLANKLINE>
            cerebelum resume k1    # in a terminal; the same in Python:
            await deploy.resume("k1")
    """
    writer = _Writer(state, execution_id, reader or Reader.now(), variable, handle, command)
    match state.status:
        case _ if what:
            return writer.resume(what, plan)
        case _ if interrupted:
            return writer.resume("No process is running it: its process has died. To resume:", plan)
        case ExecutionState.FAILED | ExecutionState.ROLLED_BACK:
            return _after_failure(writer, state, plan)
        case ExecutionState.PAUSED:
            paused = "No process is running it. To resume:" if handle is None else "To continue:"
            return writer.resume(paused, plan)
        case ExecutionState.WAITING_FOR_APPROVAL:
            return writer.decide()
        case ExecutionState.WAITING_FOR_SIGNAL:
            return writer.signal()
        case ExecutionState.WAITING_FOR_CHILD:
            return writer.child()
        case ExecutionState.SLEEPING if state.hibernated and not on_cluster:
            return writer.wake()
        case _:
            return None


def _after_failure(writer: _Writer, state: State, plan: Plan | None) -> Advice:
    step, error = state.failed_step, state.error
    if state.lifecycle is ExecutionState.ROLLED_BACK and error is None:
        return writer.resume("It is rolled back. To run it again:", plan)
    if error is not None and error.type == "ExecutionTimeoutError":
        return writer.resume("A resume starts its timeout again:", plan)
    if step is None or error is None:
        return writer.resume("Fix it, then:", plan)
    if undone := undone_by(step):
        handler = None if plan is None else plan.spec(step)
        fix = (
            f"the handler that undoes '{undone}'"
            if plan is None or handler is None
            else f"'{plan.undo[step_of(undone)].name}'"
        )
        return writer.roll_back(f"Fix {fix}, then continue the rollback:", plan)
    if error.type in ("ApprovalRejectedError", "ApprovalTimeoutError"):  # a decision is nothing to fix
        return writer.resume(f"To let '{step}' ask again:", plan)
    if error.type == "SecretMissingError":
        source = re.search(r"the result of step '(.+?)'", error.message)
        if source is not None and source[1] in state.finished:
            return writer.resume("Secrets are never in the log. To compute the result again:", plan, rerun=source[1])
        if "in the inputs" in error.message:
            return writer.resume("Secrets are never in the log. To give it again:", plan, asks=True)
    if (child := _failed_child(state, step)) and step not in state.finished:
        return writer.resume(f"Fix what failed in its child {child}, then:", plan)
    # If a completed step led to the failure by its route, the step itself must run again.
    rerun = step if step in state.finished else None
    if writer.reader is not Reader.CELL:
        what = f"Fix '{step}'"
    elif state.module in ("", "__main__"):
        what = f"Fix '{step}' and run its cell again"
    else:  # running a cell again does not reload a module
        what = f"Fix '{step}', reload {state.module} or restart the kernel"
    return writer.resume(f"{what}{writer.where_it_continues(step)}, then:", plan, rerun=rerun)


@frozen
class _Writer:
    """Writes the advice on one execution for one reader."""

    state: State
    id: str
    reader: Reader
    variable: str
    handle: Callable[[str | None], str] | None
    command: Command | None

    def resume(self, what: str, plan: Plan | None, *, rerun: str | None = None, asks: bool = False) -> Advice:
        """Advise a resume; with ``asks``, its secret inputs must be given again even in this process."""
        if self.handle is not None:
            call = self.handle(rerun)
            return Advice(what=what, ways=(call,), short=call)
        unknown = () if plan is None else unknown_outcomes(plan, self.state)
        if unknown:
            return self._guarded(unknown)
        return self._written(what, rerun=rerun, asks=asks)

    def where_it_continues(self, step: str) -> str:
        """Return at which line a failed step continues, and how to start it at its top; "" if it starts there."""
        known = self.state.steps.get(step)
        if known is None or not known.checkpoints or known.has_result:
            return ""
        line, name = known.checkpoints[-1].event.line, _literal(step)
        again = f"--rerun {shlex.quote(step)}" if self.reader is Reader.TERMINAL else f"rerun=[{name}]"
        return f" (it continues at line {line}, or with {again} at its top)"

    def roll_back(self, what: str, plan: Plan | None) -> Advice:
        """Advise to continue a rollback; it takes the same arguments as a resume."""
        advice = self.resume(what, plan)
        ways = tuple(
            way.replace("cerebelum resume ", "cerebelum rollback ", 1)
            if way.startswith("cerebelum ")
            else way.replace(".resume", ".rollback", 1)
            for way in advice.ways
        )
        return Advice(what=advice.what, ways=ways, short=advice.short)

    def _written(self, what: str, *, rerun: str | None = None, asks: bool = False) -> Advice:
        again = {} if rerun is None else {"rerun": _literal([rerun])}
        options = "" if rerun is None else f" --rerun {shlex.quote(rerun)}"
        secrets, nested = _secrets(self.state)
        if asks or (self.reader is Reader.SYNC and (secrets or nested)):
            asked = [f"{_literal(n)}: getpass.getpass({_literal(n + ': ')})" for n in secrets]
            again["inputs"] = "{" + ", ".join([*asked, *(f"{_literal(n)}: {n}" for n in nested)]) + "}"
        imports = "import getpass; " if "inputs" in again and secrets else ""
        calls = [imports + resume_call(self._called(), execution_id, **again) for execution_id in (self.id, None)]
        # Another process asks for the secret. A secret inside another value cannot be typed on a command line.
        options += "".join(f" --secret {shlex.quote(name)}" for name in secrets)
        command = None if nested else self._resume_command(options)
        has_code = self.reader is not Reader.TERMINAL or _is_only_there(self.state)
        ways = () if command is None or self.reader is Reader.CELL else (command,)
        if self.reader is Reader.TERMINAL and has_code:
            what += " (in the notebook or at the prompt where it was started)"
        return Advice(what=what, ways=(*ways, calls[0]) if has_code or not ways else ways, short=calls[1])

    def _guarded(self, unknown: tuple[str, ...]) -> Advice:
        """Advise to find out whether the external effects of these steps have happened."""
        named = ", ".join(f"'{step}'" for step in unknown)
        what = (
            f"Find out whether {named} had its external effect. If not, run the first of these; if it did, the second:"
        )
        if self.reader is Reader.TERMINAL:
            repeat = "".join(f" --repeat {shlex.quote(step)}" for step in unknown)
            done = "".join(f" --mark-done {shlex.quote(step)}=null" for step in unknown)
            if (first := self._resume_command(repeat)) and (second := self._resume_command(done)):
                return Advice(what=what, ways=(first, second), short=first)
        repeat = _literal(list(unknown))
        done = "{" + ", ".join(f"{_literal(step)}: None" for step in unknown) + "}"
        ways = [resume_call(self._called(), self.id, **given) for given in ({"repeat": repeat}, {"mark_done": done})]
        return Advice(what=what, ways=tuple(ways), short=resume_call(self._called(), None, repeat=repeat))

    def decide(self) -> Advice:
        """Advise how to approve."""
        asking = list(_asking(self.state))
        steps = [f" --step {shlex.quote(step)}" if len(asking) > 1 else "" for step, _ in asking]
        kinds = ", ".join(dict.fromkeys(operation.approval_type for _, operation in asking))
        what = f"It is waiting for approval ({kinds}). To decide, with --response JSON or --reason TEXT if you like:"
        form = f"import cerebelum_nb; cerebelum_nb.approval_form({_literal(self.id)})"
        if self.reader is Reader.CELL or self.command is None:
            return Advice(what=f"It is waiting for approval ({kinds}). To decide:", ways=(form,), short=form)
        quoted = shlex.quote(self.id)
        ways = tuple(self.command(f"{verb} {quoted}{step}") for step in steps for verb in ("approve", "reject"))
        return Advice(what=what, ways=ways, short="cerebelum approve")

    def signal(self) -> Advice:
        """Advise how to send the signal it waits for."""
        waits = (key.split(":")[1] for key in self.state.waiting if key.startswith("signal:"))
        names = list(dict.fromkeys(waits))
        what = f"It is waiting for a signal ({', '.join(names)}). To send it, with data if you like:"
        if self.reader is Reader.CELL or self.command is None:
            start = "from cerebelum_nb import ExecutionClient; await ExecutionClient().send_signal("
            calls = tuple(f"{start}{_literal(self.id)}, {_literal(name)})" for name in names)
            return Advice(what=what, ways=calls, short=calls[0] if calls else "send_signal(...)")
        ways = tuple(self.command(f"signal {shlex.quote(self.id)} {shlex.quote(name)}") for name in names)
        return Advice(what=what, ways=ways, short="cerebelum signal")

    def child(self) -> Advice:
        """Advise on an execution that waits for children without a process."""
        children = list(open_children(self.state))
        named = ", ".join(children[:3]) + (f" and {len(children) - 3} more" if len(children) > 3 else "")
        what = f"It is waiting for {'its child' if len(children) == 1 else 'its children'} {named}. To see why:"
        if self.reader is Reader.CELL or self.command is None:
            calls = [f"import cerebelum_nb; cerebelum_nb.watch({_literal(child)})" for child in children[:1]]
        else:
            calls = [self.command(f"status {shlex.quote(child)}") for child in children[:3]]
        return Advice(what=what, ways=tuple(calls), short="cerebelum status")

    def wake(self) -> Advice:
        """Advise on an execution that sleeps without a process."""
        call = resume_call(self._called(), self.id)
        if self.reader is Reader.CELL or self.command is None:
            return Advice(
                what="It is sleeping without a process. To resume it when it is due:", ways=(call,), short=call
            )
        notebook = f" --notebook {shlex.quote(self.state.origin)}" if is_cell(self.state.source) else ""
        if is_cell(self.state.source) and not self.state.origin:
            return self._written("It is sleeping without a process. To resume it when it is due:")
        way = self.command(f"scheduler{notebook}")
        return Advice(what="It is sleeping without a process. A scheduler wakes it:", ways=(way,), short=way)

    def _resume_command(self, options: str) -> str | None:
        """Return the command that resumes it; None if no other process can find its code or read its log."""
        if self.command is None or (self.variable and not _is_importable(self.state)):
            return None
        found = next((way for way in ways(self.state, self.id) if way.startswith("cerebelum ")), None)
        return None if found is None else self.command(f"{found.removeprefix('cerebelum ')}{options}")

    def _called(self) -> str:
        """Return the name of the workflow in the caller's code."""
        return called(self.state, self.variable)


def called(state: State, variable: str = "") -> str:
    """Return the name by which code in this process calls a workflow; ``variable`` if it is not found in its module."""
    return _variable_of(state) or variable or state.qualname.rpartition(".")[2] or state.workflow or "workflow"


# -- calls and commands ---------------------------------------------------------------------------------------


def resume_call(variable: str, execution_id: str | None, **given: str) -> str:
    """Return the call that resumes an execution; ``given`` are its other arguments, as code.

    Example:
        >>> resume_call("deploy", "k1", rerun='["build"]')
        'await deploy.resume("k1", rerun=["build"])'
    """
    first = () if execution_id is None else (_literal(execution_id),)
    arguments = ", ".join([*first, *(f"{name}={code}" for name, code in given.items())])
    return f"{variable}.resume_sync({arguments})" if _is_sync() else f"await {variable}.resume({arguments})"


def execute_call(variable: str, execution_id: str | None = None) -> str:
    """Return the call that starts a new execution; with an id, the call that resumes it or returns its result.

    Example:
        >>> execute_call("deploy"), execute_call("deploy", "v42")
        ('await deploy.execute()', 'await deploy.execute(execution_id="v42", resume=True)')
    """
    given = "" if execution_id is None else f"execution_id={_literal(execution_id)}, resume=True"
    return f"{variable}.run({given})" if _is_sync() else f"await {variable}.execute({given})"


def sweep_call(variable: str, step: str, prefix: str) -> str:
    """Return the call that resumes a sweep.

    Example:
        >>> sweep_call("fit", "rate", "k1")
        'await fit.sweep("rate", ..., execution_id="k1")'
    """
    call = "{}.sweep_sync" if _is_sync() else "await {}.sweep"
    return f"{call.format(variable)}({_literal(step)}, ..., execution_id={_literal(prefix)})"


def command_for(store: Store) -> Command | None:
    """Return the function that completes commands for a log; None if no other process can read the log."""
    if store.location == ":memory:":
        return None
    log = Path(store.location)
    elsewhere = "" if log.resolve() == default_path().resolve() else f" --db {shlex.quote(str(log))}"
    return lambda command: f"cerebelum {command}{elsewhere}"


def rerun_stale(call: str, store: Store, execution_id: str) -> str:
    """Return the call or command that resumes an execution and runs its stale steps again; ``call`` resumes it."""
    command = command_for(store) if in_terminal.get() else None
    if command is not None:
        return command(f"resume {shlex.quote(execution_id)} --rerun stale")
    return f"{call[:-1]}, rerun='stale')"


def ways(origin: Origin, execution_id: str) -> tuple[str, ...]:
    """Return the command or the call (where the workflow was defined) that resumes an execution, the better first."""
    command = f"cerebelum resume {shlex.quote(execution_id)}"
    call = f"await {origin.qualname.rpartition('.')[2]}.resume({_literal(execution_id)})"
    if origin.module != "__main__" or is_script(origin.source):
        return (command,)
    if is_cell(origin.source) and origin.origin.endswith(".ipynb"):
        return (f"{command} --notebook {shlex.quote(origin.origin)}", call)
    return (call,)


def _literal(value: str | list[str]) -> str:
    """Return a text or a list of texts as Python reads it back: escaped by JSON, an emoji would be two characters."""
    return json.dumps(value, ensure_ascii=False)


def _is_sync() -> bool:
    return from_sync.get() and not in_cells()


# -- what the state says --------------------------------------------------------------------------------------


def _secrets(state: State) -> tuple[list[str], list[str]]:
    """Return the names of the inputs that are secrets, and of those that contain one."""
    masked = () if state.inputs is None else state.inputs.masked
    whole = [path for path in masked if path.isidentifier()]
    return whole, [n for path in masked if (n := re.split(r"[.\[]", path)[0]).isidentifier() and n not in whole]


def _failed_child(state: State, step: str) -> str:
    """Return the child that failed a step, or the first failed item of a foreach; "" if there is none."""
    known = state.step(step)
    if known is not None and known.items is not None:
        known = state.step(next(iter(known.items.failed), ""))
    if known is None or known.error is None:
        return ""
    error = str(known.error)
    children = (operation.child for operation in known.operations.values() if operation.child)
    return next((child for child in children if f"child {child} " in error), "")


def _asking(state: State) -> Iterator[tuple[str, Operation]]:
    for key, step in state.waiting.items():
        known = state.step(step)
        operation = None if known is None else known.operations.get(key.removesuffix(f"@{step}"))
        if operation is not None and operation.kind == "approval" and not operation.is_decided:
            yield step, operation


def _is_only_there(state: State) -> bool:
    """Whether no command can load the code."""
    return not any(way.startswith("cerebelum ") for way in ways(state, ""))


def _variable_of(state: State) -> str:
    """Return the name of a workflow in its module, if that is loaded here."""
    module = sys.modules.get(state.module)
    if module is None or not state.workflow:
        return ""
    last = state.qualname.rpartition(".")[2]
    names = [
        name
        for name, value in list(vars(module).items())
        if not name.startswith("_")
        and getattr(value, "name", None) == state.workflow
        and getattr(getattr(value, "fn", None), "__qualname__", None) == state.qualname
        and hasattr(value, "max_jumps")
    ]
    return last if last in names else next(iter(names), "")


def _is_importable(state: State) -> bool:
    """Whether another process would find the workflow in its module: one defined in a function may not be there."""
    return "<locals>" not in state.qualname or bool(_variable_of(state))
