"""Replays: every state is the fold of the events up to it, and a separate object."""

from __future__ import annotations

from dataclasses import MISSING, fields

import pytest
from hypothesis import given

from cerebelum_nb import ExecutionNotFoundError, WorkflowError, history, step, workflow
from cerebelum_nb._core import events as e
from cerebelum_nb._core.describe_events import detail, title
from cerebelum_nb._core.fold import evolve, fold
from cerebelum_nb._core.state import State
from cerebelum_nb._core.step_state import StepState
from cerebelum_nb._core.value import ErrorInfo, Value
from cerebelum_nb._history.facts import changes, facts
from cerebelum_nb._history.replay import transitions
from cerebelum_nb.testing import MemoryStore

from ..core import lives
from ..core import test_properties as random_runs


def test_every_event_comes_once_with_the_state_after_it(runs):
    told = list(history.replay("deploy-1", store=runs.store))
    assert [event for event, _ in told] == runs.store.events("deploy-1")
    assert [state.version for _, state in told] == list(range(1, len(told) + 1))
    assert told[-1].state == fold(runs.store.events("deploy-1"))


def test_the_states_can_all_be_kept(runs):
    told = list(history.replay("deploy-1", store=runs.store))
    assert len({id(moment.state) for moment in told}) == len(told)
    for number, moment in enumerate(told, start=1):
        assert moment.state == fold(runs.store.events("deploy-1", upto=number))


@pytest.mark.parametrize(
    "names",
    [{"retried": ("b",)}, {"revisited": ("a", "b")}, {"restored": ("a",)}, {"rerouted": ("a",)}],
    ids=lambda names: next(iter(names)),
)
@pytest.mark.parametrize("kind", [e.WorkflowForked, e.WorkflowResumed])
def test_the_states_before_a_resume_stay_as_they_were(kind, names):
    parent = {"parent": "p1", "parent_version": 5} if kind is e.WorkflowForked else {}
    happened = [
        e.WorkflowStarted(at=1, workflow="w", inputs=Value("json", "1"), total_steps=2),
        e.StepStarted(at=2, step="a"),
        e.StepCompleted(at=3, step="a", output=Value("json", "1")),
        e.StepStarted(at=4, step="b"),
        e.StepFailed(at=5, step="b", error=ErrorInfo(type="ValueError", message="no")),
        kind(at=6, **parent, **names),
    ]
    kept = [moment.state for moment in transitions(happened)]
    assert kept == [fold(happened[:number]) for number in range(1, len(happened) + 1)]


@random_runs.quickly
@given(random_runs.shapes())
def test_the_states_of_any_run_are_the_folds_of_its_prefixes(shape):
    lives.world.__init__()
    store = lives.a_log(hibernates=False)
    lives.run_to_the_end(random_runs.make_workflow(shape), store)
    kept = list(transitions(store.events(lives.ID)))  # all of them are made before the first is looked at
    state = State()
    for moment in kept:
        assert evolve(state, moment.event) == moment.state


def test_the_states_of_a_rollback_stay_as_they_were():
    @step
    def build():
        return 1

    @build.on_rollback
    def remove(build):
        return -build

    @step
    def ship(build):
        raise RuntimeError("no")

    store = MemoryStore()
    flow = workflow(name="w")(lambda wf: wf.timeline(build >> ship))
    with pytest.raises(WorkflowError):
        flow.run(execution_id="r1", store=store)
    flow.rollback_sync("r1", store=store)
    happened = store.events("r1")
    kept = [moment.state for moment in transitions(happened)]
    assert kept == [fold(happened[:number]) for number in range(1, len(happened) + 1)]
    assert kept[-1].lifecycle == "ROLLED_BACK"


def test_a_step_that_nothing_happened_to_is_shared(runs):
    told = list(history.replay("deploy-1", store=runs.store))
    late = [moment.state.steps["provision"] for moment in told if "provision" in moment.state.finished]
    assert len({id(step) for step in late}) == 1


def test_it_is_an_iterator_of_pairs(runs):
    event, state = next(history.replay("check-1", store=runs.store))
    assert isinstance(event, e.WorkflowStarted)
    assert state.workflow == "check"


