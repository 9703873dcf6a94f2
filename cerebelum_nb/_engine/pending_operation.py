"""How a step calls an operation: with ``await``, blocking in a thread, or as a decorator around the step's body.

An operation that must be awaited is a `PendingOperation`: any other use raises, and a step that never awaits it fails.
With a plain coroutine, which is true, ``if wait_for_approval():`` would continue as if a person had approved.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from .._dsl.code import DECORATIONS, is_async
from ..errors import OperationError, StepDefinitionError
from .scope import Scope, current_scope
from .scope_lookup import scope_here
from .threads import block_on, can_start_threads, is_loop_running

__all__ = ["PendingOperation", "give_up", "offer", "unawaited", "wrap"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

# On an event loop, poll(...) and the other operations return a PendingOperation[T], whose await gives the T; in a plain
# step the same call blocks and returns the T itself. No signature can express that, as it depends on the caller. A
# union would have to be narrowed at every call, and Awaitable[T] alone would reject every plain step. A class with Any
# among its bases accepts both: await gives exactly T, and any other use of the value is accepted as for Any.
if TYPE_CHECKING:
    _OrItsValue = Any
else:
    _OrItsValue = object


class PendingOperation(Coroutine[Any, Any, T], _OrItsValue):  # type: ignore[misc]  # Any is meant
    """An operation that was called and must be awaited; any other use raises."""

    __slots__ = ("_scope", "_work", "is_given_up", "what")

    def __init__(self, what: str, work: Coroutine[Any, Any, T], scope: Scope | None) -> None:
        self.what, self._work, self._scope = what, work, scope
        self.is_given_up = False
        if scope is not None:
            if scope.unawaited is None:
                scope.unawaited = {}
            scope.unawaited[self] = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._taken().__await__()

    def send(self, value: Any) -> Any:
        """Continue the coroutine."""
        if self.is_given_up:  # the task that would have awaited it begins after its step has failed and said so
            raise asyncio.CancelledError
        return self._taken().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error inside the coroutine, as a cancelled task does."""
        return self._taken().throw(*error)

    def close(self) -> None:
        """Close the coroutine."""
        self._taken().close()

    def _taken(self) -> Coroutine[Any, Any, T]:
        if self._scope is not None:
            self._scope.unawaited.pop(self, None)  # type: ignore[union-attr]  # a dict since __init__
            self._scope = None
        return self._work

    def __repr__(self) -> str:
        return f"<{self.what}, to be awaited>"

    def _refuse(self) -> NoReturn:
        raise OperationError(
            f"{self.what} was used before it was awaited: write await {self.what}. A helper that calls it must be "
            f"async def too"
        )

    def __bool__(self) -> bool:
        if sys._getframe(1).f_globals.get("__name__") != "asyncio.base_tasks":
            self._refuse()
        return True  # the repr of a task checks its coroutine's truth, from Python 3.12 on

    @property
    def __name__(self) -> str:
        """The name that a task shows for its coroutine."""
        return self.what.removesuffix("(...)")

    def __eq__(self, other: object) -> bool:
        if self is not other:
            self._refuse()
        return True

    __hash__ = object.__hash__

    def __lt__(self, other: object) -> bool:
        self._refuse()

    __le__ = __gt__ = __ge__ = __lt__

    def __iter__(self) -> Iterator[Any]:
        self._refuse()

    def __len__(self) -> int:
        self._refuse()

    def __getitem__(self, key: object) -> Any:
        self._refuse()

    def __contains__(self, item: object) -> bool:
        self._refuse()


def unawaited(scope: Scope) -> OperationError | None:
    """Return the error for a step that called operations and never awaited them; None if there are none."""
    if not scope.unawaited:
        return None
    names = list(
        dict.fromkeys(operation.what for operation in scope.unawaited if isinstance(operation, PendingOperation))
    )
    spec = scope.execution.plan.spec(scope.step)
    if spec is not None and not spec.is_async and not can_start_threads():
        return OperationError(
            f"step '{scope.step}' of execution {scope.execution.id} called {' and '.join(names[:3])}, but cannot wait "
            f"for it: no thread can start here, so a plain step runs on the event loop. Make it async def, and write "
            f"await {names[0]}"
        )
    return OperationError(
        f"step '{scope.step}' of execution {scope.execution.id} called {' and '.join(names[:3])} without await, so it "
        f"was not done. Write await {names[0]}; a helper that calls it must be async def and awaited too"
    )


def give_up(scope: Scope) -> None:
    """Close the operations that will never be awaited."""
    for operation in list(scope.unawaited or ()):
        if isinstance(operation, PendingOperation):
            operation.close()
            operation.is_given_up = True


def offer(
    what: str, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, scope: Scope | None = None
) -> PendingOperation[T]:
    """Return an operation to be awaited; in a step's code that runs without a loop, run it and return its result.

    Args:
        what: the call, as error messages name it, such as ``"poll(...)"``.
        work: called with the scope of the step, or None outside steps, and the arguments.
        arguments: the arguments of ``work``.
        scope: the scope of the step, if the caller knows it.

    Raises:
        OperationError: it was called from a step, but it is unknown which.
    """
    if scope is None or not scope.is_here():
        scope = scope_here(what)
    if scope is None or is_loop_running():
        made = work(None, *arguments) if scope is None else scope.perform(work, arguments)
        return PendingOperation(what, made, scope)
    if current_scope.get() is scope:
        return cast(PendingOperation[T], asyncio.run(scope.perform(work, arguments)))  # the T itself; see the class
    context = contextvars.copy_context()
    context.run(current_scope.set, scope)
    return cast(PendingOperation[T], context.run(asyncio.run, scope.perform(work, arguments)))


def wrap(body: F, around: Callable[..., Any], decoration: tuple[Any, ...]) -> F:
    """Wrap a step's body in an operation, and make the operation part of the fingerprint of the step's code."""
    if not callable(body) or hasattr(body, "policy"):
        raise StepDefinitionError(f"@{decoration[0]} is above @step; put it below, between @step and the function")
    if is_async(body):

        @functools.wraps(body)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await around(*args, **kwargs)
    else:

        @functools.wraps(body)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return block_on(
                lambda: around(*args, **kwargs),
                what="a plain step",
                instead="Make the step async def",
                thread="cerebelum-block",
            )

    setattr(wrapper, DECORATIONS, (*getattr(body, DECORATIONS, ()), decoration))
    return cast(F, wrapper)
