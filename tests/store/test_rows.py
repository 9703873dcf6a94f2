"""Every event is its row, and every row its event."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebelum_nb._core.events import (
    EVENT_TYPES,
    PAYLOAD_FIELDS,
    SleepCompleted,
    StepCompleted,
    StepFailed,
    StepPrinted,
    StepProgressed,
    StepStarted,
    WorkflowCompleted,
    WorkflowStarted,
)
from cerebelum_nb._core.value import ErrorInfo, Value
from cerebelum_nb._store import rows
from cerebelum_nb.errors import StoreError

anything = st.characters(exclude_categories=("Cs",))  # controls too; lone surrogates are shown by their escapes
text = st.text(anything, max_size=12) | st.sampled_from(['"output":1', ',"output":', '{"error":', "}", "\\", '\\"'])
integers = st.integers(0, 2**63 - 1)
names = st.lists(text, max_size=3).map(tuple)
json_texts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
).map(json.dumps)
json_values = st.builds(Value, st.just("json"), json_texts, masked=names)
other_values = st.builds(
    Value,
    st.sampled_from(["arrow", "cloudpickle", "none", "json"]),
    json_texts,
    type=text,
    preview=text,
    digest=text,
    size=integers,
    masked=names,
)
errors = st.builds(ErrorInfo, type=text, message=text, traceback=text, mro=names, reason=st.none() | text)
by_type = {
    str: text,
    str | None: st.none() | text,
    int: integers,
    int | None: st.none() | integers,
    bool: st.booleans(),
    float: st.floats(0, 100),
    Value: json_values | other_values,
    Value | None: st.none() | json_values | other_values,
    ErrorInfo: errors,
    ErrorInfo | None: st.none() | errors,
    tuple[str, ...]: names,
    tuple[list[str], ...]: st.lists(st.lists(text, max_size=2), max_size=2).map(tuple),
    tuple[Value, ...]: st.lists(
        st.builds(Value, st.sampled_from(["arrow", "cloudpickle"]), type=text, digest=text, size=integers), max_size=2
    ).map(tuple),
    dict[str, int] | None: st.none() | st.dictionaries(text, integers, max_size=2),
    dict[str, list[str | int]] | None: st.none()
    | st.dictionaries(text, st.lists(text | integers, max_size=2), max_size=2),
    dict[str, str] | None: st.none() | st.dictionaries(text, text, max_size=2),
}
events = st.one_of(
    *(
        st.builds(cls, **{name: by_type[hint] for name, hint in get_type_hints(cls).items()})
        for cls in EVENT_TYPES.values()
    )
)


@given(events)
def test_an_event_is_restored_from_its_row(event):
    row = rows.encode(event)
    assert rows.decode([row]) == [event]
    for column in row:
        assert column != "{}"
    if row[-1] is not None:
        row[-1].encode()


@given(events)
def test_a_row_says_nothing_that_is_not_needed(event):
    _, step, visit, attempt, _, data = rows.encode(event)
    members = json.loads(data or "{}")
    for f in fields(event):
        if getattr(event, f.name) is None or getattr(event, f.name) == f.default:
            assert f.name not in members
    assert not {"at", "step", "visit", "attempt"} & members.keys()
    assert (step, visit, attempt) == tuple(getattr(event, n, None) for n in ("step", "visit", "attempt"))


def test_a_lone_surrogate_in_a_text_is_shown_as_its_escape():
    event = StepPrinted(at=1, step="s", text="caf\udce9.txt\n")
    row = rows.encode(event)
    row[-1].encode()
    assert rows.decode([row])[0].text == "caf\\udce9.txt\n"


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (StepStarted(at=1, step="s"), None),
        (StepStarted(at=1, step="s", code="c0de"), '{"code":"c0de"}'),
        (StepCompleted(at=1, step="s", output=Value("json", "[1, 2]")), '{"output":[1, 2]}'),
        (
            StepCompleted(at=1, step="s", output=Value("json", '{"k":"***"}', masked=("['k']",)), by_hand=True),
            """{"by_hand":true,"output_masked":["['k']"],"output":{"k":"***"}}""",
        ),
        (
            StepCompleted(at=1, step="s", output=Value("none", type="Client", preview="<Client>")),
            '{"output_ref":{"codec":"none","type":"Client","preview":"<Client>"}}',
        ),
        (
            StepFailed(at=1, step="s", error=ErrorInfo(type="E", message="no", mro=("m.E",))),
            '{"error":{"type":"E","message":"no","mro":["m.E"]}}',
        ),
        (StepProgressed(at=1, step="s", percent=12.5, message="é"), '{"percent":12.5,"message":"é"}'),
        (SleepCompleted(at=1, step="s", op="sleep#1"), '{"op":"sleep#1"}'),
        (WorkflowCompleted(at=1), None),
        (
            WorkflowStarted(at=1, workflow="w", inputs=Value("json", "{}"), total_steps=2),
            '{"workflow":"w","total_steps":2,"inputs":{}}',
        ),
    ],
)
def test_a_row_reads_well(event, data):
    assert rows.encode(event)[-1] == data


def test_the_bytes_of_a_value_do_not_stand_in_the_row():
    value = Value("arrow", digest="d", size=3, payload=b"abc")
    event = StepCompleted(at=1, step="s", output=value)
    assert rows.encode(event)[-1] == '{"output_ref":{"codec":"arrow","digest":"d","size":3}}'
    assert list(rows.stored_values(event)) == [value]
    assert not list(rows.stored_values(replace(event, output=replace(value, payload=None))))
    assert not list(rows.stored_values(StepStarted(at=1, step="s")))


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (("StepDreamt", "s", 1, 1, 1, None), "events of type StepDreamt"),
        (("StepStarted", "s", 1, 1, 1, '{"colour":"red"}'), "StepStarted events with 'colour'"),
        (("StepCompleted", "s", 1, 1, 1, '{"colour":1,"output":2}'), "StepCompleted events with 'colour'"),
        (("StepCompleted", "s", 1, 1, 1, '{"output_ref":{"tint":1}}'), "values with 'tint'"),
        (("StepFailed", "s", 1, 1, 1, '{"error":{"notes":[]}}'), "errors with 'notes'"),
    ],
)
def test_what_a_newer_version_wrote_asks_for_an_upgrade(row, what):
    with pytest.raises(StoreError, match="pip install -U cerebelum_nb") as caught:
        rows.decode([row])
    assert what in str(caught.value)


@pytest.mark.parametrize("data", ['{"code":', "[]", "7", '{"error":{}}', '{"error":[]}'])
def test_a_damaged_row_is_named(data):
    with pytest.raises(StoreError, match=r"damaged StepFailed event \(step 'load', at 77\)"):
        rows.decode([("StepFailed", "load", 1, 1, 77, data)])


@pytest.mark.parametrize("header", [(5, 1, 1, 77), ("s", "1", 1, 77), ("s", 1, b"1", 77), ("s", 1, 1, "77")])
@pytest.mark.parametrize("data", [None, '{"output":1}', '{"code":"c"}'])
@pytest.mark.parametrize("kind", ["StepStarted", "StepCompleted"])
def test_a_row_with_a_step_or_a_number_of_another_type_is_damaged(kind, header, data):
    with pytest.raises(StoreError):
        rows.decode([(kind, *header, data)])


@given(events, st.data(), json_texts.map(json.loads))
def test_a_member_of_another_type_is_found_where_it_is_read(event, data, other):
    *header, text = rows.encode(event)
    members = json.loads(text or "{}")
    members |= {data.draw(st.sampled_from([*PAYLOAD_FIELDS[type(event)], *members, "error"])): other}
    try:
        (read,) = rows.decode([(*header, json.dumps(members, separators=(",", ":")))])
    except StoreError:
        return
    assert [type(read), rows.encode(read)[:5]] == [type(event), tuple(header)]


def test_fields_that_an_older_version_did_not_know_take_their_defaults():
    (event,) = rows.decode([("StepStarted", "s", 1, 1, 1, None)])
    assert event == StepStarted(at=1, step="s", code=None)
    (event,) = rows.decode([("DivergeTaken", "s", 1, 1, 1, "{}")])
    assert (event.choice, event.target) == (None, "")
