"""Before anything runs, validate() lists the lines at which a step cannot continue, and what is not kept there."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

from cerebelum_nb import sleep, step, workflow

total = 0


def notes(body):
    @workflow
    def noted(wf):
        wf.timeline(body)

    first = body.fn.__code__.co_firstlineno if hasattr(body.fn, "__code__") else 0
    told = noted.validate()
    assert told.ok and not told.warnings
    return [note.replace(f"line {first + n}", f"line +{n}") for note in told.notes for n in _lines_in(note, first)]


def _lines_in(note, first):
    return [n for n in range(30, -1, -1) if f"line {first + n}:" in note] or [0]


def test_a_wait_that_has_no_place_is_named_with_the_reason():
    @step
    async def one():
        try:
            pass
        finally:
            await sleep("1d")

    (note,) = notes(one)
    assert note == (
        "step 'one', line +5: it cannot continue there: it waits in a `finally`; it continues at the wait before it"
    )


def test_a_file_that_would_be_emptied_again_is_named():
    @step
    async def one():
        with Path("report").open("w") as file:
            file.write("a")
            await sleep("1d")

    (note,) = notes(one)
    assert "opens a file for writing, which would empty it again" in note


def test_a_with_around_a_wait_is_said_to_be_entered_again():
    @step
    async def one():
        with contextlib.suppress(OSError):
            await sleep("1d")

    (note,) = notes(one)
    assert "line +2: its `with` is left, and entered again when it continues at line" in note


def test_a_global_that_is_changed_before_a_wait_is_named():
    @step
    async def one():
        global total
        total = 1
        await sleep("1d")

    (note,) = notes(one)
    assert "line +3: `total` is changed here, and another process that continues at line" in note


def test_a_step_whose_function_is_hidden_starts_at_its_top():
    def hiding(function):
        held = {"f": function}

        @functools.wraps(function)
        async def wrapper():
            return await held["f"]()

        return wrapper

    @step
    @hiding
    async def one():
        await sleep("1d")

    assert notes(one) == ["step 'one' always starts at its top: a decorator hides its function"]


def test_a_step_without_surprises_has_no_notes():
    @step
    async def one(inputs):
        for _ in range(3):
            await sleep("1d")

    assert notes(one) == []
