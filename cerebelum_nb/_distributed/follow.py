"""Following a cluster: copy its executions into a local log until they end or the follower is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from temporalio.service import RPCError

from .._store.base import Store
from .cluster import Cluster
from .mirror import Mirror
from .settings import CHILD_DRIVER, DRIVER

__all__ = ["follow"]

_LOOK_SECONDS = 1.0


async def follow(
    core_url: str | None, store: Store, ids: Sequence[str], tell: Callable[[str], None], *, once: bool = False
) -> None:
    """Copy executions of a cluster into a log.

    Args:
        core_url: HOST:PORT of the cluster.
        store: the log.
        ids: the executions to copy until they have ended; if empty, all that run there, until this is cancelled.
        tell: called with a line about each.
        once: whether to copy only what is there now.

    Raises:
        ExecutionNotFoundError: the cluster has no such execution.
        StoreError: it cannot be reached, or the log cannot be written.
    """
    cluster = await Cluster.connect(core_url, redact=store.redact)
    if ids:
        await asyncio.gather(*(_copy(cluster, name, store, tell, once=once) for name in ids))
        return
    followed: dict[str, asyncio.Task[None]] = {}
    while True:
        for name in await _to_follow(cluster, store, everything=once):
            if name not in followed:
                followed[name] = asyncio.ensure_future(_copy(cluster, name, store, tell, once=once))
        if once:
            await asyncio.gather(*followed.values())
            return
        for name, task in list(followed.items()):
            if task.done():
                del followed[name]
                if (error := task.exception()) is not None:
                    tell(f"{name}: {error}")
        await asyncio.sleep(_LOOK_SECONDS)


async def _copy(cluster: Cluster, name: str, store: Store, tell: Callable[[str], None], *, once: bool) -> None:
    mirror = Mirror(cluster, name, store)
    before = mirror.state.version
    await mirror.follow(wait=not once)
    if mirror.state.version > before:
        tell(f"{name}: {mirror.state.status.words}, {mirror.state.version - before} new events")


async def _to_follow(cluster: Cluster, store: Store, *, everything: bool) -> list[str]:
    """List the executions that run there, and those that still run there according to the log."""
    query = f"WorkflowType IN ('{DRIVER}', '{CHILD_DRIVER}') AND ExecutionStatus != 'ContinuedAsNew'"
    if not everything:
        query += " AND ExecutionStatus = 'Running'"
    try:
        running = [found.id async for found in cluster.client.list_workflows(query)]
    except RPCError:
        return []
    left, _ = store.executions(states=())
    held = [row.execution_id for row in left if row.holder is not None and row.holder.host == cluster.location]
    return list(dict.fromkeys((*running, *held)))
