"""The local variables of a step on their way to the log and back.

Variables that share an object are kept together, so that they share it afterwards. Every other variable is kept alone:
plain values as JSON, frames and arrays as Arrow, the rest as a pickle. Globals, cells and functions defined in the step
are kept by name: the process that continues the step has its own. A variable that cannot be kept is listed with the
reason: an open file would silently become a copy, two arrays that share memory would become two.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import math
import os
import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from .._dsl.constants import is_user
from .._values import arrow, pickles
from .._values.classes import Home
from .._values.preview import preview
from .._values.secret import Secret
from . import iterators
from .places import Place
from .sharing import SCALARS, containers, groups_of, is_array, memories_of, memory_of, survives_json
from .twin import Twin, code_position

__all__ = ["Frame", "Kept", "Path", "Snapshot", "secret_at", "secrets_in"]

_JSON_SCALARS = (int, float, str, bool, type(None))
_SHAREABLE = (str, bytes, int, float, type, types.BuiltinFunctionType, types.ModuleType, type(None))
"""Types of objects that two variables may share without noticing when they no longer do."""

Named = dict[int, tuple[str, str]]
"""By id of an object that is not copied: where it is (global, cell, free ...) and its name; or "refused" and why."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Variables kept together as bytes: a single one as its value, several as a dict.

    ``codec`` is ``"cloudpickle"`` or ``"arrow"``, ``shown`` their preview, ``digest`` the SHA-256 of the bytes if it is
    known.
    """

    names: tuple[str, ...]
    codec: str
    data: bytes
    shown: str = ""
    digest: str = ""


Path = list[str | int]
"""Where a secret is in the arguments: a parameter, keys and indexes; last, 1 if it was revealed, else 0."""


@dataclass(slots=True)
class Snapshot:
    """The variables that a place needs: as JSON, as bytes, and those that cannot be kept, with the reason."""

    plain: dict[str, Any] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    given: Mapping[str, bytes] = field(default_factory=dict)
    """Parameters that still are the objects of the call, and the fingerprints they had then."""
    again: tuple[str, ...] = ()
    """Parameters in ``given`` that cannot be kept, such as a connection: they come from the next call."""
    unchanged: list[str] = field(default_factory=list)
    """Parameters in ``given`` that would be kept as bytes, and were not changed in place either."""
    secrets: dict[str, Path] = field(default_factory=dict)
    """Variables that are a secret of the arguments, and where it is in them."""

    def detach(self) -> None:
        """Copy the plain variables, which the statement may change before it waits."""
        self.plain = json.loads(json.dumps(self.plain))


class Frame:
    """The running frame of a twin: its cells, and the names of objects that are not copied."""

    def __init__(self, twin: Twin, fn: types.FunctionType, home: Home) -> None:
        self.twin, self.fn, self.home = twin, fn, home
        self.cells: dict[str, types.CellType] = {}
        self.free = dict(zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True))
        self._arrows: dict[str, tuple[bytes, Kept | None]] = {}
        """By name: the fingerprint of the last snapshot's value, and what was kept of it as Arrow (None: impossible).

        Comparing fingerprints takes a fifth of the time of writing Arrow again.
        """

    def take_cells(self, holder: Any) -> None:
        """Take the frame's cells from the function that the twin made to hold them."""
        if holder is not None:
            self.cells = dict(zip(holder.__code__.co_freevars, holder.__closure__, strict=True))

    def snapshot(
        self,
        place: Place,
        variables: dict[str, Any],
        from_call: dict[str, Any],
        given: Mapping[str, bytes],
        hides: Callable[[bytes], bool] | None = None,
    ) -> Snapshot:
        """Keep the variables that a place needs.

        Args:
            place: the place of the frame.
            variables: all its locals, also the hidden ones.
            from_call: the parameters that are not kept because the next call passes them, and their present values.
            given: the parameters that still are the objects of the call, and their fingerprints then, if known.
            hides: whether bytes contain a secret.
        """
        found = Snapshot()
        refused: Named = {}
        for around in place.withs:  # the head binds its names again: one is kept only if the body has changed it
            for name, value in zip(self.twin.bound_by(around), variables.get(f".w{around.level}", ()), strict=False):
                if name in variables and variables[name] is value:
                    del variables[name]
                if type(value) not in SCALARS:
                    refused[id(value)] = ("refused", f"`with` gave it as {name}, and the `with` is entered again")
        for name, value in from_call.items():
            variables.pop(name, None)
            for inner in containers(value):
                refused[id(inner)] = ("refused", f"it is part of {name}, which is not kept")
        wanted, ranges = self.twin.hidden(place)
        rich: dict[str, Any] = {}
        for name in sorted(variables):  # two twins have their locals in different orders
            if name not in wanted if name[0] == "." else name in self.free:
                continue
            value = variables[name]
            if type(value) in _JSON_SCALARS and not (type(value) is float and not math.isfinite(value)):
                found.plain[name] = value
            elif name in ranges and type(value) is _RANGE_ITERATOR:
                found.plain[name] = _write_range(value)
            else:
                rich[name] = value
        if rich:
            self._keep(rich, refused, found, given, hides)
        return found

    def restore(self, plain_values: Mapping[str, Any], kept: Iterable[Kept]) -> dict[str, Any]:
        """Return the variables by name, as new objects."""
        values = dict(plain_values)
        for name in values:
            if name.startswith(".i") and type(values[name]) is list:
                values[name] = _read_range(values[name])
        for one in kept:
            made = arrow.loads(one.data, trusted=True) if one.codec == "arrow" else _unpickled(one.data, self)
            values.update(made if len(one.names) > 1 else {one.names[0]: made})
        return values

    def _keep(
        self,
        rich: dict[str, Any],
        refused: Named,
        found: Snapshot,
        given: Mapping[str, bytes],
        hides: Callable[[bytes], bool] | None,
    ) -> None:
        # Usually all are plain and share nothing. Then nothing is pickled (ten times the cost) and nothing is named.
        seen: set[int] = set()
        if all(survives_json(value, seen) for value in rich.values()) and not self._contains_named(seen, refused):
            found.plain.update(rich)
            return
        named = {**self._objects_by_id(), **refused}
        dumped: dict[str, tuple[Kept | None, set[int]]] = {}
        for name, value in rich.items():
            try:
                dumped[name] = self._dump(name, value, named, given.get(name, b""))
            except Exception as error:  # noqa: BLE001 - pickling runs whatever the classes define
                found.missing[name] = _reason(value, error)
        self._arrows = {name: known for name, known in self._arrows.items() if name in rich}
        if len(dumped) > 1:
            self._add_memories(rich, dumped)
        for group in groups_of({name: shared for name, (_, shared) in dumped.items()}):
            alone = group[0] if len(group) == 1 else None
            seen = set()
            if alone is not None and survives_json(rich[alone], seen) and seen.isdisjoint(named):
                found.plain[alone] = rich[alone]
                continue
            if alone is not None:
                kept = dumped[alone][0]
                if kept is None:
                    found.unchanged.append(alone)
                    continue
                if not kept.shown:
                    kept = replace(kept, shown=preview(rich[alone]))
            else:
                try:
                    data, _ = self._pickle({name: rich[name] for name in group}, named)
                except Exception as error:  # noqa: BLE001 - as above
                    found.missing.update((name, _reason(rich[name], error)) for name in group)
                    continue
                kept = Kept(tuple(group), "cloudpickle", data, preview({name: rich[name] for name in group}))
            if hides is not None and hides(kept.data):
                found.missing.update(dict.fromkeys(group, "it holds a secret"))
            else:
                found.kept.append(kept)

    def _add_memories(self, rich: dict[str, Any], dumped: dict[str, tuple[Kept | None, set[int]]]) -> None:
        """Add the memory that pandas frames use to what they share with other variables."""
        everything = set[int]().union(*(shared for _, shared in dumped.values()))
        for name, (_, shared) in dumped.items():
            memories, also_with_frames = memories_of(rich[name])
            shared |= memories if also_with_frames else memories & everything

    def _contains_named(self, ids: set[int], refused: Named) -> bool:
        """Whether one of these objects is a global, in a cell or refused, and so must not be copied."""
        if not ids.isdisjoint(refused) or not ids.isdisjoint(map(id, self.fn.__globals__.values())):
            return True
        if not ids.isdisjoint(id(value) for _, value in _module_objects(self.fn)):
            return True
        for cell in self.free.values():
            with suppress(ValueError):  # it is empty
                if id(cell.cell_contents) in ids:
                    return True
        return False

    def _dump(self, name: str, value: Any, named: Named, was: bytes) -> tuple[Kept | None, set[int]]:
        """Keep a variable alone, as a result is stored: an unchanged argument then has the same bytes.

        Args:
            name: the variable.
            value: its value.
            named: the objects that are not copied.
            was: the fingerprint of an argument when the function was called; ``b""`` if it is not known.

        Returns:
            What is kept, or None for an unchanged argument; and the ids of the objects that others might share with it.
        """
        if id(value) in named or not arrow.takes(value):
            data, shared = self._pickle(value, named)
            return Kept((name,), "cloudpickle", data), shared
        mark = pickles.fingerprint(value, self.home)
        shared = {id(value), id(memory_of(value))}
        if mark and mark == was:
            return None, shared
        known, kept = self._arrows.get(name, (b"", None))
        if not mark or mark != known:
            written, kept = arrow.dumps(value), None
            if written is not None:
                kept = Kept((name,), "arrow", written, preview(value), hashlib.sha256(written).hexdigest())
            self._arrows[name] = mark, kept
        if kept is None:
            data, shared = self._pickle(value, named)
            kept = Kept((name,), "cloudpickle", data)
        return kept, shared

    def _pickle(self, value: Any, named: Named) -> tuple[bytes, set[int]]:
        out = io.BytesIO()
        pickler = _pickler()(out)
        pickler.home, pickler.twin, pickler.named = self.home, self.twin, named
        pickler.arrays, pickler.bases = set(), {}
        pickler.has_no_cells = bool(self.twin.code.co_cellvars) and not self.cells
        pickler.dump(value)
        shared = {number for number, (_, one) in pickler.memo.copy().items() if type(one) not in _SHAREABLE}
        return out.getvalue(), shared | pickler.arrays

    def _objects_by_id(self) -> Named:
        named: Named = {}
        for name, value in self.fn.__globals__.items():
            by_reference = isinstance(value, type) and value.__qualname__ == name  # every pickle does that
            if name[:1] != "_" and type(value) not in SCALARS and not by_reference:
                named[id(value)] = ("global", name)
        for place, value in _module_objects(self.fn):
            named.setdefault(id(value), ("attribute", place))
        named[id(self.fn.__globals__)] = ("globals", "")
        for name, cell in self.free.items():
            named[id(cell)] = ("free", name)
            with suppress(ValueError):  # it is empty
                if type(cell.cell_contents) not in SCALARS:
                    named[id(cell.cell_contents)] = ("closure", name)
        for name, cell in self.cells.items():
            named[id(cell)] = ("cell", name)
        return named

    def _find(self, kind: str, name: str) -> Any:
        match kind:
            case "globals":
                return self.fn.__globals__
            case "global":
                if name not in self.fn.__globals__:
                    raise pickle.UnpicklingError(f"the global {name} is gone")
                return self.fn.__globals__[name]
            case "attribute":
                module, _, attribute = name.partition(":")
                return getattr(importlib.import_module(module), attribute)
            case "free":
                return self.free[name]
            case "closure":
                return self.free[name].cell_contents
        return self.cells[name]


