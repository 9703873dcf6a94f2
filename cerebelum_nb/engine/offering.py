"""How an operation meets its caller: awaited, blocking in a thread, or wrapped around a step's body."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..dsl.step import DECORATIONS
from ..errors import StepDefinitionError
from .scope import current_scope

__all__ = ["block_on", "offer", "wrap"]

T = TypeVar("T")


def block_on(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from sync code, whether or not a loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    outcome: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=target, name="cerebelum-block", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return outcome[0]


def offer(work: Coroutine[Any, Any, T]) -> Any:
    """Return an awaitable, except in a plain step's thread, where there is no loop: block there."""
    if current_scope.get() is None:
        return work
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    return work


def wrap(body: Callable[..., Any], around: Callable[..., Any], decoration: tuple[Any, ...]) -> Callable[..., Any]:
    """Put an operation around a step's body, and say so in its code's fingerprint."""
    if not callable(body) or hasattr(body, "policy"):
        raise StepDefinitionError(
            f"@{decoration[0]} stands above @step; write it below, between @step and the function"
        )
    if inspect.iscoroutinefunction(body):

        @functools.wraps(body)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await around(*args, **kwargs)
    else:

        @functools.wraps(body)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return block_on(around(*args, **kwargs))

    setattr(wrapper, DECORATIONS, (*getattr(body, DECORATIONS, ()), decoration))
    return wrapper
