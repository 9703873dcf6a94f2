"""Where the code of a workflow is: in a module, a script, a notebook's cell, or typed at a prompt."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Origin", "is_cell", "is_interactive", "is_script", "place_of"]


class Origin(Protocol):
    """Where the code of a workflow is, as the log says."""

    @property
    def module(self) -> str:
        """The module of its function."""
        ...

    @property
    def qualname(self) -> str:
        """The qualified name of its function."""
        ...

    @property
    def source(self) -> str:
        """The file of its code."""
        ...

    @property
    def origin(self) -> str:
        """The notebook or script that started it."""
        ...


def place_of(origin: Origin) -> str:
    """Return the argument of `cerebelum run` that names a workflow; "" if it was defined at a prompt."""
    name = origin.qualname.rpartition(".")[2]
    if origin.module != "__main__":
        return f"{origin.module}:{name}"
    if is_script(origin.source) or origin.source.endswith(".ipynb"):
        return f"{origin.source}:{name}"
    return f"{origin.origin}:{name}" if is_cell(origin.source) and origin.origin.endswith(".ipynb") else ""


def is_interactive(origin: Origin) -> bool:
    """Whether a workflow was defined in a notebook or at a prompt, so that no other process can import it."""
    return origin.module == "__main__" and not is_script(origin.source)


def is_script(source: str) -> bool:
    """Whether the source of code is a script."""
    return source.endswith(".py") and not source.startswith("<") and "ipykernel" not in source


def is_cell(source: str) -> bool:
    """Whether the source of code is a cell: a file of the kernel, or a name without a file in other front ends."""
    return source.startswith("<ipython") or "ipykernel" in source or source.endswith(".ipynb")
