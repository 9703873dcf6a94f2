"""The options of ``@step``, checked: retries, timeout, and what happens to the result."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

from .._core.graph import PLAIN, Policy
from .._text.duration import Duration, seconds
from ..errors import StepDefinitionError
from .code import is_async

__all__ = ["RetryOn", "in_process", "policy_of"]

RetryOn: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Exception], object]
"""The type of ``retry_on=``: which failures are retried."""


def policy_of(
    name: str,
    retries: int,
    retry_delay: Duration,
    backoff: float,
    max_delay: Duration | None,
    jitter: float,
    retry_on: Any,
    timeout: Duration | None,
    keep: bool,
    effect: object,
    checkpoint: object,
    cache: Any,
    pure: object,
) -> Policy:
    where = f"@step of '{name}'"
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise StepDefinitionError(
            f"{where}: retries (how often to try again) must be a whole number from 0, not {retries!r}"
        )
    if isinstance(backoff, bool) or not isinstance(backoff, (int, float)) or not 1 <= backoff < float("inf"):
        raise StepDefinitionError(f"{where}: backoff multiplies the delay and must be at least 1, not {backoff!r}")
    if isinstance(jitter, bool) or not isinstance(jitter, (int, float)) or not 0 <= jitter <= 1:
        raise StepDefinitionError(f"{where}: jitter (the random share of a delay) must be from 0 to 1, not {jitter!r}")
    asked = retry_on if isinstance(retry_on, tuple) or _is_function(retry_on) else (retry_on,)
    for cls in asked if isinstance(asked, tuple) else ():
        if not (inspect.isclass(cls) and issubclass(cls, BaseException)):
            raise StepDefinitionError(
                f"{where}: retry_on must be an exception class, a tuple of them, or a plain function of the exception, "
                f"not {cls!r}"
            )
    if not isinstance(keep, bool):
        raise StepDefinitionError(f"{where}: keep must be True or False, not {keep!r}")
    if effect not in (None, "external"):
        raise StepDefinitionError(f"{where}: effect must be 'external' or left out, not {effect!r}")
    if checkpoint not in (None, "waits", "lines"):
        raise StepDefinitionError(f"{where}: checkpoint must be 'waits', 'lines' or None, not {checkpoint!r}")
    try:
        delay = seconds(retry_delay, unit="s", what="retry_delay")
        longest = None if max_delay is None else seconds(max_delay, unit="s", what="max_delay")
        limit = None if timeout is None else seconds(timeout, unit="s", what="timeout")
    except (TypeError, ValueError) as error:
        raise StepDefinitionError(f"{where}: {error}") from error
    kept_for = _cache(where, cache, keep, effect)
    if not isinstance(pure, bool):
        raise StepDefinitionError(f"{where}: pure must be True or False, not {pure!r}")
    if pure and effect is not None:
        raise StepDefinitionError(f"{where}: a step with an external effect is not pure: leave out pure= or effect=")
    if limit == 0:
        raise StepDefinitionError(f"{where}: timeout must be more than zero; leave it out for no limit")
    made = Policy(
        retries=retries,
        retry_delay=delay,
        backoff=float(backoff),
        retry_on=asked,
        timeout=limit,
        keep=keep,
        effect=None if effect is None else "external",
        checkpoint=None if checkpoint is None else str(checkpoint),
        max_delay=longest,
        jitter=float(jitter),
        cache=kept_for,
        pure=pure,
    )
    return PLAIN if made == PLAIN else made


def _is_function(retry_on: object) -> bool:
    return callable(retry_on) and not inspect.isclass(retry_on) and not is_async(retry_on)


def in_process(function: Callable[..., Any], name: str, policy: Policy, process: object) -> Policy:
    """Return the policy for a step that runs in its own process if ``process`` is set.

    Raises:
        StepDefinitionError: it cannot run in its own process.
    """
    where = f"@step of '{name}'"
    if not isinstance(process, bool):
        raise StepDefinitionError(f"{where}: process must be True or False, not {process!r}")
    if not process:
        return policy
    if is_async(function):
        raise StepDefinitionError(
            f"{where}: process=True is for a plain def. A stop or a timeout already ends an async def step; make it a "
            f"plain def, or leave out process=True"
        )
    if policy.checkpoint == "lines":
        raise StepDefinitionError(
            f"{where}: the lines of a step in its own process are not recorded: leave out checkpoint= or process="
        )
    return replace(policy, process=True, checkpoint=None)


def _cache(where: str, cache: Any, keep: bool, effect: object) -> float | None:
    """Return the maximum age of a cached result, in seconds; None without a cache."""
    if cache is False or cache is None:
        return None
    if effect is not None:
        raise StepDefinitionError(
            f"{where}: the result of an external effect is never taken from another execution: leave out cache= or "
            "effect="
        )
    if not keep:
        raise StepDefinitionError(f"{where}: a result that is not kept cannot be reused: leave out keep=False")
    if cache is True:
        return float("inf")
    try:
        age = seconds(cache, unit="s", what="cache")
    except (TypeError, ValueError) as error:
        raise StepDefinitionError(
            f"{where}: {error}. cache must be True, or the maximum age of a result, such as '7 days'"
        ) from error
    if not age:
        raise StepDefinitionError(f"{where}: cache must be more than zero; leave it out to run each time")
    return age
