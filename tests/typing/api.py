"""The types that users' code sees, checked by mypy and basedpyright (`.ci/check`); it is never run."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, assert_type

from cerebelum_nb import (
    Context,
    Result,
    Run,
    Step,
    Stepper,
    Workflow,
    WorkflowBuilder,
    approval,
    flow,
    poll,
    retry,
    signal,
    sleep,
    step,
    wait_for_approval,
    workflow,
)


def find() -> str | None:
    """Find an address, or nothing yet."""
    return "203.0.113.7"


async def find_later() -> str | None:
    """Find an address, or nothing yet."""
    return "203.0.113.7"


def count(host: str, *, times: int = 1) -> int:
    """Count something."""
    return len(host) * times


async def count_later(host: str, *, times: int = 1) -> int:
    """Count something."""
    return len(host) * times


def is_many(number: int) -> bool:
    """Tell whether it is many."""
    return number > 3


# -- operations in an async step ----------------------------------------------------------------------------


async def awaited(context: Context) -> None:
    """Each operation gives what its function returns, sync or async."""
    assert_type(await poll(find), str)
    assert_type(await poll(find_later, interval="1s"), str)
    assert_type(await poll(lambda: 3), int)
    assert_type(await poll(lambda: 3, success_condition=is_many), int)
    assert_type(await retry(count, "host", times=2), int)
    assert_type(await retry(count_later, "host", max_attempts=2), int)
    assert_type(await context.run("count", count, "host", times=2), int)
    assert_type(await context.run("count", count_later, "host"), int)
    assert_type(await sleep("1s"), None)
    assert_type(await wait_for_approval(data={"price": 5}), Any)
    await context.run("count", count, 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


# -- operations in a plain step -----------------------------------------------------------------------------


def blocking(context: Context) -> str:
    """Each operation is usable as its value."""
    address: str = poll(find)
    number: int = context.run("count", count, address)
    number += retry(count, address)
    sleep("1s")
    if wait_for_approval():
        number = number + 1
    return address + str(number)


# -- steps --------------------------------------------------------------------------------------------------


@step
def create(inputs: dict[str, int]) -> int:
    """Create."""
    return inputs["size"]


@step(retries=2, timeout="1m")
async def configure(create: int) -> str:
    """Configure."""
    return str(create)


@step
@sleep(seconds=1)
@poll(condition=bool, interval=5)
@approval(type="production")
@signal("payment", timeout="2 days")
def check(configure: str) -> bool:
    """Check."""
    return bool(configure)


async def steps() -> None:
    """A step keeps the function's types; called directly it is the function."""
    assert_type(create({"size": 2}), int)
    assert_type(await configure(2), str)
    assert_type(check("a"), bool)
    assert_type(check.name, str)
    create(2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    check(configure=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    create >> 3  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]


def takes_steps(plain: Step[[dict[str, int]], int], later: Step[[int], Coroutine[Any, Any, str]]) -> None:
    """Steps can be named in a signature."""


takes_steps(create, configure)


# -- workflows ----------------------------------------------------------------------------------------------


@workflow
def deploy(wf: WorkflowBuilder) -> None:
    """Deploy."""
    wf.timeline(create >> [configure, check] >> create)
    wf.timeline([create, configure], create)
    wf.timeline([create, configure] >> check)
    wf.branch(after=create, on=is_many, when_true=configure >> check, when_false=flow.end())
    wf.diverge(from_step=create, patterns={"ok": configure, "error": flow.back_to(create), ValueError: None})
    wf.timeline(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@workflow(name="other", max_jumps=3)
def other(wf: WorkflowBuilder) -> None:
    """Do something else."""
    wf.timeline(create)


async def runs() -> None:
    """Every way to run one gives a result; what the last step returned is known only when it has run."""
    assert_type(deploy, Workflow)
    assert_type(other, Workflow)
    result = await deploy.execute({"size": 2})
    assert_type(result, Result)
    assert_type(result.output, Any)
    assert_type(result.results["create"], Any)
    assert_type(await deploy.resume(result.execution_id, rerun="stale"), Result)
    assert_type(await deploy.fork(result, from_step=configure, inputs={"size": 3}), Result)
    assert_type(deploy.run(), Result)
    started = deploy.start({"size": 2})
    assert_type(started, Run)
    assert_type(await started, Result)
    begun = deploy.begin({"size": 2})
    assert_type(begun, Stepper)
    assert_type(await begun.finish(), Result)
    await deploy.execute(2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
