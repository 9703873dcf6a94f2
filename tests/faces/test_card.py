"""The card of a run at any moment, live and from the log, as text and as HTML."""

from __future__ import annotations

import asyncio
from html.parser import HTMLParser

import pytest

from cerebelum_nb import ExecutionNotFoundError, Secret, WorkflowError, flow, sleep, step, watch, workflow
from cerebelum_nb._core.fold import fold
from cerebelum_nb._engine.hints import advise
from cerebelum_nb._views.card import Card
from cerebelum_nb._views.failure import Failure
from cerebelum_nb._views.graph import Graph
from cerebelum_nb._views.watch import Reading
from cerebelum_nb.testing import FakeClock, MemoryStore


@pytest.fixture
def store():
    made = MemoryStore()
    yield made
    made.close()


@step
def fetch():
    print("fetched")
    return [1, 2]


@step
def publish(fetch, inputs):
    print("publishing")
    return {"small": 1}[inputs["size"]]


@step
def tell(publish):
    return "told"


@workflow
def release(wf):
    wf.timeline(fetch >> publish >> tell)


def run(store, **inputs):
    asyncio.run(release.execute(inputs, store=store, execution_id="k1"))


def card(store, at=None):
    events = store.events("k1", upto=at)
    state = fold(events)
    return Card.at("k1", state, state.updated_at, Graph(release.plan()), advice=advise(state, "k1"))


def test_a_completed_run(store):
    run(store, size="small")
    assert card(store).to_text() == "release: completed, 3 of 3 steps\n  ✓ fetch\n  ✓ publish\n  ✓ tell"


def test_a_failed_step_that_a_route_handled_counts_as_done(store):
    @step
    def size():
        return {"error": "too big"}

    @workflow
    def fitting(wf):
        wf.timeline(size >> fetch)
        wf.diverge(from_step=size, patterns={"too big": flow.proceed()})

    asyncio.run(fitting.execute(store=store, execution_id="k1"))
    state = fold(store.events("k1"))
    assert Card.at("k1", state, 0, Graph(fitting.plan())).to_text().splitlines() == [
        "fitting: completed, 2 of 2 steps",
        "  ✗ size  returned error: too big, handled by a route",
        "  ✓ fetch",
    ]


def test_a_failed_run_says_where_and_why_it_failed_its_inputs_and_how_to_resume(store):
    with pytest.raises(WorkflowError):
        run(store, size="large")
    shown = card(store)
    failure = shown.failure
    assert isinstance(failure, Failure)
    assert failure.step == "publish"
    assert failure.error == "KeyError: 'large'"
    assert failure.where.startswith("test_card.py, line ")
    assert 'return {"small": 1}[inputs["size"]]' in failure.traceback
    assert "cerebelum_nb" not in failure.traceback.replace("test_card.py", "").partition("tests")[2]
    assert failure.inputs == (("fetch", "[1,2]"), ("inputs", '{"size":"large"}'))
    assert failure.printed == "publishing"
    assert failure.advice is not None and failure.advice.call == 'await release.resume("k1")'
    assert "k1" not in shown.to_text()
    assert "1 finished step kept. Fix 'publish' (it continues at line " in shown.to_text()
    assert shown.to_text().endswith("then: await release.resume()")
    assert 'await release.resume("k1")' in shown.to_html()


def test_a_failure_shows_no_secret(store):
    @step
    def leak(inputs):
        print(inputs["key"].reveal())
        raise ValueError(inputs["key"].reveal())

    @workflow
    def leaky(wf):
        wf.timeline(leak)

    with pytest.raises(WorkflowError):
        asyncio.run(leaky.execute({"key": Secret("open-sesame")}, store=store, execution_id="k1"))
    state = fold(store.events("k1"))
    shown = Card.at("k1", state, state.updated_at, Graph(leaky.plan()))
    assert "open-sesame" not in shown.to_html() + shown.to_text()


def test_every_moment_of_a_run_can_be_drawn(store):
    with pytest.raises(WorkflowError):
        run(store, size="large")
    for at in range(1, len(store.events("k1")) + 1):
        shown = card(store, at)
        parse(shown.to_html())
        assert "<svg" not in shown.to_html(), "an untrusted notebook leaves of an inline SVG its texts"
        assert len(shown.to_text().splitlines()) >= 4


class _Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(text):
    parser = _Balanced()
    parser.feed(text)
    parser.close()
    assert parser.open == []


def test_waits_and_tries_are_shown(store):
    tries = []

    @step
    async def doze():
        await sleep("1h")

    @step(retries=2, retry_delay=60)
    def flaky(doze):
        tries.append(1)
        if len(tries) < 2:
            raise ConnectionError("no route")

    @workflow
    def waits(wf):
        wf.timeline(doze >> flaky)

    seen = {}
    with FakeClock():
        asyncio.run(waits.execute(store=store, execution_id="k1"))
    events = store.events("k1")
    for at, event in enumerate(events, 1):
        state = fold(events[:at])
        for row in Card.at("k1", state, event.at, Graph(waits.plan())).rows:
            seen.setdefault(row.name, []).append((row.state, row.note))
    assert ("sleeping", "sleeps, wakes in 1h") in seen["doze"]
    assert ("retrying", "attempt 1 failed (ConnectionError), the next in 1m") in seen["flaky"]
    assert ("running", "attempt 2") in seen["flaky"]


