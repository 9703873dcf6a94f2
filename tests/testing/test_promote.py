"""A notebook's workflow becomes a module: what the module has, what is refused, and what recorded runs prove."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cerebelum_nb._promote.draft import draft_of
from cerebelum_nb._promote.promote import PromotionError, promote
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._workflow.load import load_notebook
from cerebelum_nb.errors import WorkflowNotFoundError

pytestmark = pytest.mark.process  # ruff formats what is written

SHOP = [
    "from cerebelum_nb import WorkflowError, history, step, workflow\nimport math",
    "# what a person pays at least\nMINIMUM = 5\nasked = []",
    "def rounded(amount):\n    return math.ceil(amount)",
    "@step\ndef price(inputs):\n    import math\n    asked.append(1)\n    return math.floor(inputs['amount'] * 2)",
    "@step(effect='external')\ndef charge(price):\n    # the bank is told here\n    return {'paid': rounded(price)}",
    "@charge.on_rollback\ndef refund(charge):\n    return charge['paid']",
    "@workflow\ndef order(wf):\n    wf.timeline(price >> charge)",
    "result = await order.execute({'amount': 1})\nhistory.steps(result.execution_id)",
    "@step\ndef price(inputs):\n    asked.append(1)\n    return max(MINIMUM, inputs['amount'] * 2)",
]


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Write a notebook with these cells in a folder, and make it the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(cells):
        document = {"cells": [{"cell_type": "code", "source": source} for source in cells], "nbformat": 4}
        path = tmp_path / "shop.ipynb"
        path.write_text(json.dumps(document))
        return path

    return write


@pytest.fixture
def log(tmp_path):
    with SqliteStore(tmp_path / "log.db", durability="normal") as made:
        yield made


def run(path, log, inputs, execution_id):
    load_notebook(path).order.run(inputs, store=log, execution_id=execution_id)


def promoted(path, log=None, name="flow_of_shop.py", **options):
    try:
        return promote(path, path.parent / name, log, **options)
    finally:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_the_module_has_what_the_workflow_needs_in_order_with_its_comments(notebook):
    text = draft_of(notebook(SHOP)).text

    names = ["# what a person pays", "def rounded", "def price", "# the bank", "def refund", "def order"]
    assert sorted(names, key=text.index) == names
    assert "from cerebelum_nb import step, workflow" in text and "import math" in text
    for left_out in ("history", "WorkflowError", "execute"):
        assert left_out not in text


def test_the_last_definition_takes_the_place_of_the_first_and_is_named(notebook):
    draft = draft_of(notebook(SHOP))
    assert draft.text.count("def price") == 1 and "max(MINIMUM" in draft.text
    assert draft.notes == ["'price' is defined in code cells 4, 9: the last counts"]


def test_only_one_workflow_and_what_it_needs_if_it_is_named(notebook):
    path = notebook(
        [*SHOP, "@step\ndef ping():\n    return 1\n\n@workflow(name='ping-all')\ndef pings(wf):\n    wf.timeline(ping)"]
    )
    assert draft_of(path).workflows == ["order", "pings"]
    assert "charge" not in draft_of(path, "ping-all").text


def test_recorded_runs_prove_that_the_code_is_the_same(notebook, log):
    path = notebook(SHOP)
    for amount in (1, 4):
        run(path, log, {"amount": amount}, f"k{amount}")
    made = promoted(path, log, pure=["price"])

    (proof,) = made.proofs
    assert proof.holds and proof.accepted == 2
    assert [(p.step, p.same, p.tried, p.as_recorded) for p in proof.steps] == [
        ("price", True, 2, 2),
        ("charge", True, 0, 0),
    ]


def test_other_code_and_other_results_are_no_proof(notebook, log):
    run(notebook(SHOP), log, {"amount": 1}, "k1")
    made = promoted(notebook([*SHOP, SHOP[3]]), log, pure=["all"])

    (proof,) = made.proofs
    assert not proof.holds
    assert (proof.steps[0].same, proof.steps[0].as_recorded) == (False, 0)
    assert proof.steps[0].why


def test_a_run_that_it_could_not_resume_is_named(notebook, log):
    run(notebook(SHOP), log, {"amount": 1}, "k1")
    made = promoted(notebook([*SHOP, "@workflow\ndef order(wf):\n    wf.timeline(price)"]), log)
    assert "step 'charge' (completed, no longer on the timeline)" in made.proofs[0].histories[0].refused


def test_its_tests_run(notebook, log, tmp_path):
    run(notebook(SHOP), log, {"amount": 1}, "k1")
    path = notebook(SHOP)
    try:
        made = promote(path, path.parent.relative_to(tmp_path) / "flow_of_shop.py", log, tests=True, pure=["price"])
    finally:
        sys.modules.pop("flow_of_shop", None)
    assert [str(one) for one in made.tests] == ["tests/test_flow_of_shop.py", "tests/histories/k1.jsonl"]

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "cerebelum_nb._testing.plugin"]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False, env=alone)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


FLOW = "from cerebelum_nb import step, workflow\n@workflow\ndef order(wf):\n    wf.timeline(price)\n"
REFUSED = [
    (
        "rate = order.run()\n@step\ndef price():\n    return rate",
        "'price' .* reads 'rate', which code cell 2 computes by running",
    ),
    ("@step\ndef price():\n    return unknown", "'price' .* reads 'unknown', which no cell of the notebook defines"),
    ("@step\ndef price():\n    display(1)", "'price' .* uses 'display', which only a notebook has"),
    (
        "@step\ndef price():\n    !date\n    return 1",
        "'price' .* runs a magic or a shell line, .*'date'.*subprocess.run",
    ),
    ("@step\ndef price():\n    %timeit 1\n    return 1", "'price' .* runs a magic or a shell line"),
    ("N = 1\nN = 2\n@step\ndef price():\n    return N", "'N' is set to different values"),
    ("API_TOKEN = 'abc'\n@step\ndef price():\n    return API_TOKEN", "given to 'API_TOKEN' looks like a secret"),
    (
        "@step\ndef price():\n    return call(password='x')\ndef call(**k):\n    return k",
        "given to 'password' looks like",
    ),
    ("@step\ndef price():\n    return {'token': 'x'}", "'price': what is given to 'token' looks like a secret"),
    ("@step\ndef price():\n    return 'ghp_" + "a1" * 18 + "'", "looks like a secret"),
]


@pytest.mark.parametrize(("cell", "told"), REFUSED)
def test_what_cannot_be_in_a_module_is_refused_with_the_reason(notebook, cell, told):
    path = notebook([FLOW, cell])
    with pytest.raises(PromotionError, match=told):
        promoted(path)
    assert not (path.parent / "flow_of_shop.py").exists()


def test_all_reasons_are_shown_at_once_and_force_writes_it(notebook):
    path = notebook([FLOW, "TOKEN = 'x'\nN = 1\nN = 2\n@step\ndef price():\n    return N, TOKEN"])
    with pytest.raises(PromotionError, match="for 2 reasons") as caught:
        promoted(path)
    assert len(caught.value.problems) == 2
    assert promoted(path, force=True).path.exists()


def test_no_existing_file_is_replaced_or_lost(notebook):
    path = notebook(SHOP)
    promoted(path)
    with pytest.raises(PromotionError, match=r"exists: nothing was written. .*--force"):
        promoted(path)
    (path.parent / "broken.py").write_text("mine = 1")
    broken = notebook([FLOW, "import nowhere_to_be_found\n@step\ndef price():\n    return nowhere_to_be_found.x"])
    with pytest.raises(PromotionError, match="ModuleNotFoundError when it was imported"):
        promoted(broken, name="broken.py", force=True)
    assert (path.parent / "broken.py").read_text() == "mine = 1"


def test_a_wrong_use_says_what_to_do(notebook, log):
    path = notebook(SHOP)
    with pytest.raises(WorkflowNotFoundError, match=r"defines no workflow 'odrer'. It defines: order"):
        promoted(path, workflow="odrer")
    with pytest.raises(PromotionError, match="name it with --db"):
        promoted(path, tests=True)
    with pytest.raises(PromotionError, match=r"not a valid module name: choose a file such as .*flow\.py"):
        promoted(path, name="my-flow.py")
    with pytest.raises(PromotionError, match="no step 'prize' to treat as pure"):
        promoted(path, log, pure=["prize"])
    with pytest.raises(WorkflowNotFoundError, match="cells that begin with %%step"):
        draft_of(notebook(["%%step price\n1"]))
    with pytest.raises(WorkflowNotFoundError, match="no function under @workflow"):
        draft_of(notebook(["1"]))
