"""A run is one trace, whichever sends it: the process that runs it, the next one, or the log."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from observed import fetch, release
from opentelemetry import trace as api
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cerebelum_nb import CerebelumError, ExecutionClient, Secret, observe, poll, retry, sleep, step, workflow
from cerebelum_nb._core import events as e
from cerebelum_nb._core.value import Value
from cerebelum_nb._observe.spans import spans_of
from cerebelum_nb._observe.traces import _Converter, send


@pytest.fixture
def live():
    """The spans that this process sends, in a list that grows."""
    exporter = InMemorySpanExporter()
    with observe.Traces(processor=SimpleSpanProcessor(exporter)):
        yield exporter.get_finished_spans


@pytest.fixture
def collector():
    from collector import Collector

    opened = Collector()
    yield opened
    opened.close()


def data(spans):
    """Return spans as data, without the fields of the exporter."""
    return sorted((json.loads(span.to_json()) for span in spans), key=lambda span: span["context"]["span_id"])


def from_log(log, *ids):
    convert = _Converter()
    return [convert(span) for execution_id in ids for span in observe.trace(execution_id, store=log.store)]


def assert_tree(spans):
    """Check that every span has its own id, and that its parent, if any, exists and began before it."""
    ids = {span.context.span_id: span for span in spans}
    assert len(ids) == len(spans)
    assert [span.name for span in spans if span.parent is not None and span.parent.span_id not in ids] == []


async def test_a_run_is_a_trace_of_its_attempts(log, live):
    await log.run("k1", flaky=True)
    spans = live()
    assert [span.name for span in spans] == ["step fetch", "step check", "step check", "step ship", "workflow deploy"]
    retried, run = spans[1], spans[-1]
    assert run.parent is None and {span.parent.span_id for span in spans[:-1]} == {run.context.span_id}
    assert dict(retried.attributes) == {
        "cerebelum.workflow.name": "deploy",
        "cerebelum.execution.id": "k1",
        "cerebelum.step.name": "check",
        "cerebelum.step.visit": 1,
        "cerebelum.step.attempt": 1,
        "cerebelum.step.outcome": "retried",
        "error.type": "ConnectionError",
    }
    assert not retried.status.is_ok and retried.events[0].attributes["exception.message"] == "try again"


async def run_all(log):
    """Run in every way; return the ids."""
    await log.run("k1", flaky=True)
    await log.run("k2", broken=True)
    await log.resume("k2")
    await log.resume("k2", inputs={"broken": False})
    await log.fork("k2", "k3", from_step="check", inputs={"broken": False})
    await log.fork("k3", "k4", from_step="ship")
    await log.run("k5", broken=True)
    await log.resume("k5", mark_done={"check": 1})

    @step
    async def operate(context):
        await context.run("charge", lambda: 1)
        await retry(lambda: 1, max_attempts=2)
        await poll(lambda: True, interval="1s")
        await sleep(0.01)
        raise ValueError("no") if context.attempt == 1 else None

    @step
    def beside(fetch):
        return 2

    @workflow
    def busy(wf):
        wf.timeline(fetch >> [operate, beside])

    await log.run("k6", workflow=busy)
    await log.resume("k6", workflow=busy)
    run = release.start(store=log.store, execution_id="k7")
    client = ExecutionClient(log.store)
    while not (await client.list_executions(status="WAITING_FOR_APPROVAL"))[1]:
        await asyncio.sleep(0.01)
    await client.approve("k7")
    await run

    @step
    async def rest():
        await sleep("1h")

    @workflow
    def later(wf):
        wf.timeline(fetch >> rest)

    log.store.hibernate_after = timedelta(0)
    await later.execute({}, store=log.store, execution_id="k8")
    await log.resume("k8", workflow=later)
    run = release.start(store=log.store, execution_id="k9")
    while not (await client.list_executions(status="WAITING_FOR_APPROVAL"))[1]:
        await asyncio.sleep(0.01)
    run.cancel()
    try:
        await run
    except CerebelumError:
        pass
    return [f"k{number}" for number in range(1, 10)]


async def test_live_spans_are_those_made_from_the_log_later(log, live):
    ids = await run_all(log)
    assert data(live()) == data(from_log(log, *ids))
    names = {span.name for span in live()}
    assert names >= {"sleep operate", "poll operate", "approval ask", "step rest", "step beside", "workflow later"}
    for name in ids:
        assert_tree(from_log(log, name))


def test_a_wait_that_outlives_its_process_is_one_span_from_its_start_to_its_end():
    started = e.WorkflowStarted(at=0, workflow="w", inputs=Value("json", "{}"), total_steps=1)
    waits = e.SleepStarted(at=1, step="a", op="sleep::1:0", duration_ms=9, due_at=10)
    events = [
        started,
        e.StepStarted(at=1, step="a"),
        waits,
        e.WorkflowHibernated(at=2, wake_at=10),
        e.StepInterrupted(at=10, step="a", reason="woken"),
        e.WorkflowAwakened(at=10),
        e.StepStarted(at=10, step="a", attempt=2),
        e.SleepCompleted(at=11, step="a", attempt=2, op="sleep::1:0"),
    ]
    found = {(span.name, span.start, span.end) for span in spans_of("k1", "w", events)}
    assert found == {("step a", 1, 2), ("workflow w", 0, 2), ("sleep a", 1, 11)}


def test_a_process_that_died_ended_at_its_last_sign_of_life():
    events = [
        e.WorkflowStarted(at=0, workflow="w", inputs=Value("json", "{}"), total_steps=1),
        e.StepStarted(at=1, step="a"),
        e.CancelRequested(at=500),
        e.StepInterrupted(at=1000, step="a", reason="its process ended", ended_at=90),
        e.WorkflowResumed(at=1000),
    ]
    assert {(span.name, span.end) for span in spans_of("k1", "w", events)} == {("step a", 90), ("workflow w", 90)}


async def test_runs_of_an_execution_are_one_trace_and_linked(log, live):
    await log.run("k1", broken=True)
    await log.resume("k1", inputs={"broken": False})
    first, second = (span for span in live() if span.name == "workflow deploy")
    assert first.context.trace_id == second.context.trace_id
    assert second.parent.span_id == second.links[0].context.span_id == first.context.span_id
    assert [span.attributes["cerebelum.run.why"] for span in (first, second)] == ["start", "resume"]
    assert [span.attributes["cerebelum.run.outcome"] for span in (first, second)] == ["failed", "completed"]


async def test_a_fork_is_another_trace_linked_to_the_run_it_left(log, live):
    await log.run("k1")
    await log.fork("k1", "k2", from_step="ship")
    await log.fork("k2", "k3", from_step="ship")
    runs = [span for span in live() if span.name == "workflow deploy"]
    assert len({run.context.trace_id for run in runs}) == 3
    assert [run.links[0].context.span_id for run in runs[1:]] == [run.context.span_id for run in runs[:2]]
    assert [span.name for span in live()].count("step ship") == 3


async def test_each_run_can_be_a_trace(log):
    exporter = InMemorySpanExporter()
    with observe.Traces(processor=SimpleSpanProcessor(exporter), per="run"):
        await log.run("k1", broken=True)
        await log.resume("k1", inputs={"broken": False})
    first, second = (span for span in exporter.get_finished_spans() if span.name == "workflow deploy")
    assert second.parent is None and second.links[0].context == first.context
    assert {span.context.trace_id for span in exporter.get_finished_spans()} == {
        first.context.trace_id,
        second.context.trace_id,
    }
    assert data(exporter.get_finished_spans()) == data(
        _Converter()(span) for span in observe.trace("k1", store=log.store, per="run")
    )


async def test_spans_of_a_steps_own_code_are_children_of_its_attempt(log, live):
    mine = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(mine))
    tracer = provider.get_tracer("mine")

    @step
    def in_thread():
        with tracer.start_as_current_span("in a thread"):
            return 1

    @step
    async def in_task(in_thread):
        with tracer.start_as_current_span("in a task"):
            await asyncio.to_thread(lambda: tracer.start_span("in another thread").end())

    @workflow
    def traced(wf):
        wf.timeline(in_thread >> in_task)

    await log.run("k1", workflow=traced)
    provider.shutdown()
    attempts = {span.name: span.context for span in live()}
    found = {span.name: span for span in mine.get_finished_spans()}
    assert found["in a thread"].parent.span_id == attempts["step in_thread"].span_id
    assert found["in a task"].parent.span_id == attempts["step in_task"].span_id
    assert found["in another thread"].parent.span_id == found["in a task"].context.span_id
    assert {span.context.trace_id for span in found.values()} == {attempts["workflow traced"].trace_id}


async def test_a_start_is_linked_to_the_span_it_was_started_in(log, live):
    tracer = TracerProvider().get_tracer("mine")
    with tracer.start_as_current_span("outside") as outside:
        await log.run("k1")
    run = next(span for span in live() if span.name == "workflow deploy")
    assert [link.context.span_id for link in run.links] == [outside.get_span_context().span_id]
    assert not api.get_current_span().get_span_context().is_valid


async def test_no_value_is_in_a_trace(log, live):
    @step
    def show(inputs):
        print("printed-7351")
        return {"result": "output-7351"}

    @workflow
    def shown(wf):
        wf.timeline(show)

    await log.run("k1", workflow=shown, given="input-7351", token=Secret("secret-7351"))
    assert live() and not [span.to_json() for span in live() if "7351" in span.to_json()]


async def test_a_collector_accepts_the_same_spans_live_and_from_the_log(log, collector):
    with observe.Traces(collector.url) as traces:
        await log.run("k1", flaky=True)
        assert traces.flush()
    told = dict(collector.spans)
    assert send(observe.trace("k1", store=log.store), collector.url) == 5
    assert collector.spans.keys() == told.keys() and collector.orphans() == []
    assert all(first == second for first, second in collector.spans.values())
    assert collector.services == {"cerebelum"}


def test_a_collector_that_does_not_answer_is_an_error_that_says_so(log, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1")
    asyncio.run(log.run("k1"))
    with pytest.raises(CerebelumError, match="4318"):
        send(observe.trace("k1", store=log.store), "http://127.0.0.1:9")
    with pytest.raises(CerebelumError, match="URL"):
        send([], "localhost:4318")


DIES = """
import os, signal, sys
from cerebelum_nb import connect, observe, step, workflow

