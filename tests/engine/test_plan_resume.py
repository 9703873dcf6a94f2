"""What ``plan_resume`` says about each step, and why; on both stores."""

from __future__ import annotations

import linecache
import textwrap
import zlib

import pytest

from cerebelum_nb import ResumeError, Secret, WorkflowError, flow, step, workflow
from cerebelum_nb._engine.plan_payloads import parts_kept
from cerebelum_nb._store.sqlite import SqliteStore

pytestmark = pytest.mark.usefixtures("clock")

CELLS = """
from cerebelum_nb import step, workflow

TIMEOUT = 5

def clean(text):
    # of spaces
    return text.strip()

@step
def build(inputs):
    return clean(inputs["name"])

@step
def ship(build):
    return [build, TIMEOUT]

@step
def test(build, context):
    if context.inputs.get("fail"):
        raise ValueError("broken")
    return len(build)

@step
def tell(ship, test):
    return "told"

@workflow
def release(wf):
    wf.timeline(build >> ship >> test >> tell)
"""


class Notebook:
    """Cells run in one namespace, as a kernel runs them."""

    def __init__(self):
        self.namespace = {"__name__": "__main__"}
        self.count = 0

    def run(self, source):
        self.count += 1
        name = f"<ipython-input-{self.count}-{id(self)}>"
        text = textwrap.dedent(source)
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), self.namespace)
        return self

    def __getitem__(self, name):
        return self.namespace[name]


@pytest.fixture
def notebook():
    return Notebook().run(CELLS)


@pytest.fixture
def failed(notebook, store, go):
    """The notebook after a run that failed at `test`."""

    async def work():
        with pytest.raises(WorkflowError):
            await notebook["release"].execute({"name": " web ", "fail": True}, store=store, execution_id="k1")

    go(work())
    return notebook


def plan(notebook, store, **how):
    return notebook["release"].plan_resume("k1", store=store, **how)


def said(resume_plan):
    return {p.step: (p.action.value, list(p.reasons)) for p in resume_plan}


def test_after_a_failure_it_keeps_what_is_done_and_runs_the_rest(failed, store):
    assert said(plan(failed, store)) == {
        "build": ("keep", ["done, unchanged"]),
        "ship": ("keep", ["done, unchanged"]),
        "test": ("run", ["failed: ValueError: broken"]),
        "tell": ("run", ["has not run yet"]),
    }


def test_it_names_the_helper_and_the_line_and_what_depends_on_it(failed, store):
    failed.run("def clean(text):\n    # of spaces\n    return text.strip().lower()\n")
    assert said(plan(failed, store)) == {
        "build": ("stale", ["helper `clean` changed at line 3"]),
        "ship": ("stale", ["depends on `build`, which is stale"]),
        "test": ("run", ["failed: ValueError: broken"]),
        "tell": ("run", ["has not run yet"]),
    }
    again = said(plan(failed, store, rerun="stale"))
    assert again["build"] == ("run", ["helper `clean` changed at line 3"])
    assert again["ship"] == ("run", ["depends on `build`, which will run"])


def test_it_names_the_constant_with_both_values(failed, store):
    failed.run("TIMEOUT = 10")
    assert said(plan(failed, store))["ship"] == ("stale", ["constant TIMEOUT was 5, is 10"])
    assert said(plan(failed, store))["build"] == ("keep", ["done, unchanged"])


def test_it_names_the_input_for_the_steps_that_read_it(failed, store):
    resume_plan = plan(failed, store, inputs={"name": "api"})
    assert resume_plan["build"].reasons == ("input `name` changed",)
    other = plan(failed, store, inputs={"colour": "red"})
    assert [p.action.value for p in other] == ["keep", "keep", "run", "run"]


def test_an_input_changed_by_an_earlier_resume_still_counts(failed, store, go):
    async def work():
        with pytest.raises(WorkflowError):
            await failed["release"].resume("k1", inputs={"name": "api"}, store=store)

    go(work())
    assert said(plan(failed, store))["build"] == ("stale", ["input `name` changed"])


def test_resume_acts_on_the_plan(failed, store, go):
    failed.run("TIMEOUT = 10")

    async def work():
        return await failed["release"].resume("k1", inputs={"name": "api", "fail": False}, rerun="stale", store=store)

    result = go(work())
    assert dict(result.results) == {"build": "api", "ship": ["api", 10], "test": 3, "tell": "told"}
    assert [p.action.value for p in plan(failed, store)] == ["keep"] * 4


def test_a_formatted_and_commented_step_is_unchanged(failed, store):
    failed.run('@step\ndef build( inputs ):\n    """Build it."""\n    return clean(inputs["name"])  # so\n')
    assert said(plan(failed, store))["build"] == ("keep", ["done, unchanged"])


