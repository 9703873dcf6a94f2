"""`decode` returns what `encode` was given, of the same types."""

import dataclasses
import datetime as dt
import enum
import json
import math
import subprocess
import sys
import threading
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebelum_nb import ExecutionState
from cerebelum_nb._core.value import Value
from cerebelum_nb._text.json_text import compact
from cerebelum_nb._values import Redactor, Secret, decode, encode, large
from cerebelum_nb._values.large import LargeValueError, parse_large, write_large
from cerebelum_nb._values.tags import DEEPEST
from cerebelum_nb.errors import SerializationError, UntrustedValueError


class Colour(enum.IntEnum):
    RED = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    a: int
    b: str


@dataclasses.dataclass
class Point:
    x: int
    label: str
    inner: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: int
    y: tuple[int, ...] = ()


@dataclasses.dataclass
class Counted:
    x: int
    made: ClassVar[int] = 0

    def __post_init__(self) -> None:
        Counted.made += 1


@dataclasses.dataclass
class Loud:
    x: int

    def __reduce__(self) -> Any:
        return Loud, (self.x,)


class Text(str):
    pass


class Odd:
    """A class without a tag, which is pickled."""

    def __repr__(self) -> str:
        return "Odd()"


class Bag:
    def __init__(self, items: list[int]) -> None:
        self.items = items

    def __repr__(self) -> str:
        return f"Bag({self.items})"


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
    ("value", "written"),
    [
        ((1, (2,)), '{"$tuple":[1,{"$tuple":[2]}]}'),
        ({1: "a"}, '{"$dict":[[1,"a"]]}'),
        ({(1, 2): None}, '{"$dict":[[{"$tuple":[1,2]},null]]}'),
        ({"b", "a"}, '{"$set":["a","b"]}'),
        (frozenset({3, 1.5}), '{"$frozenset":[1.5,3]}'),
        (b"\xff", '{"$bytes":"/w=="}'),
        (math.nan, '{"$float":"nan"}'),
        ([-math.inf], '[{"$float":"-inf"}]'),
        (Decimal("1.10"), '{"$decimal":"1.10"}'),
        (uuid.UUID(int=7), '{"$uuid":"00000000-0000-0000-0000-000000000007"}'),
        (dt.date(2026, 1, 2), '{"$date":"2026-01-02"}'),
        (dt.timedelta(hours=1), '{"$timedelta":3600}'),
        (dt.timedelta.max, '{"$timedelta":"86399999999999.999999"}'),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), '{"$datetime":"2026-01-02T00:00:00+00:00"}'),
        (
            dt.datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Paris"), fold=1),
            '{"$datetime":"2026-10-25T02:30:00+01:00[Europe/Paris][fold=1]"}',
        ),
        (dt.time(1, 2), '{"$time":"01:02:00"}'),
        (1 - 2j, '{"$complex":[1.0,-2.0]}'),
        (Fraction(1, 3), '{"$fraction":"1/3"}'),
        (range(3), '{"$range":[0,3,1]}'),
        (PurePosixPath("a/b"), '{"$PurePosixPath":"a/b"}'),
        (Colour.RED, f'{{"$enum":"{__name__}:Colour.RED"}}'),
        (Rights.READ | Rights.WRITE, f'{{"$enum":["{__name__}:Rights",3]}}'),
        (Pair(1, "b"), f'{{"$namedtuple":{{"class":"{__name__}:Pair","fields":{{"a":1,"b":"b"}}}}}}'),
        (
            Frozen(1),
            f'{{"$dataclass":{{"class":"{__name__}:Frozen","fields":{{"x":1,"y":{{"$tuple":[]}}}}}}}}',
        ),
        (OrderedDict(a=1), '{"$OrderedDict":{"a":1}}'),
        (Counter("aab"), '{"$Counter":{"a":2,"b":1}}'),
        (defaultdict(list, a=[1]), '{"$defaultdict":{"factory":"list","items":{"a":[1]}}}'),
        (deque([1], 3), '{"$deque":{"maxlen":3,"items":[1]}}'),
        (np.float64(1.5), '{"$numpy.float64":1.5}'),
        (np.int8(-3), '{"$numpy.int8":-3}'),
        (np.bool_(True), '{"$numpy.bool":true}'),
        (np.datetime64("2026-01-02"), '{"$numpy.datetime64[D]":"2026-01-02"}'),
        (np.timedelta64(3, "h"), '{"$numpy.timedelta64[h]":"3"}'),
        ("caf\udce9", '{"$str":"caf\\\\udce9"}'),
        ("\ud83d\ude00", '{"$str":"\\\\ud83d\\\\ude00"}'),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_json_lacks_becomes_a_tag(value: Any, written: str) -> None:
    encoded = encode(value)
    assert (encoded.codec, encoded.json) == ("tagged", written)
    back = decode(encoded, _nothing_stored, trusted=False)
    assert same(value, back) and _shown(back) == _shown(value)


