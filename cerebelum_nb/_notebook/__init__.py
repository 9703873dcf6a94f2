"""The IPython extension: ``%load_ext cerebelum_nb`` adds ``%cerebelum`` and ``%%step``.

``%%step`` cells are rewritten before IPython looks for magics: a magic cannot await, and a step may have to.
"""

from __future__ import annotations

import ast
import linecache
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._engine.cancel import cancel_execution
from .._engine.origin import notebook_path
from .._engine.run_sync import run_sync
from .._store.connect import resolve_store
from ..errors import CerebelumError
from .cells import Cell, read_cell
from .commands import complete, run_command
from .notes import Note
from .record import Record, Skipped

__all__ = ["load", "notebook_name", "run_step", "unload"]

_HEAD = re.compile(r"%%step(?P<line>[ \t].*|)\n?\Z")


def load(shell: Any) -> None:
    """Add the magics to an IPython shell; a second call changes nothing."""
    if as_step not in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.append(as_step)
    shell.register_magic_function(_command(shell), "line", "cerebelum")
    shell.register_magic_function(_refuse_magic, "cell", "step")
    shell.set_hook("complete_command", complete, re_key=r"%?cerebelum\b.*")


def unload(shell: Any) -> None:
    """Remove the magics."""
    if as_step in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(as_step)
    shell.magics_manager.magics["line"].pop("cerebelum", None)
    shell.magics_manager.magics["cell"].pop("step", None)


def as_step(lines: list[str]) -> list[str]:
    r"""Rewrite a ``%%step`` cell into a call that is awaited.

    Example:
        >>> as_step(["%%step load\n", "rows = 3\n"])
        ["await __import__('cerebelum_nb._notebook')._notebook.run_step(' load', 'rows = 3\\n')\n"]
    """
    head = _HEAD.match(lines[0]) if lines else None
    if head is None:
        return lines
    call = f"run_step({head['line'].rstrip()!r}, {''.join(lines[1:])!r})"
    return [f"await __import__('cerebelum_nb._notebook')._notebook.{call}\n"]


async def run_step(line: str, body: str) -> Any:
    """Run a ``%%step`` cell, or use its recorded result.

    Args:
        line: the text after ``%%step``: the step's name.
        body: the rest of the cell.

    Returns:
        The value of the cell's last expression.

    Raises:
        CerebelumError: the line does not name a step, or there is no IPython.
        Otherwise whatever the cell raises.
    """
    __tracebackhide__ = True
    from IPython import get_ipython
    from IPython.display import display

    caller = sys._getframe().f_back

    shell = get_ipython()
    if shell is None:
        raise CerebelumError("%%step works only in IPython and notebooks; in a script use @step and @workflow")
    words = line.split()
    if len(words) != 1:
        raise CerebelumError(f"give %%step one name, such as %%step load, not '%%step{line}'")
    is_cell = caller is not None and caller.f_globals is shell.user_ns
    cell = _read(shell, words[0], body, caller.f_code.co_filename if caller is not None and is_cell else None)
    record = Record(notebook_name(), resolve_store(None), shell.user_ns_hidden)
    found = record.look(cell, shell.user_ns)
    if isinstance(found, Skipped):
        display(Note(cell.name, "unchanged, not run again", found.restored))  # type: ignore[no-untyped-call]  # as above
        return found.value if cell.shows else None
    if found:
        display(Note(cell.name, f"runs again: {'; '.join(found)}"))  # type: ignore[no-untyped-call]  # as above
    value = await record.run(cell, shell.user_ns)
    return value if cell.shows else None


def notebook_name() -> str:
    """Return the name under which the notebook's own run is recorded.

    It is the name given to ``%cerebelum notebook NAME``, or else the name of the notebook's file, if the front end
    provides it.
    """
    from IPython import get_ipython

    shell = get_ipython()
    chosen = getattr(shell, _CHOSEN, None)
    if isinstance(chosen, str):
        return chosen
    return Path(notebook_path()).stem or "notebook"


_CHOSEN = "_cerebelum_notebook"


def _command(shell: Any) -> Callable[[str], Any]:
    from IPython.core.magic import no_var_expand

    @no_var_expand
    def cerebelum(line: str) -> Any:
        """List, inspect and resume executions; see %cerebelum help."""
        words = _expanded(shell, line).split()
        if words[:1] == ["notebook"]:
            if len(words) > 1:
                setattr(shell, _CHOSEN, " ".join(words[1:]))
            return Note(notebook_name(), "is the name of this notebook's own run")
        if words == ["fresh"]:
            return _start_over()
        return run_command(words)

    return cerebelum


def _expanded(shell: Any, line: str) -> str:
    """Expand ``{run.execution_id}`` and ``$name`` as for any magic, but not in the JSON of a response."""
    words = line.split(maxsplit=2)
    if words[:1] != ["approve"] or len(words) < 3:
        return str(shell.var_expand(line, 1))
    return f"approve {shell.var_expand(words[1], 1)} {words[2]}"


def _start_over() -> Note:
    """End the notebook's own run, so that every step runs again."""
    store = resolve_store(None)
    found = Record(notebook_name(), store).execution_id
    if found is not None:
        run_sync(lambda: cancel_execution(store, found, reason="started over", by=None))
    return Note("this notebook", "starts over; every step will run")


def _refuse_magic(line: str, cell: str) -> None:
    """Make the cell a step of the notebook's own run, as in %%step load.

    Its assigned variables, or its last expression, are recorded; run again unchanged, it is skipped and they are
    restored.
    """
    raise CerebelumError("%%step must be the first line of a cell; another magic cannot run it")


def _read(shell: Any, name: str, body: str, file: str | None) -> Cell:
    """Read a cell, and make tracebacks show the user's text of it instead of the call that replaced it."""
    source = f"\n{shell.transform_cell(body)}"  # the first line of the cell is %%step
    if file is None:
        file = shell.compile.cache(source, shell.execution_count, raw_code=source)
    else:
        shown = f"# %%step {name}{source}"
        linecache.cache[file] = entry = (len(shown), None, shown.splitlines(keepends=True), file)
        if (cells := getattr(linecache, "_ipython_cache", None)) is not None:
            cells[file] = entry  # for a traceback, IPython before 8 refills `cache` from it

    def compiled(tree: ast.AST) -> types.CodeType:
        flags = shell.compile.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        return compile(tree, file, "exec", flags=flags)  # type: ignore[call-overload,no-any-return]  # of a tree

    return read_cell(name, source, compiled)
