"""``@step(cache=...)``: a result of the same code and arguments is taken from the log; a stale one never is."""

from __future__ import annotations

import linecache
import random
import sqlite3
import textwrap
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cerebelum_nb import Secret, StepDefinitionError, flow, foreach, history, step, workflow
from cerebelum_nb._core.events import StepCompleted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._views.card import Card
from cerebelum_nb._views.graph import Graph
from cerebelum_nb.archive import pack, prune, repair, unpack, verify
from cerebelum_nb.testing import FakeClock, MemoryStore

ran: list[object] = []


@pytest.fixture(autouse=True)
def nothing_ran():
    ran.clear()


def code(text, **names):
    """Run source as a module whose code the fingerprint can read, like that of a cell."""
    name = f"<cell {random.getrandbits(60)}>"
    text = textwrap.dedent(text)
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    space = {"__name__": "__main__", "ran": ran, "step": step, "workflow": workflow, "foreach": foreach, **names}
    exec(compile(text, name, "exec"), space)
    return space


PLAIN = """
    def helper(n):
        return n * FACTOR

    FACTOR = 2

    @step(cache="7 days")
    def clean(inputs):
        ran_it(inputs["n"])
        return helper(inputs["n"])

    @step
    def use(clean):
        return clean + 1

    @workflow
    def w(wf):
        wf.timeline(clean >> use)
"""


def ran_it(what):
    ran.append(what)


def plain(text=PLAIN):
    return code(text, ran_it=ran_it)["w"]


def sources(store, execution_id):
    return {
        event.step: event.source
        for event in store.events(execution_id)
        if isinstance(event, StepCompleted) and event.key
    }


def test_the_same_step_with_the_same_arguments_is_not_run_again(go, store):
    w = plain()
    first = go(w.execute({"n": 3}, store=store, execution_id="k1"))
    again = go(w.execute({"n": 3}, store=store, execution_id="k2"))
    assert (first.output, again.output, ran) == (7, 7, [3])
    assert sources(store, "k1") == {"clean": ""} and sources(store, "k2") == {"clean": "k1@3"}
    check(fold(store.events("k2")))


def test_card_plan_and_history_say_where_a_result_is_from(go, store):
    w = plain()
    go(w.execute({"n": 3}, store=store, execution_id="k1"))
    go(w.execute({"n": 3}, store=store, execution_id="k2"))
    assert history.steps("k2", step="clean", store=store)["source"].tolist() == ["k1@3"]
    assert history.steps("k1", step="clean", store=store)["source"].isna().all()
    state = fold(store.events("k2"))
    assert "taken from k1" in Card.at("k2", state, state.updated_at, Graph(w.plan())).to_html()
    go(w.fork("k2", "use", fork_id="k3", store=store))
    assert sources(store, "k3") == {"clean": "k1@3"}


def test_a_plan_says_which_execution_the_result_of_a_step_ahead_is_from(go, fails, store):
    text = PLAIN.replace(
        "@workflow",
        """@step
    def gate():
        if len(ran) == 1:
            raise OSError("closed")

    @workflow""",
    )
    go(plain().execute({"n": 3}, store=store, execution_id="k1"))
    w = plain(text.replace("clean >> use", "gate >> clean >> use"))
    fails(w.execute({"n": 3}, store=store, execution_id="k2"))
    reasons = {planned.step: planned.reasons for planned in w.plan_resume("k2", store=store).steps}
    assert reasons["clean"] == ("has not run yet", "its result is taken from k1")
    assert reasons["use"] == ("has not run yet",)


def test_an_input_that_the_step_does_not_read_does_not_count(go, store):
    w = plain()
    go(w.execute({"n": 3, "who": "Ada"}, store=store))
    go(w.execute({"n": 3, "who": "Bob"}, store=store))
    go(w.execute({"n": 4, "who": "Bob"}, store=store))
    assert ran == [3, 4]


def test_a_result_older_than_that_is_not_taken(go, store, clock):
    w = plain()
    go(w.execute({"n": 3}, store=store))
    clock.advance("6 days")
    go(w.execute({"n": 3}, store=store))
    assert ran == [3]
    clock.advance("2 days")  # the age counts from the run, not from the last use
    go(w.execute({"n": 3}, store=store))
    assert ran == [3, 3]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FACTOR = 2", "FACTOR = 3"),
        ("return n * FACTOR", "return FACTOR + n"),
        ('return helper(inputs["n"])', 'return helper(inputs["n"]) + 0'),
    ],
)
def test_an_edit_of_the_step_a_helper_or_a_constant_runs_it(go, store, old, new):
    go(plain().execute({"n": 3}, store=store))
    edited = plain(PLAIN.replace(old, new))
    go(edited.execute({"n": 3}, store=store))
    assert ran == [3, 3]
    go(plain().execute({"n": 3}, store=store))  # the old code again: its result is found
    assert ran == [3, 3]


def test_a_comment_is_no_edit(go, store):
    go(plain().execute({"n": 3}, store=store))
    go(plain(PLAIN.replace("FACTOR = 2", "FACTOR = 2  # doubled")).execute({"n": 3}, store=store))
    assert ran == [3]


