"""Add and remove the tags of an execution, from any process and at any time."""

from __future__ import annotations

from typing import Any

from .._core.arguments import ExecutionLike
from .._core.events import WorkflowTagged
from .._core.labels import MOST_TAGS, changed_tags, check_tags
from .._core.state import State
from .._store.base import Store
from .._store.holder import CLUSTER
from ..errors import CerebelumError
from .clock import current_clock
from .cluster_access import authoritative_store
from .outside import append_from_outside
from .patience import patiently, short_try

__all__ = ["tag", "tag_execution"]


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
    tags: tuple[str, ...] = ()
    has_ended = CerebelumError(
        f"execution {found} on {store.location} has ended and no longer takes tags there: tag its copy in your log"
    )

    def make(state: State) -> WorkflowTagged | None:
        nonlocal tags
        tags = changed_tags(state.tags, added, removed)
        if tags == state.tags:
            return None
        if len(tags) > MOST_TAGS:
            raise ValueError(f"execution {found} would have {len(tags)} tags; it can have {MOST_TAGS}")
        if store.location.startswith(CLUSTER) and state.lifecycle.is_final:
            raise has_ended
        return WorkflowTagged(
            at=max(current_clock.get().now(), state.updated_at),
            added=tuple(tag for tag in added if tag not in state.tags),
            removed=tuple(tag for tag in removed if tag in state.tags),
            by=by,
        )

    append_from_outside(store, found, make, refusal=has_ended)
    return tags


async def tag_execution(store: Store, execution_id: ExecutionLike, **change: Any) -> tuple[str, ...]:
    """Tag an execution from async code, as :func:`tag` does; the loop runs while the log is locked."""

    def write() -> tuple[str, ...]:
        with short_try():
            return tag(store, execution_id, **change)

    return await patiently(write)
