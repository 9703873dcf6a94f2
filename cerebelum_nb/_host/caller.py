"""What calls the library, a notebook's cells or a script, and which frames of a traceback are the caller's.

It imports only the standard library, because `errors` uses it.
"""

from __future__ import annotations

import contextlib
import linecache
import re
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = [
    "as_shown",
    "crash_traceback",
    "in_cells",
    "is_library_frame",
    "own_frames",
    "shell",
    "show_errors_briefly",
    "shown_as",
    "user_traceback",
]

_MACHINERY = ("IPython", "ipykernel", "asyncio", "concurrent")
"""Packages whose frames are between a caller and the library, and mean nothing to the caller."""

_PACKAGE = __package__.rpartition(".")[0]

_REWRITTEN = f"__import__('{_PACKAGE}._notebook')"
"""The line into which a ``%%step`` cell is rewritten. Its author did not write it."""


def _inside(file: str) -> str:
    """Return the prefix of the names of this package's files."""
    return str(Path(file).with_name("_"))[:-1]


_HERE = _inside(str(Path(__file__).resolve().parent))  # the whole package


def shell() -> Any:
    """Return the IPython shell of this process, or None; import nothing."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def in_cells() -> bool:
    """Whether this process runs cells, which may await and can be run again, and not a script or a plain prompt."""
    return shell() is not None


def is_library_frame(filename: str) -> bool:
    """Whether a frame's file belongs to this library."""
    return filename.startswith(_HERE)


_DUMPED = re.compile(r'  File "(.+)", line (\d+) in (.+)')


def crash_traceback(dump: str) -> str:
    r"""Rewrite faulthandler's report of a crash as a traceback of the user's frames, the last call last.

    Threads of this library are left out. The main thread runs the step, and its stack begins in the text of a command.

    Example:
        >>> print(crash_traceback('Fatal Python error: Aborted\n\nCurrent thread 0x1 (most recent call first):\n'
        ...     '  File "b.py", line 2 in inner\n  File "a.py", line 1 in outer'))
        Traceback (most recent call last):
          File "a.py", line 1, in outer
          File "b.py", line 2, in inner
        Fatal Python error: Aborted
    """
    report = dump.partition("\n")[0].strip()
    for stack in dump.split("\n\n")[1:]:
        found = [*reversed(_DUMPED.findall(stack))]
        files = {file for file, _, _ in found}
        if "<string>" not in files and any(map(is_library_frame, files)):
            continue
        frames = [
            f'  File "{as_shown(file)}", line {line}, in {name}'
            for file, line, name in found
            if file != "<string>" and not is_library_frame(file)
        ]
        if frames:
            report = "\n".join(["Traceback (most recent call last):", *frames, report])
    return report


def user_traceback(error: BaseException) -> str:
    r"""Format an exception and its causes without the frames of this library.

    Example:
        >>> user_traceback(ValueError("no room"))
        'ValueError: no room\n'
    """
    try:
        return _format_user_traceback(error)
    except BaseException:  # noqa: BLE001 - a user's __str__ may raise, a SyntaxError may hold anything as its text
        return _format_frames(error)


def _format_frames(error: BaseException) -> str:
    """Format only the user's frames and the class of an exception whose text cannot be had."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not is_library_frame(f.filename)]
    for frame in frames:
        frame.filename = as_shown(frame.filename)
    head = ["Traceback (most recent call last):\n"] if frames else []
    return "".join([*head, *traceback.StackSummary.from_list(frames).format(), f"{type(error).__name__}\n"])


def _format_user_traceback(error: BaseException) -> str:
    summary = traceback.TracebackException.from_exception(error)
    seen: set[int] = set()
    todo = [summary]
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        part.stack = traceback.StackSummary.from_list([f for f in part.stack if not is_library_frame(f.filename)])
        for frame in part.stack:
            frame.filename = as_shown(frame.filename)
        todo.extend(p for p in (part.__cause__, part.__context__) if p is not None)
        todo.extend(getattr(part, "exceptions", None) or ())
    return "".join(summary.format())


def own_frames(error: BaseException) -> list[str]:
    """Format the caller's frames of an error as lines, without those of the library and of IPython."""
    found = traceback.extract_tb(_without_machinery(error.__traceback__))
    own = traceback.StackSummary.from_list([frame for frame in found if _REWRITTEN not in (frame.line or "")])
    for frame in own:
        frame.filename = as_shown(frame.filename)
    lines = "".join(own.format()).splitlines()
    return ["Traceback (most recent call last):", *lines] if lines else []


def _without_machinery(trace: TracebackType | None) -> TracebackType | None:
    """Copy a traceback without the frames of the library, of IPython, of asyncio, and of `with` in the library."""
    modules = (sys.modules.get(name) for name in _MACHINERY)
    places = tuple(_inside(module.__file__) for module in modules if module and module.__file__)
    places += (contextlib.__file__,)
    parts = []
    while trace is not None:
        parts.append(trace)
        trace = trace.tb_next
    copy: TracebackType | None = None
    for part in reversed(parts):
        name = part.tb_frame.f_code.co_filename
        if not is_library_frame(name) and not name.startswith((*places, "<frozen")):
            copy = TracebackType(copy, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return copy


shown_as: dict[str, str] = {}
"""The names of another process's cells by file, in a process that runs one of their steps."""


def as_shown(filename: str) -> str:
    """Name a cell as its prompt does, ``Cell In[3]``: the name of its file means nothing and goes with the kernel."""
    found = shell()
    if found is None:
        return shown_as.get(filename, filename)
    name = getattr(found.compile, "format_code_name", lambda _: None)(filename)
    if name is not None:
        return " ".join(name)
    number = _cell_number(found, filename)
    return filename if number is None else f"Cell In[{number}]"


def _cell_number(ipython: Any, filename: str) -> int | None:
    """Return the number of the newest cell compiled under this name, for IPython before 8, which keeps no list."""
    if filename not in getattr(linecache, "_ipython_cache", ()):
        return None
    history, name = ipython.history_manager, ipython.compile.get_code_name
    cells: list[tuple[int, tuple[str, str]]] = list(
        enumerate(zip(history.input_hist_raw, history.input_hist_parsed, strict=False))
    )[1:]
    for number, (raw, code) in reversed(cells):
        # The history drops a final newline, but the name is a hash of the text with it.
        if filename in (name(raw, f"{code}\n", number), name(f"{raw}\n", f"{code}\n", number)):
            return number
    return None


# -- a script that ends by an error -------------------------------------------------------------------------


def show_errors_briefly() -> None:
    """Make this script show only its own frames when an error of this library ends it.

    A stop, which is a KeyboardInterrupt caused by an error of this library, shows only its message. Everything else
    goes to the hook that was set before.
    """
    if not in_cells() and not getattr(sys.excepthook, "brief", False):
        sys.excepthook = _Brief(sys.excepthook)


class _Brief:
    """An excepthook that calls the one it replaced."""

    brief = True

    def __init__(self, other: Any) -> None:
        self._other = other

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt) and _is_ours(error.__cause__):
            sys.stderr.write(f"\n{error}\n")
            return
        if _is_ours(error):
            trace = error.__traceback__ = _without_machinery(trace)
            error.__suppress_context__ = True  # the context is the library's business; a cause is still shown
        self._other(kind, error, trace)


def _is_ours(error: BaseException | None) -> bool:
    return any(cls.__module__ == f"{_PACKAGE}.errors" for cls in type(error).__mro__)
