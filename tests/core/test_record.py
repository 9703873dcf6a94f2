"""Records: what the classes of events are made with."""

from __future__ import annotations

import copy
import pickle
from dataclasses import fields, replace

import pytest

from cerebelum_nb._core.events import EVENT_TYPES, StepStarted, TakenUpEvent, WorkflowForked, WorkflowResumed
from cerebelum_nb._core.value import Value


def test_two_records_are_equal_if_their_class_and_all_fields_are():
    one = StepStarted(at=1, step="a")
    assert one == StepStarted(at=1, step="a") != StepStarted(at=2, step="a")
    assert hash(one) == hash(StepStarted(at=1, step="a"))
    assert TakenUpEvent(at=1) != WorkflowResumed(at=1)


def test_a_record_is_shown_copied_pickled_and_replaced_as_a_dataclass():
    one = StepStarted(at=1, step="a", code="c")
    assert repr(one) == "StepStarted(at=1, step='a', visit=1, attempt=1, code='c')"
    assert copy.copy(one) == pickle.loads(pickle.dumps(one)) == one
    assert replace(one, step="b") == StepStarted(at=1, step="b", code="c")


def test_a_class_has_its_own_fields_although_an_object_of_its_base_was_made_before():
    TakenUpEvent(at=1)
    assert WorkflowForked(at=1, parent="p", parent_version=2).parent_version == 2


def test_a_missing_or_unknown_field_is_refused_by_name():
    with pytest.raises(TypeError, match=r"StepStarted.__init__.*'step'"):
        StepStarted(at=1)
    with pytest.raises(TypeError, match="'colour'"):
        StepStarted(at=1, step="a", colour="red")


@pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=lambda kind: kind.__name__)
def test_an_event_cannot_have_a_field_that_it_does_not_declare(kind):
    assert (fields(kind) and not hasattr(kind, "__dict__")) or "__slots__" in vars(kind)


def test_the_hash_of_a_value_ignores_its_bytes():
    assert hash(Value("arrow", digest="d", payload=b"x")) == hash(Value("arrow", digest="d"))
