"""Arguments are compared by value, the same way in every process."""

import datetime as dt
import os
import subprocess
import sys
import threading
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebelum_nb._values import Redactor, fingerprint_args

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
)


def of(*args: Any, **kwargs: Any) -> str:
    return fingerprint_args(args, kwargs)


@given(values, values)
def test_equal_arguments_have_equal_digests_and_others_have_different_ones(one: Any, other: Any) -> None:
    assert (of(one) == of(other)) == (repr(one) == repr(other))


def test_it_is_sixteen_hex_digits() -> None:
    assert len(of(1)) == 16 and int(of(1), 16) >= 0


def test_the_order_of_keywords_does_not_count() -> None:
    assert of(a=1, b={1}) == of(b={1}, a=1)


def test_positional_and_keyword_arguments_differ() -> None:
    assert of(1) != of(a=1)


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), ("1", 1), ([1], (1,)), ({1}, [1])])
def test_types_count(one: Any, other: Any) -> None:
    assert of(one) != of(other)


def test_functions_count_by_code() -> None:
    assert len({of(lambda x: x), of(lambda x: x + 1), of(lambda x: x + 2)}) == 3


def test_what_a_function_closes_over_counts() -> None:
    def reading(n: int) -> Any:
        return lambda: n

    assert of(reading(1)) == of(reading(1)) != of(reading(2))


def test_partials_count_by_what_they_bind() -> None:
    assert of(partial(int, base=2)) != of(partial(int, base=3))


def test_live_objects_count_by_class() -> None:
    assert of(threading.Lock()) == of(threading.Lock()) != of(threading.Event())


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda n: np.arange(n), 1),
        (lambda n: pd.DataFrame({"a": [n, 2], "b": ["x", "y"]}), 1),
        (lambda n: pd.Series(pd.Categorical(["a", str(n)])), 1),
        (lambda n: dt.timedelta(n), 1),
    ],
    ids=["array", "frame", "categorical", "timedelta"],
)
def test_objects_count_by_what_they_are_made_of(make: Any, change: int) -> None:
    assert of(make(5)) == of(make(5)) != of(make(5 + change))


def test_a_cycle_has_a_digest() -> None:
    value: list[Any] = [1]
    value.append(value)
    assert of(value)


def test_a_masked_secret_does_not_reach_the_digest() -> None:
    redactor = Redactor()
    redactor.add("token-one")
    redactor.add("token-two")
    one, two = ({"t": [f"Bearer {name}"]} for name in ("token-one", "token-two"))
    assert fingerprint_args((one,), {}, redactor=redactor) == fingerprint_args((two,), {}, redactor=redactor)


@pytest.mark.process
def test_it_is_the_same_under_another_hash_seed() -> None:
    code = (
        "from cerebelum_nb._values import fingerprint_args as f; import datetime, decimal, pathlib\n"
        "def g(x, y={'a', 'b'}): return x in {'p', 'q', 'r'}\n"
        "print(f(({'a', 'b', 'c'}, g, datetime.date(2024, 1, 1), decimal.Decimal(1),"
        "pathlib.PurePath('x')), {}))"
    )
    seeds = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert seeds[0] == seeds[1]
