"""A process is killed at an event, and what it had recorded is in the log."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path

import pytest
from IPython.core.events import EventManager

from cerebelum_nb import connect, sleep, step, workflow
from cerebelum_nb._classroom.peek import Peek
from cerebelum_nb._text.times import at as moment_of
from cerebelum_nb.classroom import FastClock, World, crash, every_crash
from cerebelum_nb.errors import CerebelumError
from cerebelum_nb.testing import MemoryStore

pytestmark = pytest.mark.process


@step
def reserve(inputs):
    World(inputs["world"]).note("reserve")
    return inputs["world"]


@step
async def charge(reserve, context):
    await context.run("charge", World(reserve).note, "charge")
    return "paid"


@workflow
def shop(wf):
    wf.timeline(reserve >> charge)


@pytest.fixture
def log(tmp_path):
    with connect(tmp_path / "history.db", durability="normal") as made:
        yield made


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "world.txt")


def test_after_an_event_the_effect_is_kept_and_not_repeated(log, world):
    died = crash(shop, {"world": str(world.path)}, after="OperationCompleted charge")
    assert died.has_died and died.run.pairs()[-1] == ("OperationCompleted", "charge")
    assert shop.resume_sync(died).output == "paid"
    assert world.counts() == {"reserve": 1, "charge": 1}


def test_before_the_same_event_the_effect_happens_twice(log, world):
    died = crash(shop, {"world": str(world.path)}, before="OperationCompleted charge")
    assert died.has_died and ("OperationCompleted", "charge") not in died.run.pairs()
    assert world.counts() == {"reserve": 1, "charge": 1}
    shop.resume_sync(died)
    assert world.counts() == {"reserve": 1, "charge": 2}


def test_a_resume_can_die_as_well(log, world):
    first = crash(shop, {"world": str(world.path)}, after=3, execution_id="k1")
    again = crash(shop, after="OperationCompleted charge", execution_id=first, resume=True)
    assert again.execution_id == "k1" and again.run.was_resumed
    assert shop.resume_sync(again).output == "paid"
    assert world.counts() == {"reserve": 1, "charge": 1}


def test_a_run_that_never_reaches_the_event_says_so(log, world):
    lived = crash(shop, {"world": str(world.path)}, after=99)
    assert not lived.has_died and lived.run.is_completed
    assert "did not happen" in str(lived)


def test_a_run_that_fails_by_itself_says_why(log):
    with pytest.raises(CerebelumError, match=r"(?s)before anybody could kill it.*KeyError: 'world'"):
        crash(shop, {}, after=99)


@step
def hang():
    print(os.environ["GREETING"], os.getpid(), flush=True)
    time.sleep(600)


@workflow
def endless(wf):
    wf.timeline(hang)


@pytest.mark.soak  # it waits for its time limit
def test_a_process_that_neither_dies_nor_ends_is_killed_and_the_next_one_lives(log, world, monkeypatch):
    monkeypatch.setenv("GREETING", "hello")
    with pytest.raises(CerebelumError, match="neither died nor ended"):
        crash(endless, after="StepCompleted hang", execution_id="e1", timeout=8)
    printed = next(event.text for event in log.events("e1") if type(event).__name__ == "StepPrinted")
    greeting, pid = printed.split()
    assert greeting == "hello"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    assert crash(shop, {"world": str(world.path)}, after=2).has_died


def test_what_cannot_be_done_is_refused_before_a_process_starts(log, world):
    with pytest.raises(ValueError, match="say when to die"):
        crash(shop)
    with pytest.raises(ValueError, match="Did you mean 'StepCompleted'"):
        crash(shop, after="StepComplete charge")
    with pytest.raises(CerebelumError, match="in memory"):
        crash(shop, after=1, store=MemoryStore())


def test_wherever_a_run_dies_it_ends_the_same(log, world):
    deaths = every_crash(shop, {"world": str(world.path)})
    assert deaths["same end"].all() and not deaths["finished twice"].any()
    assert deaths["killed after"].iloc[0] == "2 StepStarted reserve"
    assert deaths["killed after"].iloc[-1] == "6 OperationCompleted charge"
    assert deaths["kept"].iloc[-1] == "reserve" and deaths["ran"].iloc[-1] == "charge"
    assert log.executions() == ([], 0)


@step
async def campaign():
    for _day in range(3):
        await sleep("1d")
    return "done"


@workflow
def month(wf):
    wf.timeline(campaign)


def test_days_pass_in_the_process_that_dies_and_the_rest_here(tmp_path):
    with connect(tmp_path / "history.db", durability="normal", hibernate_after="999d"):
        died = crash(month, after="SleepCompleted campaign", nth=2, clock=FastClock("30d/s"))
        assert (died.at - moment_of(died.run.events[0].at)).days >= 2
        with FastClock("30d/s", start=died.at):
            result = month.resume_sync(died)
    assert result.output == "done" and result.duration.days >= 3


def test_a_clock_continues_in_another_process_at_its_time():
    clock = FastClock("1d/s")
    copy = pickle.loads(pickle.dumps(clock))
    assert abs(copy.now() - clock.now()) < 86_400 * 60 * 1_000_000


@pytest.mark.parametrize("rate", ["1d", "1d/h", "0s/s", 0])
def test_an_invalid_rate_is_refused(rate):
    with pytest.raises(ValueError, match="rate"):
        FastClock(rate)


def test_a_world_that_was_cleared_has_nothing_in_it(tmp_path: Path):
    world = World(tmp_path / "world.txt")
    world.note("a\nb")
    assert world.counts() == {"a b": 1}
    world.clear()
    assert repr(world) == "nothing has happened"


def test_a_crash_a_peek_and_an_empty_world_are_shown_in_spanish(log, world, monkeypatch):
    monkeypatch.setenv("CEREBELUM_LANG", "es")
    assert repr(world) == "no ha pasado nada"
    looking = Peek(log, EventManager(None, ["post_run_cell"]))
    died = crash(shop, {"world": str(world.path)}, after=1)
    told = f"el proceso {died.pid} fue matado; 2 eventos de la ejecución {died.execution_id} están en el disco"
    assert str(died) == told
    assert "<th>versión</th>" in died._repr_html_().replace(" style='text-align:left'", "")
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data["text/plain"]))
    looking._show(None)
    assert shown[0].startswith("el registro tiene 2 eventos nuevos\n")
