"""A step that is left at its waits and entered again does the same as an uninterrupted one, whatever its code."""

from __future__ import annotations

import os
import random
import warnings
from collections import Counter

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.errors import UnsatisfiedAssumption

from .harness import Run, interrupted, uninterrupted
from .programs import write_program

pytestmark = pytest.mark.filterwarnings("ignore")  # the programs' own, such as iterators that cannot be pickled in 3.14
_ANY = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=12)  # thousands in the soak


def _compiled(source: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(source, "program", "exec")
        except SyntaxError:  # a loop that uses a name before `global`, a return in an except*
            return False
    return True


def _check(
    source: str, chance: random.Random | None, trips: random.Random | None = None, *, lines: bool = False
) -> Run:
    assume(_compiled(source))
    whole = uninterrupted(source)
    assume(len(repr(whole)) < 20_000 and "RecursionError" not in whole.ended)
    parts = interrupted(
        source,
        lambda _: chance is None or chance.random() < 0.4,
        lambda: trips is not None and trips.random() < 0.3,
        lines=lines,
    )
    if not parts.fell_back:
        assert parts.same_as(whole), source
    return parts


def _plain(source: str) -> str:
    """Make a plain step of an async one."""
    for asynchronous, plain in (("async with", "with"), ("async def step", "def step"), ("await ", "")):
        source = source.replace(asynchronous, plain)
    return source


def _failing(chance: random.Random) -> str:
    """Write a step whose statements may raise something that nothing in it catches."""
    return write_program(chance, trips=True).replace("BaseException", "Exception")


@_ANY
@given(st.randoms(use_true_random=False))
def test_an_async_step_that_is_left_at_every_wait(chance: random.Random) -> None:
    _check(write_program(chance), None)


@_ANY
@given(st.randoms(use_true_random=False), st.integers())
def test_an_async_step_that_is_left_at_some_waits(chance: random.Random, seed: int) -> None:
    _check(write_program(chance), random.Random(seed))


@_ANY
@given(st.randoms(use_true_random=False))
def test_a_plain_step_that_is_left_at_every_wait(chance: random.Random) -> None:
    source = write_program(chance)
    assume("async for" not in source)
    _check(_plain(source), None)


@_ANY
@given(st.randoms(use_true_random=False), st.integers())
def test_a_step_that_fails_and_is_entered_at_the_statement_that_raised(chance: random.Random, seed: int) -> None:
    _check(_failing(chance), random.Random(seed), random.Random(seed + 1))


@settings(_ANY, max_examples=6)
@given(st.randoms(use_true_random=False), st.integers())
def test_a_step_that_is_left_at_its_lines(chance: random.Random, seed: int) -> None:
    _check(write_program(chance), random.Random(seed), lines=True)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_programs() -> None:
    """None of $SOAK_PROGRAMS programs from $SOAK_FIRST on differs; the default takes some minutes."""
    count, first = int(os.environ.get("SOAK_PROGRAMS", "800")), int(os.environ.get("SOAK_FIRST", "0"))
    done = Counter[str]()
    for seed in range(first, first + count):
        chance = random.Random(seed)
        source = _failing(chance) if seed % 5 == 3 else write_program(chance)
        if seed % 5 in (2, 4) and seed % 3 and "async for" not in source:
            source = _plain(source)
        try:
            trips = chance if seed % 5 == 3 else None
            run = _check(source, chance if seed % 2 else None, trips, lines=seed % 5 == 4)
        except UnsatisfiedAssumption:
            continue
        done["fell back" if run.fell_back else "same"] += 1
        done["left"] += run.left
    print(dict(done))
    assert done["same"] > count / 2 and done["left"] > count, done