def test_before_a_first_run_every_step_of_the_timeline_runs(notebook, store, go):
    async def work():
        return notebook["release"].begin({"name": "x"}, store=store, execution_id="k1").plan()

    assert said(go(work())) == dict.fromkeys(("build", "ship", "test", "tell"), ("run", ["has not run yet"]))


def test_steps_off_the_timeline_are_told_apart(store, go):
    @step
    def look():
        return "bad"

    @step
    def fix():
        raise ValueError("cannot")

    @step
    def shout():
        return None

    @step
    def ship():
        return None

    @workflow
    def w(wf):
        wf.timeline(look >> ship)
        wf.diverge(from_step=look, patterns={"bad": fix, "awful": shout})

    async def before():
        return w.begin(store=store, execution_id="k1").plan()

    assert said(go(before()))["fix"] == ("may run", ["if `look` gives 'bad'"])

    async def after():
        with pytest.raises(WorkflowError):
            await w.attach("k1", store=store).finish()

    go(after())
    assert said(w.plan_resume("k1", store=store)) == {
        "look": ("keep", ["done, unchanged"]),
        "fix": ("run", ["failed: ValueError: cannot"]),
        "shout": ("skip", ["`look` took another route"]),
        "ship": ("skip", ["skipped on the route this run took"]),
    }


def test_a_path_that_rejoins_has_the_rest_of_the_timeline_ahead(store, go):
    @step
    def a():
        return "x"

    @step
    def b():
        return None

    @step
    def c():
        raise ValueError("no")

    @step
    def d():
        return None

    @workflow
    def w(wf):
        wf.timeline(a >> b >> c >> d)
        wf.diverge(from_step=a, patterns={"x": flow.skip_to(c)})

    async def work():
        with pytest.raises(WorkflowError):
            await w.execute(store=store, execution_id="k1")

    go(work())
    assert [p.action.value for p in w.plan_resume("k1", store=store)] == ["keep", "skip", "run", "run"]


def test_a_named_step_is_run_because_it_was_asked_for(failed, store):
    resume_plan = plan(failed, store, rerun=["ship"])
    assert resume_plan["ship"].reasons == ("asked for",)
    assert resume_plan[failed["tell"]].action.value == "run"
    with pytest.raises(ResumeError, match="Did you mean 'ship'"):
        plan(failed, store, rerun="shp")
    with pytest.raises(KeyError, match="no step 'nope'"):
        resume_plan["nope"]


def test_it_writes_nothing(failed, store):
    version = store.execution("k1").version
    plan(failed, store, rerun="stale", inputs={"name": "y"})
    assert store.execution("k1").version == version
    assert store.execution("k1").holder is None


def test_its_text_and_html_show_the_reasons(failed, store):
    failed.run("TIMEOUT = 10")
    resume_plan = plan(failed, store)
    assert repr(resume_plan).splitlines() == [
        "release: 2 run, 1 keep, 1 stale",
        "✓ build  keep   done, unchanged",
        "! ship   stale  constant TIMEOUT was 5, is 10",
        "▶ test   run    failed: ValueError: broken",
        "▶ tell   run    has not run yet",
        "stale results are kept; to run those steps again: resume(..., rerun='stale')",
    ]
    assert "constant TIMEOUT was 5, is 10" in resume_plan._repr_mimebundle_()["text/html"]


def test_the_code_of_a_step_is_kept_once_per_content(notebook, tmp_path, go):
    with SqliteStore(tmp_path / "log.db") as store:

        async def work():
            for number in range(3):
                await notebook["release"].execute({"name": "x"}, store=store, execution_id=f"k{number}")

        go(work())
        connection = store.read_connection()
        (count,) = connection.execute("SELECT count(*) FROM payload WHERE codec = 'code'").fetchone()
        connection.close()
        assert count == 4


def test_a_secret_in_a_constant_is_masked_in_the_log_and_in_the_reason(store, go):
    cells = Notebook().run(CELLS.replace("TIMEOUT = 5", "TIMEOUT = 'hunter2000'"))
    store.redact = ("timeout",)

    async def work():
        await cells["release"].execute({"name": "x", "key": Secret("hunter2000")}, store=store, execution_id="k1")

    go(work())
    recorded = next(e.code for e in store.events("k1") if getattr(e, "step", "") == "ship" and getattr(e, "code", None))
    assert "hunter2000" not in zlib.decompress(store.payload(f"code:{recorded}")).decode()
    cells.run("TIMEOUT = 'hunter3000'")
    (reason,) = cells["release"].plan_resume("k1", store=store)["ship"].reasons
    assert "hunter" not in reason
    assert reason == "constant TIMEOUT changed"


def test_code_that_an_older_version_did_not_record_reads_as_unknown(store):
    assert parts_kept(store, "0123456789abcdef") is None
