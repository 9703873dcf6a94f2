"""The slider's page: its data, what it shows without its script, and that no value breaks out of it."""

from __future__ import annotations

import asyncio
import json
import re
import sys

import pytest

from cerebelum_nb import WorkflowError, history, step, workflow
from cerebelum_nb._core.events import OperationCompleted, StepStarted, WorkflowStarted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.value import Value
from cerebelum_nb._history.facts import facts
from cerebelum_nb._views.slider import Slider
from cerebelum_nb.testing import MemoryStore


@step
def fetch():
    print("fetched </script><b>bold</b>")
    return {"rows": "</script><script>alert(1)</script>"}


@step
def publish(fetch, inputs):
    return {"small": 1}[inputs["size"]]


@step
def tell():
    return "told"


@workflow(name="release <now>")
def release(wf):
    wf.timeline(fetch >> publish >> tell)


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def failed(store):
    with pytest.raises(WorkflowError) as caught:
        asyncio.run(release.execute({"size": "large"}, store=store))
    return caught.value.execution_id


def data_of(page):
    (found,) = re.findall(r"^const data = (.*);$", page, re.MULTILINE)
    return json.loads(found)


def as_of(data, number):
    """Return what the page shows after this many events."""
    slots = {}
    for event in data["events"][:number]:
        slots |= dict(event["set"])
    return slots


def test_it_has_a_description_of_every_event(store, failed):
    data = data_of(history.slider(failed, store=store).to_html())
    assert [event["title"] for event in data["events"]] == [
        "WorkflowStarted",
        "StepStarted fetch",
        "StepPrinted fetch",
        "StepCompleted fetch",
        "StepStarted publish",
        "StepFailed publish",
        "WorkflowFailed",
    ]
    assert data["events"][5]["detail"].endswith("KeyError: 'large'")
    assert data["events"][0]["time"].startswith("0ms after the start, ")


def test_it_has_graph_values_output_and_state_as_of_every_event(store, failed):
    events = store.events(failed)
    data = data_of(history.slider(failed, store=store).to_html())
    boxes = [as_of(data, number)["box:fetch"] for number in (1, 2, 4)]
    assert boxes == ["waiting", "running", "completed"]
    assert "bold" not in as_of(data, 2)["row:fetch"]
    assert "fetched" in as_of(data, 3)["row:fetch"]
    assert "&lt;/script&gt;" in as_of(data, 4)["row:fetch"]
    for number in range(1, len(events) + 1):
        told = {slot[5:]: text for slot, text in as_of(data, number).items() if slot.startswith("fact:")}
        known = facts(fold(events[:number]))
        assert {name: text for name, text in told.items() if text is not None} == {
            name: text for name, text in known.items() if name not in ("version", "updated_at", "active_at")
        }
    assert "Step <code>publish</code> failed" in as_of(data, 7)["part:failure"]


def test_the_facts_of_a_step_are_listed_together(store, failed):
    names = data_of(history.slider(failed, store=store).to_html())["names"]
    owners = [name.partition("]")[0] if name.startswith("steps[") else "" for name in names]
    assert list(dict.fromkeys(owners)) == ["", "steps['fetch'", "steps['publish'"]
    assert owners == sorted(owners)


def test_without_its_script_it_shows_the_end_and_all_events_and_no_buttons(store, failed):
    page = history.slider(failed, store=store).to_html()
    still = page[: page.index("<script>")]
    assert "failed, 1 of 3 steps" in still
    assert "7 events" in still
    assert "   6 StepFailed publish" in still
    assert "data:image/svg+xml;base64," in still
    for part in ("<button", "<input", "<svg"):
        assert part not in still
    assert page[page.index("</script>") :] == "</script></div>"


def test_what_a_step_returned_cannot_end_the_script(store, failed):
    page = history.slider(failed, store=store).to_html()
    assert page.count("</script>") == page.count("<script>") == 1
    assert "release &lt;now&gt;" in page
    assert "<now>" not in page


def test_it_is_the_same_from_the_log_and_from_its_events(store, failed):
    assert Slider(failed, store.events(failed)).to_html() == history.slider(failed, store=store).to_html()


async def test_a_run_cell_by_cell_has_one_too(store):
    run = release.begin({"size": "small"}, store=store)
    assert repr(run.slider()).splitlines()[0] == "release <now>: 2 events"  # started, and paused before its first step
    await run.next()
    assert "StepCompleted fetch" in repr(run.slider())


def test_its_text_lists_the_events(store, failed):
    shown = history.slider(failed, store=store)._repr_mimebundle_()
    assert shown["text/plain"].splitlines()[:3] == [
        "release <now>: 7 events",
        "    1 WorkflowStarted",
        "    2 StepStarted fetch",
    ]
    assert shown["text/html"] == history.slider(failed, store=store).to_html()
    assert failed not in shown["text/plain"]  # a notebook's text is the same in every run


def long_run(count):
    started = [
        WorkflowStarted(at=0, workflow="w", inputs=Value("json", "{}"), total_steps=1),
        StepStarted(at=1, step="one"),
    ]
    return [
        *started,
        *(OperationCompleted(at=2, step="one", op=f"run:call:{n}:0", output=Value("json", "1")) for n in range(count)),
    ]


def test_of_a_long_history_only_a_part_is_shown_and_it_says_so():
    page = Slider("k1", long_run(2_100)).to_html()
    data = data_of(page)
    assert "The first 102 of 2,102 events are not shown here" in page
    assert data["first"] == 102 and len(data["events"]) == 2_000
    first = dict(data["events"][0]["set"])
    assert "fact:steps['one'].operations['run:call:0:0']" in first, "what came before is known"


def test_the_work_of_a_move_does_not_grow_with_the_operations_of_a_step():
    def calls(count):
        made = 0

        def see(frame, event, argument):
            nonlocal made
            made += 1

        slider = Slider("k1", long_run(count))
        sys.setprofile(see)
        try:
            slider.to_html()
        finally:
            sys.setprofile(None)
        return made / count

    calls(5)
    assert calls(320) < 1.2 * calls(40)
