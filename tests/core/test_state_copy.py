"""A copy of a state has a life of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cerebelum_nb._core.fold import evolve, fold
from cerebelum_nb._core.state_copy import copied

from . import lives
from . import test_properties as random_runs


def check_copies(events, at):
    """Copy a state in the middle of a history; let the copy live on."""
    before = fold(events[:at])
    copy = copied(before)
    assert copy == before
    for event in events[at:]:
        evolve(copy, event)
    assert (before, copy) == (fold(events[:at]), fold(events))


@random_runs.quickly
@given(random_runs.shapes(), st.data())
def test_what_happens_to_a_copy_leaves_its_original_alone(shape, data):
    lives.world.__init__()
    store = lives.a_log(hibernates=data.draw(st.booleans()))
    lives.run_to_the_end(random_runs.make_workflow(shape), store)
    events = store.events(lives.ID)
    check_copies(events, data.draw(st.integers(0, len(events))))
