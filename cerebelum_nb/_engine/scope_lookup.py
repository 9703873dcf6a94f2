"""Find the scope of the step whose code is running, for operations, prints and revealed secrets.

Code finds its scope in a context variable, which is None outside an execution. If the context was lost, the step's own
thread and task still find their scope, and a step's ``context`` carries it into any thread. An operation in any other
code is refused while steps are at work, because one that silently records nothing is an effect that happens twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from .._values.redactor import Redactor
from .._values.secret import reveal_to
from ..errors import OperationError
from .scope import Scope, current_scope, scopes_at_work

__all__ = ["capture_print", "scope_here"]


def scope_here(what: str) -> Scope | None:
    """Return the scope of the step whose code calls an operation; None outside steps.

    Args:
        what: the operation, as error messages name it.

    Raises:
        OperationError: it may have been called from a step, but it is unknown which: in an unrelated thread while steps
            are at work, or in a forked process.
    """
    scope = current_scope.get()
    if scope is None:
        at_work = [running for running in scopes_at_work() if running.is_here()]
        scope = next((running for running in at_work if running.is_callers()), None)  # it has lost its context
        if scope is None and at_work and threading.current_thread() is not threading.main_thread():
            raise OperationError(
                f"{what} was called in thread '{threading.current_thread().name}', which is not connected to its step, "
                f"so it would not be recorded. Use context.run(...), which works in any thread, start the thread's "
                f"work with asyncio.to_thread(...), or pass it the step's context: "
                f"pool.submit(contextvars.copy_context().run, function)"
            )
    if scope is not None and not scope.is_here():
        raise OperationError(
            f"{what} was called in a forked process of step '{scope.step}', which cannot record it. Call it in the "
            f"step itself, and leave only the work to the process"
        )
    return scope


def capture_print(text: str, write: Callable[[str], Any]) -> str:
    """Keep a text for the step that prints it, if any; return the text to show, without secrets.

    Args:
        text: the text that is written.
        write: the stream's own write method.
    """
    scope = current_scope.get()
    if scope is None:
        return text
    scope.print(text)
    return scope.shown(text, write) if scope.execution.redactor else text


def _revealed_to() -> Iterable[Redactor]:
    """Return the redactor of the step that reveals a secret; in an unrelated thread, those of all steps at work."""
    scope = current_scope.get()
    scopes = scopes_at_work() if scope is None else (scope,)
    return {found.execution.redactor for found in scopes}


reveal_to(_revealed_to)
