"""What `encode` writes is what `decode` gives back, of the same types."""

import dataclasses
import datetime as dt
import enum
import json
import math
import subprocess
import sys
import threading
from collections import OrderedDict
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebelum_nb.core.model import Value
from cerebelum_nb.errors import SerializationError, UntrustedValueError
from cerebelum_nb.values import decode, encode


class Colour(enum.IntEnum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    label: str
    inner: Any = None


class Broken:
    def __reduce__(self) -> Any:
        return _explode, ()


def _explode() -> None:
    raise RuntimeError("its class moved")


def _nothing_stored(digest: str) -> bytes:
    raise AssertionError(f"a JSON value needs no payload {digest}")


def around(value: Any) -> Any:
    encoded = encode(value)
    return decode(encoded, lambda digest: {encoded.digest: encoded.payload}[digest] or b"")


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Point):
        return same(vars(one), vars(other))
    return bool(one == other)


zones = st.sampled_from([dt.UTC, ZoneInfo("Europe/Paris"), ZoneInfo("Asia/Kolkata")])
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
leaves = (
    plain
    | st.floats()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=zones)
    | st.text(st.characters())
    | st.frozensets(st.integers() | st.text())
    | st.builds(np.float64, st.floats(allow_nan=False))
    | st.just(Colour.RED)
)
json_values = st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=15)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.tuples(inner, inner)
        | st.builds(Point, st.integers(), st.text(), inner)
    ),
    max_leaves=12,
)


@given(values)
def test_any_value_comes_back_equal_and_of_the_same_types(value: Any) -> None:
    assert same(value, around(value))


@given(json_values)
def test_plain_data_is_json(value: Any) -> None:
    encoded = encode(value)
    assert encoded.codec == "json"
    assert same(value, decode(encoded, _nothing_stored))


@given(values)
def test_json_text_is_valid_utf8(value: Any) -> None:
    encode(value).json.encode()


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1: "a"},
        {"a": (1,)},
        math.nan,
        [math.inf],
        Colour.RED,
        np.float64(1.5),
        OrderedDict(a=1),
        b"bytes",
        {1, 2},
        Decimal("1.10"),
        "\ud83d\ude00",
    ],
)
def test_what_json_would_change_is_pickled(value: Any) -> None:
    assert encode(value).codec == "cloudpickle"
    assert same(value, around(value))


def test_an_integer_with_too_many_digits_for_json_is_pickled() -> None:
    assert around(10**5000) == 10**5000


def test_a_lone_surrogate_is_json_of_ascii() -> None:
    assert encode("a\ud800é").json == '"a\\ud800\\u00e9"'


def test_a_frame_comes_back_with_its_dtypes() -> None:
    frame = pd.DataFrame(
        {
            "when": pd.date_range("2024-01-01", periods=3, tz="Europe/Paris"),
            "kind": pd.Categorical(["a", "b", "a"], categories=["b", "a"], ordered=True),
            "n": pd.array([1, None, 3], dtype="Int64"),
        },
        index=pd.Index([3, 1, 2], name="id"),
    )
    pd.testing.assert_frame_equal(around(frame), frame)


def test_an_array_comes_back_with_its_dtype_and_shape() -> None:
    array = np.arange(6, dtype="int16").reshape(2, 3)
    back = around(array)
    assert back.dtype == array.dtype and (back == array).all()


def test_a_local_function_comes_back_with_its_closure() -> None:
    step = 3
    assert around({"f": lambda n: n + step})["f"](4) == 7


def test_a_cycle_is_pickled() -> None:
    value: list[Any] = [1]
    value.append(value)
    back = around(value)
    assert back[1] is back


def test_a_nested_list_too_deep_for_json_tools_is_pickled() -> None:
    value: list[Any] = []
    for _ in range(250):
        value = [value]
    assert encode(value).codec == "cloudpickle"


def test_each_decoding_gives_a_fresh_value() -> None:
    encoded = encode({"rows": [1]})
    decode(encoded, _nothing_stored)["rows"].append(2)
    assert decode(encoded, _nothing_stored) == {"rows": [1]}


def test_a_pickled_value_names_its_type_size_and_content() -> None:
    encoded = encode(Point(1, "a"))
    assert encoded.payload is not None
    assert (encoded.type, encoded.size) == (f"{__name__}.Point", len(encoded.payload))
    assert encoded.preview == "Point(x=1, label='a', inner=None)"


def test_what_is_not_kept_has_a_type_and_a_preview_only() -> None:
    encoded = encode([1, 2], keep=False)
    assert encoded == Value("none", type="builtins.list", preview="[1, 2]")


def test_what_is_not_kept_need_not_be_storable() -> None:
    assert encode(threading.Lock(), keep=False).codec == "none"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), "output"),
        ({"conn": [threading.Lock()]}, "output['conn'][0]"),
        ({"p": (1, Point(1, "a", threading.Lock()))}, "output['p'][1].inner"),
        ([{"a": {2: (i for i in ())}}], "output[0]['a'][2]"),
    ],
    ids=["itself", "in a list", "in a dataclass", "a generator"],
)
def test_what_cannot_be_stored_is_named_by_its_path(value: Any, path: str) -> None:
    with pytest.raises(SerializationError) as caught:
        encode(value)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path} is a ")
    assert "@step(keep=False)" in str(caught.value)


def test_a_closure_that_cannot_be_stored_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(SerializationError) as caught:
        encode([lambda: lock])
    assert caught.value.path == "output[0].closure['lock']"


def test_the_root_of_the_path_is_what_the_caller_says() -> None:
    with pytest.raises(SerializationError) as caught:
        encode({"lock": threading.Lock()}, path="inputs")
    assert caught.value.path == "inputs['lock']"


def test_an_untrusted_log_is_not_unpickled() -> None:
    encoded = encode(Point(1, "a"))
    with pytest.raises(UntrustedValueError, match=r"Point\(x=1.*trusted=True"):
        decode(encoded, _nothing_stored, trusted=False, where="the output of step 'fetch'")


def test_an_untrusted_log_gives_its_json() -> None:
    assert decode(encode([1]), _nothing_stored, trusted=False) == [1]


def test_a_value_that_cannot_be_unpickled_says_what_it_was() -> None:
    encoded = encode(Broken())
    with pytest.raises(SerializationError, match=r"test_codec.Broken.*its class moved"):
        decode(encoded, lambda _: encoded.payload or b"")


def test_a_value_that_was_not_kept_says_what_to_do() -> None:
    with pytest.raises(SerializationError, match=r"keep=False.*Run the step"):
        decode(encode([1], keep=False), _nothing_stored)


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(SerializationError, match=r"'parquet'.*upgrade"):
        decode(Value("parquet", digest="x"), _nothing_stored)


def test_importing_values_loads_no_heavy_library() -> None:
    code = (
        "import sys, json, cerebelum_nb.values\n"
        "print(json.dumps([m for m in ('pandas', 'numpy', 'pyarrow', 'cloudpickle') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
