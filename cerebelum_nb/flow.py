"""What a route can do instead of following a path: ``flow.back_to(step)``, ``flow.fail("reason")`` and others."""

from __future__ import annotations

from ._dsl.flow import back_to, end, fail, proceed, retry, skip_to

__all__ = ["back_to", "end", "fail", "proceed", "retry", "skip_to"]