def _shown(value: Any) -> Any:
    """Return the repr, which also shows differences that equality ignores (a fold, a zone); sets are sorted."""
    return sorted(map(repr, value)) if isinstance(value, set | frozenset) else repr(value)


@pytest.mark.parametrize(
    "value",
    [{"$date": "2026-01-02"}, {"$dict": [[1, 2]]}, {"$": {"$tuple": []}}, {"$no such tag": 1}],
    ids=repr,
)
def test_a_dict_that_looks_like_a_tag_is_not_a_tag(value: Any) -> None:
    plainly, beside_a_tag = encode(value), encode([value, ()])
    assert (plainly.codec, plainly.json) == ("json", json.dumps(value, separators=(",", ":")))
    assert decode(plainly, _nothing_stored) == value
    assert decode(beside_a_tag, _nothing_stored) == [value, ()]


def test_plain_json_of_an_older_log_is_never_taken_for_a_tag() -> None:
    assert decode(Value("json", '{"$date":"today"}'), _nothing_stored) == {"$date": "today"}


@pytest.mark.parametrize(
    "value",
    [
        Text("a"),
        Loud(1),
        np.str_("a"),
        bytearray(b"a"),
        dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(), "X")),
    ],
    ids=["a subclass of str", "a dataclass of its own making", "a numpy text", "a bytearray", "a zone with a name"],
)
def test_a_type_without_a_tag_keeps_it_by_being_pickled(value: Any) -> None:
    assert encode(value).codec == "cloudpickle"
    assert same(value, around(value)) and repr(around(value)) == repr(value)


def test_long_bytes_are_pickled() -> None:
    assert encode({"image": b"x" * 200_000}).codec == "cloudpickle"


def test_an_object_with_more_than_its_fields_is_pickled() -> None:
    point = Point(1, "a")
    point.more = 1  # type: ignore[attr-defined]
    assert encode(point).codec == "cloudpickle"
    assert around(point).more == 1


def test_a_dataclass_comes_back_without_its_init() -> None:
    made = Counted(1)
    assert same(around(made).__dict__, made.__dict__) and Counted.made == 1


def test_the_default_of_a_defaultdict_still_works() -> None:
    assert around(defaultdict(list))["new"] == []


def test_a_class_that_is_not_imported_is_not_imported_for_an_untrusted_log(tmp_path: Path) -> None:
    value = Value("tagged", '{"$dataclass":{"class":"this.module.runs:Code","fields":{}}}')
    with pytest.raises(UntrustedValueError, match=r"no class Code in this.module.runs"):
        decode(value, _nothing_stored, trusted=False)


@pytest.mark.parametrize(
    "text", ['{"$decimal":"x"}', '{"$tuple":7}', '{"$later":1}', '{"$timedelta":1e99}', '{"$dict":[[{},1]]}']
)
def test_damaged_tags_say_what_to_do(text: str) -> None:
    with pytest.raises(SerializationError, match=r"tagged JSON that cannot be read.*Run the step"):
        decode(Value("tagged", text), _nothing_stored)


def test_an_integer_with_too_many_digits_for_json_comes_back() -> None:
    assert encode(10**5000).codec == "tagged"
    assert around(10**5000) == 10**5000


def test_a_secret_within_a_tag_is_masked_where_it_is() -> None:
    value = {"pair": (1, Secret("s3cr3t")), "by number": {7: Secret("s3cr3t")}, "who": Point(1, "a", Secret("s3cr3t"))}
    encoded = encode(value)
    assert "s3cr3t" not in encoded.json
    assert encoded.masked == ("pair[1]", '["by number"][0]', "who.inner")
    back = decode(encoded, _nothing_stored)
    assert back["pair"][1].is_missing and back["by number"][7].is_missing and back["who"].inner.is_missing


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
    encoded = encode(Odd())
    assert encoded.payload is not None
    assert (encoded.type, encoded.size) == (f"{__name__}.Odd", len(encoded.payload))
    assert encoded.preview == "Odd()"


def test_a_value_that_is_not_kept_has_only_a_type_and_a_preview() -> None:
    encoded = encode([1, 2], keep=False)
    assert encoded == Value("none", type="builtins.list", preview="[1, 2]")


def test_a_value_that_is_not_kept_need_not_be_storable() -> None:
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


def test_an_open_file_is_not_stored_as_a_copy_of_its_text() -> None:
    with (
        Path(__file__).open() as file,
        pytest.raises(SerializationError, match=r"output\['log'\].*would become a copy"),
    ):
        encode({"log": file})


