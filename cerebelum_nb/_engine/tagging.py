"""Add and remove the tags of an execution, from any process and at any time."""

from __future__ import annotations

from typing import Any

from .._core.arguments import ExecutionLike
from .._core.events import WorkflowTagged
from .._core.fold import evolve, fold
from .._core.labels import MOST_TAGS, changed_tags, check_tags
from .._core.summary import summarise
from .._store.base import Commit, Store
from .._store.holder import CLUSTER
from ..errors import CerebelumError
from .clock import current_clock
from .cluster_access import authoritative_store
from .leases import leases_of
from .patience import patiently, short_try

__all__ = ["tag", "tag_execution"]

_MOST_TRIES = 20
"""How often a change is sent to a cluster that rejects it."""


def tag(
    store: Store, execution_id: ExecutionLike, add: Any = (), remove: Any = (), by: str | None = None
) -> tuple[str, ...]:
    """Add tags to an execution, and remove others.

    Args:
        store: its log.
        execution_id: its id or an unambiguous prefix.
        add: tags it is to have.
        remove: tags it is not to have; removing a tag that it does not have is no error.
        by: who tags it, for the log.

    Returns:
        The tags it has now, sorted.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        ValueError: a tag is invalid, or both added and removed, or there would be too many.
        CerebelumError: it is on a cluster and has ended there.
    """
    added, removed = check_tags(add), check_tags(remove)
    if both := sorted({*added} & {*removed}):
        raise ValueError(f"the tag {both[0]!r} is both added and removed: choose one")
    row = store.execution(execution_id)
    found, store = row.execution_id, authoritative_store(store, row)
    tries = 0
    while True:
        state = fold(store.events(found))
        tags = changed_tags(state.tags, added, removed)
        if tags == state.tags:
            return tags
        if len(tags) > MOST_TAGS:
            raise ValueError(f"execution {found} would have {len(tags)} tags; it can have {MOST_TAGS}")
        if store.location.startswith(CLUSTER) and (state.lifecycle.is_final or tries == _MOST_TRIES):
            raise CerebelumError(
                f"execution {found} on {store.location} has ended and no longer takes tags there: tag its copy in your "
                f"log"
            )
        tries += 1
        event = WorkflowTagged(
            at=max(current_clock.get().now(), state.updated_at),
            added=tuple(tag for tag in added if tag not in state.tags),
            removed=tuple(tag for tag in removed if tag in state.tags),
            by=by,
        )
        after = state.version
        evolve(state, event)
        commit = Commit(execution_id=found, after=after, events=[event], summary=summarise(state), holder=None)
        if not store.commit([commit]):
            leases = leases_of(store)
            here = leases.running(found)
            if here is not None:
                here.look_soon()
            leases.tell()
            return tags


async def tag_execution(store: Store, execution_id: ExecutionLike, **change: Any) -> tuple[str, ...]:
    """Tag an execution from async code, as :func:`tag` does; the loop runs while the log is locked."""

    def write() -> tuple[str, ...]:
        with short_try():
            return tag(store, execution_id, **change)

    return await patiently(write)