# -- pickling -----------------------------------------------------------------------------------------------


# Pickles in logs name functions of this section, so their names and this module's must not change.


@lru_cache(maxsize=1)
def _pickler() -> Any:
    class Pickler(pickles.pickler()):  # type: ignore[misc]  # cloudpickle has no types
        twin: Twin
        named: Named
        arrays: set[int]
        bases: dict[int, int]
        has_no_cells: bool

        def persistent_id(self, obj: Any) -> Any:
            found = self.named.get(id(obj))
            if found is not None and found[0] == "refused":
                raise pickle.PicklingError(found[1])
            return found

        def reducer_override(self, obj: Any) -> Any:
            in_memory = type(obj) in (io.BytesIO, io.StringIO)
            if isinstance(obj, (io.IOBase, memoryview)) and not in_memory:  # cloudpickle would copy its contents
                raise pickle.PicklingError("it is open, and would become a copy")
            if is_array(obj):
                memory = memory_of(obj)
                self.arrays.add(id(memory))
                if self.bases.setdefault(id(memory), id(obj)) != id(obj):
                    raise pickle.PicklingError("two arrays share memory, and would become two")
            if isinstance(obj, BaseException) and type(obj).__reduce__ in _PLAIN_ERRORS:
                made = obj.__reduce__()
                state = (made[2] if len(made) > 2 else None, obj.__cause__, obj.__context__, obj.__suppress_context__)
                return made[0], made[1], state, None, None, _dress_error
            if type(obj) is types.FunctionType and obj.__code__.co_filename == self.twin.code.co_filename:
                known = self.twin.nested().get(code_position(obj.__code__))
                if known is not None:
                    if obj.__closure__ and self.has_no_cells:
                        raise pickle.PicklingError("it shares variables with the step")
                    cells = dict(zip(obj.__code__.co_freevars, obj.__closure__ or (), strict=True))
                    dress = (obj.__defaults__, obj.__kwdefaults__, obj.__dict__)
                    return _remake, (_FrameHere(), known[0], cells, obj.__name__), dress, None, None, _dress
            reduced = iterators.reduce_iterator(obj) or super().reducer_override(obj)
            if reduced is NotImplemented and _has_plain_state(type(obj)) and type(obj) not in self.dispatch_table:
                made = obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
                if made[2] is not None and made[2] is getattr(obj, "__dict__", None):
                    return *made[:2], made[2], *made[3:5], _give_dict
            return reduced

    return Pickler


