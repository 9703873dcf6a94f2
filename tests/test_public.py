"""Public names and signatures do not change by accident: they are compared with a list.

To put an intended change into the list:

    python tests/test_public.py
"""

from __future__ import annotations

import importlib
import inspect
import re
from enum import Enum
from pathlib import Path

import cerebelum_nb
from cerebelum_nb import errors

KEPT = Path(__file__).with_name("public.txt")
MODULES = (
    "cerebelum_nb",
    "cerebelum_nb.archive",
    "cerebelum_nb.classroom",
    "cerebelum_nb.distributed",
    "cerebelum_nb.errors",
    "cerebelum_nb.history",
    "cerebelum_nb.testing",
)


def public() -> str:
    """List every public name with its signature, and the public methods of classes with theirs."""
    lines = []
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
        for name in sorted(names):
            lines += told(f"{module_name}.{name}", getattr(module, name))
    return "\n".join(lines) + "\n"


def told(name: str, thing: object) -> list[str]:
    """Return a name with its signature; for a class, also those of its public methods."""
    if inspect.ismodule(thing):
        return [f"{name}: module"]
    if not callable(thing) or getattr(thing, "__module__", "").partition(".")[0] != "cerebelum_nb":
        return [f"{name}: {type(thing).__name__}"]
    is_enum = inspect.isclass(thing) and issubclass(thing, Enum)  # Python decides how it is called
    lines = [f"{name}: {', '.join(thing.__members__)}" if is_enum else f"{name}{signature(thing)}"]  # type: ignore[attr-defined]
    if inspect.isclass(thing) and not issubclass(thing, BaseException):
        for member in sorted(dir(thing)):
            if member.startswith("_"):
                continue
            owner = next(base for base in thing.__mro__ if member in vars(base))
            if owner.__module__.partition(".")[0] != "cerebelum_nb":
                continue  # a method of str or Enum, which may differ between versions of Python
            found = inspect.getattr_static(thing, member)
            if isinstance(found, property):
                lines.append(f"{name}.{member}: property")
            elif callable(getattr(thing, member, None)):
                lines.append(f"{name}.{member}{signature(getattr(thing, member))}")
    return lines


def signature(thing: object) -> str:
    """Return the signature as it is called: names, kinds, defaults. mypy checks the types."""
    try:
        found = inspect.signature(thing)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(...)"
    plain = [parameter.replace(annotation=parameter.empty) for parameter in found.parameters.values()]
    text = str(found.replace(parameters=plain, return_annotation=found.empty))
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def test_the_public_names_are_those_of_the_list():
    kept, now = KEPT.read_text(encoding="utf-8").splitlines(), public().splitlines()
    gone, new = sorted({*kept} - {*now}), sorted({*now} - {*kept})
    assert (gone, new) == ([], []), "meant? then: python tests/test_public.py"


def test_every_error_is_in_the_tree_and_can_be_imported_from_the_package():
    found = {name for name, thing in vars(errors).items() if isinstance(thing, type) and name[0].isupper()}
    found = {name for name in found if issubclass(getattr(errors, name), errors.CerebelumError)}
    tree = set(re.findall(r"^\W*([A-Z]\w+Error)\b", (errors.__doc__ or "").partition("::")[2], re.MULTILINE))
    assert found == set(errors.__all__) == tree == found & set(cerebelum_nb.__all__)


if __name__ == "__main__":
    KEPT.write_text(public(), encoding="utf-8")
