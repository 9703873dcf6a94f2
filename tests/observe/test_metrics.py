"""The metrics of a log agree with the log, and those of a process with what it ran."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from observed import Log, deploy, release
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest as as_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cerebelum_nb import archive, observe
from cerebelum_nb._observe import tally
from cerebelum_nb._observe.follow import Header
from cerebelum_nb._observe.serve import as_text
from cerebelum_nb._observe.tally import Tally

from ..waiting import wait_for

MONITORING = Path(__file__).resolve().parents[2] / "docs" / "monitoring"

OWN = """WITH own AS (SELECT e.*, x.workflow, x.execution_id FROM event e JOIN execution x ON x.key = e.execution
    WHERE e.version >= coalesce((SELECT max(version) FROM event f
        WHERE f.execution = e.execution AND f.type = 'WorkflowForked'), 1))"""
"""The events of each execution, without those that a fork copied."""

COUNTS = {
    "cerebelum_executions_started_total": f"""{OWN} SELECT execution_id, workflow, count(*) FROM own
        WHERE type IN ('WorkflowStarted', 'WorkflowForked') GROUP BY 1, 2""",
    "cerebelum_executions_ended_total": f"""{OWN} SELECT execution_id, workflow, lower(substr(type, 9)), count(*)
        FROM own WHERE type IN ('WorkflowCompleted', 'WorkflowFailed', 'WorkflowCancelled') GROUP BY 1, 2, 3""",
    "cerebelum_executions_resumed_total": f"""{OWN} SELECT execution_id, workflow, 'asked', count(*) FROM own
        WHERE type = 'WorkflowResumed' GROUP BY 1, 2""",
    "cerebelum_step_attempts_total": f"""{OWN} SELECT execution_id, workflow, step, lower(substr(type, 5)), count(*)
        FROM own WHERE type IN ('StepCompleted', 'StepFailed', 'StepRetried', 'StepInterrupted')
            AND NOT coalesce(json_extract(data, '$.by_hand'), 0) GROUP BY 1, 2, 3, 4""",
    "cerebelum_step_duration_seconds_sum": f"""{OWN} SELECT execution_id, workflow, own.step, sum((own.at - s.at) / 1e6)
        FROM own JOIN event s ON s.execution = own.execution AND s.type = 'StepStarted' AND s.step = own.step
            AND s.visit = own.visit AND s.attempt = own.attempt
        WHERE own.type IN ('StepCompleted', 'StepFailed', 'StepRetried')
            AND NOT coalesce(json_extract(own.data, '$.by_hand'), 0) GROUP BY 1, 2, 3""",
}


def registered(metrics):
    registry = CollectorRegistry()
    registry.register(metrics)
    return registry


@pytest.fixture
def metrics(log):
    found = observe.LogMetrics(log.path)
    yield registered(found)
    found.close()


def samples(registry, name):
    """The samples of this name that are not zero, by their labels in the order of their names' first use."""
    order = ("workflow", "step", "outcome", "why")
    return {
        tuple(sample.labels[label] for label in order if label in sample.labels): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name and sample.value
    }


def by_sql(path, name):
    """Return what SQL finds in the log, by execution and labels."""
    with closing(sqlite3.connect(path)) as db:
        return {tuple(labels): number for *labels, number in db.execute(COUNTS[name]) if number}


OPERATIONS = st.lists(
    st.sampled_from(["run", "flaky", "broken", "resume", "by hand", "fork", "fork broken", "prune", "scrape"]),
    min_size=3,
    max_size=9,
)


@settings(max_examples=12)
@given(OPERATIONS)
def test_the_counters_equal_what_sql_counts_forks_and_prunes_included(operations):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(Path(folder), operations))


async def compare(folder, operations):
    log = Log(folder / "log.db")
    found = observe.LogMetrics(log.path)
    registry, expected = registered(found), {name: {} for name in COUNTS}
    ids, failed = [], []

    def look():
        values = {name: samples(registry, name) for name in COUNTS}
        for name, told in values.items():
            expected[name].update(by_sql(log.path, name))  # what was pruned stays counted
            wanted = Counter()
            for (_, *labels), number in expected[name].items():
                wanted[tuple(labels)] += number
            assert told == pytest.approx(dict(wanted)), name

    try:
        for number, operation in enumerate(operations):
            name = f"k{number}"
            if operation in ("run", "flaky", "broken"):
                await log.run(name, **{operation: True})
                ids.append(name)
                failed += [name] if operation == "broken" else []
            elif operation in ("resume", "by hand") and failed:
                given = {"mark_done": {"check": 7}} if operation == "by hand" else {"inputs": {"broken": False}}
                await log.resume(failed.pop(), **given)
            elif operation.startswith("fork") and ids:
                await log.fork(ids[-1], name, from_step="check", inputs={"broken": operation == "fork broken"})
                ids.append(name)
                failed += [name] if operation == "fork broken" else []
            elif operation == "prune":
                look()
                pruned = archive.prune(keep_last=1, store=log.store).execution_ids
                ids, failed = ([name for name in kept if name not in pruned] for kept in (ids, failed))
            elif operation == "scrape":
                look()
        look()
    finally:
        found.close()
        log.store.close()


