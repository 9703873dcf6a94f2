"""A step that raised continues at the statement that raised, or at its top where that would be wrong."""

from __future__ import annotations

import itertools
import linecache

import pytest

from cerebelum_nb import WorkflowError, here, step, workflow
from cerebelum_nb._core.events import StepCheckpointed
from cerebelum_nb._core.fold import fold
from cerebelum_nb._history.facts import facts

_numbers = itertools.count()


class Notebook:
    """Cells that define a step named ``deploy``, and one run of it."""

    def __init__(self, log):
        self.log, self.done, self.space = log, [], {}

    def cell(self, source):
        name = f"<cell of a failure {next(_numbers)}>"
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        self.space |= {"step": step, "did": self.did, "__name__": "__main__"}
        exec(compile(source, name, "exec"), self.space)

        @workflow
        def ship(wf):
            wf.timeline(self.space["deploy"])

        self.ship = ship

    def did(self, what):
        self.done.append(what)
        return what

    def fails(self):
        """Run or resume it, and return the error."""
        known = any(row.execution_id == "k1" for row in self.log.executions()[0])
        with pytest.raises(WorkflowError) as failed:
            self.ship.resume_sync("k1", store=self.log) if known else self.ship.run(
                {}, execution_id="k1", store=self.log
            )
        return str(failed.value)

    def resume(self, **how):
        return self.ship.resume_sync("k1", store=self.log, **how).output

    @property
    def plan(self):
        return self.ship.plan_resume("k1", store=self.log)["deploy"].reasons[-1]

    @property
    def reasons(self):
        return [event.reason for event in self.log.events("k1") if isinstance(event, StepCheckpointed) and event.reason]


@pytest.fixture
def notebook(memory):
    return Notebook(memory)


SEVEN = """\
@step
def deploy(inputs):
    droplet = {"id": did("created")}
    names = [droplet]
    size = len(names)
    url = "http://" + droplet["id"] + 8080
    did("checked")
    return url, size, names[0] is droplet
"""
FIXED = SEVEN.replace("8080", "':8080'")


def test_it_is_fixed_and_continues_at_its_line(notebook):
    notebook.cell(SEVEN)
    told = notebook.fails()
    assert 'it continues at line 6, or with rerun=["deploy"] at its top' in told
    assert notebook.plan == "continues at line 6"
    notebook.cell(FIXED)
    assert notebook.plan == "continues at line 6"
    assert notebook.resume() == ("http://created:8080", 1, True)
    assert notebook.done == ["created", "checked"]


def test_a_rerun_starts_it_at_its_top(notebook):
    notebook.cell(SEVEN)
    notebook.fails()
    notebook.cell(FIXED)
    notebook.resume(rerun=["deploy"])
    assert notebook.done == ["created", "created", "checked"]


def test_a_change_before_the_line_starts_it_at_its_top(notebook):
    notebook.cell(SEVEN)
    notebook.fails()
    notebook.cell(FIXED.replace("size = len(names)", "size = 2"))
    assert notebook.plan == "starts at its top: code before line 6 was changed"
    assert notebook.resume() == ("http://created:8080", 2, True)
    assert notebook.done == ["created", "created", "checked"]
    assert notebook.reasons == ["code before line 6 was changed"]


HELPERS = """\
def read(text):
    return {text}

def use(value):
    return {use}
"""
USES = """\
@step
def deploy(inputs):
    did("top")
    value = read("5")
    return use(value)
"""


def test_a_helper_that_is_fixed_and_used_at_the_line_continues_there(notebook):
    notebook.cell(HELPERS.format(text="text", use="value + 1"))
    notebook.cell(USES)
    notebook.fails()
    notebook.cell(HELPERS.format(text="text", use="int(value) + 1"))
    assert notebook.resume() == 6
    assert notebook.done == ["top"]


def test_a_helper_that_is_fixed_and_made_the_variables_starts_it_at_its_top(notebook):
    notebook.cell(HELPERS.format(text="text", use="value + 1"))
    notebook.cell(USES)
    notebook.fails()
    notebook.cell(HELPERS.format(text="int(text)", use="value + 1"))
    assert notebook.plan == "starts at its top: read was changed, and is used before line 5"
    assert notebook.resume() == 6
    assert notebook.done == ["top", "top"]


