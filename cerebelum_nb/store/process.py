"""Who this process is, and whether another one is gone: the facts a lease rests on.

Nothing here knows a store, a lease's duration or a clock. Whatever cannot be found out counts as "may be
alive", so that a lease is never taken from a living process; its expiry then decides.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .base import Holder

__all__ = ["Identity", "current", "is_gone", "is_this_process"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process, told apart from every other one, also from a later one with the same pid.

    ``boot_id`` is ``"<boot>/<pid namespace>"``: a pid means something only within both. Outside Linux it is
    empty, and ``started`` may be.
    """

    host: str
    pid: int
    boot_id: str
    started: str


def current() -> Identity:
    """Say who this process is."""
    pid = os.getpid()
    return Identity(host=socket.gethostname(), pid=pid, boot_id=_boot_id(), started=_start_of(pid) or "")


def is_this_process(holder: Holder) -> bool:
    """Whether ``holder`` is a registration of this very process."""
    me = current()
    return (holder.host, holder.pid, holder.started) == (me.host, me.pid, me.started)


def is_gone(holder: Holder) -> bool:
    """Whether the process of ``holder`` is certainly over; False when that cannot be told from here."""
    if holder.host != socket.gethostname():
        return False
    boot, _, namespace = holder.boot_id.partition("/")
    my_boot, _, my_namespace = _boot_id().partition("/")
    if boot and my_boot and boot != my_boot:
        return True
    if namespace != my_namespace:  # another container on this machine: its pids are not ours
        return False
    started = _start_of(holder.pid)
    if started is None:
        return True
    return bool(started and holder.started and started != holder.started)


@cache
def _boot_id() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _start_of(pid: int) -> str | None:
    """When ``pid`` started, in its system's own words; "" when unknown, None when it is gone."""
    if Path("/proc/self/stat").exists():
        return _start_by_proc(pid)
    try:
        import psutil  # type: ignore[import-untyped]  # outside Linux; every kernel has it through ipykernel
    except ImportError:
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
    state, *rest = stat.rpartition(")")[2].split()  # the name before it may hold blanks and parentheses
    return None if state in "ZX" else rest[18]  # field 22 of proc(5): start, in ticks since boot
