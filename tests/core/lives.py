"""Lives and deaths of an execution: it runs to its end, and a process dies after any of its events and is resumed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from hypothesis import note

from cerebelum_nb import WorkflowError
from cerebelum_nb._core.events import OperationCompleted, SleepCompleted, StepCompleted, StepStarted, WorkflowCompleted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._core.state import State
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._store.base import Commit
from cerebelum_nb.testing import FakeClock, MemoryStore

ID = "k1"


class World:
    """What exists outside of the workflow: it outlives the process, and a broken step can be fixed in it."""

    def __init__(self) -> None:
        self.fixed = False
        self.asked: Counter[str] = Counter()


world = World()


def run_to_the_end(flow: Any, store: MemoryStore, *, resumed: bool = False) -> None:
    """Run or resume; if a step is broken, fix it and resume, and if the execution hibernates, wake it."""

    async def live() -> None:
        async with asyncio.timeout(120):
            result = None
            while result is None or not result.status.is_final:
                if result is not None:
                    clock.set(result.wake_at)
                try:
                    again = resumed or result is not None or bool(store.events(ID))
                    call = flow.resume(ID, store=store) if again else flow.execute(store=store, execution_id=ID)
                    result = await call
                except WorkflowError:
                    assert not world.fixed, "it failed although everything is fixed"
                    world.fixed = True

    with FakeClock() as clock:
        asyncio.run(live())


def check_history(store: MemoryStore) -> list[Any]:
    """Check what is recorded, and every prefix of it."""
    history = store.events(ID)
    assert store.execution(ID).version == len(history), "versions are dense"
    state = fold([])
    for recorded in history:
        fold([recorded], state)
        check(state)
    assert fold(history) == state
    completed = Counter((ev.step, ev.visit) for ev in history if isinstance(ev, StepCompleted))
    assert set(completed.values()) <= {1}, "a step was completed twice in one visit"
    once = (OperationCompleted, SleepCompleted)
    done = Counter((ev.step, ev.visit, ev.op) for ev in history if isinstance(ev, once))
    assert set(done.values()) <= {1}, "an operation was done twice in one visit"
    started = {(ev.step, ev.visit, ev.attempt) for ev in history if isinstance(ev, StepStarted)}
    assert len(started) == sum(isinstance(ev, StepStarted) for ev in history), "an attempt was started twice"
    return history


def outcome(history: list[Any]) -> dict[str, Any]:
    """Return the results by step, and which visits of which steps were completed."""
    state = fold(history)
    return {
        "status": state.status,
        "results": {n: s.output for n, s in state.attempted() if s.has_result},
        "visits": {(ev.step, ev.visit) for ev in history if isinstance(ev, StepCompleted)},
    }


class CheckedStore(MemoryStore):
    """A log that checks after every commit that the row of the execution shows what its events say."""

    def __init__(self) -> None:
        super().__init__()
        self.states: dict[str, State] = {}

    def commit(self, commits: Sequence[Commit]) -> dict[str, str]:
        rejected = super().commit(commits)
        for commit in commits:
            if commit.execution_id not in rejected:
                state = fold(commit.events, self.states.setdefault(commit.execution_id, State()))
                row = self.execution(commit.execution_id)
                assert (row.version, row.summary) == (state.version, summarise(state)), commit.events
        return rejected


def a_log(hibernates: bool) -> MemoryStore:
    store = CheckedStore()
    if hibernates:
        store.hibernate_after = timedelta(minutes=1)
    return store


def die_after(history: list[Any], hibernates: bool = False) -> MemoryStore:
    """Make the log of a process that died after the last of these events."""
    store = a_log(hibernates)
    holder = store.register(0, 1)
    summary = summarise(fold(history))
    commit = Commit(execution_id=ID, after=0, events=history, summary=summary, holder=holder, release=True)
    assert not store.commit([commit])
    return store


def dies_and_resumes(
    flow: Any,
    deaths: Callable[[int], Iterable[int]],
    hibernates: bool,
    judge: Callable[[list[Any]], object] = lambda history: None,
    outcome: Callable[[list[Any]], dict[str, Any]] = outcome,
    portion: int = 128,
) -> None:
    """Run a workflow, let its process die after some events, and resume: the results are those of the first run.

    Args:
        flow: the workflow.
        deaths: after which events, given the length of the history.
        hibernates: whether its log lets it hibernate.
        judge: checks each history.
        outcome: what must be the same after each death.
        portion: how many members of a group are started together.
    """
    with patch("cerebelum_nb._engine.execution.AT_ONCE", portion):
        _dies_and_resumes(flow, deaths, hibernates, judge, outcome)


def _dies_and_resumes(
    flow: Any,
    deaths: Callable[[int], Iterable[int]],
    hibernates: bool,
    judge: Callable[[list[Any]], object],
    outcome: Callable[[list[Any]], dict[str, Any]],
) -> None:
    assert flow.validate().ok, flow.validate()
    world.__init__()  # type: ignore[misc]
    store = a_log(hibernates)
    run_to_the_end(flow, store)
    history = check_history(store)
    judge(history)
    expected = outcome(history)
    assert isinstance(history[-1], WorkflowCompleted)
    for death in deaths(len(history)):
        prefix = history[: max(1, min(death, len(history) - 1))]
        note(f"died after {len(prefix)} of {len(history)}: {type(prefix[-1]).__name__}")
        store = die_after(prefix, hibernates)
        run_to_the_end(flow, store, resumed=True)
        again = check_history(store)
        judge(again)
        assert again[: len(prefix)] == prefix, "what was recorded has changed"
        assert outcome(again) == expected
        history = again  # the next death is one of the resumed run
