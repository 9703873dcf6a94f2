"""Processes on two machines over one log, in any order of what may befall them: nobody is robbed, nothing is stuck.

Machines, processes and time are a model; the stores, their leases and their heartbeats are the real ones, one of each
for every process. A process beats while it runs and holds something, and looks at who is dead, as a keeper does.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cerebelum_nb._core.events import StepCompleted, StepStarted
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._core.summary import Summary
from cerebelum_nb._core.value import Value
from cerebelum_nb._store import heartbeats
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.holder import Holder, Life, ProcessIdentity
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import ExecutionBusyError, StoreError

LEASE, BEAT = 30, 10
MICROS = 1_000_000
EXECUTIONS = ("k1", "k2")
SHOWN = Summary(workflow="deploy", state=ExecutionState.RUNNING, started_at=1, updated_at=1)
MOVE = StepCompleted(at=1, step="s", output=Value("json", "null")), StepStarted(at=1, step="t")


@dataclass(eq=False)
class Process:
    """A process: where it runs, how wrong its clock is, and what it believes to run (id to version)."""

    machine: str
    pid: int
    skew: int
    store: SqliteStore
    key: int = 0
    state: str = "running"
    runs: dict[str, int] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        return self.state != "dead"


class Ownership(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(heartbeats, "life", self.life)
        self.time = 1_000_000
        self.processes: list[Process] = []
        self.holder: dict[str, Process] = {}  # who has the lease, as the model has it
        self.here = ""

    def life(self, holder: Holder, token: str = "") -> Life:
        if holder.host != self.here:
            return Life.UNSEEN
        return Life.ALIVE if self.processes[holder.pid].exists else Life.GONE

    @initialize(skews=st.lists(st.integers(-(10**7), 10**7), min_size=3, max_size=3))
    def begin(self, skews: list[int]) -> None:
        for machine, skew in zip("AAB", skews, strict=True):
            self.spawn(machine, skew)

    def spawn(self, machine: str, skew: int) -> Process:
        store = SqliteStore(self.folder / "log.db", durability="normal")
        store.heartbeats.monotonic = lambda: self.time + 7 * len(machine)
        made = Process(machine, len(self.processes), skew, store)
        self.processes.append(made)
        who = ProcessIdentity(host=machine, pid=made.pid, boot_id=f"{machine}/1/{machine}", started="1")
        self.here = machine
        made.key = store.register(self.now(made), LEASE * MICROS, who)
        return made

    def now(self, process: Process) -> int:
        return (self.time + process.skew) * MICROS

    def any(self, data: st.DataObject, *states: str) -> Process:
        found = [process for process in self.processes if process.state in states]
        chosen = data.draw(st.sampled_from(found))
        self.here = chosen.machine
        return chosen

    def there_are(self, *states: str) -> bool:
        return any(process.state in states for process in self.processes)

    # -- what may befall them -------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([3, 15, 45]))
    def time_passes(self, seconds: int) -> None:
        """Everybody who runs beats in time; on every beat it looks at who is dead."""
        for _ in range(seconds):
            self.time += 1
            if self.time % BEAT == 0:
                for process in self.processes:
                    if process.state == "running":
                        self.here = process.machine
                        if process.runs:
                            process.store.heartbeat(process.key, self.now(process), LEASE * MICROS)
                        process.store.abandoned(limit=9)

    @precondition(lambda self: self.there_are("running"))
    @rule(data=st.data(), by=st.integers(-(10**6), 10**6))
    def a_clock_is_set(self, data: st.DataObject, by: int) -> None:
        self.any(data, "running").skew += by

    @precondition(lambda self: self.there_are("running"))
    @rule(data=st.data())
    def one_stands_still(self, data: st.DataObject) -> None:
        self.any(data, "running").state = "stopped"

    @precondition(lambda self: self.there_are("stopped"))
    @rule(data=st.data())
    def one_continues(self, data: st.DataObject) -> None:
        self.any(data, "stopped").state = "running"

    @precondition(lambda self: self.there_are("running", "stopped"))
    @rule(data=st.data())
    def one_is_killed(self, data: st.DataObject) -> None:
        killed = self.any(data, "running", "stopped")
        killed.state = "dead"
        killed.store.close()

    @precondition(lambda self: len(self.processes) < 7)
    @rule(machine=st.sampled_from("AB"), skew=st.integers(-(10**7), 10**7))
    def one_is_started(self, machine: str, skew: int) -> None:
        """A forked child is no more than this: a process of its own that holds nothing."""
        self.spawn(machine, skew)

    # -- what they do ---------------------------------------------------------------------------------------

    def write(self, process: Process, name: str, *, release: bool = False) -> bool:
        after = process.runs[name]
        self.here = process.machine
        commit = Commit(execution_id=name, after=after, events=[StepStarted(at=1, step="s")], summary=SHOWN,
                        holder=process.key, release=release)  # fmt: skip
        written = not process.store.commit([commit])
        process.runs[name] += 1
        if not written or release:
            del process.runs[name]  # superseded, and it knows it now
        return written

    @precondition(lambda self: self.there_are("running"))
    @rule(data=st.data(), name=st.sampled_from(EXECUTIONS))
    def one_takes_it_up(self, data: st.DataObject, name: str) -> None:
        process = self.any(data, "running")
        if name in process.runs:
            return
        rows = {row.execution_id: row for row in process.store.executions()[0]}
        if name not in rows:
            process.runs[name] = 0
            assert self.write(process, name)
            self.holder[name] = process
            return
        before = self.holder.get(name)
        try:
            process.store.claim(name, process.key, self.now(process))
        except ExecutionBusyError:
            assert before is not None, "free, and yet refused"
            assert before.exists or before.machine != process.machine, "dead on this machine, and yet refused"
            return
        if before is not None and before is not process:
            assert not (before.machine == process.machine and before.exists), "a living process of here was robbed"
            assert before.state != "running", "a process that beats was robbed"
        self.holder[name] = process
        process.runs[name] = rows[name].version

    @precondition(lambda self: any(p.runs for p in self.processes if p.state == "running"))
    @rule(data=st.data(), release=st.booleans())
    def one_writes(self, data: st.DataObject, release: bool) -> None:
        found = [(p, name) for p in self.processes if p.state == "running" for name in sorted(p.runs)]
        process, name = data.draw(st.sampled_from(found))
        is_holder = self.holder.get(name) is process
        assert process.store.holds(name, process.key) is is_holder, "an effect would be done, or refused, wrongly"
        assert self.write(process, name, release=release) is is_holder
        if is_holder and release:
            del self.holder[name]

    @invariant()
    def the_log_knows_every_holder(self) -> None:
        living = [process for process in self.processes if process.exists]
        if living:
            rows = living[0].store.executions()[0]
            keys = {row.execution_id: row.holder.key for row in rows if row.holder is not None}
            assert keys == {name: process.key for name, process in self.holder.items()}

    def teardown(self) -> None:
        try:
            for process in self.processes:
                if process.exists:
                    process.state = "dead"
                    process.store.close()
            last = self.spawn("B", 0)
            for _ in range(2):  # all are dead: before long, everything can be taken
                last.store.abandoned(limit=9)
                self.time += LEASE
            for row in last.store.executions()[0]:
                last.store.claim(row.execution_id, last.key, self.now(last))
                assert last.store.holds(row.execution_id, last.key)
            last.store.close()
        finally:
            self.patch.undo()
            shutil.rmtree(self.folder)


TestOwnership = Ownership.TestCase
TestOwnership.settings = settings(
    max_examples=settings().max_examples // 2, stateful_step_count=20, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("fails", [False, True], ids=["at once", "at the second try"])
def test_a_process_that_held_nothing_for_longer_than_a_lease_is_not_robbed_of_what_it_starts(fails):
    machine = Ownership()
    try:
        machine.begin(skews=[0, 0, 0])
        machine.time_passes(seconds=45)  # the far process has seen the first one only when it started itself
        idle, other, far = machine.processes
        idle.runs["k1"] = other.runs["k2"] = 0
        if fails:
            assert machine.write(other, "k2")
            start = Commit("k1", 0, [StepStarted(at=1, step="s")], SHOWN, idle.key)
            with pytest.raises(StoreError, match="not the next version"):
                idle.store.commit([start, Commit("k2", 9, MOVE, None, idle.key)])
        assert machine.write(idle, "k1")
        machine.here = far.machine
        with pytest.raises(ExecutionBusyError):
            far.store.claim("k1", far.key, machine.now(far))
    finally:
        machine.teardown()