async def test_the_gauges_show_what_the_log_holds(log, metrics):
    await log.run("k1")
    await log.run("k2", broken=True)
    value = metrics.get_sample_value
    assert value("cerebelum_executions", {"workflow": "deploy", "state": "completed"}) == 1
    assert value("cerebelum_executions", {"workflow": "deploy", "state": "failed"}) == 1
    assert value("cerebelum_executions_interrupted") == 0
    assert value("cerebelum_last_event_timestamp_seconds") == log.store.execution("k2").summary.updated_at / 1e6
    assert value("cerebelum_log_size_bytes") > 10_000


async def test_deleting_executions_lowers_the_gauges_and_resets_no_counter(log, metrics):
    for number in range(3):
        await log.run(f"k{number}")
    before = samples(metrics, "cerebelum_executions_ended_total")
    archive.prune(keep_last=1, store=log.store)
    assert samples(metrics, "cerebelum_executions_ended_total") == before == {("deploy", "completed"): 3}
    assert metrics.get_sample_value("cerebelum_executions", {"workflow": "deploy", "state": "completed"}) == 1


async def test_what_started_before_the_exporter_is_measured_when_it_ends(log):
    run = release.start(store=log.store, execution_id="r1")
    while log.store.events("r1") == [] or log.store.execution("r1").summary.state != "WAITING_FOR_APPROVAL":
        await asyncio.sleep(0.01)
    found = observe.LogMetrics(log.path)
    registry = registered(found)
    assert registry.get_sample_value("cerebelum_approvals_open", {"workflow": "release"}) == 1
    from cerebelum_nb import ExecutionClient

    await ExecutionClient(log.store).approve("r1", {"ok": True})
    await run
    labels = {"workflow": "release"}
    assert registry.get_sample_value("cerebelum_approvals_open", labels) is None
    assert registry.get_sample_value("cerebelum_approval_wait_seconds_count", labels) == 1
    assert registry.get_sample_value("cerebelum_step_duration_seconds_count", {**labels, "step": "ask"}) == 1
    ended = {**labels, "outcome": "completed"}
    took = registry.get_sample_value("cerebelum_execution_duration_seconds_sum", ended)
    shown = log.store.execution("r1").summary
    assert took == pytest.approx((shown.completed_at - shown.started_at) / 1e6)
    found.close()


async def test_a_step_that_was_never_attempted_is_not_counted(log, metrics):
    await log.run("k1", broken=True)
    await log.resume("k1", mark_done={"check": 5})
    assert samples(metrics, "cerebelum_step_attempts_total") == {
        ("deploy", "fetch", "completed"): 1,
        ("deploy", "check", "retried"): 1,
        ("deploy", "check", "failed"): 1,
        ("deploy", "ship", "completed"): 1,
    }


def test_labels_are_bounded(monkeypatch):
    monkeypatch.setattr(tally, "_PAIRS", 3)
    counted = Tally(lambda key, event: 0)
    for number in range(10):
        counted.add(number, f"w{number}", Header(1, "WorkflowStarted", None, None, None, 0))
        counted.add(number, f"w{number}", Header(2, "StepCompleted", "s" * 500, 1, 1, 0))
    assert len(counted.started.values) == 4 and counted.started.values["other",] == 7
    assert counted.attempts.values["other", "other", "completed"] == 7
    assert max(len(label) for labels in counted.attempts.values for label in labels) <= 120


async def test_openmetrics_is_understood_whatever_a_workflow_is_called(log, metrics):
    hostile = deploy.plan().workflow  # through the log, as another program could have written it
    await log.run("k1")
    with closing(sqlite3.connect(log.path)) as db:
        db.execute("UPDATE execution SET workflow = ?", ('x"} 1\n# HELP \\ é\x00<script>',))
        db.commit()
    families = [*text_string_to_metric_families(as_openmetrics(metrics).decode())]
    assert hostile and {family.name for family in families} >= {"cerebelum_executions", "cerebelum_step_attempts"}


