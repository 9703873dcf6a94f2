"""``enable_nesting``: an explicit switch for code that must run an event loop inside the running one."""

from __future__ import annotations

from ..errors import CerebelumError

__all__ = ["enable_nesting"]


def enable_nesting() -> None:
    """Let ``asyncio.run`` and ``loop.run_until_complete`` work inside a running loop, as in a cell.

    This library does not need it: ``await w.execute()`` and ``w.run()`` work in any cell. It is for other code that
    calls ``asyncio.run``. It patches asyncio for the whole process and cannot be undone:
    nested runs end in the reverse order of their start, and a stop does not reach the inner one.

    Raises:
        CerebelumError: the running loop cannot be patched, such as uvloop's.

    Example:
        >>> enable_nesting()
    """
    import nest_asyncio2

    try:
        nest_asyncio2.apply(error_on_mispatched=True)
    except (ValueError, RuntimeError) as error:
        raise CerebelumError(
            f"this event loop cannot be nested: {error}. Run the code in a separate thread instead, "
            f"with await asyncio.to_thread(...)"
        ) from error
