"""A notebook's own run: an execution in which each ``%%step`` cell is a step.

The user chooses the order, so the plan of each call has only the step that runs. Between two cells the execution is
paused. cells.py describes cells; nothing is displayed here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from .._core.events import WorkflowResumed, WorkflowStarted
from .._core.fold import fold
from .._core.graph import Plan, StepSpec
from .._core.limits import OneStage
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.step_state import Phase, StepState
from .._core.value import Value
from .._dsl.constants import digest_of
from .._dsl.fingerprint import Part, explain
from .._dsl.signature import check_name
from .._engine.leases import leases_of
from .._engine.loop import engine_of
from .._engine.patience import patiently
from .._engine.plan_payloads import as_payload, parts_kept, pieces
from .._operations.context import Context
from .._store.base import Store
from .._values import Redactor, decode, encode, fingerprint_args
from .._workflow.execution_id import new_id
from .._workflow.run import Run
from ..errors import SerializationError, WorkflowError
from .cells import Cell
from .notes import Note

__all__ = ["Record", "Skipped"]


_IN_PLACE = "variables changed in place"
_SHOWN = "value of the last expression"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A cell whose recorded result was used."""

    value: Any
    restored: tuple[str, ...]


class Record:
    """The execution of one notebook in one log."""

    def __init__(self, notebook: str, store: Store, hidden: Collection[str] = ()) -> None:
        self.notebook, self.store, self.hidden = notebook, store, hidden

    @property
    def execution_id(self) -> str | None:
        """The id of the notebook's newest execution; None before its first cell, and after it was cancelled."""
        rows, _ = self.store.executions(workflow=self.notebook, limit=1, exact=False)
        if not rows or rows[0].summary.state is ExecutionState.CANCELLED:
            return None
        return rows[0].execution_id

    def state(self) -> State:
        """Return its state."""
        found = self.execution_id
        return State() if found is None else fold(self.store.events(found))

    def look(self, cell: Cell, namespace: dict[str, Any]) -> Skipped | list[str]:
        """Return a cell's recorded result, or the reasons why it must run; none if it has never run."""
        check_name(cell.name)
        state = self.state()
        step = state.steps.get(cell.name)
        if step is None:
            return []
        if step.phase is not Phase.COMPLETED or step.output is None:
            return ["it failed" if step.phase is Phase.FAILED else "it was interrupted"] if step.attempt else []
        parts = cell.parts(namespace, self.hidden, Redactor(self.store.redact))
        if step.code != _digest(parts):
            reasons = self._differences(cell, step, parts, namespace)
            if reasons:
                return reasons
        if not step.output.restorable:
            return ["its result holds a secret, which is not in the log"]
        value = self._load(cell.name, step.output)
        variables = _variables(cell, value)
        cell.restore(variables or {}, namespace)
        shown = value if variables is None else value.get(_SHOWN)
        return Skipped(shown, tuple(n for n in variables or () if n != "_"))

    async def run(self, cell: Cell, namespace: dict[str, Any]) -> Any:
        """Run a cell as a step and record its result.

        Returns:
            The value of its last expression.

        Raises:
            ExecutionStoppedError: it was stopped by hand.
            ExecutionBusyError: another kernel is running a cell of this notebook.
            Whatever the cell raises, and SerializationError when a variable cannot be stored.
        """
        __tracebackhide__ = True
        check_name(cell.name)
        shown: list[Any] = []

        async def body() -> Any:
            before, names = cell.digests(namespace), dict(namespace)
            value = await cell.run(namespace)
            shown.append(value)
            changed = {n: namespace[n] for n, digest in cell.digests(namespace).items() if before.get(n) != digest}
            changed |= cell.assigned_by_magics(names, namespace, self.hidden)
            left = {name: item for name, item in cell.left_by_blocks(namespace).items() if is_storable(item)} | changed
            if cell.assigns:
                return _avoid_error_key({**cell.result(namespace), **left})
            kept = value if is_storable(value) else None  # such as a figure, which is shown but not stored
            return {_IN_PLACE: left, _SHOWN: kept} if left else kept

        def is_storable(value: Any) -> bool:
            try:
                return execution.encode(value).restorable
            except SerializationError:
                return False

        redactor = Redactor(self.store.redact)
        parts = cell.parts(namespace, self.hidden, redactor)
        code = _digest(parts)
        spec = StepSpec(name=cell.name, fn=body, is_async=True, code=code)
        timeline = ((cell.name,),)
        plan = Plan(workflow=self.notebook, timeline=timeline, steps={cell.name: spec}, stage_of={cell.name: 0})
        if self.execution_id is not None:
            await leases_of(self.store).wait_until_seen(self.execution_id)
        run = await patiently(lambda: self._claim(plan, redactor))
        execution = run.execution
        execution.payloads = (as_payload(code, pieces(parts, redactor)),)
        execution.handle = lambda _: "run the cell again"
        try:
            await run.go_as_far_as(OneStage(completes=False), quietly=True)
        except WorkflowError as error:
            raise self._user_error(error, cell) from None
        return shown[-1]

    def _claim(self, plan: Plan, redactor: Redactor) -> Run:
        engine = engine_of(self.store)
        (name,) = plan.steps
        found = self.execution_id
        if found is None:
            with engine.create(new_id(), plan, redactor, Context) as execution:
                started = WorkflowStarted(
                    at=execution.now(), workflow=self.notebook, inputs=encode({}), total_steps=1, module="__main__"
                )
                return Run(execution, self.notebook, started)
        with engine.claim(found, plan, redactor, Context) as execution:
            state = execution.state
            step = state.steps.get(name)
            failed = step is not None and step.phase is Phase.FAILED
            resumed = WorkflowResumed(
                at=execution.now(),
                retried=(name,) if failed else (),
                revisited=(name,) if step is not None and step.phase is Phase.COMPLETED else (),
                total_steps=len({*state.steps, name}),
            )
            return Run(execution, self.notebook, resumed)

    def _user_error(self, error: WorkflowError, cell: Cell) -> BaseException:
        from IPython.display import display

        cause = error.__cause__
        if cause is None:
            return error
        if isinstance(cause, SerializationError):
            advice = (
                f"Step '{cell.name}' records the variables it assigns. Start the name of a variable that cannot be "
                f"stored with an underscore to leave it out, or create it in a cell without %%step."
            )
            cause.args = (f"{cause}\n{advice}",)
        else:  # beside the user's error: many versions of IPython do not show the notes of an exception
            display(Note(cell.name, "failed; finished steps are kept. Fix the cell and run it again"))  # type: ignore[no-untyped-call]
        return cause

    def _differences(self, cell: Cell, step: StepState, parts: list[Part], namespace: dict[str, Any]) -> list[str]:
        """Return the reasons why a cell must run again; none if only its own output differs."""
        old = parts_kept(self.store, step.code) if step.code is not None else None
        if old is None:
            return ["its code changed"]
        assert step.output is not None
        was = [Part(kind=kind, name=name, digest=digest, text=text) for kind, name, digest, text in old]  # type: ignore[arg-type]  # as written
        if step.output.restorable and (own := _variables(cell, self._load(cell.name, step.output))):
            mine = {n for n in own if _same(own[n], n, parts)}
            was, parts = ([p for p in side if not (p.kind == "variable" and p.name in mine)] for side in (was, parts))
        gone = [name for name in cell.reads if name not in namespace and any(_root(part) == name for part in was)]
        reasons = [f"`{name}` is not defined here yet: run the cell that defines it" for name in gone]
        return [*reasons, *explain([part for part in was if _root(part) not in gone], parts)]

    def _load(self, name: str, output: Value) -> Any:
        where = f"the result of step '{name}' of notebook {self.notebook}"
        return decode(output, self.store.payload, trusted=self.store.trusted, where=where)


def _variables(cell: Cell, result: Any) -> dict[str, Any] | None:
    """Return the variables in a recorded result; None if it is the value of the last expression."""
    if cell.assigns:
        return result if isinstance(result, dict) else None
    if isinstance(result, dict) and _IN_PLACE in result and set(result) <= {_IN_PLACE, _SHOWN}:
        return dict(result[_IN_PLACE])
    return None


def _same(value: Any, name: str, parts: Iterable[Part]) -> bool:
    digest = digest_of(fingerprint_args((value,), {}))
    return any(part.kind == "variable" and part.name == name and part.digest == digest for part in parts)


def _root(part: Part) -> str:
    """Return the name in the cell through which a part is reached."""
    return "" if part.kind == "code" else part.name.partition(".")[0].partition("[")[0].partition("(")[0]


def _digest(parts: Iterable[Part]) -> str:
    lines = sorted(f"{part.kind}\0{part.name}\0{part.digest}" for part in parts)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _avoid_error_key(variables: dict[str, Any]) -> dict[str, Any]:
    """Add a key to a dict whose only key is "error": returned by a step, it would be a failure."""
    return {**variables, "_": None} if set(variables) == {"error"} else variables