@step
def build():
    return 1

@step
def stuck(build):
    if sys.argv[3] == "die":
        os.kill(os.getpid(), signal.SIGKILL)

@workflow
def doomed(wf):
    wf.timeline(build >> stuck)

connect(sys.argv[1])
with observe.Traces(sys.argv[2]) as traces:
    doomed.run(execution_id="k1") if sys.argv[3] == "die" else doomed.resume_sync("k1")
"""


@pytest.mark.process
def test_the_next_process_sends_the_spans_of_a_killed_one(log, collector):
    def run(how):
        command = [sys.executable, "-W", "error", "-c", DIES, str(log.path), collector.url, how]
        return subprocess.run(command, check=False).returncode

    assert run("die") == -signal.SIGKILL
    assert run("resume") == 0
    told = ["step stuck", "step stuck", "workflow doomed", "workflow doomed"]
    assert [name for name in collector.names if name != "step build"] == told
    command = [sys.executable, "-W", "error", "-m", "cerebelum_nb", "trace", "k1", "--db", str(log.path)]
    done = subprocess.run([*command, "--otlp", collector.url], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("sent 5 spans of k1")
    assert collector.names == ["step build", *told] and collector.orphans() == []
    assert all(len({span.SerializeToString() for span in spans}) == 1 for spans in collector.spans.values())
    outcomes = sorted(
        pair.value.string_value
        for spans in collector.spans.values()
        for pair in spans[0].attributes
        if pair.key == "cerebelum.run.outcome"
    )
    assert outcomes == ["completed", "interrupted"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"})
    assert [line.split("  ")[-1].strip() for line in shown.stdout.splitlines()[1:]] == [
        "interrupted",
        "completed",
        "interrupted",
        "completed",
        "completed",
    ]
