"""Lesson A: your own store of events."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..evidence import Answer, Evidence
from ..language import say
from . import Exercise, Exercises, choice

__all__ = ["EXERCISES"]

_APPENDED = [["Started", {"item": "lamp"}], ["Paid", {"amount": 40}]]


def _in_a_file(use: Callable[[str], Any]) -> Any:
    with tempfile.TemporaryDirectory(prefix="cerebelum-lesson-") as folder:
        return use(str(Path(folder, "events.db")))


def _close(*stores: Any) -> None:
    for store in stores:
        if hasattr(store, "db"):
            store.db.close()


def _append_and_read(log: Evidence, make: Callable[[str], Any]) -> Any:
    """Append with a student's store, and read with another store on the same file."""

    def use(path: str) -> Any:
        first, second = make(path), make(path)
        try:
            for version, (kind, data) in enumerate(_APPENDED, 1):
                first.append("order-1", version, kind, data)
            first.append("order-2", 1, "Started", None)
            return {"one": second.read("order-1"), "other": second.read("order-2")}
        finally:
            _close(first, second)

    return _in_a_file(use)


def _stored(log: Evidence, answer: Answer) -> Iterator[str]:
    if not answer.value["one"]:
        yield say("nothing is in the table: insert the row in `append`")
    elif answer.value["one"] != _APPENDED or answer.value["other"] != [["Started", None]]:
        yield say("two events were appended to order-1 and one to order-2; read: {read}", read=answer.value)


def _append_twice(log: Evidence, make: Callable[[str], Any]) -> Any:
    """Let two of a student's stores append the same version."""

    def use(path: str) -> Any:
        first, second = make(path), make(path)
        try:
            first.append("order-1", 1, "Started", "first")
            try:
                second.append("order-1", 1, "Started", "second")
                raised = None
            except Exception as error:  # noqa: BLE001 - it is the student's, and its name is what is asked for
                raised = type(error).__name__
            return {"raised": raised, "kept": first.read("order-1")}
        finally:
            _close(first, second)

    return _in_a_file(use)


def _refused(log: Evidence, answer: Answer) -> Iterator[str]:
    if answer.value["kept"] != [["Started", "first"]]:
        yield say(
            "the event of the first writer should be there, and no other; read: {read}", read=answer.value["kept"]
        )
    elif answer.value["raised"] != "Conflict":
        yield say("the second writer got {raised}, and should get Conflict", raised=answer.value["raised"])


def _run_twice(log: Evidence, run: Callable[[list[Any], str], Any]) -> Any:
    """Run three steps with a student's engine, the second of which fails once, and run them again."""
    calls = {"reserve": 0, "charge": 0, "ship": 0}

    def reserve(results: dict[str, Any]) -> str:
        calls["reserve"] += 1
        return "lamp"

    def charge(results: dict[str, Any]) -> str:
        calls["charge"] += 1
        if calls["charge"] == 1:
            raise ConnectionError("the bank does not answer")
        return "paid"

    def ship(results: dict[str, Any]) -> str:
        calls["ship"] += 1
        return f"{results['reserve']} shipped"

    def use(path: str) -> Any:
        steps = [reserve, charge, ship]
        try:
            run(steps, path)
        except ConnectionError:
            pass
        return {"results": run(steps, path), "again": run(steps, path), "calls": calls}

    return _in_a_file(use)


def _resumed(log: Evidence, answer: Answer) -> Iterator[str]:
    results, calls = answer.value["results"], answer.value["calls"]
    if calls["reserve"] > 1 or calls["ship"] > 1 or calls["charge"] > 2:
        yield say("a step that was finished was called again; calls: {calls}", calls=calls)
    elif results != {"reserve": "lamp", "charge": "paid", "ship": "lamp shipped"} or answer.value["again"] != results:
        yield say("the results should be lamp, paid and lamp shipped; they are {results}", results=results)


_two_at_once = choice(
    "b",
    a="who would make it wait? `run` reads, calls a step, and only then appends",
    c="the store refuses to write twice, and a step is called before anything is written",
    d="exercise 2: what happens to the second one that appends a version?",
)


EXERCISES = Exercises(
    "lesson-A",
    "Your own store of events",
    (
        Exercise("append", _stored, asks="write `append`", record=_append_and_read),
        Exercise("conflict", _refused, asks="let `append` raise Conflict", record=_append_twice),
        Exercise("engine", _resumed, asks="write the fold in `run`", record=_run_twice),
        Exercise("two at once", _two_at_once, asks="click an answer, or write its letter in place of the `...`"),
    ),
)
