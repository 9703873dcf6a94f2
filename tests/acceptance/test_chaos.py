"""Two kernels and two schedulers share a log, as if on two machines, while they are killed, suspended and forked."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

from cerebelum_nb._core.events import OperationCompleted, StepCompleted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._store.sqlite import SqliteStore

from ..waiting import wait_for

CHAOS = Path(__file__).with_name("chaos.py")
LEASE = 1.5
"""Seconds. On a busy machine even a process that is not suspended may not run for a second."""
MACHINES = ("east", "west")


@dataclass
class Actor:
    """A kernel or a scheduler; ``client`` is the front end of a kernel."""

    process: subprocess.Popen[bytes]
    machine: str
    client: BlockingKernelClient | None = None


@dataclass
class Ring:
    """The log, the processes that use it, and what was done to which: (pid, from, to) on their common clock."""

    folder: Path
    chance: random.Random
    ids: list[str] = field(default_factory=list)
    actors: list[Actor] = field(default_factory=list)
    suffered: list[tuple[int, float, float]] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)

    @property
    def log(self) -> Path:
        return self.folder / "log.db"

    def kernel(self, machine: str) -> Actor:
        file, _ = write_connection_file(str(self.folder / f"kernel-{len(self.ids)}-{machine}.json"))
        client = BlockingKernelClient(connection_file=file)
        client.load_connection_file()
        client.start_channels(iopub=False, stdin=False, hb=False, control=False)
        actor = Actor(self._spawn(machine, "-m", "ipykernel_launcher", "-f", file), machine, client)
        client.execute("import chaos", silent=True)
        self.begin(actor)
        return actor

    def scheduler(self, machine: str) -> Actor:
        return Actor(self._spawn(machine, "-W", "error", str(CHAOS), "schedule"), machine)

    def begin(self, kernel: Actor) -> None:
        """Run a cell that starts eight executions in the background."""
        names = [f"{kernel.machine}-{len(self.ids) + n}" for n in range(8)]
        self.ids += names
        assert kernel.client is not None
        kernel.client.execute(f"runs = chaos.start({names})", silent=True)

    def _spawn(self, machine: str, *arguments: str) -> subprocess.Popen[bytes]:
        paths = [str(CHAOS.parent), str(CHAOS.parents[2]), os.environ.get("PYTHONPATH", "")]
        about = {"LOG": str(self.log), "MARKS": str(self.folder / "marks"), "MACHINE": machine, "LEASE": str(LEASE)}
        env = os.environ | about | {"PYTHONPATH": os.pathsep.join(paths)}
        with (self.folder / "output").open("ab") as out:
            return subprocess.Popen([sys.executable, *arguments], env=env, cwd=self.folder, stdout=out, stderr=out)

    def replace(self, actor: Actor) -> None:
        """Wait until a process has ended, and start another in its place."""
        began = time.monotonic()
        actor.process.wait(60)
        self.suffered.append((actor.process.pid, began, time.monotonic()))
        self.actors.remove(actor)
        if actor.client is not None:
            actor.client.stop_channels()
        self.actors.append((self.kernel if actor.client else self.scheduler)(actor.machine))

    def suspend(self, actors: list[Actor]) -> None:
        """Suspend processes for longer than their lease."""
        began = time.monotonic()
        for actor in actors:
            actor.process.send_signal(signal.SIGSTOP)
        time.sleep(LEASE + self.chance.uniform(0.2, 2.5))  # a scheduler reads the log once a second
        for actor in actors:
            actor.process.send_signal(signal.SIGCONT)
        self.suffered += [(actor.process.pid, began, time.monotonic()) for actor in actors]

    def disturb(self) -> None:
        """Kill, end, suspend or fork one of the processes, or all."""
        one = self.chance.choice(self.actors)
        what = self.chance.choice(["kill", "kill", "terminate", "suspend", "suspend", "suspend all", "begin", "begin"])
        self.met[what] += 1
        match what:
            case "kill":
                one.process.kill()
                self.replace(one)
            case "terminate":
                one.process.terminate()
                self.replace(one)
            case "suspend":
                if one.client is not None:
                    self.begin(one)
                    time.sleep(self.chance.uniform(0.5, 1.5))
                self.suspend([one])
            case "suspend all":
                self.suspend(self.actors)
            case "begin":
                self.begin(self.chance.choice([actor for actor in self.actors if actor.client]))

    def run_cells(self) -> None:
        """Wait until the kernels have run all cells, and what those began is in the log."""
        for actor in self.actors:
            if actor.client is not None:
                actor.client.execute("import asyncio; await asyncio.sleep(0.2)", silent=True, reply=True, timeout=120)

    def end(self) -> None:
        for actor in self.actors:
            actor.process.kill()
            actor.process.wait()
            if actor.client is not None:
                actor.client.stop_channels()

    def marks(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "marks").read_text().splitlines()]

    def states(self) -> Counter[str]:
        if not self.log.exists():
            return Counter()
        with SqliteStore(self.log) as store:
            return Counter(str(row.summary.state) for row in store.executions()[0])

    def was_disturbed(self, pid: int, since: float, until: float) -> bool:
        return any(who == pid and start <= until and since <= end for who, start, end in self.suffered)


def run_for(folder: Path, seconds: float, seed: int) -> Counter[str]:
    """Disturb the processes for so many seconds, let everything end, and check; return how often each case occurred."""
    ring = Ring(folder, random.Random(seed))
    try:
        ring.actors += [ring.kernel(machine) for machine in MACHINES]
        ring.actors += [ring.scheduler(machine) for machine in MACHINES]
        output = ring.folder / "output"
        wait_for(ring.states, lambda: f"something begins: {output.read_text()}", every=0.1)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(ring.chance.uniform(0.2, 1.0))
            ring.disturb()
        ring.run_cells()
        wait_for(
            lambda: set(ring.states()) == {"COMPLETED"},
            lambda: f"all is completed: {ring.states()}; {output.read_text()[-5000:]}",
            seconds=200,
            every=0.2,
        )
    finally:
        ring.end()
    judge_the_log(ring)
    judge_the_effects(ring)
    return ring.met


def judge_the_log(ring: Ring) -> None:
    """Check that every execution has completed, and that nothing in it was done twice."""
    with SqliteStore(ring.log) as store:
        rows, ring.met["executions"] = store.executions()
        for row in rows:
            events = store.events(row.execution_id)
            assert row.version == len(events), "versions are dense"
            check(fold(events))
            completed = Counter(e.step for e in events if isinstance(e, StepCompleted))
            assert completed == {"work": 1, "pay": 1, "last": 1}, row.execution_id
            done = Counter(e.op for e in events if isinstance(e, OperationCompleted))
            assert set(done.values()) <= {1}
    assert {row.execution_id for row in rows} <= set(ring.ids)


def judge_the_effects(ring: Ring) -> None:
    """Check that no process did an effect when it could know it had lost the execution, and that few were repeated."""
    effects, claims = defaultdict(list), defaultdict(list)
    for mark in ring.marks():
        ring.met[mark["what"]] += 1
        match mark["what"]:
            case "effect":
                effects[mark["id"]].append(mark)
            case "claim" if mark["at"] - mark["since"] < LEASE / 4:  # else it may have been suspended in between
                claims[mark["id"]].append(mark)
    assert len(effects) == ring.met["executions"], "an execution completed without its effect"
    for name, done in effects.items():
        for effect in done:
            assert effect["checked"] is not None, "it did not look whether the execution was its own"
            known = [claim["pid"] for claim in claims[name] if claim["at"] < effect["checked"]]
            assert not known or known[-1] == effect["pid"], f"{name}: an effect of a superseded process: {done}"
        for first, again in pairwise(done):
            ring.met["effects done again"] += 1
            taken = max((c["since"] for c in claims[name] if c["at"] < again["at"]), default=again["at"])
            starved = taken - first["at"] > LEASE / 2  # it took so long from the effect to its commit
            assert starved or ring.was_disturbed(first["pid"], first["at"] - LEASE, taken), (
                f"{name}: done again, and nothing had happened to the first: {done} {claims[name]}"
            )


def test_kernels_and_schedulers_that_are_disturbed_lose_and_repeat_nothing(tmp_path: Path) -> None:
    met = run_for(tmp_path, 6, seed=4)
    assert met["executions"] >= 10 and met["refused"] > 0


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_kernels_and_schedulers_that_are_disturbed_for_minutes_lose_and_repeat_nothing(
    tmp_path: Path, seed: int, record_property: Any
) -> None:
    met = run_for(tmp_path, 180, seed)
    print(dict(met))
    assert min(met[what] for what in ("kill", "terminate", "suspend", "suspend all", "claim", "refused")) > 0
