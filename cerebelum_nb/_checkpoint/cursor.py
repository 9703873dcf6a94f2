"""The position of a running attempt in its step's function, as reported by its twin, and the data of a checkpoint."""

from __future__ import annotations

import itertools
import sys
import types
import weakref
from collections import Counter
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
"""Times that a statement may run without reaching an operation before its variables are no longer kept beforehand."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})

_twins: dict[tuple[int, bool], tuple[weakref.ref[types.CodeType], Twin | str]] = {}


def twin_of(fn: types.FunctionType, is_operation: IsOperation, *, lines: bool = False) -> Twin | str:
    """Analyse a function once; a text says why it cannot be entered."""
    key = id(fn.__code__), lines  # by identity: equal code may stand in two files
    if key not in _twins:
        try:
            made: Twin | str = Twin(fn, is_operation, lines=lines)
        except NoTwinError as error:
            return str(error)  # not kept: its source may be registered later
        _twins[key] = (weakref.ref(fn.__code__, lambda _, twins=_twins: twins.pop(key, None)), made)  # type: ignore[misc]
    return _twins[key][1]


class CannotEnterError(BaseException):
    """Raised at the top of an entry twin: its variables cannot be restored here. Decorators must not handle it."""


class Lines(Protocol):
    """What records the statements of an attempt one by one."""

    def check(self) -> None:
        """Raise what ends an attempt that is over."""
        ...

    def line_begins(self, place: Place, found: Snapshot | None) -> Any:
        """Record a statement that begins, with its variables if it can be entered with them.

        Returns:
            For an async function an awaitable; a plain one continues when it is recorded.
        """
        ...


class Cursor:
    """One attempt in its function.

    Args:
        twin: of the step's function.
        fn: the function itself.
        is_left: whether the attempt was left, and will be entered again at its checkpoint; then nothing is undone.
        home: where the classes of ``__main__`` may be found besides.
        hides: whether bytes contain a secret.
        lines: what records a statement before it runs; of a twin with ``lines``.
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
        self._about = Frame(twin, fn, home)
        self._frame: types.FrameType | None = None
        self._entered: Place | None = None
        self.number: int | None = None  # of the statement that runs; -1 where none can be entered
        self.fresh = False  # it has just begun: no operation of it was named yet
        self._early: Snapshot | None = None  # the variables when it began
        self._quiet: Counter[int] = Counter()
        self._arguments: Mapping[str, Any] = {}
        self._from_call: tuple[str, ...] = ()
        self._fingerprints: Mapping[str, bytes] = _NOTHING
        self._plain: dict[str, Any] = {}
        self._kept: tuple[Kept, ...] = ()
        self._given: tuple[str, ...] = ()
        self._secrets: Mapping[str, Path] = _NOTHING
        self.values: dict[str, Any] = {}
        self.iter = iter

    def function(self, place: Place | None = None) -> types.FunctionType:
        """Make the function that an attempt calls: from its top, or from a place on."""
        self._entered = place
        code = self.twin.first() if place is None else self.twin.entry(place)
        made = types.FunctionType(
            code,
            self.fn.__globals__,
            self.fn.__name__,
            self.fn.__defaults__,
            tuple(self._about.free[name] for name in code.co_freevars),
        )
        made.__kwdefaults__ = {**(self.fn.__kwdefaults__ or {}), ".c": self}
        return made

    def called_with(
        self, arguments: Mapping[str, Any], again: Iterable[str] = (), fingerprints: Mapping[str, bytes] = _NOTHING
    ) -> None:
        """Hear what it is called with.

        Args:
            arguments: by parameter.
            again: parameters that are not kept, as every call gives them again: the context, and what holds secrets.
            fingerprints: of arguments that the log holds as Arrow, as far as they are known.
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
        """Hear which variables the function is entered with.

        Args:
            plain: those that are JSON.
            kept: those that are bytes.
            given: parameters that its call gives again.
            secrets: those that are a secret of its arguments, and where it stands there.
        """
        self._plain, self._kept, self._given, self._secrets = plain, tuple(kept), tuple(given), secrets

    def forget(self) -> None:
        """Let go of the frame: it holds the cursor, and the cursor holds it."""
        self._frame = None

    # -- what the twin calls --------------------------------------------------------------------------------

    def mark(self, number: int) -> None:
        """Hear that a statement begins which may wait."""
        self._begins(number, sys._getframe(1))

    def mark_impure(self, number: int) -> None:
        """Hear that such a statement begins, which may change variables before it waits: they are kept beforehand.

        Most awaits are not operations: the variables of a statement that never reaches one are no longer kept.
        """
        if self.fresh and self.number is not None:
            self._quiet[self.number] += 1
        self._begins(number, sys._getframe(1))
        if self._quiet[number] < QUIET:
            self._early = self._take(self.twin.places[number])
            self._early.detach()

    def line(self, number: int) -> Any:
        """Hear that a statement begins, and have it recorded; an async function awaits what is returned."""
        assert self._lines is not None, "its twin has none"
        self._lines.check()  # if the attempt is over, it is entered again at the statement before
        place = self.twin.places[number]
        self._begins(number, sys._getframe(1))
        found = self._take(place)
        if place.impure:
            found.detach()
            self._early = found
        return self._lines.line_begins(place, None if self.twin.needs(place, found.missing) else found)

    @property
    def left(self) -> bool:
        """Whether the attempt is only left, so that no `finally` and no `except` runs."""
        return self._is_left()

    def again(self, iterator: Any) -> Any:
        """Give the round of a loop that is entered in its middle, and then the rest."""
        return itertools.chain((None,), iterator)

    def begin(self, cells: Any) -> dict[str, Any]:
        """Return the variables of the place that is entered."""
        self._about.take_cells(cells)
        try:
            self.values = self._about.restore(self._plain, self._kept)
            self.values.update((name, secret_at(self._arguments, path)) for name, path in self._secrets.items())
        except Exception as error:  # noqa: BLE001 - unpickling runs whatever the classes define
            raise CannotEnterError(f"its variables cannot be restored here: {type(error).__name__}: {error}") from None
        self.values.update((name, self._arguments[name]) for name in (*self._from_call, *self._given))
        return self.values

    def raised(self, level: int) -> BaseException:
        """Return the exception of a handler that is entered."""
        error: BaseException = self.values[f".e{level}"]
        return error

    @property
    def instruction(self) -> int:
        """The instruction at which the frame stands; -1 where it is not known."""
        return -1 if self._frame is None else self._frame.f_lasti

    # -- what the engine asks -------------------------------------------------------------------------------

    def standing(self) -> tuple[Place, Snapshot] | None:
        """Return the place of the running statement and its variables; None when it cannot be entered there.

        Both witnesses must name the same place, and everything that is read from there on must be kept.
        """
        if self.number is None or self.number < 0 or self._frame is None:
            return None
        place = self.twin.places[self.number]
        self._quiet[self.number] = 0
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
        """Return the statement that raised; None when that is not known."""
        codes = [self.fn.__code__, *self.twin.made()]
        while traceback is not None and not any(traceback.tb_frame.f_code is code for code in codes):
            traceback = traceback.tb_next
        if traceback is None:
            return None
        self._frame = traceback.tb_frame
        return self.twin.place_at(self._frame.f_code, traceback.tb_lasti)

    def raised_in(self, traceback: types.TracebackType | None) -> tuple[Place, Snapshot] | None:
        """Return where to enter a function that raised, and its variables; None when only its top will do."""
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
        """Whether the frame holds the iterator of a loop: of one in which nothing waits it may be another loop's."""
        return self.twin.statements.holds[id(loop.node)] or (self._entered is not None and loop in self._entered.loops)

    def _begins(self, number: int, frame: types.FrameType) -> None:
        self.number, self.fresh, self._early, self._frame = number, True, None, frame

    def _take(self, place: Place) -> Snapshot:
        assert self._frame is not None
        variables = dict(self._frame.f_locals)
        if not self._about.cells:
            self._about.take_cells(variables.get(".k"))
        from_call = {name: variables[name] for name in self._from_call if name in variables} if self._from_call else {}
        secrets = self._secrets_of(variables) if self.hides is not None else {}
        for name in secrets:
            del variables[name]
        was = self._fingerprints
        given = {name: was.get(name, b"") for name, value in self._arguments.items() if variables.get(name) is value}
        found = self._about.snapshot(place, variables, from_call, given, self.hides)
        found.secrets, found.given = secrets, given
        if found.missing:
            # An iterator is somewhere in its course; another object that cannot be kept is given again as it was.
            lost = [name for name in found.missing if name in given]
            found.again = tuple(name for name in lost if not isinstance(variables[name], Iterator))
            for name in found.again:
                del found.missing[name]
        return found

    def _secrets_of(self, variables: Mapping[str, Any]) -> dict[str, Path]:
        """The variables that are a secret of the arguments, with the way to it: the log must not hold them."""
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
