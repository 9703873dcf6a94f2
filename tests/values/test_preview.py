"""Previews are short, the same everywhere, and exist for any value."""

import dataclasses
from collections import Counter, namedtuple
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebelum_nb._values import Redactor, Secret, preview

Pair = namedtuple("Pair", "a b")


@dataclasses.dataclass
class Job:
    rows: Any


class Angry:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Endless(list[int]):
    """A list that must not be read to its end."""

    def __len__(self) -> int:
        return 10**9

    def __iter__(self) -> Any:
        yield from range(1000)
        raise AssertionError("a preview walked the whole list")


@given(
    st.recursive(st.text() | st.binary() | st.integers(), lambda v: st.lists(v) | st.tuples(v, v)),
    st.integers(1, 300),
)
def test_it_is_never_longer_than_the_limit(value: Any, limit: int) -> None:
    assert len(preview(value, limit)) <= limit


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        ({"a": [1, (2,)]}, "{'a': [1, (2,)]}"),
        ({"b", "a"}, "{'a', 'b'}"),
        (frozenset(), "frozenset()"),
        (Pair(1, "x"), "Pair(a=1, b='x')"),
        (Counter(a=2), "Counter({'a': 2})"),
        (Job([1]), "Job(rows=[1])"),
        (b"ab", "b'ab'"),
        (Secret("abcd"), "Secret('********')"),
        (np.zeros((2, 2)), "ndarray float64 (2, 2): [0.0, 0.0, 0.0, 0.0]"),
        (pd.Series([1, 2], name="n"), "Series 'n' int64 (2): [1, 2]"),
        (
            pd.DataFrame({"a": [1], "b": ["x"]}),
            "DataFrame 1 rows x 2 columns: 'a' int64, 'b' str\n  0: 1, 'x'",
        ),
    ],
)
def test_it_reads_like_the_value(value: Any, text: str) -> None:
    assert preview(value) == text


def test_a_huge_integer_is_described() -> None:
    assert preview(10**5000) == "<int of 16,610 bits>"


def test_a_huge_list_is_not_read_to_its_end() -> None:
    assert preview(Endless()).endswith("… 999,999,988 more])")


def test_a_huge_list_inside_a_dataclass_is_not_read_to_its_end() -> None:
    assert "more" in preview(Job(Endless()))


def test_a_repr_may_raise() -> None:
    assert preview([Angry()]) == f"[<{__name__}.Angry, whose repr raised RuntimeError>]"


def test_memory_addresses_are_left_out() -> None:
    assert " at 0x" not in preview(object())


def test_a_cycle_ends() -> None:
    value: list[Any] = []
    value.append(value)
    assert preview(value)


def test_a_secret_cut_by_the_limit_is_masked_completely() -> None:
    redactor = Redactor()
    redactor.add("secret-token-of-some-length")
    assert "secret" not in preview(f"{'x' * 190}secret-token-of-some-length", redactor=redactor)


def test_values_under_redacted_names_are_masked() -> None:
    assert preview({"password": "abc"}, redactor=Redactor(["password"])) == "{'password': ********}"
