"""What every store refuses, with the messages. No I/O.

The two stores differ in how they keep events, not in what they refuse or in how they say so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from .._core.events import is_signal
from .._host.caller import in_cells
from .._text.times import at, utc
from ..errors import ExecutionBusyError, ExecutionNotFoundError
from .base import Commit
from .holder import CLUSTER, Holder, is_this_process

__all__ = [
    "SUGGESTED",
    "alien",
    "ambiguous",
    "busy",
    "check",
    "gone",
    "hard_linked",
    "journal_gone",
    "no_append",
    "no_payload",
    "not_found",
    "on_network",
    "read_only",
]

SUGGESTED = 10
"""How many ids a message names at most."""


def check(commits: Iterable[Commit]) -> None:
    """Raise ValueError if a commit without a lease contains anything but signals."""
    for commit in commits:
        if commit.holder is None and not all(map(is_signal, commit.events)):
            raise ValueError(
                f"Execution {commit.execution_id}: only signals can be appended without a lease. Claim it first."
            )


def busy(execution_id: str, holder: Holder, left: float, now: int) -> ExecutionBusyError:
    """The error for an execution that ``holder`` is running.

    Args:
        execution_id: the execution.
        holder: the process that has its lease.
        left: for how many seconds the lease must be respected; infinity while its process is known to be alive.
        now: the time, µs since the epoch.
    """
    heard = utc(holder.heartbeat_at)
    if is_this_process(holder):
        return ExecutionBusyError(
            f"Execution {execution_id} is already being run by this process ({holder}, last heard of at "
            f"{heard}). Await that run, or stop it, then try again.",
            execution_id=execution_id,
            holder=str(holder),
        )
    if holder.is_cluster:
        url = holder.host.removeprefix(CLUSTER)
        return ExecutionBusyError(
            f"Execution {execution_id} runs on the cluster {holder}, and this log holds a copy of it. See it there "
            f"with `cerebelum status {execution_id} --core {url}`. If it has ended there, bring the copy up to date "
            f"with `cerebelum follow {execution_id} --core {url}`, then try again; to resume it there, add "
            f"distributed=True.",
            execution_id=execution_id,
            holder=str(holder),
        )
    if left == math.inf:
        return ExecutionBusyError(
            f"Execution {execution_id} is being run by {holder}, which is alive. Wait for it, or stop that process "
            f"(`kill {holder.pid}`), then try again.",
            execution_id=execution_id,
            holder=str(holder),
        )
    free = at(now + round(left * 1e6))
    return ExecutionBusyError(
        f"Execution {execution_id} is being run by {holder}, which cannot be seen from here; its clock said "
        f"{heard} at its last heartbeat. Wait for it or stop that process; if it is dead and no "
        f"other heartbeat comes, the execution is free at {utc(free)}: try again then.",
        execution_id=execution_id,
        holder=str(holder),
        free_at=free,
    )


def not_found(asked: str, recent: Sequence[str]) -> ExecutionNotFoundError:
    """The error for an id (or prefix) that no execution has; it suggests similar ones of the ``recent`` ids."""
    by_start = {name[: len(asked)]: name for name in reversed(recent)}
    import difflib

    near = difflib.get_close_matches(asked, recent, n=3) or [
        by_start[start] for start in difflib.get_close_matches(asked, by_start, n=3)
    ]
    lists = "%cerebelum list" if in_cells() else "cerebelum list"
    hint = f"Did you mean {_listed(near)}?" if near else f"List what there is with `{lists}`."
    return ExecutionNotFoundError(f"There is no execution {asked!r} in this log. {hint}", suggestions=tuple(near))


def ambiguous(asked: str, matches: Sequence[str]) -> ExecutionNotFoundError:
    """The error for a prefix that several executions share; up to ``SUGGESTED`` of them are named."""
    shown = tuple(matches[:SUGGESTED])
    more = ", ..." if len(matches) > SUGGESTED else ""
    return ExecutionNotFoundError(
        f"Several executions begin with {asked!r}: {_listed(shown)}{more}. Give more of the id.",
        suggestions=shown,
    )


def no_append(location: str, execution_id: str, version: int) -> str:
    """The message for a log that refuses an event although nobody has appended another one: it is damaged."""
    return (
        f"The log {location} refuses to append to execution {execution_id} after version {version}. Check it with "
        f"`cerebelum verify`"
    )


def no_payload(digest: str) -> str:
    """The message for a value whose bytes are gone."""
    return (
        f"The log no longer holds the value {digest[:16]}... (pruned, or copied without its payload). "
        "Run the step that produced it again."
    )


def gone(location: str, *, replaced: bool) -> str:
    """The message for a log whose file is no longer the one that was opened."""
    if replaced:
        return (
            f"The log {location} is another file than the one this process opened: it was replaced. Nothing more is "
            "written. Call connect() again to work with the file that is there now; what only the old file held "
            "is in the copy that was moved away, if there is one."
        )
    return (
        f"The log {location} was deleted or moved while it was open. Nothing more is written: no other process "
        "would see it. Put the file back, with its -wal file, or call connect() again to begin a new log."
    )


def alien(location: str, found: Sequence[str]) -> str:
    """The message for an untrusted log whose schema contains code that would run by itself."""
    return (
        f"The log {location} was not made by you on this machine, and contains something that is not part of a log: "
        f"{'; '.join(found[:SUGGESTED])}. It could run code, so nothing was read or changed. If you know who wrote it, "
        "open it with `connect(path, trusted=True)`, or drop it first: sqlite3 LOG 'DROP TRIGGER NAME'."
    )


def journal_gone(journal: str) -> str:
    """The message for a log whose -wal file was deleted while it was open."""
    return (
        f"The file {journal} was deleted while the log was open, and with it the latest commits. Restart this "
        "process (in a notebook: the kernel), check what is left with `cerebelum verify`, and resume."
    )


def on_network(location: str, kind: str) -> str:
    """The message for a log on a file system whose locks and memory maps SQLite cannot rely on."""
    return (
        f"The log {location} is on a network or FUSE file system ({kind}). SQLite cannot rely on its locks: used from "
        "two machines at once, the log may be damaged and an execution may run twice; a lost connection may lose "
        "commits. Keep it on a local disk, with connect('/local/disk/history.db') or CEREBELUM_DB, and move runs "
        "with `cerebelum pack`."
    )


def hard_linked(location: str) -> str:
    """The message for a log with several names, each of which has its own -wal file."""
    return (
        f"The log {location} has another name (a hard link, as `ln` and `cp -l` make). Opened by both names, it loses "
        "commits or is damaged. Make a copy with its own data instead: `cp`, or `cerebelum pack` for single executions."
    )


def read_only(location: str) -> str:
    """The message for a write to a read-only log."""
    return (
        f"The log {location} is read-only here: nothing was written. "
        "Copy it to a place you can write to, or change its permissions, then try again."
    )


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in ids)