def test_an_unknown_execution_is_refused_at_the_call(runs):
    with pytest.raises(ExecutionNotFoundError, match="deploy-1"):
        history.replay("deplou-1", store=runs.store)


def test_a_log_may_be_named_by_its_path(runs):
    assert len(list(history.replay("check-1", store=runs.store.location))) == 4


# -- in words -----------------------------------------------------------------------------------------------

SAMPLES = {
    "str": "x",
    "int": 2,
    "int | None": None,
    "bool": True,
    "float": 50.0,
    "str | None": "y",
    "tuple[str, ...]": ("x",),
    "Value | None": None,
}


def sample(kind):
    """Make an event of a kind with something in every field."""
    made = {}
    for field in fields(kind):
        if field.type == "Value":
            made[field.name] = Value("json", '{"a":1}')
        elif "ErrorInfo" in str(field.type):
            made[field.name] = ErrorInfo(type="ValueError", message="no\nroom")
        elif field.default is MISSING:
            made[field.name] = SAMPLES[str(field.type)]
    return kind(**made)


@pytest.mark.parametrize("kind", e.EVENT_TYPES.values(), ids=lambda kind: kind.__name__)
def test_every_event_has_a_description_of_one_line(kind):
    event = sample(kind)
    state = State(steps={"x": StepState(started_at=1)})
    told = f"{title(event)} {detail(event, state)}"
    assert told.startswith(kind.__name__)
    assert "\n" not in told
    assert len(told) < 250


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (e.StepCompleted(at=900_000, step="x", attempt=2, output=Value("json", "7")), "after 800ms, 7"),
        (e.StepCompleted(at=9, step="x", output=Value("json", "7"), by_hand=True), "by hand, 7"),
        (
            e.StepRetried(at=100_000, step="x", error=ErrorInfo(type="OSError", message="no"), due_at=2_100_000),
            "OSError: no; next attempt in 2s",
        ),
        (e.Jumped(at=9, step="x", kind="back_to", to="a", reset=("a", "b")), "back_to a; again: a, b"),
        (e.OperationCompleted(at=9, step="x", op="run:mail:ab1:0", output=Value("json", "7")), "run mail, 7"),
        (
            e.ApprovalRequested(at=0, step="x", op="approval:budget:1:0", approval_type="budget", due_at=7_200_000_000),
            "budget, within 2h",
        ),
    ],
    ids=lambda given: getattr(given, "step", None) and type(given).__name__,
)
def test_the_description_of_an_event(event, words):
    assert detail(event, State(steps={"x": StepState(started_at=100_000)})) == words


# -- as facts -----------------------------------------------------------------------------------------------


def test_the_changes_add_up_to_the_state(runs):
    known, before = {}, State()
    for _, state in history.replay("deploy-1", store=runs.store):
        for name, old, new in changes(before, state):
            assert known.get(name) == old
            known[name] = new
            if new is None:
                del known[name]
        before = state
    silent = {"version", "updated_at", "active_at"}
    assert known == {name: text for name, text in facts(before).items() if name not in silent}


def test_the_names_of_facts_are_python_expressions(runs):
    *_, (_, state) = history.replay("deploy-1", store=runs.store)
    told = facts(state)
    assert told["lifecycle"] == "FAILED"
    assert told["finished"] == ", ".join(state.finished)
    assert told["steps['verify'].error"] == "RuntimeError: not there"
    assert not any("hunter22" in text for text in told.values())


def test_an_operation_that_has_not_begun_has_no_facts():
    assert facts(State()) == {}


def test_the_text_of_a_slider_is_the_list_of_events(runs):
    text = repr(history.slider("check-1", store=runs.store))
    assert text.splitlines()[:2] == ["check: 4 events", "    1 WorkflowStarted"]


def test_an_empty_log_has_no_run():
    with pytest.raises(ExecutionNotFoundError):
        history.slider("k1", store=MemoryStore())


def test_every_time_of_a_state_is_shown_as_one():
    shown = facts(State(started_at=1, resumed_at=1, queued_at=1, scheduled_at=1, wake_at=1, forked_at="build"))
    assert {name for name, text in shown.items() if name.endswith("_at") and not text.startswith("1970-01-01 ")} == {
        "forked_at"
    }
