"""The process that holds leases: who it is, and whether it is alive.

That is proved, never guessed from the time. Within one boot of one machine and one pid namespace, a process that exists
with the start time it recorded is alive, however old its last heartbeat; one that does not is gone. About a process
anywhere else nothing can be proved from here, so heartbeats.py watches its heartbeat. This module uses no store and no
clock.
"""

from __future__ import annotations

import os
import socket
import weakref
from contextlib import suppress
from enum import Enum
from functools import cache
from pathlib import Path

from .._core.record import record
from .log_file import FileIdentity

__all__ = [
    "CLUSTER",
    "Holder",
    "Life",
    "ProcessIdentity",
    "Registration",
    "is_registered",
    "is_this_process",
    "life",
    "start_of",
    "this_process",
]


CLUSTER = "temporal://"
"""The prefix of the host of a holder that stands for a cluster."""


class Life(Enum):
    """What can be proved about a process: that it is alive, that it is gone, or neither."""

    ALIVE = "alive"
    GONE = "gone"
    UNSEEN = "unseen"


@record
class ProcessIdentity:
    """A process, distinguished from every other, even from a later one with the same pid.

    ``boot_id`` is ``"<boot>/<pid namespace>/<machine>"``: a pid means something only within the first two. Outside
    Linux it is empty, and ``started`` may be.
    """

    host: str
    pid: int
    boot_id: str
    started: str


@record
class Holder:
    """A process that runs executions: who it is and when it was last heard of (µs since the epoch)."""

    key: int
    host: str
    pid: int
    boot_id: str
    started: str
    heartbeat_at: int
    expires_at: int

    @property
    def is_cluster(self) -> bool:
        """Whether it stands for a cluster, whose execution this log has a copy of."""
        return self.host.startswith(CLUSTER)

    def __str__(self) -> str:
        return self.host if self.is_cluster else f"process {self.pid} on {self.host}"


class Registration:
    """A holder that this process registered. It counts as alive while its store keeps this object."""

    __slots__ = ("__weakref__", "beat_at", "location", "token", "ttl", "who")

    def __init__(self, who: ProcessIdentity, ttl: int = 0, location: str = "") -> None:
        self.who, self.ttl = who, ttl  # ttl: the length of its leases, µs
        self.location = location
        self.beat_at = 0.0  # its last heartbeat, monotonic seconds
        self.token = os.urandom(12).hex()
        _registered[self.token] = self

    def is_silent(self, monotonic: float) -> bool:
        """Whether its last heartbeat is so old that others could soon take its leases for expired."""
        return monotonic - self.beat_at > self.ttl / 3e6


_registered: weakref.WeakValueDictionary[str, Registration] = weakref.WeakValueDictionary()


def is_registered(token: str, identity: FileIdentity | None) -> bool:
    """Whether this process registered a holder in a file: a log that was copied or moved away still names it."""
    found = _registered.get(token)
    if found is None:
        return False
    with suppress(OSError):
        return not found.location or FileIdentity.of(found.location) == identity
    return True  # unknown at the moment


def this_process() -> ProcessIdentity:
    """Return the identity of this process."""
    pid = os.getpid()
    return ProcessIdentity(host=socket.gethostname(), pid=pid, boot_id=_boot_id(), started=start_of(pid) or "")


def is_this_process(holder: Holder) -> bool:
    """Whether ``holder`` was registered by this very process."""
    me = this_process()
    return (holder.pid, holder.started) == (me.pid, me.started) and _shares_pids(holder)


def life(holder: Holder, token: str = "") -> Life:
    """Return what can be proved about the process of ``holder``.

    More is known about this process itself: a holder whose registration (``token``) is no longer kept, because its
    store was closed, is gone.
    """
    if holder.is_cluster:
        return Life.ALIVE  # whatever dies here; the process that copies its end to this log releases the lease
    if not _shares_pids(holder):
        return Life.GONE if _was_before_this_boot(holder) else Life.UNSEEN
    started = start_of(holder.pid)
    if started is None:
        return Life.GONE
    if not (started and holder.started):
        return Life.UNSEEN
    if started != holder.started:
        return Life.GONE
    return Life.GONE if holder.pid == os.getpid() and token not in _registered else Life.ALIVE


def _shares_pids(holder: Holder) -> bool:
    """Whether a pid of ``holder`` means the same here: it is from the same boot and the same pid namespace.

    A host name proves little (two machines may share one, and a laptop changes its own), so it only counts where the
    system has no boot id.
    """
    mine, theirs = _boot_id().split("/")[:2], holder.boot_id.split("/")[:2]
    return mine == theirs and (bool(mine[0]) or holder.host == socket.gethostname())


def _was_before_this_boot(holder: Holder) -> bool:
    """Whether ``holder`` certainly ran on this machine before its last restart."""
    mine, theirs = _boot_id().split("/"), holder.boot_id.split("/")
    if len(mine) < 3 or len(theirs) < 3 or not mine[2]:
        return False
    return mine[0] != theirs[0] and mine[2] == theirs[2] and holder.host == socket.gethostname()


@cache
def _boot_id() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return ""
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    return f"{boot}/{namespace}/{machine}"


def start_of(pid: int) -> str | None:
    """Return when ``pid`` started, as its system writes it; "" if unknown, None if it is gone."""
    if Path("/proc/self/stat").exists():
        return _start_by_proc(pid)
    try:
        import psutil  # type: ignore[import-untyped]  # outside Linux; every kernel has it through ipykernel
    except (ImportError, NotImplementedError):  # it is not there, or not for a browser
        return ""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return None
    except psutil.Error:
        return ""


def _start_by_proc(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:  # gone, or hidden from this user (hidepid): a null signal tells them apart
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except OSError:
            pass
        return ""
    state, *rest = stat.rpartition(")")[2].split()  # the name before it may contain blanks and parentheses
    return None if state in "ZX" else rest[18]  # field 22 of proc(5): start, in ticks since boot