def test_steps_of_routes_not_taken_count_as_skipped(store):
    @step
    def aside():
        return None

    @workflow
    def branched(wf):
        wf.timeline(fetch)
        wf.branch(after=fetch, on=lambda found: not found, when_true=[aside], when_false=flow.proceed())

    asyncio.run(branched.execute(store=store, execution_id="k1"))
    state = fold(store.events("k1"))
    assert Card.at("k1", state, state.updated_at, Graph(branched.plan())).states == {
        "fetch": "completed",
        "aside": "skipped",
    }


def test_two_hundred_steps_fit_into_a_saved_notebook(store):
    def work():
        for number in range(50):
            print("line", number, "of what this step has to say")

    steps = [step(work, name=f"a_longer_step_name_{n}") for n in range(200)]

    @workflow
    def wide(wf):
        wf.timeline(steps)

    asyncio.run(wide.execute(store=store, execution_id="k1"))
    state = fold(store.events("k1"))
    bundle = Card.at("k1", state, state.updated_at, Graph(wide.plan())).bundle()
    assert set(bundle) == {"text/html", "text/plain"}
    assert sum(len(text.encode()) for text in bundle.values()) < 100_000
    parse(bundle["text/html"])


def test_of_thousands_of_steps_a_card_shows_those_in_trouble_without_a_picture(store):
    def broken():
        raise ValueError("no disk")

    steps = [step(lambda: None, name=f"s{n}") for n in range(2_000)]

    @workflow
    def long(wf):
        wf.timeline([*steps[:10], step(broken, name="broken"), *steps[10:]])

    with pytest.raises(WorkflowError):
        asyncio.run(long.execute(store=store, execution_id="k1"))
    state = fold(store.events("k1"))
    shown = Card.at("k1", state, state.updated_at, Graph(long.plan()))
    text, html = shown.to_text(), shown.to_html()
    assert text.splitlines()[:3] == [
        "long: failed, 10 of 2001 steps",
        "  ✗ broken  ValueError: no disk",
        "  ... 2,000 more steps",
    ]
    assert "<img" not in html and "broken" in html and "2,000 more steps" in html and len(html) < 10_000
    parse(html)


def test_a_run_is_read_from_the_log_as_it_continues(store):
    run(store, size="small")
    reading = Reading(store, "k1")
    assert reading.look().to_text() == card(store).to_text()
    assert reading.over


def test_a_run_of_a_workflow_unknown_here_shows_the_steps_that_started(store, monkeypatch):
    monkeypatch.setattr("cerebelum_nb._views.watch.registered", dict)
    with pytest.raises(WorkflowError):
        run(store, size="large")
    lines = Reading(store, "k1").look().to_text().splitlines()
    assert lines[:3] == ["release: failed, 1 of 3 steps", "  ✓ fetch", "  ✗ publish  KeyError: 'large'"]


def test_watch_in_a_script_writes_lines(store, capsys):
    run(store, size="small")
    watch("k1", store=store)
    assert capsys.readouterr().err.splitlines() == [
        "fetch: completed",
        "publish: completed",
        "tell: completed",
        "release: completed, 3 of 3 steps",
    ]


def test_watch_of_an_unknown_execution_says_so(store):
    with pytest.raises(ExecutionNotFoundError):
        watch("zzz", store=store)
    with pytest.raises(ExecutionNotFoundError, match="no execution"):
        watch(store=store)


def test_an_approval_shows_its_deadline_and_progress_the_time_left():
    from cerebelum_nb._core.events import ApprovalRequested, StepProgressed, StepStarted, WorkflowStarted
    from cerebelum_nb._values import encode

    started = WorkflowStarted(at=1, workflow="release", inputs=encode({}), total_steps=3)
    begun = StepStarted(at=1, step="fetch", visit=1, attempt=1)
    asked = ApprovalRequested(
        at=1, step="fetch", visit=1, attempt=1, op="approval:budget", approval_type="budget", due_at=60_000_001
    )
    card = Card.at("k1", fold([started, begun, asked]), 20_000_001, Graph(release.plan()))
    assert {row.name: row.note for row in card.rows}["fetch"] == "waits for approval: budget, its time ends in 40s"
    moved = StepProgressed(at=10_000_001, step="fetch", visit=1, attempt=1, percent=25.0, message="rows")
    card = Card.at("k1", fold([started, begun, moved]), 10_000_001, Graph(release.plan()))
    assert {row.name: row.note for row in card.rows}["fetch"] == "rows, about 30s left"
