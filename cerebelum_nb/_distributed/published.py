"""The plan of an execution and the code of its steps, for the logs that copy it.

The caller, or the worker that starts a child, puts them in the blob store under the digest of the plan, which is in the
events; a follower writes them with the first events. Without them a copy has the same events, but no code to show.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import cast

from .._core.events import Event
from .._core.graph import Plan
from .._core.value import Value
from .._engine.plan_payloads import keep_parts
from .._store.base import Store
from .._text.json_text import parse
from .._values import Redactor
from .._values.bounds import inflate
from ..errors import StoreError
from .blobs import Blobs

__all__ = ["publish_plan", "published_with"]


def publish_plan(plan: Plan, blueprint: Value, redactor: Redactor, blobs: Blobs) -> None:
    """Put the payloads of a plan in the blob store, without secrets, if it can be written."""
    if blobs.has(blueprint.digest):
        return
    payloads = keep_parts(plan, cast(Store, blobs), redactor, blueprint)
    rows = [[one.codec, one.digest, base64.b64encode(one.payload or b"").decode()] for one in payloads]
    with suppress(StoreError):  # not essential: the execution uses the plan in Temporal's history
        blobs.put(blueprint.digest, zlib.compress(json.dumps(rows).encode(), 6))


def published_with(events: Iterable[Event], blobs: Blobs) -> tuple[Value, ...]:
    """Return the payloads of the plans of events, as far as they were published."""
    found = dict[str, Value]()
    for plan in dict.fromkeys(filter(None, (getattr(event, "plan", None) for event in events))):
        try:
            rows = parse(inflate(blobs.payload(plan)))
            kept = [(codec, digest, base64.b64decode(text)) for codec, digest, text in rows]
        except (StoreError, ValueError, TypeError):  # not essential, or damaged
            continue
        found |= {digest: Value(codec, digest=digest, size=len(data), payload=data) for codec, digest, data in kept}
    return tuple(found.values())