def _has_plain_state(cls: type) -> bool:
    """Whether a class is written in Python and its instances are pickled as a plain object is."""
    own: Any = cls
    return (
        bool(cls.__flags__ & _WRITTEN_IN_PYTHON)
        and not issubclass(cls, type)
        and own.__reduce_ex__ is object.__reduce_ex__
        and own.__reduce__ is object.__reduce__
        and own.__getstate__ is object.__getstate__
        and not hasattr(cls, "__setstate__")
    )


_WRITTEN_IN_PYTHON = 1 << 9  # Py_TPFLAGS_HEAPTYPE


def _give_dict(obj: Any, state: dict[str, Any]) -> None:
    """Give an object this very dict, not its contents: another variable may hold ``vars(obj)``."""
    object.__setattr__(obj, "__dict__", state)


_OF_SYS = tuple(
    (f"sys:{name}", name)
    for name, value in vars(sys).items()
    if name[:1] != "_" and type(value) not in SCALARS and not callable(value)
)
"""The variables of ``sys``, such as its streams and `version_info`; some of them cannot be restored from a pickle."""


def _module_objects(fn: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield objects of modules that are not copied: those of ``sys``, and the variables of the user's modules."""
    yield "os:environ", os.environ
    for place, name in _OF_SYS:
        if (value := getattr(sys, name, None)) is not None:  # a process may have no streams
            yield place, value
    for one in fn.__globals__.values():
        if type(one) is types.ModuleType and _is_user(one.__name__):
            for name, value in vars(one).items():
                if name[:1] != "_" and type(value) not in SCALARS:
                    yield f"{one.__name__}:{name}", value


@lru_cache(maxsize=256)
def _is_user(module: str) -> bool:
    return is_user(module)


_PLAIN_ERRORS = (BaseException.__reduce__, OSError.__reduce__, ImportError.__reduce__)


class _FrameHere:
    """Takes the place, in a pickle, of the frame into which it is restored."""

    def __reduce__(self) -> Any:
        return _frame_here, ()


_here = threading.local()


def _frame_here() -> Frame:
    frame: Frame = _here.frame
    return frame


def _unpickled(data: bytes, frame: Frame) -> Any:
    class Unpickler(pickles.Unpickler):
        def persistent_load(self, pid: tuple[str, str]) -> Any:
            return frame._find(*pid)

    _here.frame = frame
    try:
        return Unpickler(io.BytesIO(data), frame.home).load()
    finally:
        del _here.frame


def _remake(frame: Frame, index: int, cells: dict[str, types.CellType], name: str) -> types.FunctionType:
    code = next(code for known, code in frame.twin.nested().values() if known == index)
    return types.FunctionType(code, frame.fn.__globals__, name, None, tuple(cells[n] for n in code.co_freevars))


def _dress(fn: types.FunctionType, state: Any) -> None:
    fn.__defaults__, fn.__kwdefaults__ = state[0], state[1]
    fn.__dict__.update(state[2])


def _dress_error(error: BaseException, state: Any) -> None:
    if state[0]:
        error.__dict__.update(state[0])
    error.__cause__, error.__context__, error.__suppress_context__ = state[1], state[2], state[3]


def _reason(value: Any, error: Exception) -> str:
    return f"a {type(value).__name__} cannot be kept: {error}"


# -- iterators of a range, the most frequent loops -----------------------------------------------------------

_RANGE_ITERATOR = type(iter(range(0)))


def _write_range(iterator: Any) -> list[int]:
    _, (numbers,), position = iterator.__reduce__()
    return [numbers.start, numbers.stop, numbers.step, position or 0]  # from Python 3.12 on, the range of what is left


def _read_range(written: list[int]) -> Any:
    *numbers, position = written
    iterator: Any = iter(range(*numbers))
    iterator.__setstate__(position)
    return iterator


# -- secrets, which no log holds -----------------------------------------------------------------------------


def secrets_in(value: Any, path: Path) -> Iterable[tuple[Any, Path]]:
    """Yield the texts and the secrets in arguments, each with its path."""
    if isinstance(value, str | Secret):
        yield value, path
    elif type(value) is dict or type(value) is list:
        for key, inner in value.items() if type(value) is dict else enumerate(value):
            if type(key) in (str, int):
                yield from secrets_in(inner, [*path, key])


def secret_at(arguments: Any, path: Path) -> Any:
    """Return a secret of the arguments; it may be revealed."""
    *keys, revealed = path
    found = arguments
    for key in keys:
        found = found[key]
    return found.reveal() if revealed else found
