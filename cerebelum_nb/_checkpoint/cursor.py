"""The position of a running attempt in its step's function, as reported by its twin, and the data of a checkpoint."""

from __future__ import annotations

import itertools
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from .._values.classes import Home
from .._values.secret import Secret
from .places import IsOperation, Place
from .twin import NoTwinError, Twin
from .variables import Frame, Kept, Path, Snapshot, secret_at, secrets_in

__all__ = ["CannotEnterError", "Cursor", "twin_of"]

QUIET = 3
"""How often a statement may run without reaching an operation before its variables are no longer kept beforehand."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})

_twins: dict[tuple[int, bool], tuple[weakref.ref[types.CodeType], Twin | str]] = {}


def twin_of(fn: types.FunctionType, is_operation: IsOperation, *, lines: bool = False) -> Twin | str:
    """Return the twin of a function, made once; or the reason why it has none."""
    key = id(fn.__code__), lines  # by identity: two files may hold equal code
    if key not in _twins:
        try:
            made: Twin | str = Twin(fn, is_operation, lines=lines)
        except NoTwinError as error:
            return str(error)  # not kept: its source may be registered later
        _twins[key] = (weakref.ref(fn.__code__, lambda _, twins=_twins: twins.pop(key, None)), made)  # type: ignore[misc]
    return _twins[key][1]


class CannotEnterError(BaseException):
    """Raised at the top of an entry twin whose variables cannot be restored here.

    It is a BaseException so that no decorator handles it.
    """


class Lines(Protocol):
    """The recorder of an attempt with ``checkpoint="lines"``."""

    def check(self) -> None:
        """Raise the exception that ends the attempt, if the attempt is over."""
        ...

    def line_begins(self, place: Place, found: Snapshot | None) -> Any:
        """Record that a statement begins, with its variables if it can be entered with them.

        Returns:
            An awaitable if the function is async. For a plain function the statement is recorded on return.
        """
        ...


class Cursor:
    """The position of one attempt in its function.

    Args:
        twin: the twin of the step's function.
        fn: the function.
        is_left: whether the attempt was left and will be entered again at its checkpoint, so nothing may be undone.
        home: where else to look for the classes of ``__main__``.
        hides: whether bytes contain a secret.
        lines: the recorder of statements, for a twin with ``lines``.
    """

    def __init__(
        self,
        twin: Twin,
        fn: types.FunctionType,
        is_left: Callable[[], bool],
        home: Home = (),
        hides: Callable[[bytes], bool] | None = None,
        lines: Lines | None = None,
    ) -> None:
        self.twin, self.fn, self.hides, self._lines = twin, fn, hides, lines
        self._is_left = is_left
        self._locals = Frame(twin, fn, home)
        self._frame: types.FrameType | None = None
        self._entered: Place | None = None
        self.number: int | None = None  # of the running statement; -1 where none can be entered
        self.fresh = False  # the statement has just begun and has not reached an operation
        self._early: Snapshot | None = None  # the variables when the statement began
        self._quiet: dict[int, int] = {}  # by statement: how often in a row it has run without reaching an operation
        self._arguments: Mapping[str, Any] = _NOTHING
        self._from_call: tuple[str, ...] = ()
        self._fingerprints: Mapping[str, bytes] = _NOTHING
        self._plain: Mapping[str, Any] = _NOTHING
        self._kept: tuple[Kept, ...] = ()
        self._given: tuple[str, ...] = ()
        self._secrets: Mapping[str, Path] = _NOTHING
        self.values: Mapping[str, Any] = _NOTHING
        self.iter = iter

    def function(self, place: Place | None = None) -> types.FunctionType:
        """Make the function that an attempt calls, which begins at its top or at a place."""
        self._entered = place
        code = self.twin.first() if place is None else self.twin.entry(place)
        made = types.FunctionType(
            code,
            self.fn.__globals__,
            self.fn.__name__,
            self.fn.__defaults__,
            tuple(self._locals.free[name] for name in code.co_freevars),
        )
        made.__kwdefaults__ = {**(self.fn.__kwdefaults__ or {}), ".c": self}
        return made

    def set_arguments(
        self, arguments: Mapping[str, Any], again: Iterable[str] = (), fingerprints: Mapping[str, bytes] = _NOTHING
    ) -> None:
        """Set the arguments of the call.

        Args:
            arguments: the arguments by parameter.
            again: the parameters that are not kept because every call passes them: the context, and values with
                secrets.
            fingerprints: the known fingerprints of the arguments that the log holds as Arrow.
        """
        self._arguments, self._from_call = arguments, tuple(name for name in again if name in arguments)
        self._fingerprints = fingerprints

    def restore(
        self,
        plain: dict[str, Any],
        kept: Iterable[Kept],
        given: Iterable[str] = (),
        secrets: Mapping[str, Path] = _NOTHING,
    ) -> None:
        """Set the variables with which the function is entered.

        Args:
            plain: the variables kept as JSON.
            kept: the variables kept as bytes.
            given: the parameters that take their value from the call.
            secrets: the variables that are a secret of the arguments, and where it is in them.
        """
        self._plain, self._kept, self._given, self._secrets = plain, tuple(kept), tuple(given), secrets

    def forget(self) -> None:
        """Drop the frame: it refers to the cursor, and the cursor to it."""
        self._frame = None

    # -- what the twin calls --------------------------------------------------------------------------------

    def mark(self, number: int) -> None:
        """Note that a statement begins which may wait."""
        self._begins(number, sys._getframe(1))

    def mark_impure(self, number: int) -> None:
        """Note that a statement begins which may change variables before it waits, and keep them beforehand.

        Most awaits are not operations. After `QUIET` runs without an operation the variables are no longer kept.
        """
        if self.fresh and self.number is not None:
            self._quiet[self.number] = self._quiet.get(self.number, 0) + 1
        self._begins(number, sys._getframe(1))
        if self._quiet.get(number, 0) < QUIET:
            self._early = self._take(self.twin.places[number])
            self._early.detach()

    def line(self, number: int) -> Any:
        """Record that a statement begins; an async function awaits what is returned."""
        assert self._lines is not None, "only a twin with lines calls this"
        self._lines.check()  # before recording: an attempt that is over is entered again at the previous statement
        place = self.twin.places[number]
        self._begins(number, sys._getframe(1))
        found = self._take(place)
        if place.impure:
            found.detach()
            self._early = found
        return self._lines.line_begins(place, None if self.twin.needs(place, found.missing) else found)

    @property
    def left(self) -> bool:
        """Whether the attempt was left, so that no `finally` and no `except` may run."""
        return self._is_left()

    def again(self, iterator: Any) -> Any:
        """Iterate a loop that is entered in its middle: one round with no new item, then the rest."""
        return itertools.chain((None,), iterator)

    def begin(self, cells: Any) -> dict[str, Any]:
        """Return the variables with which the function is entered."""
        self._locals.take_cells(cells)
        try:
            values = self._locals.restore(self._plain, self._kept)
            values.update((name, secret_at(self._arguments, path)) for name, path in self._secrets.items())
        except Exception as error:  # noqa: BLE001 - unpickling runs whatever the classes define
            raise CannotEnterError(f"its variables cannot be restored here: {type(error).__name__}: {error}") from None
        values.update((name, self._arguments[name]) for name in (*self._from_call, *self._given))
        self.values = values
        return values

    def raised(self, level: int) -> BaseException:
        """Return the exception that the handler at this level was handling."""
        error: BaseException = self.values[f".e{level}"]
        return error

    @property
    def instruction(self) -> int:
        """The frame's current instruction; -1 if it is not known."""
        return -1 if self._frame is None else self._frame.f_lasti

    # -- what the engine asks -------------------------------------------------------------------------------

    def current_place(self) -> tuple[Place, Snapshot] | None:
        """Return the place of the running statement and its variables; None if the function cannot be entered there.

        The mark and the frame's instruction must name the same place, and every variable that may be read from there
        on must be kept.
        """
        if self.number is None or self.number < 0 or self._frame is None:
            return None
        place = self.twin.places[self.number]
        self._quiet.pop(self.number, None)
        if place.refusal or self.twin.place_at(self._frame.f_code, self._frame.f_lasti) is not place:
            return None
        found = self._early
        if found is None:
            if place.impure:
                return None  # it may have changed variables already
            found = self._take(place)
        return None if self.twin.needs(place, found.missing) else (place, found)

    def place_at(self, instruction: int) -> Place | None:
        """Return the statement to which an instruction of the frame that raised belongs."""
        return None if self._frame is None else self.twin.place_at(self._frame.f_code, instruction)

    def raising(self, traceback: types.TracebackType | None) -> Place | None:
        """Return the statement that raised; None if it is not known."""
        codes = [self.fn.__code__, *self.twin.made()]
        while traceback is not None and not any(traceback.tb_frame.f_code is code for code in codes):
            traceback = traceback.tb_next
        if traceback is None:
            return None
        self._frame = traceback.tb_frame
        return self.twin.place_at(self._frame.f_code, traceback.tb_lasti)

    def raised_in(self, traceback: types.TracebackType | None) -> tuple[Place, Snapshot] | None:
        """Return where to enter a function that raised, and its variables; None if it can only start at its top."""
        stood = self.raising(traceback)
        if stood is None or self._frame is None:
            return None
        place = self.twin.statements.after_raise(stood)
        if place is None or place.refusal or not all(map(self._holds_iterator, place.loops)):
            return None
        if place is not stood or place.number != self.number:
            self._early = None
        found = self._early or self._take(place)
        return None if self.twin.needs(place, found.missing) else (place, found)

    def _holds_iterator(self, loop: Place) -> bool:
        """Whether the frame holds the iterator of this loop, and not one that another loop left there."""
        return self.twin.statements.holds[id(loop.node)] or (self._entered is not None and loop in self._entered.loops)

    def _begins(self, number: int, frame: types.FrameType) -> None:
        self.number, self.fresh, self._early, self._frame = number, True, None, frame

    def _take(self, place: Place) -> Snapshot:
        assert self._frame is not None
        variables = dict(self._frame.f_locals)
        if not self._locals.cells:
            self._locals.take_cells(variables.get(".k"))
        from_call = {name: variables[name] for name in self._from_call if name in variables} if self._from_call else {}
        secrets = self._secrets_of(variables) if self.hides is not None else {}
        for name in secrets:
            del variables[name]
        was = self._fingerprints
        given = {name: was.get(name, b"") for name, value in self._arguments.items() if variables.get(name) is value}
        found = self._locals.snapshot(place, variables, from_call, given, self.hides)
        found.secrets, found.given = secrets, given
        if found.missing:
            # An argument that cannot be kept comes from the next call. An iterator must not: it has been advanced.
            lost = [name for name in found.missing if name in given]
            found.again = tuple(name for name in lost if not isinstance(variables[name], Iterator))
            for name in found.again:
                del found.missing[name]
        return found

    def _secrets_of(self, variables: Mapping[str, Any]) -> dict[str, Path]:
        """Find the variables that are a secret of the arguments, which the log must not hold, and the path to it."""
        assert self.hides is not None
        found: dict[str, Path] = {}
        for name, value in variables.items():
            if not isinstance(value, Secret) and not (type(value) is str and self.hides(value.encode(errors="ignore"))):
                continue
            for known, path in secrets_in(dict(self._arguments), []):
                revealed = isinstance(known, Secret) and not isinstance(value, Secret)
                if (known.reveal() if revealed else known) == value:
                    found[name] = [*path, int(revealed)]
                    break
        return found