def test_a_closure_that_cannot_be_stored_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(SerializationError) as caught:
        encode([lambda: lock])
    assert caught.value.path == "output[0].closure['lock']"


def test_the_caller_gives_the_root_of_the_path() -> None:
    with pytest.raises(SerializationError) as caught:
        encode({"lock": threading.Lock()}, path="inputs")
    assert caught.value.path == "inputs['lock']"


def test_an_untrusted_log_is_not_unpickled() -> None:
    encoded = encode(Odd())
    with pytest.raises(UntrustedValueError, match=r"Odd\(\).*trusted=True"):
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


@pytest.mark.process
def test_importing_values_loads_no_heavy_library() -> None:
    code = (
        "import sys, json, cerebelum_nb._values\n"
        "print(json.dumps([m for m in ('pandas', 'numpy', 'pyarrow', 'cloudpickle') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("written", ["cerebelum_nb.core.model", "cerebelum_nb._core.model"])
def test_a_state_that_was_pickled_under_its_old_module_is_the_same_state(written):
    """The bytes are those that commit c53f978 wrote for a step that returned ``ExecutionState.COMPLETED``."""
    named = written.encode()
    length = 0x3E - len("cerebelum_nb.core.model") + len(named)
    pickled = (
        b"\x80\x05\x95"
        + length.to_bytes(8, "little")
        + b"\x8c"
        + bytes([len(named)])
        + named
        + b"\x94\x8c\x0eExecutionState\x94\x93\x94\x8c\tCOMPLETED\x94\x85\x94R\x94."
    )
    assert decode(Value("cloudpickle", digest="d"), lambda _: pickled) is ExecutionState.COMPLETED


def test_a_state_that_was_tagged_under_its_old_module_is_the_same_state():
    tagged = encode(ExecutionState.COMPLETED)
    older = Value(tagged.codec, tagged.json.replace("_core.state_name", "core.model"))
    assert "core.model" in older.json
    assert decode(older, _nothing_stored) is ExecutionState.COMPLETED


# -- large values -------------------------------------------------------------------------------------------


@given(json_values, st.integers(1, 6))
def test_json_that_is_written_in_pieces_is_the_same_text(value: Any, most: int) -> None:
    dump = compact(allow_nan=False)
    try:
        expected = dump(value)
        expected.encode()
    except UnicodeEncodeError:
        with pytest.raises(UnicodeEncodeError):
            write_large(value, DEEPEST, dump, most)
    else:
        assert write_large(value, DEEPEST, dump, most) == expected


@given(json_values, st.integers(1, 40), st.integers(0), st.sampled_from(["", " ", ",", "]", "}", ":", "x"]))
def test_json_that_is_parsed_in_slices_is_the_same_value_or_the_same_error(value, length, place, damage) -> None:
    def parsed(parse: Any, text: str) -> Any:
        try:
            return repr(parse(text))
        except ValueError:
            return ValueError

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    place %= len(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, "LARGE_TEXT", length)
        assert same(value, parse_large(text))
        for other in (text[:place] + damage + text[place + 1 :], text[:place] + damage + text[place:]):
            assert parsed(parse_large, other) == parsed(json.loads, other)


def test_a_long_text_is_written_in_pieces() -> None:
    text = 'é"\\\n' * 1_000
    assert write_large({"a": [text]}, DEEPEST, compact(allow_nan=False), 2) == json.dumps(
        {"a": [text]}, ensure_ascii=False, separators=(",", ":")
    )


@pytest.mark.parametrize(
    "value",
    [
        [{"a": n} for n in range(5_000)],
        {"a": {"b": ["x" * 1_000_000]}},
        [(n, n) for n in range(5_000)],
        {"point": Point(1, "x" * 1_000_000)},
        [np.zeros(1_000_000)],
        Bag([*range(10_000)]),
        [float("nan")] * 5_000,
        [*range(5_000), "\ud800"],
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_a_large_value_is_not_encoded_at_once(value: Any) -> None:
    with pytest.raises(LargeValueError):
        encode(value, at_once=True)
    with pytest.raises(LargeValueError):
        encode(value, at_once=True, redactor=Redactor(["token"]))
    assert repr(around(value)) == repr(value)


@pytest.mark.parametrize(
    "small", [1, "a", {"a": [1, "b"]}, (1, 2), Point(1, "x"), {1: 2}, range(10_000_000), Bag([1]), json, [[]] * 100]
)
def test_any_other_value_is(small: Any) -> None:
    assert encode(small, at_once=True, keep=small is not json) == encode(small, keep=small is not json)