def test_it_does_not_raise_for_ever_with_the_same_variables(notebook):
    source = (
        "answers = ['503', '200']\n@step\ndef deploy(inputs):\n    did('asked')\n    answer = answers.pop(0)\n"
        "    if answer != '200':\n        raise OSError(answer)\n    return answer\n"
    )
    notebook.cell(source)
    notebook.fails()
    assert notebook.plan == "continues at line 6"
    notebook.fails()
    told = "line 6 raised OSError again with the same code and variables"
    assert notebook.plan == f"starts at its top: {told}"
    assert notebook.resume() == "200"
    assert notebook.done == ["asked", "asked"] and notebook.reasons == [told]


def test_a_raise_is_decided_again_by_its_condition(notebook):
    source = (
        "limit = 1\n@step\ndef deploy(inputs):\n    did('top')\n    n = 2\n    if n < 0:\n        raise OSError\n"
        "    elif n > limit:\n        raise ValueError(n)\n    return n\n"
    )
    notebook.cell(source)
    notebook.fails()
    notebook.space["limit"] = 5
    assert notebook.plan == "continues at line 6"
    assert notebook.resume() == 2
    assert notebook.done == ["top"]


@pytest.mark.parametrize(
    "body",
    [
        "    try:\n        fail()\n    finally:\n        did('finally')\n",
        "    with open('/dev/null'):\n        fail()\n",
        "    did('x')\n    raise OSError\n",
        "    orders = [1, 2]\n    fail(orders.pop())\n",
        "    numbers = iter([1, 2])\n    fail(next(numbers))\n",
        "    numbers = (n for n in [1])\n    fail(numbers)\n",
        "    for n in fail():\n        pass\n",
    ],
)
def test_it_starts_at_its_top_where_its_line_would_be_wrong(notebook, body):
    notebook.cell("def fail(*_):\n    raise OSError\n@step\ndef deploy(inputs):\n    did('top')\n" + body)
    assert "continues at" not in notebook.fails()
    assert notebook.plan.startswith("failed:")


def test_a_first_statement_needs_no_checkpoint(notebook):
    notebook.cell("@step\ndef deploy(inputs):\n    'A text.'\n    return 1 / 0\n")
    notebook.fails()
    assert not fold(notebook.log.events("k1")).steps["deploy"].checkpoints


def test_it_continues_in_the_round_of_its_loop(notebook):
    source = (
        "@step\nasync def deploy(inputs):\n    for n in range(3):\n        did(n)\n        await nothing()\n"
        "        print(1 // (1 - n))\n"
    )
    notebook.cell("async def nothing():\n    pass\n" + source)
    notebook.fails()
    notebook.cell(source.replace("print(1 // (1 - n))", "pass"))
    notebook.resume()
    assert notebook.done == [0, 1, 2]


def test_the_last_attempt_of_its_retries_counts(notebook):
    notebook.cell(SEVEN.replace("@step\n", "@step(retries=1)\n"))
    notebook.fails()
    notebook.cell(FIXED.replace("@step\n", "@step(retries=1)\n"))
    notebook.resume()
    assert notebook.done == ["created", "created", "checked"]


def test_the_slider_shows_the_variables_at_the_line(notebook):
    notebook.cell(SEVEN)
    notebook.fails()
    shown = facts(fold(notebook.log.events("k1")))
    assert shown["steps['deploy'].line"] == "6"
    assert shown["steps['deploy'].variables['size']"] == "1"
    assert "created" in shown["steps['deploy'].variables['droplet', 'names']"]


def test_here_has_the_variables_at_the_line_from_the_log(notebook):
    notebook.cell(SEVEN.replace("names = [droplet]", "names = {droplet['id']}"))
    notebook.fails()
    found = here("k1", store=notebook.log)
    assert found.names == {"inputs": {}, "droplet": {"id": "created"}, "names": {"created"}, "size": 1}
