"""What a page may do to an execution. Each action opens the log for itself; those that only look never write."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from .._engine.approvals import decide_approval
from .._engine.cancel import cancel_execution
from .._engine.signals import deliver
from .._store.sqlite import SqliteStore
from .._text.json_text import parse

if TYPE_CHECKING:
    from .logs import ShownLog

__all__ = ["Runs", "approve", "cancel", "fork_arguments", "fork_of", "form_of", "reject", "signal"]

_VIA = "via dashboard"
_TAKEN_UP_SECONDS = 10.0
_MOST_OUTPUT = 4_000


def approve(log: ShownLog, execution_id: str, form: Mapping[str, str], who: str) -> None:
    """Approve what a step asks for.

    Raises:
        ApprovalError: nothing waits for it any more; it says who decided, and how.
    """
    with SqliteStore(log.path) as store:
        decide_approval(
            store,
            execution_id,
            approve=True,
            response=_response(form.get("response", "").strip()),
            reason=form.get("reason") or None,
            step=form.get("step") or None,
            by=_by(form, who),
        )


def reject(log: ShownLog, execution_id: str, form: Mapping[str, str], who: str) -> None:
    """Reject what a step asks for.

    Raises:
        ApprovalError: nothing waits for it any more.
    """
    with SqliteStore(log.path) as store:
        decide_approval(
            store,
            execution_id,
            approve=False,
            reason=form.get("reason") or None,
            step=form.get("step") or None,
            by=_by(form, who),
        )


def signal(log: ShownLog, execution_id: str, form: Mapping[str, str], who: str) -> bool:
    """Send a signal; return False when one with the same ``signal_id`` was sent before.

    Raises:
        SignalError: the execution has ended.
        ValueError: no signal can have this name.
    """
    with SqliteStore(log.path) as store:
        return deliver(
            store,
            execution_id,
            form.get("name", ""),
            _response(form.get("data", "").strip()),
            form.get("signal_id") or None,
            _by(form, who),
        )


async def cancel(log: ShownLog, execution_id: str, form: Mapping[str, str], who: str) -> None:
    """Cancel an execution.

    Raises:
        ResumeError: it has ended already.
    """
    with SqliteStore(log.path) as store:
        await cancel_execution(store, execution_id, reason=form.get("reason") or None, by=_by(form, who))


def fork_arguments(form: Mapping[str, str]) -> list[str]:
    """Write what a form asks of a fork as the options of ``cerebelum fork``.

    Raises:
        ValueError: the inputs are not names with values, as JSON.
    """
    found = [f"--from={form['step']}"] if form.get("step") else []
    if text := form.get("inputs", "").strip():
        if not isinstance(parse(text), dict):
            raise ValueError('inputs are names with values, as JSON, such as {"size": "small"}')
        found.append(f"--inputs={text}")
    return found


def _response(text: str) -> Any:
    """Read a response: JSON, else the text itself; nothing is None."""
    if not text:
        return None
    try:
        return parse(text)
    except ValueError:
        return text


def _by(form: Mapping[str, str], who: str) -> str:
    name = who or form.get("by", "").strip()[:100]
    return f"{name} {_VIA}" if name else _VIA.removeprefix("via ")


# -- processes of their own -----------------------------------------------------------------------------------


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    what: str
    ended: str = ""

    def wait(self, output: IO[bytes]) -> None:
        """Wait for its end, and keep the last of what it wrote."""
        with output:
            code = self.process.wait()
            if code:
                output.seek(max(0, output.seek(0, os.SEEK_END) - _MOST_OUTPUT))
                text = output.read().decode("utf-8", "replace").strip()
                self.ended = f"The process that was to {self.what} it ended with code {code}:\n{text}"


class Runs:
    """Resumes and forks that were asked for: each is a separate ``cerebelum`` process, which outlives the dashboard.

    No code of a workflow ever runs in the process that serves pages.
    """

    def __init__(self) -> None:
        self._children: dict[tuple[str, str], _Child] = {}
        self._lock = threading.Lock()

    def start(self, log: ShownLog, execution_id: str, what: str, options: list[str]) -> None:
        """Start ``cerebelum resume`` or ``cerebelum fork``, unless the last one for this execution is at work."""
        key = (log.name, execution_id)
        with self._lock:
            child = self._children.get(key)
            if child is not None and child.process.poll() is None and child.what == what == "resume":
                return
            output = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the process has ended
            command = [sys.executable, "-m", "cerebelum_nb", what, f"--db={log.path}", *options, "--", execution_id]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            child = self._children[key] = _Child(process, what)
        threading.Thread(target=child.wait, args=(output,), daemon=True, name="cerebelum-wait").start()

    def told(self, log: ShownLog, execution_id: str) -> str:
        """Say how the last one for an execution stands; "" when there is nothing to say."""
        child = self._children.get((log.name, execution_id))
        if child is None:
            return ""
        if child.process.returncode is None:
            return f"A process ({child.process.pid}) has been started to {child.what} it."
        return child.ended


def fork_of(log: ShownLog, execution_id: str, since: int) -> str | None:
    """Wait for a fork of an execution that began after ``since``, µs; None when none comes."""
    until = time.monotonic() + _TAKEN_UP_SECONDS
    sql = "SELECT execution_id FROM execution WHERE parent = ? AND started_at >= ? ORDER BY key DESC LIMIT 1"
    while time.monotonic() < until:
        with log.query() as db:
            found = db.execute(sql, (execution_id, since)).fetchone()
        if found is not None:
            return str(found[0])
        time.sleep(0.1)
    return None


def form_of(body: bytes) -> dict[str, str]:
    """Read a form's fields."""
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=50))
