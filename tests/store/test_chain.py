"""Every event is chained to the one before it, whoever appends and whatever goes wrong in between."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebelum_nb._core.events import CancelRequested
from cerebelum_nb._store import chain
from cerebelum_nb._store.sqlite import SqliteStore

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
number = st.integers(-9, 2**63 - 1)
rows = st.tuples(
    st.sampled_from(["StepStarted", "StepCompleted"]),
    st.none() | text,
    st.none() | number,
    st.none() | number,
    number,
    st.none() | text.map(lambda s: f'{{"output":"{s}"}}'),
)


def chained(store, execution_id):
    """The hashes that stand there, and those that should."""
    with closing(store.read_connection()) as db:
        found = db.execute(
            """SELECT version, hash, type, step, visit, attempt, at, data FROM event
            WHERE execution = (SELECT key FROM execution WHERE execution_id = ?) ORDER BY version""",
            (execution_id,),
        ).fetchall()
    head, expected = chain.start(execution_id), []
    for version, _, *row in found:
        head = chain.link(head, version, row)
        expected.append(head)
    return [hashed for _, hashed, *_ in found], expected


def assert_chained(store, execution_id, events):
    there, expected = chained(store, execution_id)
    assert there == expected
    assert len(there) == events


def test_commits_of_one_store_are_chained(sqlite_log):
    sqlite_log.start("deploy-1")
    sqlite_log.append("deploy-1", 1, *sqlite_log.step("a"))
    sqlite_log.append("deploy-1", 3, *(event for n in range(9) for event in sqlite_log.step(f"b{n}")))
    assert_chained(sqlite_log.store, "deploy-1", 21)


def test_two_stores_that_append_in_turn_make_one_chain(sqlite_log):
    sqlite_log.start("deploy-1")
    with SqliteStore(sqlite_log.store.path, durability="normal") as other:
        for after in range(1, 9, 2):
            other.commit([sqlite_log.commit("deploy-1", after, CancelRequested(at=after), holder=None)])
            sqlite_log.append("deploy-1", after + 1, *sqlite_log.step()[:1])
    assert_chained(sqlite_log.store, "deploy-1", 9)


def test_executions_in_one_batch_have_their_own_chains(sqlite_log):
    log = sqlite_log
    log.store.commit(
        [log.commit("a", 0, *log.step()), log.commit("b", 0, *log.step()), log.commit("a", 2, *log.step())]
    )
    assert_chained(log.store, "a", 4)
    assert_chained(log.store, "b", 2)
    assert not set(chained(log.store, "a")[0]) & set(chained(log.store, "b")[0])


def test_a_rejected_commit_leaves_the_chain_as_it_is(sqlite_log):
    sqlite_log.start("deploy-1")
    assert sqlite_log.append("deploy-1", 7, *sqlite_log.step()) == {"deploy-1": "stale"}
    sqlite_log.append("deploy-1", 1, *sqlite_log.step())
    assert_chained(sqlite_log.store, "deploy-1", 3)


def test_a_commit_that_was_undone_leaves_the_chain_as_it_is(sqlite_log):
    log = sqlite_log
    log.start("deploy-1")
    with closing(sqlite3.connect(log.store.path, isolation_level=None)) as db:
        db.execute("CREATE INDEX no ON event (json(step)) WHERE step = 'bad'")  # which is no JSON
    with pytest.raises(Exception, match="malformed JSON"):
        log.store.commit([log.commit("deploy-1", 1, *log.step("good")), log.commit("b", 0, *log.step("bad"))])
    log.append("deploy-1", 1, *log.step("other"))
    assert_chained(log.store, "deploy-1", 3)


@given(one=rows, other=rows, version=st.integers(1, 3), another=st.integers(1, 3))
def test_two_events_have_one_hash_only_if_they_are_one(one, other, version, another):
    same = chain.link(b"x", version, one) == chain.link(b"x", another, other)
    assert same == ((version, one) == (another, other))


@given(row=rows)
def test_a_hash_depends_on_all_that_was_before(row):
    assert chain.link(chain.start("a"), 1, row) != chain.link(chain.start("b"), 1, row)
    assert len(chain.link(b"", 1, row)) == chain.LENGTH


@given(row=rows, long=st.integers(1, 9))
def test_long_data_have_the_same_hash_in_slices(row, long):
    with pytest.MonkeyPatch.context() as patch:
        whole = chain.link(b"x", 1, row)
        patch.setattr(chain, "_LONG", long)
        assert chain.link(b"x", 1, row) == whole
