"""``history.state_at``: the state as of an event, or as of the end of a step."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from cerebelum_nb import ExecutionState, history
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import ExecutionNotFoundError, SerializationError


def at(runs, version=None, step=None):
    return history.state_at("deploy-1", version, step, store=runs.store)


def version_of(runs, kind, step):
    events = history.events("deploy-1", kind, store=runs.store)
    return int(events.loc[events["step"] == step, "version"].iloc[-1])


def test_the_latest_is_the_default(runs):
    then = at(runs)
    assert (then.status, then.version) == (ExecutionState.FAILED, then.last_version)
    assert then.error == "RuntimeError: not there"


def test_nothing_is_known_of_what_happens_later(runs):
    then = at(runs, 1)
    assert then.status is ExecutionState.RUNNING
    assert (list(then.results), len(then.steps), then.error) == ([], 0, None)


def test_the_end_of_a_step_is_the_event_that_settled_it(runs):
    then = at(runs, step="measure")
    assert then.version == version_of(runs, "StepCompleted", "measure")
    assert list(then.results) == ["provision", "connect", "measure"]
    assert at(runs, step="verify").steps["state"].tolist()[-1] == "FAILED"


def test_values_known_then_are_decoded_when_looked_up(runs):
    results = at(runs, step="measure").results
    pd.testing.assert_frame_equal(results["measure"], pd.DataFrame({"ms": [1, 2]}))
    with pytest.raises(SerializationError, match="the result of step 'connect' of execution deploy-1 was not kept"):
        results["connect"]


def test_inputs_are_decoded_and_secrets_stay_secret(runs):
    inputs = at(runs).inputs
    assert inputs["size"] == "s-1"
    assert "hunter22" not in repr(inputs)


def test_a_step_between_two_attempts_is_retrying(runs):
    then = at(runs, version_of(runs, "StepRetried", "measure"))
    step = then.steps.set_index("step").loc["measure"]
    assert (step["state"], step["error"]) == ("RETRYING", 'ValueError: said "output": no')
    assert pd.isna(step["duration"])


def test_a_wait_says_until_when(runs):
    then = at(runs, version_of(runs, "SleepStarted", "wait"))
    assert then.status is ExecutionState.SLEEPING
    assert then.waiting == {"wait": "sleep until 2026-01-01 02:01:00 UTC"}
    assert then.at == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


def test_steps_are_typed(runs):
    step = at(runs).steps.set_index("step").loc["wait"]
    assert step["duration"] == timedelta(hours=2)
    assert step["started_at"] == pd.Timestamp("2026-01-01 00:01", tz="UTC")


def test_its_repr_shows_the_state_at_that_event(runs):
    shown = repr(at(runs, version_of(runs, "SleepStarted", "wait")))
    assert shown.splitlines()[0].startswith("deploy deploy-1 at event ")
    assert "SleepStarted wait, 2026-01-01 00:01:00 UTC): SLEEPING" in shown
    assert "measure    COMPLETED  2        0ms   DataFrame 2 rows x 1 columns" in shown
    assert "waits: wait, sleep until 2026-01-01 02:01:00 UTC" in shown
    assert 'inputs: {"size":"s-1","token":"********"}' in shown
    assert "verify" not in shown


def test_its_html_shows_the_same_and_escapes_it(runs):
    shown = at(runs)._repr_mimebundle_()["text/html"]
    assert "FAILED" in shown and "provision" in shown
    assert "<object object>" not in shown and "&lt;object object&gt;" in shown


def test_a_log_named_by_its_path_is_read_again_for_values(runs):
    then = history.state_at("deploy-1", step="measure", store=runs.store.path)
    assert then.results["measure"]["ms"].tolist() == [1, 2]


def test_only_the_events_up_to_there_are_read(runs, monkeypatch):
    asked = []
    read = SqliteStore.events
    monkeypatch.setattr(
        SqliteStore, "events", lambda self, *args, **named: asked.append((args, named)) or read(self, *args, **named)
    )
    at(runs, 3)
    assert asked == [(("deploy-1",), {"upto": 3})]


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        ({"version": 0}, ValueError, r"has events 1 to \d+, not 0"),
        ({"version": 999}, ValueError, r"has events 1 to \d+, not 999"),
        ({"version": "3"}, TypeError, "version must be the number of an event"),
        ({"version": True}, TypeError, "version must be the number of an event"),
        (
            {"step": "provison"},
            ValueError,
            "no step 'provison' has ended in .* Did you mean 'provision'",
        ),
        ({"step": "xyz"}, ValueError, "These have: provision, "),
        ({"version": 1, "step": "verify"}, ValueError, "not both"),
    ],
)
def test_an_impossible_version_or_step_is_refused(runs, asked, error, told):
    with pytest.raises(error, match=told):
        history.state_at("deploy-1", store=runs.store, **asked)


def test_an_unknown_id_is_refused(runs):
    with pytest.raises(ExecutionNotFoundError, match="Did you mean 'deploy-1'"):
        history.state_at("deploy-7", store=runs.store)
