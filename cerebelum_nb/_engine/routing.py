"""Holding the outcome of a step against the patterns of a diverge or the predicate of a branch.

This is where routes call user code, once; what they choose is recorded and never evaluated again.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from .._core.graph import Diverge
from .._core.value import ErrorInfo

__all__ = ["choose"]

_FAILED = object()


def choose(diverge: Diverge, error: ErrorInfo | None, result: Any) -> str | None:
    """Find the first pattern that matches; return its label, or None.

    Args:
        diverge: the patterns, in order.
        error: the failure, None when the step succeeded.
        result: what the step returned; ignored when it raised.

    Raises:
        Whatever a pattern function raises.
    """
    if error is not None and error.reason is None:
        result = _FAILED
    for label, (pattern, _) in diverge.choices.items():
        if _matches(pattern, error, result):
            return label
    return None


def _matches(pattern: Any, error: ErrorInfo | None, result: Any) -> bool:
    if isinstance(pattern, str):
        return _matches_text(pattern, error, result)
    if inspect.isclass(pattern) and issubclass(pattern, BaseException):
        return error is not None and f"{pattern.__module__}.{pattern.__qualname__}" in error.mro
    if result is _FAILED:
        return False
    if isinstance(pattern, Mapping):
        return _subset(pattern, result)
    if callable(pattern):
        return bool(pattern(result))
    return type(pattern) is type(result) and bool(pattern == result)


def _matches_text(pattern: str, error: ErrorInfo | None, result: Any) -> bool:
    if pattern == "_":
        return True
    if error is not None:
        return pattern == "error" or (error.reason is not None and pattern == error.reason)
    if pattern == "ok":
        return True
    if isinstance(result, str):
        return result == pattern
    return isinstance(result, Mapping) and isinstance(result.get("status"), str) and result["status"] == pattern


def _subset(pattern: Mapping[Any, Any], result: Any) -> bool:
    if not isinstance(result, Mapping):
        return False
    for key, wanted in pattern.items():
        if key not in result:
            return False
        found = result[key]
        if isinstance(wanted, Mapping):
            if not _subset(wanted, found):
                return False
        elif not bool(found == wanted):
            return False
    return True
