"""``here()`` with the steps, workflows and secrets of the notebook."""

from __future__ import annotations

import pytest

from cerebelum_nb import Secret, Step, WorkflowError, here, step, workflow
from cerebelum_nb.testing import MemoryStore

TOKEN = "s3cr3t-token-1"


def failure_of(*items, inputs=None):
    made = workflow(name="w")(lambda wf: wf.timeline(*items))
    with pytest.raises(WorkflowError) as caught:
        made.run(inputs, store=MemoryStore())
    return caught.value, made


@step
def fetch():
    return [1, 2, 9]


@step
def check(fetch):
    limit = 5
    raise ValueError(f"more than {limit}")


def test_a_name_that_is_a_step_stays_a_step():
    error, made = failure_of(fetch >> check)
    notebook = {"fetch": fetch, "limit": made, "other": 1}
    found = here(error, into=notebook)
    assert isinstance(notebook["fetch"], Step) and notebook["limit"] is made
    assert found.names == {"fetch": [1, 2, 9], "limit": 5}


def test_a_variable_that_contains_a_secret_is_a_secret():
    @step
    def call(inputs):
        token = inputs["token"].reveal()
        headers = {"Authorization": f"Bearer {token}"}
        size = len(headers)
        raise ConnectionError(f"refused {token} ({size})")

    error, _ = failure_of(call >> step(name="never")(lambda: 1), inputs={"token": Secret(TOKEN)})
    notebook = {}
    found = here(error, into=notebook)
    assert TOKEN not in repr(found) + repr(notebook)
    assert notebook["token"].reveal() == TOKEN and notebook["headers"].reveal() == {"Authorization": f"Bearer {TOKEN}"}
    assert notebook["size"] == 1
