"""`pack` and `unpack`: an execution opens elsewhere unchanged, without secrets and without running its code."""

from __future__ import annotations

import datetime
import json
import sqlite3
from contextlib import closing

import pytest

from cerebelum_nb import archive, history
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import ExecutionNotFoundError, StoreError, UntrustedValueError
from cerebelum_nb.testing import MemoryStore


@pytest.fixture
def elsewhere(tmp_path):
    with SqliteStore(tmp_path / "elsewhere.db", durability="normal") as opened:
        yield opened


# -- round trips --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["done-1", "failed-1", "fat-1"])
def test_an_unpacked_run_is_the_packed_one_to_the_last_byte(store, elsewhere, tmp_path, name):
    made = archive.pack(name[:4], tmp_path / "run.cerebelum", store=store)
    assert made.execution_id == name
    (found,) = archive.unpack(made.path, store=elsewhere)
    assert found.is_new
    assert (found.execution_id, found.events) == (name, made.events)
    assert elsewhere.events(name) == store.events(name)
    assert archive.verify(store=elsewhere).heads == archive.verify(name, store=store).heads
    assert elsewhere.execution(name).summary == store.execution(name).summary


def test_a_pack_is_one_file_and_a_log(store, tmp_path):
    (tmp_path / "new folder").mkdir()
    made = archive.pack("done-1", tmp_path / "new folder" / "run.cerebelum", store=store)
    assert [file.name for file in made.path.parent.iterdir()] == ["run.cerebelum"]
    assert archive.verify(store=made.path).ok
    assert history.steps("done-1", store=made.path)["step"].tolist() == ["build", "stamp", "verify", "verify"]
    assert history.outputs("done-1", store=made.path)["stamp"] == datetime.date(2026, 11, 20)


def test_a_pack_is_replaced_by_a_newer_one_of_its_execution(store, tmp_path):
    (tmp_path / "empty").touch()
    archive.pack("done-1", tmp_path / "empty", store=store)
    archive.pack("done-1", tmp_path / "empty", redact=["image"], store=store)
    assert archive.verify(store=tmp_path / "empty").ok


@pytest.mark.parametrize("call", [archive.pack, archive.export])
def test_another_file_is_not_overwritten(store, tmp_path, call):
    code = tmp_path / "deploy.py"
    code.write_text("print()")
    with pytest.raises(StoreError, match=r"deploy\.py exists and is no .*: nothing was written\. Name another"):
        call("done-1", code, store=store)
    assert code.read_text() == "print()"


