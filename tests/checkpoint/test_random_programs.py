"""A step that is left at its waits and entered again does what an uninterrupted one does, whatever its code."""

from __future__ import annotations

import random
import warnings

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

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


def _check(source: str, chance: random.Random | None) -> Run:
    assume(_compiled(source))
    whole = uninterrupted(source)
    assume(len(repr(whole)) < 20_000 and "RecursionError" not in whole.ended)
    parts = interrupted(source, lambda _: chance is None or chance.random() < 0.4)
    if not parts.fell_back:
        assert parts.same_as(whole), source
    return parts


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
    for asynchronous, plain in (("async with", "with"), ("async def step", "def step"), ("await ", "")):
        source = source.replace(asynchronous, plain)
    _check(source, None)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_thousands_of_programs() -> None:
    done: dict[str, int] = {"same": 0, "fell back": 0, "left": 0}
    for seed in range(3000):
        source = write_program(random.Random(seed))
        try:
            run = _check(source, random.Random(seed) if seed % 2 else None)
        except BaseException as error:
            if type(error).__name__ != "UnsatisfiedAssumption":
                raise
            continue
        done["fell back" if run.fell_back else "same"] += 1
        done["left"] += run.left
    assert done["same"] > 1000 and done["left"] > 2000, done
