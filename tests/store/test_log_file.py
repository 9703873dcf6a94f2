"""Where a log is: its path, the file that stays the one that was opened, who may read it, and on which disk it is."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from cerebelum_nb import archive, connect, history, step, workflow
from cerebelum_nb._client.client import ExecutionClient
from cerebelum_nb._store.connect import default_path
from cerebelum_nb._store.log_file import network_file_system, path_of
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import StoreError


@step
def build():
    return 1


@workflow
def deploy(wf):
    wf.timeline(build)


@pytest.fixture
def session(tmp_path, monkeypatch):
    """Give a working directory in which `connect` opens logs, which are closed in the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CEREBELUM_DB", raising=False)
    monkeypatch.setattr("cerebelum_nb._store.connect._default", None)
    opened = []

    def open_log(*args, **options):
        opened.append(connect(*args, **options))
        return opened[-1]

    yield open_log
    for log in opened:
        log.close()


def mode(path):
    return stat.S_IMODE(Path(path).stat().st_mode)


# -- the path -----------------------------------------------------------------------------------------------


def test_a_path_is_absolute_from_the_moment_the_log_is_opened(session, tmp_path, monkeypatch):
    log = session("logs/h.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    deploy.run(execution_id="k1")
    assert log.path == tmp_path / "logs" / "h.db"
    assert history.executions()["execution_id"].tolist() == ["k1"]
    assert not (tmp_path / "elsewhere" / "logs").exists()


@pytest.mark.parametrize("name", ["~/h.db", "$PLACE/h.db", "${PLACE}/h.db"])
def test_homes_and_variables_are_expanded_by_everything_that_takes_a_path(session, tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLACE", str(tmp_path / "home"))
    session(name)
    deploy.run(execution_id="k1")
    assert (tmp_path / "home" / "h.db").is_file()
    assert len(history.executions(store=name)) == 1
    assert archive.verify(store=name).ok
    with ExecutionClient(name) as client:
        assert client.run_sync(client.list_executions()).total == 1
    monkeypatch.setenv("CEREBELUM_DB", name)
    assert default_path() == tmp_path / "home" / "h.db"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("postgresql://localhost/runs", "is a URL"),
        ("sqlite:///h.db", "Give its path alone"),
        ("file:h.db?mode=ro", "Give its path alone"),
        ("$NOT_SET_ANYWHERE.db", "NOT_SET_ANYWHERE, which is not set"),
        ("$NOT_SET_ANYWHERE/h.db", "NOT_SET_ANYWHERE, which is not set"),
        ("~nobody-of-that-name/h.db", "no such home"),
        ("", "names no file"),
        ("a\0b.db", "names no file"),
    ],
)
def test_what_is_no_path_is_refused_and_nothing_is_created(session, tmp_path, name, told):
    with pytest.raises(StoreError, match=told):
        session(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", ["mkdir", "mkfifo"])
def test_what_is_no_file_is_refused_by_what_it_is(session, tmp_path, make):
    getattr(os, make)(tmp_path / "h.db")
    with pytest.raises(StoreError, match=r"h\.db is a (folder|pipe)"):
        session("h.db")


@pytest.mark.parametrize("link", ["h.db", "logs"])
def test_a_log_is_used_by_a_symbolic_link_too(session, tmp_path, link):
    (tmp_path / "real").mkdir()
    (tmp_path / link).symlink_to(tmp_path / "real" / ("h.db" if link == "h.db" else ""))
    log = session("h.db" if link == "h.db" else "logs/h.db")
    for n in range(40):  # until the -wal file is preallocated
        deploy.run(execution_id=f"k{n}")
    assert archive.verify(store=log).executions == len(history.open(tmp_path / "real/h.db").executions()) == 40


def test_of_a_log_with_another_name_it_is_told(session, tmp_path):
    session("h.db").close()
    (tmp_path / "snapshot.db").hardlink_to(tmp_path / "h.db")
    with pytest.warns(RuntimeWarning, match=r"h\.db has another name .*`cp`"):
        session("h.db")


def test_a_folder_whose_name_has_a_dollar_sign_is_a_folder(tmp_path):
    (tmp_path / "$cash").mkdir()
    with SqliteStore(tmp_path / "$cash" / "h.db") as log:
        assert log.path == tmp_path / "$cash" / "h.db"


# -- the file -----------------------------------------------------------------------------------------------


def deleted(folder):
    shutil.rmtree(folder)


def moved(folder):
    folder.rename(folder.with_name("old"))


def replaced(folder):
    folder.rename(folder.with_name("old"))
    shutil.copytree(folder.with_name("old"), folder)


@pytest.mark.parametrize("happens", [deleted, moved, replaced])
def test_a_run_over_a_log_that_is_gone_fails_before_its_first_step(session, tmp_path, happens):
    session(".cerebelum/history.db")
    deploy.run(execution_id="k1")
    happens(tmp_path / ".cerebelum")
    with pytest.raises(StoreError, match=r"history\.db (was deleted or moved|is another file)"):
        deploy.run(execution_id="k2")
    with pytest.raises(StoreError):
        history.executions()


def test_a_log_that_goes_while_a_step_is_at_work_fails_the_run(session, tmp_path):
    @step
    def clean():
        shutil.rmtree(tmp_path / ".cerebelum")

    @workflow
    def tidy(wf):
        wf.timeline(clean)

    session(".cerebelum/history.db")
    with pytest.raises(StoreError, match="deleted or moved"):
        tidy.run()


def test_a_journal_that_is_deleted_is_told_at_the_next_commit(session, tmp_path):
    session("h.db")
    deploy.run(execution_id="k1")
    (tmp_path / "h.db-wal").unlink()
    with pytest.raises(StoreError, match=r"h\.db-wal was deleted"):
        deploy.run()


def test_after_connecting_again_a_new_log_is_begun(session, tmp_path):
    session("h.db")
    for file in tmp_path.iterdir():
        file.unlink()
    session("h.db")
    assert deploy.run(execution_id="k1").output == 1
    assert history.executions()["execution_id"].tolist() == ["k1"]


# -- who may read it ----------------------------------------------------------------------------------------


@pytest.fixture
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_log_that_is_created_is_private_with_its_journals_and_what_is_made_of_it(session, tmp_path, usual_umask):
    log = session("h.db")
    deploy.run(execution_id="k1")
    archive.export("k1", "k1.html", store=log)
    archive.pack("k1", "k1.cerebelum", store=log)
    assert {file.name: mode(file) for file in tmp_path.iterdir()} == dict.fromkeys(
        ["h.db", "h.db-wal", "h.db-shm", "k1.html", "k1.cerebelum"], 0o600
    )


def test_a_mode_that_somebody_set_stays_and_is_that_of_what_is_made_of_the_log(session, usual_umask):
    session("h.db").close()
    Path("h.db").chmod(0o640)
    log = session("h.db")
    deploy.run(execution_id="k1")
    archive.export("k1", "k1.csv", store=log)
    archive.pack("k1", "k1.cerebelum", store=log)
    assert {mode(name) for name in ("h.db", "h.db-wal", "k1.csv", "k1.cerebelum")} == {0o640}
    Path("k1.csv").chmod(0o604)
    archive.export("k1", "k1.csv", store=log)
    assert mode("k1.csv") == 0o604


@pytest.mark.parametrize("call", [archive.export, archive.pack])
def test_a_folder_that_is_not_there_is_not_created_for_a_file(session, tmp_path, call):
    log = session("h.db")
    deploy.run(execution_id="k1")
    with pytest.raises(StoreError, match="No such file or directory"):
        call("k1", tmp_path / "typo" / "k1.html", store=log)
    assert not (tmp_path / "typo").exists()


# -- the disk -----------------------------------------------------------------------------------------------

_MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:50 / /mnt/team\\040share rw - nfs4 server:/export rw
41 22 0:51 / /mnt/drive rw - fuse.rclone remote: rw
42 22 0:52 / /mnt/usb rw - fuseblk /dev/sdb1 rw
43 40 0:53 / /mnt/team\\040share/local rw - xfs /dev/sdc1 rw
"""


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    """Let the mounts of the process be others: what the kernel lists is read, no disk is mounted."""
    (tmp_path / "mountinfo").write_text(_MOUNTS)
    monkeypatch.setattr("cerebelum_nb._store.log_file._MOUNTS", tmp_path / "mountinfo")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/ada/h.db", ""),
        ("/mnt/team share/h.db", "nfs4"),
        ("/mnt/team share/local/h.db", ""),
        ("/mnt/team share2/h.db", ""),
        ("/mnt/drive/runs/h.db", "fuse.rclone"),
        ("/mnt/usb/h.db", ""),
    ],
)
def test_a_network_file_system_is_known_by_the_deepest_mount(mounts, path, kind):
    assert network_file_system(path) == kind


def test_a_log_on_a_network_file_system_is_told_of_once(tmp_path, mounts):
    (tmp_path / "mountinfo").write_text(f"40 22 0:50 / {tmp_path} rw - nfs4 server:/export rw\n")
    with pytest.warns(RuntimeWarning, match=r"nfs4.*twice.*CEREBELUM_DB") as told:
        SqliteStore(tmp_path / "h.db").close()
    assert told[0].filename == __file__
    SqliteStore(tmp_path / "h.db").close()


def test_an_absolute_path_is_left_as_it_is():
    assert path_of("/srv/logs/h.db") == "/srv/logs/h.db"
    assert path_of(":memory:") == ":memory:"
