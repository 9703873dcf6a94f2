"""Which inputs a step reads, as far as its source shows."""

from __future__ import annotations

import pytest

from cerebelum_nb import step
from cerebelum_nb._dsl.input_reads import inputs_read


def one(inputs):
    return inputs["size"]


def several(inputs, context):
    return inputs.get("size", 3) if "name" in inputs else context.inputs["colour"]


def by_context(context):
    return context.inputs.get("size"), context.attempt


def none_of_them(context):
    return context.execution_id


def handed_on(inputs):
    return str(inputs)


def context_handed_on(context):
    return str(context)


def looped(inputs):
    return [inputs[name] for name in ("a", "b")]


def inside(inputs):
    def deep():
        return inputs["deep"]

    return deep() + inputs["shallow"]


@pytest.mark.parametrize(
    ("fn", "read"),
    [
        (one, {"size"}),
        (several, {"size", "name", "colour"}),
        (by_context, {"size"}),
        (none_of_them, set()),
        (handed_on, None),
        (context_handed_on, None),
        (looped, None),
        (inside, {"deep", "shallow"}),
    ],
)
def test_the_inputs_a_step_reads(fn, read):
    spec = step(fn).spec()
    found = inputs_read(spec.fn, takes_inputs=spec.takes_inputs, takes_context=spec.takes_context)
    assert found == read


def test_without_a_source_it_may_read_any():
    assert inputs_read(print, takes_inputs=True, takes_context=False) is None
