"""A copy of an execution on a cluster in a local log: the same events under the same versions.

While it runs there, the cluster holds its lease in the local log, so nothing local resumes it. When its run has ended,
the lease is released: an execution that failed there can be resumed here, and the other way round.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from temporalio.service import RPCError

from .._core.events import ChildStarted, Event
from .._core.fold import evolve, fold
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.summary import summarise
from .._core.value import Value
from .._store.base import Commit, Rejection, Store
from ..errors import CerebelumError, ExecutionBusyError, ExecutionNotFoundError, StoreError
from .cluster import Change, Cluster
from .connection import explain, is_not_found, short_reason
from .published import published_with

__all__ = ["Mirror"]

log = logging.getLogger("cerebelum_nb")

_FIRST_RETRY_SECONDS, _RETRY_SECONDS = 0.05, 0.5
_WARN_AFTER_SECONDS = 5.0
_CHILDREN_END_SECONDS = 10.0
"""How long to copy children after their caller has ended and told them to end."""


class Mirror:
    """Copies one execution and its children.

    Args:
        cluster: the cluster on which it runs.
        execution_id: its id.
        store: the local log.
        state: the state after the events in the log; copied events are folded into it.
        payloads: values to write with the first commit.
        on_commit: called after each commit, with the version before it and its events.
    """

    def __init__(
        self,
        cluster: Cluster,
        execution_id: str,
        store: Store,
        *,
        state: State | None = None,
        payloads: Sequence[Value] = (),
        on_commit: Callable[[int, Sequence[Event]], None] | None = None,
    ) -> None:
        self.cluster, self.id, self.store = cluster, execution_id, store
        self.state = fold(store.events(execution_id)) if state is None else state
        self._payloads, self._on_commit = payloads, on_commit
        self._holder = store.adopt(cluster.location, _now())
        self._held = self.state.version == 0
        self._children: dict[str, asyncio.Task[None]] = {}
        self._over = False

    async def follow(self, *, wait: bool = True) -> str:
        """Copy until the run has ended; without ``wait``, copy what is there now.

        While the server is away, try again for as long as it takes.

        Returns:
            How the run ended: "completed", "failed: ...", "was terminated in Temporal by ..."; "" if it has not.

        Raises:
            ExecutionNotFoundError: the cluster has no such execution.
            StoreError: the local log cannot be written, or has another history under this id.
        """
        try:
            for _, step in self.state.attempted():
                if not step.settled:
                    self._copy(step.children, wait=wait)
            ended = await self._follow(wait=wait)
            self._over = True
            if self._children:
                await asyncio.wait(self._children.values(), timeout=_CHILDREN_END_SECONDS if wait else None)
            return ended
        finally:
            for task in self._children.values():
                task.cancel()

    async def _follow(self, *, wait: bool) -> str:
        away_since: float | None = None
        warned = False
        while True:
            try:
                async for change in self.cluster.changes(self.id, after=self.state.version, wait=wait):
                    away_since = None
                    self._take(change)
                    self._copy((event.child for event in change.events if isinstance(event, ChildStarted)), wait=wait)
                    if change.over:
                        self._release()
                        return change.over
                if not wait:
                    return ""
            except RPCError as error:
                if not wait or is_not_found(error):
                    explain(error, self.cluster.url, self.id)
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > _WARN_AFTER_SECONDS and not warned:
                    warned = True
                    log.warning(
                        "the Temporal server at %s cannot be reached (%s). Running steps continue; what they finish is "
                        "recorded when it is back. Waiting for it",
                        self.cluster.url,
                        short_reason(error.message),
                    )
            await asyncio.sleep(_RETRY_SECONDS)

    def _copy(self, children: Iterable[str], *, wait: bool) -> None:
        """Start copying the children that are not copied yet."""
        for child in children:
            if child not in self._children or self._children[child].done():
                self._children[child] = asyncio.ensure_future(self._copy_child(child, wait=wait))

    async def _copy_child(self, child: str, *, wait: bool) -> None:
        """Copy a child until it is complete or its caller has ended: a later attempt of its step may resume it."""
        pause, copied = _FIRST_RETRY_SECONDS, ""
        while True:
            is_last = self._over or not wait
            try:
                run_id = await self.cluster.run_id(child) or ""  # "": its step waits for it, but it has not started
                if run_id != copied:
                    mirror = Mirror(self.cluster, child, self.store)
                    await mirror.follow(wait=wait)
                    copied = run_id
                    is_last = is_last or mirror.state.lifecycle is ExecutionState.COMPLETED
            except ExecutionNotFoundError:
                pass
            except CerebelumError as error:
                log.warning("child %s of execution %s is not copied: %s", child, self.id, error)
                return
            if is_last:
                return
            await asyncio.sleep(pause)
            pause = min(_RETRY_SECONDS, 2 * pause)

    def _take(self, change: Change) -> None:
        """Write the new events of a change."""
        known = self.state.version - change.after
        events = [self.cluster.blobs.load(event, whole=True) for event in change.events[known:]]
        if not events:
            return
        self._claim()
        before = self.state.version
        for event in events:
            evolve(self.state, event)
        commit = Commit(
            execution_id=self.id,
            after=before,
            events=events,
            summary=summarise(self.state),
            holder=self._holder,
            release=False,
            payloads=self._payloads or published_with(events, self.cluster.blobs),
        )
        rejected = self.store.commit([commit]).get(self.id)
        if rejected is not None:
            self._catch_up(before, events, rejected)
        self._payloads, self._held = (), True
        if self._on_commit is not None:
            self._on_commit(before, events)

    def _catch_up(self, before: int, events: list[Event], rejected: str) -> None:
        """Write what is left after another follower has written some of these events.

        Raises:
            StoreError: the log has other events there.
        """
        recorded = self.store.events(self.id, after=before)
        if rejected == Rejection.STALE and recorded[: len(events)] == events[: len(recorded)]:
            if len(recorded) < len(events):
                self.state = fold(self.store.events(self.id))
                rest = Change(self.state.version, events[len(recorded) :])
                self._take(rest)
            return
        raise StoreError(
            f"the log {self.store.location} holds another execution {self.id} than {self.cluster.location}: nothing "
            f"was written. Look at the one there with --core {self.cluster.url}, or choose another execution_id"
        )

    def _claim(self) -> None:
        if self._held:
            return
        try:
            self.store.claim(self.id, self._holder, _now())
        except ExecutionBusyError as error:
            raise StoreError(
                f"execution {self.id} runs on {self.cluster.location} and, by the log {self.store.location}, here too. "
                f"{error}"
            ) from error

    def _release(self) -> None:
        """Release the lease: the run on the cluster has ended."""
        self.store.release(self.id, self._holder)

    @property
    def ended(self) -> bool:
        """Whether the copied events include the end of the run."""
        return self.state.lifecycle.is_final or self.state.lifecycle is ExecutionState.PAUSED


def _now() -> int:
    return time.time_ns() // 1000