def test_an_edit_while_the_step_runs_keeps_its_result_out(go, store):
    space = code(
        """
        def helper():
            return 1

        def other():
            return 2

        @step(cache=True)
        async def compute():
            global helper
            ran.append(1)
            value = helper()
            if len(ran) == 1:
                helper = other
            return value

        @workflow
        def w(wf):
            wf.timeline(compute)
        """
    )
    go(space["w"].execute(store=store, execution_id="k1"))
    assert sources(store, "k1") == {}


def test_refresh_runs_the_step_anyway_and_its_result_is_taken_from_then_on(go, store):
    w = plain()
    go(w.execute({"n": 3}, store=store, execution_id="k1"))
    go(w.execute({"n": 3}, store=store, execution_id="k2", refresh=["clean"]))
    go(w.execute({"n": 3}, store=store, execution_id="k3"))
    assert ran == [3, 3] and sources(store, "k3") == {"clean": "k2@3"}


def test_a_rerun_runs(go, store):
    w = plain()
    go(w.execute({"n": 3}, store=store, execution_id="k1"))
    go(w.execute({"n": 3}, store=store, execution_id="k2"))
    go(w.fork("k2", None, rerun=["clean"], fork_id="k3", store=store))
    assert ran == [3, 3]


def test_every_item_of_a_foreach_is_cached_by_itself(go, store):
    w = code(
        """
        @step(cache=True)
        async def square(x):
            ran.append(x)
            return x * x

        @workflow
        def w(wf):
            wf.timeline(foreach(square, x="inputs.xs"))
        """
    )["w"]
    go(w.execute({"xs": [1, 2]}, store=store, execution_id="k1"))
    result = go(w.execute({"xs": [3, 2, 1]}, store=store, execution_id="k2"))
    assert result.output == [9, 4, 1] and ran == [1, 2, 3]
    go(w.execute({"xs": [4, 1]}, store=store, refresh=["square"]))
    assert ran == [1, 2, 3, 4, 1]


def test_values_that_are_not_json_are_taken_whole(go, store, tmp_path):
    w = code(
        """
        class Model:
            def __init__(self, n):
                self.n = n

        @step(cache=True)
        def train(inputs):
            ran.append(1)
            return {1, 2, inputs["n"]}, Model(inputs["n"])

        @step
        def use(train):
            return train[1].n

        @workflow
        def w(wf):
            wf.timeline(train >> use)
        """
    )["w"]
    assert [go(w.execute({"n": 5}, store=store)).output for _ in range(2)] == [5, 5]
    assert ran == [1]


# -- never ------------------------------------------------------------------------------------------------------


def test_nothing_is_taken_where_an_argument_holds_a_secret(go, store):
    w = code(
        """
        @step(cache=True)
        def log_in(inputs):
            ran.append(1)
            return len(inputs["key"].reveal())

        @workflow
        def w(wf):
            wf.timeline(log_in)
        """
    )["w"]
    for number in range(2):
        go(w.execute({"key": Secret("hunter22")}, store=store, execution_id=f"k{number}"))
    assert ran == [1, 1] and sources(store, "k1") == {}


def test_a_result_that_holds_a_secret_is_not_kept_for_others(go, store):
    w = code(
        """
        @step(cache=True)
        def token():
            ran.append(1)
            return {"token": Secret("hunter22")}

        @workflow
        def w(wf):
            wf.timeline(token)
        """,
        Secret=Secret,
    )["w"]
    for number in range(2):
        go(w.execute(store=store, execution_id=f"k{number}"))
    assert ran == [1, 1] and sources(store, "k1") == {}


def test_a_failure_is_not_taken(fails, go, store):
    w = code(
        """
        @step(cache=True)
        def flaky():
            ran.append(1)
            if len(ran) == 1:
                raise OSError("no")
            return "done"

        @workflow
        def w(wf):
            wf.timeline(flaky)
        """
    )["w"]
    fails(w.execute(store=store))
    assert go(w.execute(store=store)).output == "done" and len(ran) == 2


def test_what_nobody_can_tell_a_change_of_is_not_taken(go, store):
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    w = code(
        """
        @step(cache=True)
        def ask():
            ran.append(1)
            return CONNECTION.execute("SELECT 1").fetchone()[0]

        @workflow
        def w(wf):
            wf.timeline(ask)
        """,
        CONNECTION=connection,
    )["w"]
    with closing(connection):
        for _ in range(2):
            go(w.execute(store=store))
    assert ran == [1, 1]


def test_a_loop_runs_its_steps(go, store):
    w = code(
        """
        @step(cache=True)
        def draw():
            ran.append(1)
            return len(ran)

        @step
        def judge(draw):
            return draw

        @workflow
        def w(wf):
            wf.timeline(draw >> judge)
            wf.diverge(from_step=judge, patterns={1: flow.back_to(draw)})
        """,
        flow=flow,
    )["w"]
    assert go(w.execute(store=store)).output == 2


# -- the log ----------------------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path):
    with SqliteStore(tmp_path / "log.db", durability="normal") as made:
        plain().run({"n": 3}, store=made, execution_id="k1")
        yield made


