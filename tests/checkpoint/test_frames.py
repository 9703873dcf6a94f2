"""A frame that a step does not change is written once; every change in place is kept."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from cerebelum_nb import ExecutionState, connect, sleep, step, workflow
from cerebelum_nb._values import arrow
from cerebelum_nb.testing import FakeClock, MemoryStore

pytestmark = pytest.mark.filterwarnings("ignore::cerebelum_nb.SharedValueWarning")  # to change it is the point


def _retype(frame):
    frame["n"] = frame["n"].astype("float32")


CHANGES = {
    "nothing": lambda frame: frame.sum(numeric_only=True),
    "a number": lambda frame: frame.__setitem__("n", frame["n"] + 1),
    "one number": lambda frame: frame.iloc.__setitem__((0, 0), 9.5),
    "a text": lambda frame: frame.loc.__setitem__((frame.index[-1], "s"), "new"),
    "a missing text": lambda frame: frame.loc.__setitem__((frame.index[0], "s"), None),
    "a column more": lambda frame: frame.insert(0, f"c{frame.shape[1]}", 0.0),
    "the type of a column": _retype,
    "the order of a column": lambda frame: frame.__setitem__("n", frame["n"].to_numpy()[::-1]),
    "the index": lambda frame: setattr(frame, "index", frame.index * 2 + 1),
    "the index's name": lambda frame: setattr(frame.index, "name", "row"),
    "the columns' name": lambda frame: setattr(frame.columns, "name", "column"),
    "the attributes": lambda frame: frame.attrs.update(unit="m"),
}


def _about(frame):
    """Return everything in which two frames may differ."""
    return (
        frame.to_csv(),
        [str(dtype) for dtype in frame.dtypes],
        frame.index.name,
        frame.columns.name,
        dict(frame.attrs),
        frame.flags.allows_duplicate_labels,
    )


def _changing(changes):
    """Make a workflow whose second step changes its frame after each wait and returns a description of it."""

    @step
    def made():
        return pd.DataFrame({"n": [1.5, 2.5, 0.5], "s": ["a", "b", "c"]})

    @step
    async def change(made):
        for name in changes:
            await sleep(timedelta(days=1))
            CHANGES[name](made)
        await sleep(timedelta(days=1))
        return repr(_about(made))

    @workflow
    def changing(wf):
        wf.timeline(made >> change)

    return changing


def _left_at_every_wait(made, log):
    async def live():
        with FakeClock() as clock:
            result = await made.execute(execution_id="k1", store=log)
            while result.status is ExecutionState.SLEEPING:
                clock.advance(timedelta(days=2))
                result = await made.resume("k1", store=log)
            return result.output

    return asyncio.run(live())


def _uninterrupted(made):
    async def live():
        with FakeClock():
            return (await made.execute(store=MemoryStore())).output

    return asyncio.run(live())


@pytest.mark.parametrize("seed", range(2))
def test_a_frame_changed_in_place_between_waits_is_entered_with_its_changes(tmp_path, seed):
    names = list(CHANGES)
    random.Random(seed).shuffle(names)
    changing = _changing(names)
    with connect(tmp_path / "log.db", hibernate_after=timedelta(hours=1), durability="normal") as log:
        assert _left_at_every_wait(changing, log) == _uninterrupted(changing)


def test_values_changed_below_pandas_are_noticed(tmp_path):
    @step
    def made():
        return np.arange(4.0)

    @step
    async def change(made):
        view = memoryview(made)
        await sleep(timedelta(days=1))
        view[2] = 7.0
        del view
        await sleep(timedelta(days=1))
        return made.tolist()

    @workflow
    def changing(wf):
        wf.timeline(made >> change)

    with connect(tmp_path / "log.db", hibernate_after=timedelta(hours=1), durability="normal") as log:
        assert _left_at_every_wait(changing, log) == [0.0, 1.0, 7.0, 3.0]


def test_a_frame_that_nobody_changes_is_written_by_no_checkpoint(monkeypatch):
    written = []
    dumps = arrow.dumps
    monkeypatch.setattr(arrow, "dumps", lambda value, **how: written.append(1) or dumps(value, **how))
    assert _uninterrupted(_changing(["nothing"] * 5))
    assert len(written) == 1, "as the result of the step that made it"


def test_a_frame_of_the_step_is_written_when_it_changes(monkeypatch):
    written = []
    dumps = arrow.dumps
    monkeypatch.setattr(arrow, "dumps", lambda value, **how: written.append(1) or dumps(value, **how))

    @step
    async def own():
        frame = pd.DataFrame({"n": [1, 2]})
        for number in range(6):
            await sleep(1)
            if number == 3:
                frame.loc[0, "n"] = 5
        return int(frame["n"].sum())

    @workflow
    def changing(wf):
        wf.timeline(own)

    assert _uninterrupted(changing) == 7
    assert len(written) == 2
