"""Real processes queue for one slot and some are killed: never two run at once, all run, and in order."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from cerebelum_nb._core.events import WorkflowAdmitted, WorkflowQueued
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.archive import verify

from ..programs import Popen
from ..waiting import wait_for

PROGRAM = Path(__file__).with_name("queuers.py")


class Place:
    def __init__(self, folder):
        self.path, self.marks, self.told = folder / "log.db", folder / "marks", folder / "told"
        self.marks.touch()
        self.log = SqliteStore(self.path, durability="normal")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def spawn(self, name, seconds=0.0):
        with self.told.open("ab") as out:
            command = [sys.executable, "-W", "error", PROGRAM, self.path, self.marks, name, str(seconds)]
            self.processes[name] = Popen(command, env={**os.environ}, stdout=out, stderr=out)

    def kill(self, name):
        self.processes[name].kill()
        self.processes[name].wait()

    def state(self, name):
        return {row.execution_id: row.summary.state.value for row in self.log.executions()[0]}.get(name)

    def until(self, holds):
        wait_for(holds, lambda: f"{self.told.read_text()[-4000:]}\n{self.marks.read_text()}")

    def one_at_a_time(self):
        """Check that no process had the slot while another that lived had it; return the order in which they had it."""
        inside, order = None, []
        for line in self.marks.read_text().splitlines():
            _, what, name, _ = line.split()
            if what == "in":
                assert inside is None or self.processes[inside].poll() is not None, f"{name} came while {inside} was in"
                inside = name
                order.append(name)
            else:
                assert inside == name
                inside = None
        return order

    def end(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.log.close()


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.end()


def queue_up(place, names, seconds):
    for name in names:
        place.spawn(name, seconds)
        place.until(lambda name=name: place.state(name) is not None)


def test_five_processes_queue_although_two_are_killed(place):
    place.spawn("k0", 60)
    place.until(lambda: place.state("k0") == "RUNNING" and "in k0" in place.marks.read_text())
    queue_up(place, ["k1", "k2", "k3", "k4"], 0.1)
    place.kill("k2")
    place.kill("k0")
    place.until(lambda: all(place.state(name) == "COMPLETED" for name in ("k1", "k3", "k4")))
    assert place.one_at_a_time() == ["k0", "k1", "k3", "k4"]
    assert (place.state("k0"), place.state("k2")) == ("PAUSED", "QUEUED")
    place.spawn("scheduler")
    place.until(lambda: place.state("k2") == "COMPLETED")
    for name in ("k0", "k1", "k2", "k3", "k4"):
        check(fold(place.log.events(name)))
    assert verify(store=place.log).ok


@pytest.mark.soak
def test_fifty_processes_queue_although_some_are_killed(place):
    """Two schedulers run beside them, and one is killed too; the other one runs in the end whatever was killed."""
    chance = random.Random(7)
    names = [f"k{n:02}" for n in range(50)]
    place.spawn("scheduler")
    place.processes["first"] = place.processes.pop("scheduler")
    place.spawn("scheduler")
    queue_up(place, names, 0.05)
    for name in chance.sample(names, 12):
        place.kill(name)
        time.sleep(chance.random() / 5)
    place.processes["first"].kill()
    place.until(lambda: all(place.state(name) in ("COMPLETED", "PAUSED") for name in names))
    left = [name for name in names if place.state(name) == "PAUSED"]
    spans = []
    for name in names:
        events = place.log.events(name)
        check(fold(events))
        queued = next((event.at for event in events if isinstance(event, WorkflowQueued)), None)
        admitted = next((event.at for event in events if isinstance(event, WorkflowAdmitted)), None)
        spans.append((events[0].at if admitted is None else admitted, events[-1].at, queued, name))
    spans.sort()
    finished = [span for span in spans if span[3] not in left]
    for (_, earlier, *_), (later, *_) in pairwise(finished):
        assert earlier <= later, "two at once"
    killed = {name for name in names if place.processes[name].poll() not in (None, 0)}
    order = [name for *_, queued, name in finished if name not in killed and queued is not None]
    assert order == sorted(order, key=lambda name: next(q for *_, q, n in spans if n == name)), "not in order"
    assert verify(store=place.log).ok
