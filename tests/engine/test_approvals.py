"""Approvals: decided in the waiting process and from outside, only once, and validated."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta

import pytest

from cerebelum_nb import (
    ApprovalDecidedError,
    ApprovalError,
    ApprovalRefusedError,
    ApprovalRejectedError,
    ApprovalTimeoutError,
    CerebelumError,
    Secret,
    WorkflowError,
    approval,
    flow,
    step,
    wait_for_approval,
    workflow,
)
from cerebelum_nb._core.events import ApprovalReceived, ApprovalRefused, ApprovalRequested
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._engine.approvals import decide_approval, wait_for_validation
from cerebelum_nb.testing import answering


def timeline(*steps):
    @workflow(name="w")
    def made(wf):
        wf.timeline(list(steps))

    return made


def asking(**how):
    @step
    async def ask():
        return await wait_for_approval(**how)

    return ask


async def until(store, state=ExecutionState.WAITING_FOR_APPROVAL, execution_id="k1"):
    while store.execution(execution_id).summary.state is not state:
        await asyncio.sleep(0)


@pytest.fixture
def decided(store, go):
    """Run a workflow, and decide while it waits in its process; return the result or the error."""
    store.hibernate_after = timedelta.max

    def run(made, *decisions, inputs=None):
        async def live():
            handle = made.start(inputs, store=store, execution_id="k1")
            for decide in decisions:
                await until(store)
                outcome = decide()
                if asyncio.iscoroutine(outcome):
                    await outcome
            try:
                return await handle
            except WorkflowError as error:
                return error

        return go(live())

    return run


def test_the_response_is_what_the_step_receives(store, decided):
    made = timeline(asking(data={"price": 5}))
    result = decided(made, lambda: decide_approval(store, "k1", approve=True, response={"ok": [1]}, by="ana"))
    assert result.output == {"ok": [1]}


def test_the_log_keeps_who_when_and_a_hash_of_what_was_shown(store, decided, clock):
    decided(timeline(asking(data={"price": 5})), lambda: decide_approval(store, "k1", approve=True, by="ana"))
    (asked,) = [e for e in store.events("k1") if isinstance(e, ApprovalRequested)]
    (said,) = [e for e in store.events("k1") if isinstance(e, ApprovalReceived)]
    assert said.digest == asked.digest == hashlib.sha256(asked.data.json.encode()).hexdigest()
    assert (said.by, said.at) == ("ana", clock.now())


def test_a_plain_step_asks_too(store, decided):
    @step
    def ask():
        return wait_for_approval()

    assert decided(timeline(ask), lambda: decide_approval(store, "k1", approve=True, response=7)).output == 7


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_the_decorator_asks_before_the_body(store, decided, kind):
    begun = []

    if kind == "async":

        @step
        @approval(type="production", timeout_minutes=60, data=lambda first: {"about": first})
        async def deploy(first):
            begun.append(first)
    else:

        @step
        @approval(type="production", timeout_minutes=60, data=lambda first: {"about": first})
        def deploy(first):
            begun.append(first)

    @step
    async def first():
        return "v1"

    def approve():
        assert not begun
        decide_approval(store, "k1", approve=True)

    decided(timeline(first, deploy), approve)
    (asked,) = [e for e in store.events("k1") if isinstance(e, ApprovalRequested)]
    assert (asked.approval_type, asked.data.json, begun) == ("production", '{"about":"v1"}', ["v1"])


def test_a_rejection_fails_the_step_and_says_who_and_why(store, decided):
    no = lambda: decide_approval(store, "k1", approve=False, reason="too dear", by="ana")  # noqa: E731
    error = decided(timeline(asking()), no)
    cause = error.__cause__
    assert isinstance(cause, ApprovalRejectedError)
    assert (cause.by, cause.reason) == ("ana", "too dear")


def test_a_step_that_was_rejected_asks_again_when_it_is_resumed(store, decided, go):
    made = timeline(asking())
    decided(made, lambda: decide_approval(store, "k1", approve=False))

    async def live():
        handle = asyncio.ensure_future(made.resume("k1", store=store))
        await until(store)
        decide_approval(store, "k1", approve=True, response="now")
        return await handle

    assert go(live()).output == "now"


@pytest.mark.parametrize(
    ("error", "decide"), [(ApprovalRejectedError, True), (ApprovalTimeoutError, False)], ids=["rejected", "timed out"]
)
def test_a_no_can_be_routed(store, decided, error, decide):
    @step
    async def instead():
        return "another way"

    ask = asking(timeout_ms="1h" if not decide else None)

    @workflow
    def made(wf):
        wf.timeline(ask >> instead)
        wf.diverge(from_step=ask, patterns={error: instead, "_": flow.end()})

    decisions = [lambda: decide_approval(store, "k1", approve=False)] if decide else []
    assert decided(made, *decisions).output == "another way"


def test_the_time_of_an_approval_ends(store, decided):
    error = decided(timeline(asking(timeout_ms="30m")))
    assert isinstance(error.__cause__, ApprovalTimeoutError)
    assert "not decided within 30m" in str(error)


# -- validation ---------------------------------------------------------------------------------------------


def small(response):
    if response["size"] > 3:
        raise ValueError(f"{response['size']} is more than 3")


@pytest.mark.parametrize("kind", ["raises", "is false", "async"])
def test_a_response_that_is_not_valid_is_refused_and_the_wait_continues(store, decided, kind):
    async def later(response):
        await asyncio.sleep(0)
        return response["size"] <= 3

    validate = {"raises": small, "is false": lambda r: r["size"] <= 3, "async": later}[kind]
    told = []

    async def too_large():
        decision = decide_approval(store, "k1", approve=True, response={"size": 9})
        assert decision.pending
        with pytest.raises(ApprovalRefusedError) as caught:
            await wait_for_validation(store, decision)
        told.append(str(caught.value))

    async def right():
        decision = decide_approval(store, "k1", approve=True, response={"size": 2})
        assert not (await wait_for_validation(store, decision)).pending

    result = decided(timeline(asking(validate=validate)), too_large, right)
    assert result.output == {"size": 2}
    assert ("9 is more than 3" if kind == "raises" else "was not accepted") in told[0]
    assert sum(isinstance(event, ApprovalRefused) for event in store.events("k1")) == 1


# -- the first wins -----------------------------------------------------------------------------------------


def test_a_secret_in_the_name_of_an_approval_or_in_a_refusal_is_masked(store, decided):
    token = "s3cr3t-token"

    def refuse(response):
        raise ValueError(f"{token} does not open {response}")

    @step
    async def ask(inputs):
        return await wait_for_approval(f"pay with {inputs['token'].reveal()}", validate=refuse)

    async def approve_then_reject():
        decision = decide_approval(store, "k1", approve=True, response="the door")
        with pytest.raises(ApprovalRefusedError, match=r"\*{8} does not open the door"):
            await wait_for_validation(store, decision)
        decide_approval(store, "k1", approve=False)

    decided(timeline(ask), approve_then_reject, inputs={"token": Secret(token)})
    assert token not in repr(store.events("k1"))


def test_the_second_is_told_who_was_first(store, decided, clock):
    def both():
        decide_approval(store, "k1", approve=True, response={"n": 1}, by="ana")
        with pytest.raises(ApprovalDecidedError) as caught:
            decide_approval(store, "k1", approve=False, reason="no", by="ben")
        told = str(caught.value)
        assert "was approved by ana at 2026-01-01 00:00:00 UTC" in told and '{"n":1}' in told
        assert caught.value.by == "ana"

    assert decided(timeline(asking()), both).output == {"n": 1}


def test_after_it_all_the_second_is_told_as_well(store, decided):
    decided(timeline(asking()), lambda: decide_approval(store, "k1", approve=False, reason="too dear", by="ana"))
    with pytest.raises(ApprovalDecidedError, match=r"was rejected by ana at .*: too dear"):
        decide_approval(store, "k1", approve=True)


def test_two_at_the_same_time_have_one_winner(store, decided):
    outcomes = []

    async def race():
        def decide(name):
            try:
                outcomes.append(decide_approval(store, "k1", approve=True, response=name, by=name).by)
            except ApprovalDecidedError:
                outcomes.append(None)

        await asyncio.gather(*(asyncio.to_thread(decide, f"p{n}") for n in range(8)))

    result = decided(timeline(asking()), race)
    (winner,) = [name for name in outcomes if name]
    assert result.output == winner


def test_what_nobody_asked_for_cannot_be_decided(store, go):
    @step
    async def quick():
        return 1

    go(timeline(quick).execute(store=store, execution_id="k1"))
    with pytest.raises(ApprovalError, match="is not waiting for an approval: it is COMPLETED"):
        decide_approval(store, "k1", approve=True)


def test_of_several_one_is_to_be_named(store, decided):
    @step
    async def left():
        return await wait_for_approval("left")

    @step
    async def right():
        return await wait_for_approval("right")

    def both():
        with pytest.raises(ApprovalError, match=r"'left', 'right': choose one with step='left'"):
            decide_approval(store, "k1", approve=True)
        decide_approval(store, "k1", approve=True, response="r", step="right")
        decide_approval(store, "k1", approve=True, response="l")

    result = decided(timeline([left, right]), both)
    assert dict(result.results) == {"left": "l", "right": "r"}


# -- outside an execution ------------------------------------------------------------------------------------


def test_outside_an_execution_nobody_can_be_asked():
    with pytest.raises(CerebelumError, match="outside an execution, where there is nobody to ask"):
        asyncio.run(asking()())


def test_a_test_answers():
    with answering({"size": 1}):
        assert asyncio.run(asking(validate=small)()) == {"size": 1}
    with answering(reject="no"), pytest.raises(ApprovalRejectedError, match="no"):
        asyncio.run(asking()())


@pytest.mark.parametrize("wrong", ["", "a:b", 3, "@x"])
def test_a_type_is_text(wrong):
    with pytest.raises(ValueError, match="the type is text"):
        wait_for_approval(wrong)
    with pytest.raises(ValueError, match="the type is text"):
        approval(type=wrong)
