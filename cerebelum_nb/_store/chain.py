"""The hash chain of an execution: each event's hash covers the event as it is stored and the hash before it.

    hash(n) = BLAKE2b-128(hash(n - 1) + '[version,"type",step,visit,attempt,at,data]')

The text is the row as a compact JSON array in UTF-8, its ``data`` as it is; before the first event comes the
execution's id. So no event can be changed, inserted, removed or moved without changing all later hashes. Sixteen bytes
reveal any accident and any edit, but they are not a signature: whoever may write the file can also recompute the chain.
No I/O.
"""

from __future__ import annotations

from hashlib import blake2b
from json.encoder import encode_basestring as _quote

from .rows import Row

__all__ = ["LENGTH", "link", "start"]

LENGTH = 16
_LONG = 1 << 20
"""Longer data are hashed in slices of so many characters."""


def start(execution_id: str) -> bytes:
    """Return what comes before the first event."""
    return execution_id.encode()


def link(before: bytes, version: int, row: Row) -> bytes:
    """Return the hash of the event ``row``, whose predecessor has the hash ``before``.

    Example:
        >>> link(start("deploy-1"), 1, ("WorkflowCompleted", None, None, None, 7, None)).hex()
        'ca41b8045c5ccc04e88cdbc9e6318eab'
    """
    kind, step, visit, attempt, at, data = row
    is_long = data is not None and len(data) > _LONG
    shown = "null" if data is None else "" if is_long else data
    if step is None or visit is None or attempt is None:
        whom = ",".join("null" if part is None else _quote(str(part)) for part in (step, visit, attempt))
        text = f'[{version},"{kind}",{whom},{at},{shown}]'
    else:
        text = f'[{version},"{kind}",{_quote(step)},{visit},{attempt},{at},{shown}]'
    if is_long and data is not None:  # without three copies of the whole
        made = blake2b(before + text[:-1].encode(), digest_size=LENGTH)
        for begin in range(0, len(data), _LONG):
            made.update(data[begin : begin + _LONG].encode())
        made.update(b"]")
        return made.digest()
    return blake2b(before + text.encode(), digest_size=LENGTH).digest()
