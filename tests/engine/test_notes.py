"""Notes: small facts that a step publishes while it runs."""

from __future__ import annotations

import asyncio
import json

import pytest

from cerebelum_nb import Context, ExecutionClient, Secret, foreach, history, step, workflow
from cerebelum_nb._core.events import StepNoted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._operations.note import LARGEST_NOTE, MOST_NOTES
from cerebelum_nb._views.card import Card
from cerebelum_nb._views.graph import Graph


def noted(store, execution_id="k1"):
    return [
        (event.step, event.name, json.loads(event.value.json))
        for event in store.events(execution_id)
        if isinstance(event, StepNoted)
    ]


def of(body):
    """Make a workflow of one step, called `publish`."""
    made = step(name="publish")(body)

    @workflow
    def publishing(wf):
        wf.timeline(made)

    return publishing


def test_a_plain_and_an_async_step_publish_before_their_outcome(go, store):
    @step
    def plain(context):
        context.note("url", "https://a.example.org")

    @step
    async def later(plain, context):
        context.note("count", 3)

    @workflow
    def both(wf):
        wf.timeline(plain >> later)

    go(both.execute(store=store, execution_id="k1"))
    assert noted(store) == [("plain", "url", "https://a.example.org"), ("later", "count", 3)]
    kinds = [type(event).__name__ for event in store.events("k1") if getattr(event, "step", "") == "plain"]
    assert kinds == ["StepStarted", "StepNoted", "StepCompleted"]
    check(fold(store.events("k1")))


def test_what_a_failed_step_published_is_kept(fails, store):
    def body(context):
        context.note("url", "https://broken.example.org")
        raise RuntimeError("no")

    fails(of(body).execute(store=store, execution_id="k1"))
    state = fold(store.events("k1"))
    assert state.steps["publish"].notes["url"].json == '"https://broken.example.org"'


def test_the_last_note_of_a_name_counts_and_the_same_again_is_no_event(go, store):
    async def body(context):
        for number in range(1000):
            context.note("done", number)
        context.note("done", 7)
        context.note("size", 1)

    go(of(body).execute(store=store, execution_id="k1"))
    assert noted(store) == [("publish", "done", 7), ("publish", "size", 1)]


def test_a_note_is_recorded_while_the_step_still_runs(go, store, clock):
    seen = asyncio.Event()

    async def body(context):
        context.note("url", "https://a.example.org")
        await seen.wait()

    async def live():
        run = of(body).start(store=store, execution_id="k1")
        while not noted(store):
            await asyncio.sleep(0)
        status = await ExecutionClient(store).get_execution_status("k1")
        seen.set()
        await run
        return status

    status = go(live())
    assert status.notes == {"publish": {"url": "https://a.example.org"}}
    assert "publish: url https://a.example.org" in str(status)
    assert status.to_dict()["notes"] == status.notes


def test_every_item_of_a_foreach_has_its_own(go, store):
    @step
    async def deploy(region, context):
        context.note("url", f"https://{region}.example.org")

    @workflow
    def rollout(wf):
        wf.timeline(foreach(deploy, region="inputs.regions"))

    go(rollout.execute({"regions": ["ams3", "nyc1"]}, store=store, execution_id="k1"))
    frame = history.notes("k1", store=store)
    assert dict(zip(frame["item"], frame["value"], strict=True)) == {
        "ams3": '"https://ams3.example.org"',
        "nyc1": '"https://nyc1.example.org"',
    }
    assert len(history.notes(step="deploy", name="url", store=store)) == 2
    assert history.notes("k1", name="other", store=store).empty


def test_history_gives_values_as_json_or_expanded(go, store):
    def body(context):
        context.note("server", {"ip": "10.0.0.1"})

    go(of(body).execute(store=store, execution_id="k1"))
    assert history.notes("k1", store=store)["value"].tolist() == ['{"ip":"10.0.0.1"}']
    assert history.notes("k1", expand=True, store=store)["value.ip"].tolist() == ["10.0.0.1"]


def test_secrets_in_notes_are_masked(go, store):
    def body(inputs, context):
        context.note("url", f"https://user:{inputs['key'].reveal()}@example.org")
        context.note("key", inputs["key"])

    go(of(body).execute({"key": Secret("hunter22")}, store=store, execution_id="k1"))
    assert len(noted(store)) == 2 and "hunter22" not in repr(store.events("k1"))


def test_a_new_visit_begins_without_notes(go, store):
    def body(context):
        if context.visit == 1:
            context.note("url", "https://old.example.org")

    publishing = of(body)
    go(publishing.execute(store=store, execution_id="k1"))
    go(publishing.fork("k1", "publish", fork_id="k2", store=store))
    assert fold(store.events("k1")).steps["publish"].notes
    assert fold(store.events("k2")).steps["publish"].notes is None or noted(store, "k2")


def test_the_card_shows_them(go, store):
    def body(context):
        context.note("url", "https://a.example.org/?<b>")

    publishing = of(body)
    go(publishing.execute(store=store, execution_id="k1", name="release 4.2", tags=["eu"]))
    state = fold(store.events("k1"))
    shown = Card.at("k1", state, state.updated_at, Graph(publishing.plan())).to_html()
    assert "url: https://a.example.org/?&lt;b&gt;" in shown and "release 4.2 #eu" in shown


def test_in_a_test_a_note_is_only_checked():
    Context().note("url", "https://a.example.org")
    with pytest.raises(ValueError, match="the name of a note must be one line"):
        Context().note("", 1)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (7, 1, "the name is text, such as 'url', not 7"),
        ("", 1, "the name of a note must be one line"),
        ("two\nlines", 1, "the name of a note must be one line"),
        ("x" * 101, 1, "at most 100 printable characters"),
        ("big", "x" * LARGEST_NOTE, "and a note can have 4,000"),
        ("object", object(), "a note must be a small value that JSON can hold"),
        ("bytes", {1, 2}, "a note must be a small value that JSON can hold"),
    ],
)
def test_what_cannot_be_a_note_fails_the_step_in_words(fails, memory, name, value, told):
    def body(context):
        context.note(name, value)

    error = fails(of(body).execute(store=memory, execution_id="k1"))
    assert told in str(error) and not noted(memory)


def test_a_step_cannot_publish_under_endless_names(fails, memory):
    async def body(context):
        for number in range(MOST_NOTES * 3):
            context.note(f"n{number}", number)
            await asyncio.sleep(0)

    assert "has published 100 notes" in str(fails(of(body).execute(store=memory, execution_id="k1")))


def test_a_note_of_an_attempt_that_is_over_is_not_recorded(go, memory):
    kept = []

    def body(context):
        kept.append(context)

    go(of(body).execute(store=memory, execution_id="k1"))
    kept[0].note("late", 1)
    assert not noted(memory)