def test_it_is_named_after_the_execution(empty, finish, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finish(empty, "a/b c")
    assert archive.pack("a/b c", store=empty).path.name == "a%2Fb c.cerebelum"


def test_only_what_the_run_uses_is_in_the_file(store, finish, tmp_path):
    finish(store, "other", data=b"somebody else's")
    made = archive.pack("done-1", tmp_path / "run.cerebelum", store=store)
    assert made.values == 1
    assert b"somebody else" not in made.path.read_bytes()


def test_unpacking_twice_changes_nothing(store, elsewhere, tmp_path):
    made = archive.pack("done-1", tmp_path / "run.cerebelum", store=store)
    archive.unpack(made.path, store=elsewhere)
    (found,) = archive.unpack(made.path, store=elsewhere)
    assert not found.is_new
    assert archive.verify(store=elsewhere).executions == 1
    (found,) = archive.unpack(made.path, store=store)
    assert not found.is_new


# -- clashes ------------------------------------------------------------------------------------------------


def test_another_execution_of_that_id_is_a_clash(store, elsewhere, finish, tmp_path):
    made = archive.pack("done-1", tmp_path / "run.cerebelum", store=store)
    finish(elsewhere, "done-1")
    before = archive.verify(store=elsewhere).heads
    with pytest.raises(StoreError, match=r"another execution done-1.*Nothing was written.*--db"):
        archive.unpack(made.path, store=elsewhere)
    assert archive.verify(store=elsewhere).heads == before


def test_a_run_that_was_continued_elsewhere_is_a_clash(store, elsewhere, tmp_path):
    made = archive.pack("done-1", tmp_path / "run.cerebelum", store=store)
    archive.unpack(made.path, store=elsewhere)
    with elsewhere.maintenance("test") as db:
        db.execute("DELETE FROM event WHERE version > 9")
    with pytest.raises(StoreError, match="as it was earlier, with 9 of these 14 events"):
        archive.unpack(made.path, store=elsewhere)


def test_after_one_clash_nothing_is_written(store, elsewhere, finish, tmp_path):
    finish(elsewhere, "fat-1")
    with pytest.raises(StoreError, match="another execution fat-1"):
        archive.unpack(store.path, store=elsewhere)
    assert elsewhere.executions()[1] == 1


def test_chosen_executions_of_a_log_can_be_unpacked(store, elsewhere):
    archive.unpack(store.path, ["fat", "done"], store=elsewhere)
    assert archive.verify(store=elsewhere).heads.keys() == {"fat-1", "done-1"}
    with pytest.raises(ExecutionNotFoundError):
        archive.unpack(store.path, ["nobody"], store=elsewhere)


# -- running executions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["running", "sleeping"])
def test_a_running_execution_is_paused_in_the_copy_only(empty, finish, tmp_path, end):
    finish(empty, "live", end=end)
    before = archive.verify(store=empty).heads
    made = archive.pack("live", tmp_path / "run.cerebelum", store=empty)
    assert archive.verify(store=empty).heads == before
    with SqliteStore(made.path) as packed:
        state = fold(packed.events("live"))
        check(state)
        assert state.status is packed.execution("live").summary.state is ExecutionState.PAUSED
        assert packed.due(2**62, limit=9) == packed.abandoned(limit=9) == []
        assert archive.verify(store=packed).ok


@pytest.mark.parametrize("end", ["running", "sleeping"])
def test_nothing_starts_to_run_when_it_is_unpacked(empty, finish, elsewhere, end):
    finish(empty, "live", end=end)
    (found,) = archive.unpack(empty.path, store=elsewhere)
    assert found.state is ExecutionState.PAUSED
    assert elsewhere.due(2**62, limit=9) == elsewhere.abandoned(limit=9) == []
    assert archive.verify(store=elsewhere).ok


# -- trust --------------------------------------------------------------------------------------------------


@pytest.fixture
def packed(store, tmp_path):
    return archive.pack("done-1", tmp_path / "run.cerebelum", store=store).path


def test_pickles_from_elsewhere_are_shown_and_not_restored(packed, elsewhere):
    (found,) = archive.unpack(packed, store=elsewhere)
    assert found.pickles == 1
    outputs = history.outputs("done-1", store=elsewhere)
    assert "2026" in repr(outputs)
    with pytest.raises(UntrustedValueError, match=r"the result of step 'stamp'.*unpacked file.*--trust"):
        outputs["stamp"]
    assert outputs["verify"] == "fine"


def test_a_trusted_file_is_restored(packed, elsewhere):
    (found,) = archive.unpack(packed, trusted=True, store=elsewhere)
    assert found.pickles == 0
    assert history.outputs("done-1", store=elsewhere)["stamp"] == datetime.date(2026, 11, 20)


def test_trust_can_be_given_later(packed, elsewhere):
    archive.unpack(packed, store=elsewhere)
    archive.unpack(packed, trusted=True, store=elsewhere)
    assert history.outputs("done-1", store=elsewhere)["stamp"] == datetime.date(2026, 11, 20)


def test_bytes_that_the_log_already_has_stay_trusted(packed, store):
    archive.prune(keep_last=0, workflow="deploy", state="completed", store=store)
    (found,) = archive.unpack(packed, store=store)  # failed-1 made the same value here
    assert (found.is_new, found.pickles) == (True, 0)
    assert history.outputs("done-1", store=store)["stamp"] == datetime.date(2026, 11, 20)


def test_bytes_become_trusted_when_a_run_here_makes_them_too(empty, finish, elsewhere, tmp_path):
    finish(empty, "a", data=b"the same")
    archive.unpack(archive.pack("a", tmp_path / "a.cerebelum", store=empty).path, store=elsewhere)
    (digest,) = [event.output.digest for event in elsewhere.events("a") if hasattr(event, "output")]
    assert type(elsewhere.payload(digest)) is not bytes
    finish(elsewhere, "b", data=b"the same")
    assert type(elsewhere.payload(digest)) is bytes


def test_a_pack_of_unpacked_values_does_not_make_them_trusted(packed, elsewhere, tmp_path):
    archive.unpack(packed, store=elsewhere)
    again = archive.pack("done-1", tmp_path / "again.cerebelum", store=elsewhere).path
    with pytest.raises(UntrustedValueError):
        history.outputs("done-1", store=again)["stamp"]


def test_an_altered_file_is_refused(packed, elsewhere):
    with closing(sqlite3.connect(packed, isolation_level=None)) as db:
        (sql,) = db.execute("SELECT sql FROM sqlite_master WHERE name = 'payload_no_update'").fetchone()
        db.execute("DROP TRIGGER payload_no_update")
        db.execute("UPDATE payload SET data = x'00' WHERE codec = 'cloudpickle'")
        db.execute(sql)
    with pytest.raises(
        StoreError, match=r"was changed after it was packed: done-1: the bytes of the value.*Nothing was unpacked"
    ):
        archive.unpack(packed, store=elsewhere)
    assert elsewhere.executions() == ([], 0)


@pytest.mark.parametrize(("content", "told"), [(None, "There is no file"), (b"text" * 500, "not a cerebelum log")])
def test_a_file_that_is_not_a_pack_is_refused(elsewhere, tmp_path, content, told):
    file = tmp_path / "run.cerebelum"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(StoreError, match=told):
        archive.unpack(file, store=elsewhere)


def test_a_log_of_objects_cannot_be_packed():
    with pytest.raises(StoreError, match="in the memory of this process"):
        archive.pack("a", store=MemoryStore())


# -- secrets ------------------------------------------------------------------------------------------------


def test_masked_secrets_are_counted(store, tmp_path):
    made = archive.pack("failed-1", tmp_path / "run.cerebelum", store=store)
    assert (made.masked, made.left_out) == (1, 0)
    assert b"s3cr3t" not in made.path.read_bytes()


def test_a_value_recorded_in_clear_text_can_be_masked_in_the_pack(store, tmp_path):
    made = archive.pack("done-1", tmp_path / "run.cerebelum", redact=["IMAGE"], store=store)
    assert made.masked == 1
    assert b"app:1" not in made.path.read_bytes()
    assert archive.verify(store=made.path).ok
    with SqliteStore(made.path) as packed:
        state = fold(packed.events("done-1"))
    assert json.loads(state.steps["build"].output.json)["image"] == "********"
    assert state.steps["build"].output.masked == ("image",)


def test_a_masked_text_is_masked_everywhere(empty, tmp_path):
    import asyncio

    from cerebelum_nb import WorkflowError, step, workflow

    @step
    def log_in(inputs):
        print("using hunter-22")
        return {"greeting": "hello hunter-22", "when": 7}

    @step
    def fail(log_in):
        raise ValueError("hunter-22 is wrong")

    @workflow
    def visit(wf):
        wf.timeline(log_in >> fail)

    with pytest.raises(WorkflowError):
        asyncio.run(visit.execute({"password": "hunter-22"}, execution_id="v", store=empty))
    assert b"hunter-22" in empty.path.read_bytes() + empty.path.with_name("empty.db-wal").read_bytes()
    empty.redact = ("password",)
    made = archive.pack("v", tmp_path / "v.cerebelum", store=empty)
    assert b"hunter-22" not in made.path.read_bytes()
    assert archive.verify(store=made.path).ok


def test_bytes_that_hold_the_name_of_a_secret_are_left_out(empty, finish, tmp_path):
    finish(empty, "a", data=b"...Password...")
    made = archive.pack("a", tmp_path / "a.cerebelum", redact=["password"], store=empty)
    assert (made.values, made.left_out) == (0, 1)
    assert b"Password" not in made.path.read_bytes()
    assert archive.verify(store=made.path).ok


@pytest.mark.parametrize(("column", "left_out"), [("password", 1), ("load", 0)])
def test_compressed_frames_are_searched_too(empty, finish, tmp_path, column, left_out):
    import pyarrow as pa

    table, sink = pa.table({column: ["hunter-22"] * 1000}), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    finish(empty, "a", data=bytes(sink.getvalue()), codec="arrow")
    made = archive.pack("a", tmp_path / "a.cerebelum", redact=["password"], store=empty)
    assert made.left_out == left_out


def test_frames_that_cannot_be_searched_are_left_out(empty, finish, tmp_path):
    finish(empty, "a", data=b"damaged", codec="arrow")
    assert archive.pack("a", tmp_path / "a.cerebelum", redact=["password"], store=empty).left_out == 1


def test_a_redacted_name_that_does_not_occur_changes_nothing(store, tmp_path):
    plain = archive.pack("done-1", tmp_path / "a.cerebelum", store=store)
    other = archive.pack("done-1", tmp_path / "b.cerebelum", redact=["nothing"], store=store)
    assert archive.verify(store=plain.path).heads == archive.verify(store=other.path).heads


def test_a_pack_of_an_older_version_is_migrated(packed, elsewhere, make_older):
    make_older(packed)
    before = packed.read_bytes()
    archive.unpack(packed, store=elsewhere)
    assert archive.verify(store=elsewhere).ok
    assert packed.read_bytes() == before