def test_pruning_the_source_is_harmless(log):
    plain().run({"n": 3}, store=log, execution_id="k2")
    with FakeClock():
        prune(keep_last=1, store=log)
    assert [row.execution_id for row in log.executions()[0]] == ["k2"] and verify(store=log).ok
    assert history.outputs("k2", store=log)["clean"] == 6
    plain().run({"n": 3}, store=log, execution_id="k3")  # the execution it was taken from is gone
    assert sources(log, "k3") == {"clean": ""} and verify(store=log).ok


def test_a_pack_is_whole_and_nothing_is_taken_from_one_of_somebody_else(log, tmp_path):
    pack("k1", tmp_path / "one.cerebelum", store=log)
    with SqliteStore(tmp_path / "other.db") as other:
        unpack(tmp_path / "one.cerebelum", store=other)
        assert verify(store=other).ok
        plain().run({"n": 3}, store=other, execution_id="k2")
        assert sources(other, "k2") == {"clean": ""} and ran == [3, 3]


@pytest.mark.parametrize(
    "damage", ["DELETE FROM result", "UPDATE result SET version = 2", "UPDATE result SET key = 'x'"]
)
def test_an_index_that_was_changed_is_found_and_never_gives_a_wrong_result(log, damage):
    with closing(sqlite3.connect(log.path)) as db:
        db.execute(damage)
        db.commit()
    assert "the index of cached results" in str(verify(store=log))
    plain().run({"n": 3}, store=log, execution_id="k2")
    assert sources(log, "k2") == {"clean": ""}
    repair(store=log)
    assert verify(store=log).ok
    plain().run({"n": 3}, store=log, execution_id="k3")
    assert sources(log, "k3")["clean"].startswith("k")


def test_steps_without_a_cache_leave_no_trace(log):
    with closing(log.read_connection()) as db:
        assert db.execute("SELECT count(*) FROM result").fetchone() == (1,)
        (data,) = db.execute("SELECT data FROM event WHERE type = 'StepCompleted' AND step = 'use'").fetchone()
    assert data == '{"output":7}'


# -- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"cache": "soon"}, "cache must be True, or the maximum age of a result, such as '7 days'"),
        ({"cache": 0}, "cache must be more than zero"),
        ({"cache": -1}, "cache must be True, or the maximum age"),
        ({"cache": [1]}, "cache must be True, or the maximum age"),
        ({"cache": True, "effect": "external"}, "an external effect is never taken from another execution"),
        ({"cache": True, "keep": False}, "a result that is not kept cannot be reused"),
    ],
)
def test_a_cache_that_cannot_be_is_refused_where_the_step_is_defined(options, told):
    with pytest.raises(StepDefinitionError, match="@step of 'f'") as caught:

        @step(**options)
        def f():
            return 1

    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("refresh", "error", "told"),
    [
        (["cleen"], ValueError, "has no step 'cleen'. Did you mean 'clean'?"),
        (["use"], ValueError, "step 'use' takes no cached results, so it runs anyway"),
        ([7], TypeError, "refresh takes names of steps"),
        (True, TypeError, "refresh takes names of steps"),
    ],
)
def test_a_refresh_of_something_else_is_refused_before_anything_runs(go, memory, refresh, error, told):
    with pytest.raises(error) as caught:
        go(plain().execute({"n": 1}, store=memory, refresh=refresh))
    assert told in str(caught.value) and not memory.executions()[0]


# -- never a stale value ----------------------------------------------------------------------------------------

_TEXT = """
    A = {a}
    B = {b}

    def inner(n):
        return n + A{inner}

    def outer(n):
        return inner(n) * {factor}

    @step{first}
    def first(inputs):
        return inputs["n"] + B

    @step(cache=True)
    async def second(first, inputs):
        return outer(first) + inputs.get("m", 0){body}

    @step(cache=True)
    async def each(item, second):
        return item * second + A

    @workflow
    def w(wf):
        wf.timeline(first >> second >> foreach(each, item="inputs.items"))
"""

_worlds = st.fixed_dictionaries(
    {
        "a": st.integers(0, 2),
        "b": st.integers(0, 2),
        "inner": st.sampled_from(["", " + 1", " + A"]),
        "factor": st.integers(1, 2),
        "first": st.sampled_from(["", "(cache=True)"]),
        "body": st.sampled_from(["", " + 5", " + B"]),
    }
)
_inputs = st.fixed_dictionaries(
    {"n": st.integers(0, 2), "items": st.lists(st.integers(0, 2), max_size=3)}, optional={"m": st.integers(0, 2)}
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(_worlds, _inputs), min_size=2, max_size=6))
def test_with_a_cache_every_run_gives_what_it_would_without_one(runs):
    log = MemoryStore()
    for world, inputs in runs:
        text = _TEXT.format(**world)
        cached = code(text)["w"].run(inputs, store=log)
        plainly = code(text.replace("(cache=True)", ""))["w"].run(inputs, store=MemoryStore())
        assert cached.output == plainly.output
        check(fold(log.events(cached.execution_id)))
