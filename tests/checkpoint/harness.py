"""Runs a step's function, interrupts it at chosen waits, and restores it from what would be in the log."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import itertools
import json
import linecache
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cerebelum_nb._checkpoint.cursor import Cursor, twin_of
from cerebelum_nb._checkpoint.places import Place
from cerebelum_nb._checkpoint.twin import Twin
from cerebelum_nb._checkpoint.variables import Snapshot

_files = itertools.count()
MOST_WAITS = 1000
"""Of one label; a random program that waits more often is not compared."""


class Left(BaseException):
    """Raised in a wait where the attempt is left, as by hibernation."""


class Tripped(BaseException):
    """Raised in a statement that fails and is then entered again, as after a fix."""


@dataclass
class Run:
    """The outcome of one run of a program, and its effects in order. ``fell_back`` says why it started at its top."""

    ended: tuple[str, ...] = ()
    effects: list[Any] = field(default_factory=list)
    left: int = 0
    fell_back: str = ""

    def same_as(self, other: Run) -> bool:
        return (self.ended, self.effects) == (other.ended, other.effects)


class Waits:
    """The operation of the programs: it happens once, is identified by its label and occurrence, and may be left."""

    def __init__(self, leaves: Callable[[str], bool]) -> None:
        self._leaves = leaves
        self.leaves_at_lines = False
        self.cursor: Cursor | None = None
        self.counts: Counter[str] = Counter()
        self.done: set[str] = set()
        self.at: tuple[Place, Snapshot] | None = None
        self.at_counts: dict[str, int] = {}
        self.before: dict[str, int] = {}
        self.is_left = False
        self._trips: Callable[[], bool] = lambda: False

    def trips_when(self, trips: Callable[[], bool]) -> Waits:
        self._trips = trips
        return self

    def trip(self) -> int:
        if self._trips():
            raise Tripped
        return 7

    def check(self) -> None:
        """Note that a statement begins, in a twin that records every statement."""

    def line_begins(self, place: Place, found: Snapshot | None) -> Any:
        self.before, self.cursor.fresh = dict(self.counts), False  # type: ignore[union-attr]
        name = f"line {place.number}"
        if found is not None and self.leaves_at_lines and name not in self.done and self._leaves(name):
            self.done.add(name)
            self.at, self.at_counts, self.is_left = (place, found), self.before, True
            raise Left
        self.done.discard(name)  # left once, and gone on from there; in the next round of a loop it may be left again
        return nothing() if self.cursor.twin.statements.is_async else None  # type: ignore[union-attr]

    async def nap(self, label: str = "x") -> str:
        return self.nap_now(label)

    def nap_now(self, label: str = "x") -> str:
        cursor = self.cursor
        if cursor is not None and cursor.fresh:
            self.before, cursor.fresh = dict(self.counts), False
        name = f"{label}{self.counts[label]}"
        self.counts[label] += 1
        if self.counts[label] > MOST_WAITS:
            raise RecursionError(f"{label} is waited for again and again: a loop over a list that grows has no end")
        if name in self.done:
            return name
        self.done.add(name)
        if cursor is not None and self._leaves(name):
            self.at, self.at_counts, self.is_left = cursor.current_place(), self.before, True
            raise Left
        return name


async def nothing() -> None:
    """Continue at once."""


class Managed:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __enter__(self) -> Any:
        return self.value

    def __exit__(self, *_: object) -> bool:
        return False

    async def __aenter__(self) -> Any:
        return self.value

    async def __aexit__(self, *_: object) -> bool:
        return False


class Point:
    def __init__(self, n: int) -> None:
        self.n = n

    def __repr__(self) -> str:
        return f"Point({self.n})"


async def count_up(n: int) -> Any:
    for i in range(n):
        yield i


def load(source: str, waits: Waits, effects: list[Any], files: contextlib.ExitStack) -> tuple[Any, dict[str, Any]]:
    """Define a program, a function ``make()`` that returns the step, as a cell; ``files`` closes what it opens."""
    name = f"<program {next(_files)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    is_async = "async def step" in source

    async def helper(items: list[Any]) -> int:
        if len(items) < 9:
            items.append(1)
        await waits.nap("h")
        if len(items) < 9:
            items.append(2)
        await waits.nap("h")
        return len(items)

    def plain_helper(items: list[Any]) -> int:
        items.append(1)
        return len(items)

    space: dict[str, Any] = {
        "nap": waits.nap if is_async else waits.nap_now,
        "helper": helper if is_async else plain_helper,
        "count_up": count_up,
        "trip": waits.trip,
        "Managed": Managed,
        "Point": Point,
        "effects": effects,
        "open": lambda *how: files.enter_context(open(*how)),  # noqa: PTH123, SIM115 - closed by the stack
        "G": 0,
        "__name__": "__main__",
        "contextlib": contextlib,
    }
    exec(compile(source, name, "exec"), space)
    return space["make"](), space


def is_nap(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "nap"


def uninterrupted(source: str) -> Run:
    """Run a program from its top to its end."""
    run = Run()
    with contextlib.ExitStack() as files:
        fn, space = load(source, Waits(lambda _: False), run.effects, files)
        run.ended = (*_outcome(fn), str(space["G"]))
    return run


def interrupted(
    source: str, leaves: Callable[[str], bool], trips: Callable[[], bool] = lambda: False, *, lines: bool = False
) -> Run:
    """Run a program, leave it at the chosen waits, and enter it again each time from what would be in the log.

    ``trips`` chooses where it fails; it is then entered again at the statement that raised. With ``lines`` it may be
    left at every statement.
    """
    run, waits = Run(), Waits(leaves).trips_when(trips)
    with contextlib.ExitStack() as files:
        fn, space = load(source, waits, run.effects, files)
        twin = twin_of(fn, is_nap, lines=lines)
        assert not isinstance(twin, str), twin
        waits.leaves_at_lines = lines
        while _is_left_again(run, waits, twin, fn, space):
            pass
    return run


def _is_left_again(run: Run, waits: Waits, twin: Twin, fn: Any, space: dict[str, Any]) -> bool:
    place: Place | None = None
    cursor = waits.cursor = Cursor(twin, fn, lambda: waits.is_left, lines=waits)
    waits.is_left = False
    if waits.at is not None:
        place, variables = waits.at
        assert twin.find(place.digest) is place
        cursor.restore(json.loads(json.dumps(variables.plain)), variables.kept)
        waits.counts = Counter(waits.at_counts)
    try:
        run.ended = (*_outcome(cursor.function(place)), str(space["G"]))
    except Left:
        run.left += 1
        run.fell_back = "" if waits.at is not None else "no place"
        return waits.at is not None
    except Tripped as failed:
        run.left += 1
        if waits.cursor.number is None and sum(waits.counts.values()):  # operations in a helper: not known of which
            run.fell_back = "operations"
            return False
        waits.at, waits.at_counts = cursor.raised_in(failed.__traceback__), dict(waits.counts)
        if waits.at is not None and waits.at[0].number == cursor.number:
            waits.at_counts = dict(waits.before)
        run.fell_back = "" if waits.at is not None else "no place"
        return waits.at is not None
    finally:
        cursor.forget()
    return False


def _outcome(fn: Any) -> tuple[str, ...]:
    try:
        result = fn([1, [2], 3], z=4)
        return "returned", repr(asyncio.run(result) if asyncio.iscoroutine(result) else result)
    except (Left, Tripped):
        raise
    except RecursionError:  # a program may print a list that holds itself, or have no end
        return ("raised", "RecursionError")
    except Exception as error:
        return "raised", type(error).__name__, str(error)


def indented(body: str, levels: int = 2) -> Iterator[str]:
    for line in body.strip("\n").splitlines():
        yield "    " * levels + line


def program(body: str, before: str = "") -> str:
    """Write a program with this body of its step, and this code before the step."""
    head = ["def make():", *indented(before, 1), "    async def step(inputs, z=2):"]
    return "\n".join([*head, *indented(body), "    return step", ""])
