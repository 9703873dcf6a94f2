"""The fixture for tests of a user's workflow: runs on a fake clock, doubles, people, crashes."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings

from cerebelum_nb import (
    ApprovalRejectedError,
    OutcomeUnknownError,
    WorkflowError,
    flow,
    foreach,
    sleep,
    step,
    wait_for_approval,
    wait_for_signal,
    workflow,
)
from cerebelum_nb.testing import Crashed, Fails, Fate, Workflows, crash_after, crash_before, every_crash, fates


@step(retries=1, retry_delay="1h")
def charge(inputs):
    raise AssertionError("no test may ask the bank")


@step(retries=3, retry_delay="1h")
async def ship(charge):
    return f"shipped for {charge}"


@workflow
def order(wf):
    wf.timeline(charge >> ship)


@step
async def ask():
    return await wait_for_approval("budget", timeout_ms="2d")


@step
async def rest(ask):
    await sleep("7d")
    return ask


@workflow
def campaign(wf):
    wf.timeline(ask >> rest)


@step
def note(order):
    return f"noted: {order}"


@workflow
def day(wf):
    wf.timeline(order.given({}) >> note)


def test_a_workflow_in_a_timeline_is_replaced_as_a_whole(workflows):
    assert workflows.run(day, doubles={order: "shipped"}).output == "noted: shipped"
    with pytest.raises(WorkflowError, match="the courier is ill"):
        workflows.run(day, doubles={order: Fails(ConnectionError("the courier is ill"))})
    with pytest.raises(ValueError, match="workflow 'day' has no step 'charge'"):
        workflows.run(day, doubles={charge: "paid"})


def test_a_double_is_forgotten_when_its_run_is_over(workflows):
    own = order.plan().steps["charge"].fn
    assert workflows.run(order, doubles={charge: "paid", ship: "lost"}).output == "lost"
    assert order.plan().steps["charge"].fn is own and type(order).__name__ == "Workflow"
    assert workflows.run(order, doubles={charge: "paid", ship: "shipped"}).output == "shipped"


def test_a_double_is_a_value_that_the_step_is_to_return(workflows):
    run = workflows.run(order, {"n": 1}, doubles={charge: "paid"})

    assert run.output == "shipped for paid"
    assert run.path == ["charge", "ship"]


def test_a_double_that_fails_is_tried_again_under_the_policy_of_its_step(workflows):
    run = workflows.run(order, doubles={"charge": "paid", ship: Fails(ConnectionError, times=2)})

    assert run.attempts("ship") == run.attempts(ship) == 3
    assert run.waited == "2h"
    assert run.output == "shipped for paid"


def test_a_double_that_fails_may_then_return_something_else(workflows):
    run = workflows.run(order, doubles={charge: Fails(TimeoutError("slow"), times=1, then="late")})
    assert run.results["charge"] == "late"


def test_a_double_may_be_a_function_of_what_it_needs(workflows):
    async def later(inputs):
        return inputs["n"] + 1

    assert workflows.run(order, {"n": 1}, doubles={charge: later, ship: lambda charge: charge * 2}).output == 4


def test_a_step_that_fails_for_good_raises_and_the_run_can_be_looked_at(workflows):
    with pytest.raises(WorkflowError, match="no route to the bank"):
        workflows.run(order, doubles={charge: Fails(OSError("no route to the bank"))})

    assert workflows.last.status == "FAILED" and workflows.last.attempts(charge) == 2


def test_what_failed_is_resumed_with_the_doubles_it_had_or_with_others(workflows):
    with pytest.raises(WorkflowError):
        workflows.run(order, {"n": 7}, doubles={charge: "paid", ship: Fails(OSError)})

    run = workflows.resume(order, doubles={ship: lambda charge: f"by hand for {charge}"})
    assert run.output == "by hand for paid" and run.attempts("charge") == 1


def test_the_items_of_a_foreach_and_its_handlers_have_doubles_too(workflows):
    @step
    def deploy(region):
        raise AssertionError("not in a test")

    @workflow
    def rollout(wf):
        wf.timeline(foreach(deploy, region="inputs.regions"))

    run = workflows.run(rollout, {"regions": ["ams3", "nyc1"]}, doubles={deploy: lambda region: region.upper()})
    assert run.output == ["AMS3", "NYC1"]
    assert run.path == ["deploy"] and run.attempts(deploy) == 2


def test_a_loop_shows_every_visit_in_its_path(workflows):
    @step
    async def count(context):
        return context.visit

    @workflow
    def loop(wf):
        wf.timeline(count)
        wf.diverge(from_step=count, patterns={lambda n: n < 3: flow.back_to(count)})

    assert workflows.run(loop).path == ["count"] * 3


def test_a_run_stops_where_it_needs_a_person_and_no_time_passes(workflows):
    run = workflows.run(campaign)
    assert (run.status, run.waits_for, run.waited) == ("WAITING_FOR_APPROVAL", "approval 'budget'", "0s")

    run.approve("budget", {"size": 2})
    assert run.output == {"size": 2} and run.waited == "7d"


def test_a_person_may_reject_and_time_may_run_out(workflows):
    run = workflows.run(campaign)
    with pytest.raises(WorkflowError) as caught:
        run.reject("budget", "too much")
    assert isinstance(caught.value.__cause__, ApprovalRejectedError)

    run = workflows.run(campaign)
    run.clock.advance("1d")
    assert run.waits_for
    with pytest.raises(WorkflowError, match="budget"):
        run.clock.advance("1d") or run.output


def test_a_signal_is_waited_for_like_a_person(workflows):
    @step
    async def paid():
        return await wait_for_signal("payment")

    @workflow
    def sale(wf):
        wf.timeline(paid)

    run = workflows.run(sale)
    assert run.waits_for == "signal 'payment'"
    assert run.signal("payment", 10).output == 10


def test_time_passes_for_all_runs_of_a_test(workflows):
    first, second = workflows.run(campaign), workflows.run(campaign)
    assert second.approve(response="b").output == "b"
    assert "not decided within 2d" in str(first.error)


async def test_an_async_test_calls_the_same_functions(workflows):
    run = workflows.run(campaign)
    await asyncio.sleep(0)
    assert run.approve(response=1).output == 1


def test_real_time_passes_if_it_is_asked_to():
    @step
    async def nap():
        await sleep("20ms")
        return await wait_for_approval()

    @workflow
    def short(wf):
        wf.timeline(nap)

    with Workflows(real_time=True) as workflows:
        run = workflows.run(short)
        assert run.waited >= "20ms"
        assert run.approve(response="yes").output == "yes"


def test_after_a_crash_the_test_resumes_it(workflows):
    with crash_after("StepCompleted", step=charge):
        workflows.run(order, doubles={charge: "paid"})
    assert workflows.last.path == ["charge", "ship"]  # that it began is in the same commit

    run = workflows.resume(order)
    assert run.output == "shipped for paid" and run.attempts(charge) == 1


def test_a_crash_before_anything_is_recorded_starts_it_again_and_one_after_the_end_runs_nothing(workflows):
    with crash_before("WorkflowStarted"):
        workflows.run(order, doubles={charge: "paid"})
    assert workflows.resume(order).output == "shipped for paid"

    with crash_after("WorkflowCompleted"):
        workflows.run(order, doubles={charge: "paid"})
    assert workflows.resume(order).output == "shipped for paid"


def test_a_crash_that_no_block_asked_for_is_raised(workflows):
    with pytest.raises(Crashed), crash_after(3), crash_after(2):
        raise Crashed("k1", 1, "StepStarted", "", before=False)


def test_every_crash_runs_a_function_once_for_each_commit_and_resumes():
    def body():
        with Workflows() as workflows:
            run = workflows.run(campaign)
            return run.approve(response="yes").output

    visits = list(every_crash(body))
    assert {output for _, output in visits} == {"yes"}
    assert [place.version for place, _ in visits[1:]] == sorted({place.version for place, _ in visits[1:]})
    assert str(visits[1][0]) == "after event 2 of campaign-1 (WorkflowStarted, StepStarted ask)"


def test_a_crash_before_the_record_shows_what_happens_twice():
    def body():
        charged = []
        with Workflows() as workflows:
            workflows.run(order, doubles={charge: lambda: charged.append(1)})
        return len(charged)

    assert [charges for _, charges in every_crash(body)] == [1, 1, 1, 1]
    assert [charges for _, charges in every_crash(body, before=True)] == [1, 1, 2, 1]


def test_an_external_effect_is_repeated_only_where_the_test_says_so():
    @step(effect="external")
    def pay():
        return "paid"

    @workflow
    def payment(wf):
        wf.timeline(pay)

    def body():
        with Workflows() as workflows:
            return workflows.run(payment).output

    with pytest.raises(OutcomeUnknownError):
        list(every_crash(body))
    assert {output for _, output in every_crash(body, repeat=["pay"])} == {"paid"}


@step
async def join(left, right):
    return left + right


@step
async def left(charge):
    raise AssertionError


@step
async def right(charge):
    raise AssertionError


@workflow
def fork_and_join(wf):
    wf.timeline(charge >> [left, right] >> join)


@settings(max_examples=40)
@given(fates(crashes=2, commits=6))
def test_whenever_it_crashes_and_in_whatever_order_steps_end_it_ends_the_same(fate):
    with Workflows(fate=fate) as workflows:
        run = workflows.run(fork_and_join, doubles={charge: 1, left: 2, right: 3})
        assert run.output == 5


def test_a_fate_decides_where_runs_crash_and_which_parallel_step_ends_first():
    def ends(turns):
        with Workflows(fate=Fate(turns=turns)) as workflows:
            run = workflows.run(fork_and_join, doubles={charge: 1, left: 2, right: 3})
            return [event.step for event in run.events if type(event).__name__ == "StepCompleted"][1:3]

    assert ends([0, 5, 0]) == ["right", "left"] and ends([0, 0, 5]) == ["left", "right"]
    fate = Fate(crashes=[(1, False), (3, True)])
    with Workflows(fate=fate) as workflows:
        run = workflows.run(fork_and_join, doubles={charge: 1, left: 2, right: 3})
        assert [type(event).__name__ for event in run.events].count("WorkflowResumed") == 2


WRONG = [
    (lambda w: w.run(order, doubles={"chrage": 1}), ValueError, "Did you mean 'charge'"),
    (lambda w: w.run(order, doubles={charge: ConnectionError}), TypeError, r"write Fails\(ConnectionError\)"),
    (lambda w: w.run(order, doubles=[charge]), TypeError, "dict of steps"),
    (lambda w: w.run(charge), TypeError, "a workflow made with @workflow"),
    (lambda w: Fails("connection"), TypeError, r"Fails\(ConnectionError\)"),
    (lambda w: Fails(OSError, times=0), ValueError, "from 1, or None"),
    (lambda w: w.resume(order), ValueError, r"workflows.run\(...\) first"),
    (lambda w: w.run(campaign).output, AssertionError, "waits for approval 'budget'"),
    (lambda w: w.run(campaign).approve("size"), AssertionError, "waits for approval 'budget'"),
    (lambda w: w.run(campaign).attempts("aks"), ValueError, "It has: ask, rest"),
    (lambda w: w.run(order, doubles={charge: 1}).approve(), AssertionError, "it is COMPLETED"),
    (lambda w: crash_after("StepComplete").__enter__(), ValueError, "did you mean 'StepCompleted'"),
    (lambda w: crash_after(0).__enter__(), ValueError, "from 1"),
    (lambda w: crash_after(None).__enter__(), TypeError, "its type, such as 'StepCompleted'"),
    (lambda w: crash_after(3, step=4).__enter__(), TypeError, "a step or its name"),
]


@pytest.mark.parametrize(("wrong", "error", "told"), WRONG)
def test_a_wrong_use_says_what_to_do(workflows, wrong, error, told):
    with pytest.raises(error, match=told):
        wrong(workflows)


def test_a_missing_crash_reports_what_was_recorded_instead(workflows):
    told = r"no event StepFailed of step 'ship' was recorded.*3 StepCompleted charge"
    with pytest.raises(AssertionError, match=told), crash_after("StepFailed", step="ship"):
        workflows.run(order, doubles={charge: 1})
    with pytest.raises(AssertionError, match="Run the workflow inside the `with` block"), crash_after(1):
        pass
