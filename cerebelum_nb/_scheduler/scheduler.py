"""``scheduler()``, and what ``cerebelum scheduler`` runs. loop.py does the work; _workflow/find.py finds the code."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Sequence

from .._engine.load_guard import stop_when_loading
from .._store.base import Store
from .._store.connect import resolve_store
from .._workflow.decorator import registered
from .._workflow.find import WorkflowFinder
from ..errors import CerebelumError
from .loop import SchedulerLoop

__all__ = ["Scheduler", "SchedulerLoop", "run_forever", "scheduler"]

Tell = Callable[[str], object]


class Scheduler:
    """A scheduler running in this kernel; see :func:`scheduler`."""

    def __init__(self, loop: SchedulerLoop) -> None:
        self._loop = loop
        self._task = asyncio.get_running_loop().create_task(loop.run())

    @property
    def running(self) -> bool:
        """Whether it still resumes executions."""
        return not self._task.done()

    async def stop(self) -> None:
        """Resume nothing more, let running steps finish, and leave the rest to other schedulers."""
        self._loop.stop()
        await asyncio.wait([self._task])
        self._task.result()

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<scheduler of {self._loop.store.location}: {state}, {self._loop.taken} taken up>"


def scheduler(
    store: Store | str | os.PathLike[str] | None = None,
    *,
    modules: Sequence[str] = (),
    notebook: str | os.PathLike[str] | None = None,
    max_deaths: int = 5,
    tell: Tell | None = None,
) -> Scheduler:
    """Wake what hibernates and start what is scheduled, in the background, until it is stopped or the kernel ends.

    It knows the workflows defined in the kernel; others are imported from the module in which they were started.

    Args:
        store: the log; by default the session's.
        modules: modules to import at once, in which to look for workflows that were started from a script.
        notebook: a notebook whose definitions to run, for workflows that were started from it.
        max_deaths: pause an execution after this many of its processes in a row died without finishing anything.
        tell: called with a line about everything that happens; by default it is logged.

    Raises:
        CerebelumError: no event loop is running here (use ``cerebelum scheduler`` in a terminal).
        WorkflowNotFoundError: a module or the notebook cannot be loaded.

    Example:
        >>> import asyncio
        >>> from cerebelum_nb.testing import MemoryStore
        >>> async def cell():
        ...     background = scheduler(MemoryStore())
        ...     await background.stop()
        ...     return background
        >>> asyncio.run(cell())
        <scheduler of :memory:: stopped, 0 taken up>
    """
    stop_when_loading()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise CerebelumError(
            "scheduler() runs in the background of an event loop, and none is running here: call it in a notebook's "
            "cell, or run `cerebelum scheduler` in a terminal"
        ) from None
    code = WorkflowFinder(registered, modules, notebook)
    return Scheduler(SchedulerLoop(resolve_store(store), code, max_deaths=max_deaths, tell=tell))


def run_forever(
    store: Store | str | os.PathLike[str] | None = None,
    *,
    modules: Sequence[str] = (),
    notebook: str | os.PathLike[str] | None = None,
    max_deaths: int = 5,
    trust_code: bool = False,
    tell: Tell | None = None,
) -> None:
    """Wake hibernated executions until SIGTERM or Ctrl-C; what the command line's ``scheduler`` does.

    The first signal lets running steps finish, and leaves the rest to other schedulers. A second one ends at once;
    another scheduler then resumes what was running, as after a crash.

    Args:
        store: as for :func:`scheduler`.
        modules: likewise.
        notebook: likewise.
        max_deaths: likewise.
        trust_code: also run the code that the log names for executions that this user did not start on this machine.
        tell: likewise.

    Raises:
        WorkflowNotFoundError: a module or the notebook cannot be loaded.
        StoreError: the log cannot be used.
    """
    stop_when_loading()
    code = WorkflowFinder(registered, modules, notebook)
    loop = SchedulerLoop(resolve_store(store), code, max_deaths=max_deaths, trust_code=trust_code, tell=tell)
    asyncio.run(_until_signalled(loop))


async def _until_signalled(work: SchedulerLoop) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    pressed = 0

    def handle() -> None:
        nonlocal pressed
        pressed += 1
        if pressed == 1:
            work.stop()
        else:
            os._exit(1)  # a running thread would keep the process alive; all that is committed stays

    can_handle = threading.current_thread() is threading.main_thread() and os.name != "nt"
    signals = (signal.SIGTERM, signal.SIGINT) if can_handle else ()  # an event loop on Windows takes no handlers
    for number in signals:
        loop.add_signal_handler(number, handle)
    try:
        await work.run()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
