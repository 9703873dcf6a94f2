"""A resume continues from the state of the last run in this process, if the log still has the same events."""

from __future__ import annotations

import asyncio

import pytest

from cerebelum_nb import WorkflowError, step, workflow
from cerebelum_nb._core.events import WorkflowTagged
from cerebelum_nb._core.fold import fold
from cerebelum_nb._engine import remembered
from cerebelum_nb._engine.outside import append_from_outside
from cerebelum_nb._store import chain
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.testing import MemoryStore

STEPS = 30


@step
def count():
    return 1


def chain_of(*others):
    """Count, do more, and fail until ``ready`` is given."""

    @step
    def last(count, inputs):
        if "ready" not in inputs:
            raise ValueError("not yet")
        return count

    return workflow(name="counting")(lambda wf: wf.timeline([count, *others, last]))


def numbered(number):
    return step(name=f"step_{number}")(lambda: number)


def failed(work, store):
    with pytest.raises(WorkflowError) as caught:
        work.run(store=store, execution_id="k1")
    return caught.value


def test_a_resume_reads_no_event_again_that_this_process_has_folded():
    class Reading(MemoryStore):
        read = 0

        def events(self, *args, **kwargs):
            found = super().events(*args, **kwargs)
            self.read += len(found)
            return found

    store, work = Reading(), chain_of(*map(numbered, range(STEPS)))
    failed(work, store)
    store.read = 0
    result = work.resume_sync("k1", inputs={"ready": True}, store=store)
    assert result.output == 1 and store.read < STEPS
    assert result._state == fold(store.events("k1"))


def test_the_run_before_still_tells_how_it_ended(store, go):
    work = chain_of()

    async def twice():
        first = work.start(store=store, execution_id="k1")
        with pytest.raises(WorkflowError):
            await first
        before = repr(first), first.results
        second = await work.resume("k1", inputs={"ready": True}, store=store)
        return before, (repr(first), first.results), second

    before, after, second = go(twice())
    assert before == after and "FAILED" in before[0] and second.output == 1


def test_what_others_appended_since_is_folded_too(tmp_path):
    work = chain_of()
    with SqliteStore(tmp_path / "log.db", durability="normal") as store:
        failed(work, store)
        with SqliteStore(tmp_path / "log.db") as elsewhere, pytest.raises(WorkflowError):
            work.resume_sync("k1", rerun="count", store=elsewhere)  # as another process would
        result = work.resume_sync("k1", inputs={"ready": True}, store=store)
        assert result._state == fold(store.events("k1")) and result._state.steps["count"].visit == 2


@pytest.mark.parametrize("rechained", [True, False])
def test_a_state_is_not_believed_when_the_log_says_something_else(tmp_path, rechained):
    with SqliteStore(tmp_path / "log.db", durability="normal") as store:
        failed(chain_of(), store)
        with store.maintenance("a foreign writer") as db:
            db.execute("""UPDATE event SET data = '{"output":2}' WHERE type = 'StepCompleted'""")
            head, columns = chain.start("k1"), "version, type, step, visit, attempt, at, data"
            for version, *row in db.execute(f"SELECT {columns} FROM event ORDER BY version").fetchall():
                head = chain.link(head, version, row) if rechained else bytes(16)
                db.execute("UPDATE event SET hash = ? WHERE version = ?", (head, version))
        assert chain_of().resume_sync("k1", inputs={"ready": True}, store=store).output == 2


def test_a_long_history_is_read_ahead_in_portions_and_what_is_appended_meanwhile_is_folded_too(tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "_AT_ONCE", 10)
    monkeypatch.setattr("cerebelum_nb._engine.portions.SECONDS", 0)
    path, read, turns = tmp_path / "log.db", [], []

    class Reading(SqliteStore):
        def events(self, execution_id, after=0, upto=None):
            found = super().events(execution_id, after, upto)
            if len(read) == 2:
                with SqliteStore(path) as elsewhere:
                    append_from_outside(
                        elsewhere, "k1", lambda state: WorkflowTagged(at=state.updated_at, added=("a",))
                    )
            read.append(len(found))
            return found

    work = chain_of(*map(numbered, range(STEPS)))
    with SqliteStore(path, durability="normal") as store:
        failed(work, store)
        length = store.execution("k1").version

    async def main(store):
        resumed = asyncio.ensure_future(work.resume("k1", inputs={"ready": True}, store=store))
        while len(read) * 10 < length:
            turns.append(None)
            await asyncio.sleep(0)
        return await resumed

    with Reading(path, durability="normal") as store:
        result = asyncio.run(main(store))
        assert result.output == 1 and result._state == fold(store.events("k1")) and result._state.tags == ("a",)
    assert read[: length // 10] == [10] * (length // 10) and len(turns) >= length // 10


def test_of_one_log_the_last_state_is_kept_until_its_execution_completes():
    store, work = MemoryStore(), chain_of()
    failed(work, store)
    with pytest.raises(WorkflowError):
        work.run(store=store, execution_id="k2")
    assert remembered._left[store].execution_id == "k2"
    work.resume_sync("k1", inputs={"ready": True}, store=store)
    assert remembered._left[store].execution_id == "k2"
    work.resume_sync("k2", inputs={"ready": True}, store=store)
    assert store not in remembered._left