async def test_what_this_process_runs_is_counted_with_its_commits(log):
    found = observe.ProcessMetrics()
    registry = registered(found)
    await log.run("k1", flaky=True)
    await log.run("k2", broken=True)
    await log.resume("k2", inputs={"broken": False})
    found.close()
    await log.run("after")
    assert samples(registry, "cerebelum_executions_ended_total") == {
        ("deploy", "completed"): 2,
        ("deploy", "failed"): 1,
    }
    assert samples(registry, "cerebelum_executions_resumed_total") == {("deploy", "asked"): 1}
    assert samples(registry, "cerebelum_step_attempts_total")["deploy", "check", "retried"] == 2
    assert (
        registry.get_sample_value(
            "cerebelum_execution_duration_seconds_count", {"workflow": "deploy", "outcome": "completed"}
        )
        == 2
    )
    assert registry.get_sample_value("cerebelum_commit_duration_seconds_count") > 5


needs_prometheus = pytest.mark.skipif(
    shutil.which("promtool") is None or shutil.which("prometheus") is None,
    reason="Prometheus is not installed (sudo apt-get install prometheus)",
)


def promtool(*arguments, **more):
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_prometheus
@pytest.mark.process
async def test_promtool_finds_no_fault_in_the_text(log):
    await log.run("k1", flaky=True)
    found = observe.LogMetrics(log.path)
    await log.run("k2", broken=True)
    text = as_text(found)
    found.close()
    assert promtool("check", "metrics", input=text) == ""


@needs_prometheus
@pytest.mark.process
def test_the_alerts_fire_when_they_should():
    promtool("check", "rules", MONITORING / "alerts.yml")
    promtool("test", "rules", Path(__file__).with_name("alerts_test.yml"))


@pytest.fixture
def exporter(log):
    """`cerebelum metrics` in another process, at an address."""
    command = [sys.executable, "-W", "error", "-m", "cerebelum_nb", "metrics", str(log.path), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    yield process.stdout.readline().rpartition("http://")[2].partition("/")[0]
    process.terminate()
    process.communicate()
    assert process.returncode == 0


@pytest.fixture
def prometheus(exporter, tmp_path):
    """A Prometheus that scrapes it every second, with the alerts; a function that asks it."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (tmp_path / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
rule_files: [{MONITORING / "alerts.yml"}]
scrape_configs: [{{job_name: cerebelum, static_configs: [{{targets: ["{exporter}"]}}]}}]
""")
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address={address}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def ask(what, **parameters):
        url = f"http://{address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    yield ask
    process.terminate()
    process.wait()


def eventually(holds):
    def answer():
        try:
            return holds()
        except OSError:  # it does not listen yet
            return None

    return wait_for(answer, "Prometheus has it", every=0.1)


@needs_prometheus
@pytest.mark.process
async def test_a_real_prometheus_scrapes_it_and_takes_the_alerts_and_every_query_of_the_dashboard(log, prometheus):
    def value(query):
        return {
            tuple(found["metric"].values()): float(found["value"][1])
            for found in prometheus("query", query=query)["result"]
        }

    eventually(lambda: value("up") and 1.0 in value("up").values())
    await log.run("k1", flaky=True)
    await log.run("k2", broken=True)
    ended = "sum by (outcome) (cerebelum_executions_ended_total)"
    eventually(lambda: value(ended) == {("completed",): 1, ("failed",): 1, ("cancelled",): 0, ("rolled back",): 0})
    assert value('cerebelum_step_attempts_total{outcome="retried"}')
    (group,) = prometheus("rules")["groups"]
    assert len(group["rules"]) == 6
    board = json.loads((MONITORING / "grafana.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(queries) >= 15
    for query in queries:
        query = query.replace("$workflow", ".*").replace("$__rate_interval", "1m").replace("$__range", "1m")
        prometheus("query", query=query)


def test_grafana_knows_every_field_of_the_dashboard():
    """Read by the library that Grafana generates from its own schemas, options of the panels and queries included."""
    absent = "grafana_foundation_sdk is not installed: pip install -e '.[dev]' again"
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason=absent)
    plugins = pytest.importorskip("grafana_foundation_sdk.cog.plugins", reason=absent)
    plugins.register_default_plugins()
    board = json.loads((MONITORING / "grafana.json").read_text())
    read = models.Dashboard.from_json(board)
    assert {panel.type_val for panel in read.panels} <= {"stat", "timeseries", "table", "heatmap"}
    kept = json.loads(json.dumps(read.to_json(), default=lambda part: part.to_json()))
    assert [*lost(board, kept, "")] == []


def lost(given, kept, path):
    """List the fields that were not read."""
    if isinstance(given, dict):
        for name, value in given.items():
            yield from lost(value, kept[name], f"{path}/{name}") if name in kept else [f"{path}/{name}"]
    elif isinstance(given, list):
        for number, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{path}[{number}]")
    elif given != kept:
        yield path
