"""The invariants of a state; the tests check them after every event of every history."""

from __future__ import annotations

from collections import Counter

from .graph import key_of
from .state import State
from .state_name import ExecutionState
from .step_state import Phase

__all__ = ["check"]


def check(state: State) -> None:
    """Raise AssertionError if ``state`` breaks an invariant. The fold of any prefix of any history must pass."""
    running = {n for n, s in state.attempted() if s.phase in (Phase.RUNNING, Phase.RETRYING)}
    assert running == set(state.in_flight), f"in flight {set(state.in_flight)}, running {running}"
    completed = {n for n, s in state.steps.items() if s.phase is Phase.COMPLETED}
    assert completed == set(state.finished), f"finished {set(state.finished)}, completed {completed}"
    assert set(state.waiting.values()) <= running, "a step waits that is not in flight"
    assert state.waiters == Counter(state.waiting.values()), "the waits of each step are counted wrong"
    assert state.waits == Counter(key.partition(":")[0] for key in state.waiting), (
        "the kinds of waits are counted wrong"
    )
    if state.lifecycle.is_final or state.lifecycle is ExecutionState.PAUSED:
        assert not running, f"{state.lifecycle} while {running} are in flight"
    assert state.lifecycle.is_final == (state.completed_at is not None), "completed_at and state disagree"
    current = state.current_step
    assert current is None or (known := state.step(current)) is None or not known.settled, f"{current} is done"
    assert set(state.restoring) <= set(state.steps), "a step is restored that never ran"
    assert state.last_step is None or state.last_step in state.steps, "the last step is unknown"
    for name, step in state.attempted():
        if step.items is not None:
            items = step.items
            done = [n for n, s in items.steps.items() if s.has_result and n.endswith("]")]
            failed = {n for n, s in items.steps.items() if s.phase is Phase.FAILED}
            assert (items.done, {*items.failed}) == (len(done), failed), f"the items of {name} are counted wrongly"
            assert {*items.running} == running.intersection(items.steps), f"the running items of {name} are wrong"
            assert all(key_of(n) in items.keys for n in items.steps), f"{name} runs for an item it does not have"
        assert step.visit >= 1 and step.attempt >= 0, f"{name} counts wrongly"
        assert not step.has_result or step.output is not None, f"{name} completed without an output"
        assert step.phase is not Phase.FAILED or step.error is not None, f"{name} failed without an error"
        assert (step.due_at is not None) == (step.phase is Phase.RETRYING), f"{name} is due wrongly"
