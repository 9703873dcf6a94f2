"""Answers to the approvals of a step that is called directly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .._operations.approval import answer_outside
from ..errors import ApprovalRejectedError

__all__ = ["answering"]


@contextmanager
def answering(response: Any = None, *, reject: str | None = None) -> Iterator[None]:
    """Answer the approvals of a step that is called directly, outside an execution.

    Args:
        response: what they return.
        reject: a reason: then they raise ``ApprovalRejectedError`` instead.

    Example:
        >>> import asyncio
        >>> from cerebelum_nb import wait_for_approval
        >>> with answering("yes"):
        ...     asyncio.run(wait_for_approval())
        'yes'
    """

    def answer(approval_type: str, data: Any) -> Any:
        if reject is not None:
            raise ApprovalRejectedError(f"the approval '{approval_type}' was rejected: {reject}", reason=reject)
        return response

    token = answer_outside.set(answer)
    try:
        yield
    finally:
        answer_outside.reset(token)
