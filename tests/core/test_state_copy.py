"""A copy of a state has a life of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.state_copy import copy_part, share_steps

from . import lives
from . import test_properties as random_runs


def check_copies(events, places):
    """Copy a state in the middle of a history; let the copy live on. A state that is continued may be one itself."""
    at, later = sorted(places)
    for make in copy_part, share_steps:
        first = fold(events[:at])
        second = fold(events[at:later], make(first))
        third = fold(events[later:], make(second))
        assert (first, second, third) == (fold(events[:at]), fold(events[:later]), fold(events))


@random_runs.quickly
@given(random_runs.shapes(), st.data())
def test_folding_into_a_copy_does_not_change_its_original(shape, data):
    lives.world.__init__()
    store = lives.a_log(hibernates=data.draw(st.booleans()))
    lives.run_to_the_end(random_runs.make_workflow(shape), store)
    events = store.events(lives.ID)
    places = st.integers(0, len(events))
    check_copies(events, (data.draw(places), data.draw(places)))
