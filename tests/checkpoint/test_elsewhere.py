"""A step that waits or failed at a line, in a fork, a sweep, a pack, time travel and a trial."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from cerebelum_nb import ExecutionState, Secret, WorkflowError, connect, history, sleep, step, workflow
from cerebelum_nb.archive import pack, unpack
from cerebelum_nb.testing import FakeClock

TOKEN = "s3cr3t-token"


@pytest.fixture
def clock():
    with FakeClock() as made:
        yield made


@pytest.fixture
def log(tmp_path, clock):
    with connect(tmp_path / "log.db", hibernate_after=timedelta(hours=1), durability="normal") as made:
        yield made


class Mails:
    """A workflow whose second step waits twice, and the mails that it has sent."""

    def __init__(self):
        self.sent = sent = []

        @step
        def names(inputs):
            return [inputs["to"]]

        @step
        async def remind(names, inputs):
            sent.append("welcome")
            seen = names
            seen.append(("a", "b"))  # no JSON; a set may come back in another order, and then is recorded again
            await sleep(timedelta(days=1))
            sent.append("reminder")
            number = 5
            await sleep(timedelta(days=1))
            sent.append(inputs["token"].reveal())
            return len(seen) + number

        @step
        def greeting():
            return "hello"

        @workflow
        def mails(wf):
            wf.timeline(greeting >> names >> remind)

        self.made = mails
        self.inputs = {"to": "ada", "token": Secret(TOKEN)}


@pytest.fixture
def mails(log):
    made = Mails()
    result = asyncio.run(made.made.execute(made.inputs, execution_id="k1", store=log))
    assert result.status is ExecutionState.SLEEPING and made.sent == ["welcome"]
    return made


async def to_its_end(mails, log, clock, execution_id="k1", **how):
    result = None
    while result is None or result.status is ExecutionState.SLEEPING:
        clock.advance(timedelta(days=2))
        result = await mails.made.resume(execution_id, store=log, **how)
    return result.output


def test_a_fork_continues_at_the_line_and_so_does_its_parent(mails, log, clock):
    async def live():
        await mails.made.fork("k1", fork_id="f1", store=log)
        return await to_its_end(mails, log, clock, "f1"), await to_its_end(mails, log, clock)

    assert asyncio.run(live()) == (7, 7)
    assert mails.sent == ["welcome", *["reminder", TOKEN] * 2]


def test_a_fork_from_the_step_starts_it_at_its_top(mails, log, clock):
    asyncio.run(mails.made.fork("k1", from_step="remind", fork_id="f1", store=log))
    assert mails.sent == ["welcome", "welcome"]


def test_a_fork_with_another_argument_starts_it_at_its_top(mails, log, clock):
    async def live():
        await mails.made.fork("k1", fork_id="f1", overrides={"names": ["bob", "eve"]}, store=log)
        return await to_its_end(mails, log, clock, "f1")

    assert asyncio.run(live()) == 8
    assert mails.sent == ["welcome", "welcome", "reminder", TOKEN]


def test_the_variants_of_a_sweep_have_their_own_variables(log, clock):
    seen = []

    @step
    async def wait(inputs):
        seen.append(inputs["n"])
        doubled = [inputs["n"] * 2]
        await sleep("2h")
        return doubled

    @workflow
    def waits(wf):
        wf.timeline(wait)

    async def live():
        table = await waits.sweep("wait", inputs=[{"n": 1}, {"n": 2}], store=log)
        clock.advance("3h")
        return [(await waits.resume(one, store=log)).output for one in table["execution_id"]]

    assert asyncio.run(live()) == [[2], [4]]
    assert seen == [1, 2]


def test_a_pack_carries_the_variables_and_no_secret(mails, log, clock, tmp_path):
    pack("k1", tmp_path / "k1.cb", store=log)
    with connect(tmp_path / "other.db", hibernate_after=timedelta(hours=1), durability="normal") as other:
        unpack(tmp_path / "k1.cb", store=other, trusted=True)
        assert asyncio.run(to_its_end(mails, other, clock, inputs={"token": Secret(TOKEN)})) == 7
        assert TOKEN not in str(other.events("k1"))
    assert mails.sent == ["welcome", "reminder", TOKEN]
    for name in ("k1.cb", "other.db"):
        assert TOKEN.encode() not in (tmp_path / name).read_bytes()


def test_time_travel_shows_the_variables_at_every_checkpoint(mails, log, clock):
    asyncio.run(to_its_end(mails, log, clock))
    found = [
        history.state_at("k1", version=number, store=log)
        for number, event in enumerate(log.events("k1"), start=1)
        if type(event).__name__ == "StepCheckpointed"
    ]
    first, second = (snapshot.variables["remind"] for snapshot in found)
    assert list(first) == ["names, seen"]
    assert list(second) == ["number", "names, seen"] and second["number"] == "5"
    assert "number = 5" in repr(found[1]) and "line " in repr(found[1])
    assert history.state_at("k1", store=log).variables == {}


def test_the_slider_shows_the_variables_at_every_checkpoint_and_no_secret(mails, log, clock):
    asyncio.run(to_its_end(mails, log, clock))
    shown = json.dumps(history.slider("k1", store=log)._repr_mimebundle_())
    assert "variables['number']" in shown and "variables['names', 'seen']" in shown
    assert TOKEN not in shown


def test_an_edited_step_is_tried_at_the_line_where_it_failed(log):
    sent = []

    def define(ends):
        @step
        async def count(inputs):
            sent.append("top")
            total = [inputs["n"]]
            await sleep("1ms")
            return ends(total)

        return count

    @workflow
    def counting(wf):
        wf.timeline(define(lambda total: 1 / 0))

    for number in (1, 2):
        with pytest.raises(WorkflowError):
            counting.run({"n": number}, store=log)
    before = [log.events(row.execution_id) for row in log.executions()[0]]
    tried = history.try_step(define(sum), at_line=True, store=log)
    assert tried["new"].tolist() == ["2", "1"] and tried["line"].notna().all()
    assert sent == ["top", "top"]
    assert [len(events) for events in before] == [len(log.events(row.execution_id)) for row in log.executions()[0]]
    assert "line" not in history.try_step(define(sum), store=log)
    assert sent == ["top"] * 4


def test_a_step_that_can_only_start_at_its_top_is_tried_there(mails, log):
    @step
    async def remind(names, inputs):
        mails.sent.append("another")
        await sleep(timedelta(days=1))
        return len(names)

    tried = history.try_step(remind, at_line=True, store=log)
    assert tried["new"].tolist() == ["1"] and tried["line"].isna().all()
    assert mails.sent == ["welcome", "another"]
