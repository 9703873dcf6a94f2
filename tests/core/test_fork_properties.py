"""A fork of any history, at any of its steps, ends like its parent, and so does a fork of the fork.

The workflows are those of test_properties.py: loops, branches, routes, parallel groups, operations, broken steps.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from cerebelum_nb import WorkflowError
from cerebelum_nb._core.events import StepCompleted, WorkflowForked
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb.testing import FakeClock, MemoryStore

from .lives import ID, check_history, die_after, run_to_the_end, world
from .test_properties import Shape, make_workflow, quickly, shapes
from .test_properties import with_failures as outcome


def fork_to_the_end(made: Any, store: MemoryStore, parent: str, fork_id: str, **how: Any) -> list[Any]:
    """Fork, fix what is broken, and check the fork's history and every prefix of it."""

    async def live() -> None:
        async with asyncio.timeout(120):
            try:
                await made.fork(parent, fork_id=fork_id, store=store, **how)
            except WorkflowError:
                assert not world.fixed, "it failed though everything is fixed"
                world.fixed = True
                await made.resume(fork_id, store=store)

    with FakeClock():
        asyncio.run(live())
    history = store.events(fork_id)
    state = fold([])
    for event in history:
        fold([event], state)
        check(state)
    return history


def started(shape: Shape) -> tuple[Any, MemoryStore, dict[str, Any]]:
    made = make_workflow(shape)
    world.__init__()  # type: ignore[misc]
    store = MemoryStore()
    run_to_the_end(made, store)
    return made, store, outcome(check_history(store))


@quickly
@given(shapes(), st.data())
def test_a_fork_from_any_step_comes_to_the_same_results_and_so_does_a_fork_of_it(shape: Shape, data: Any) -> None:
    made, store, expected = started(shape)
    parent = ID
    for fork_id in ("f1", "f2"):
        ran = sorted({event.step for event in store.events(parent) if isinstance(event, StepCompleted)})
        if not ran:
            return
        step = data.draw(st.sampled_from(ran))
        note(f"{fork_id} from {step}")
        before = store.events(parent)
        history = fork_to_the_end(made, store, parent, fork_id, from_step=step)
        assert outcome(history) == expected
        assert store.events(parent) == before, "the parent was touched"
        last = max(i for i, event in enumerate(history) if isinstance(event, WorkflowForked))
        cut = history[last].parent_version
        assert history[:cut] == before[:cut], "what was kept has changed"
        parent = fork_id


@quickly
@given(shapes(), st.integers(1, 80))
def test_a_fork_of_an_interrupted_execution_comes_to_the_same_results(shape: Shape, died_after: int) -> None:
    made, store, expected = started(shape)
    history = store.events(ID)
    left = history[: max(1, min(died_after, len(history) - 1))]
    store = die_after(left)
    history = fork_to_the_end(made, store, ID, "f1")
    assert history[: len(left)] == left
    assert outcome(history) == expected
