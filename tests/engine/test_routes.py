"""Routes: patterns of every kind against real outcomes."""

from __future__ import annotations

import pytest

from cerebelum_nb import WorkflowError, flow, step, workflow


class RefusedError(Exception):
    pass


class FirmlyRefusedError(RefusedError):
    pass


def outcome(value):
    """Make a step that returns or raises the given outcome."""

    @step
    async def looked_at():
        if isinstance(value, BaseException):
            raise value
        return value

    return looked_at


matched = step(name="matched")(lambda: "matched")
rest = step(name="rest")(lambda: "rest")


def taken(store, go, value, pattern):
    first = outcome(value)

    @workflow
    def w(wf):
        wf.timeline(first >> rest)
        wf.diverge(from_step=first, patterns=[(pattern, matched)])

    return go(w.execute(store=store)).output == "matched"


MATCHES = [
    ("refused", "refused"),
    ({"status": "refused", "by": "bank"}, "refused"),
    ({"error": "refused"}, "refused"),
    ({"error": "refused"}, "error"),
    (RefusedError(), "error"),
    ("anything", "ok"),
    (None, "ok"),
    ("anything", "_"),
    (RefusedError(), "_"),
    (RefusedError(), RefusedError),
    (FirmlyRefusedError(), RefusedError),
    ({"a": 1, "b": 2}, {"a": 1}),
    ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}),
    ({"error": "refused"}, {"error": "refused"}),
    ({"a": 1}, {}),
    (12, lambda n: n > 10),
    ([1, 2], [1, 2]),
    (3, 3),
    (None, None),
    (True, True),
]

MISSES = [
    ("refused", "accepted"),
    ({"status": "refused"}, "accepted"),
    ({"state": "refused"}, "refused"),
    (RefusedError("refused"), {"error": "refused"}),
    ("error", RefusedError),
    ({"a": 1}, {"a": 2}),
    ({"a": 1}, {"b": 1}),
    ("text", {"a": 1}),
    (8, lambda n: n > 10),
    (1, True),
    (3, 4),
    ("ok?", "error"),
]


def said(value):
    """Return a test id for a value or a pattern, the same in every process."""
    return getattr(value, "__name__", None) or repr(value)


@pytest.mark.parametrize(("value", "pattern"), MATCHES, ids=said)
def test_a_pattern_matches(memory, go, value, pattern):
    assert taken(memory, go, value, pattern)


@pytest.mark.parametrize(("value", "pattern"), MISSES, ids=said)
def test_a_pattern_does_not_match(memory, go, value, pattern):
    if isinstance(value, BaseException):
        with pytest.raises(WorkflowError):
            taken(memory, go, value, pattern)
    else:
        assert not taken(memory, go, value, pattern)


def test_a_predicate_is_not_asked_about_a_failure(memory, go):
    asked = []
    with pytest.raises(WorkflowError):
        taken(memory, go, RefusedError(), lambda result: asked.append(result))
    assert asked == []


def test_a_predicate_sees_a_returned_error(memory, go):
    assert taken(memory, go, {"error": "refused"}, lambda result: result["error"] == "refused")


def test_the_first_match_wins(memory, go):
    first = outcome("x")

    @workflow
    def w(wf):
        wf.timeline(first >> rest)
        wf.diverge(from_step=first, patterns={"y": rest, "ok": matched, "x": rest})

    assert go(w.execute(store=memory)).output == "matched"


def test_the_choice_is_recorded_with_the_outcome(store, go):
    first = outcome("x")

    @workflow
    def w(wf):
        wf.timeline(first >> rest)
        wf.diverge(from_step=first, patterns={"x": matched})

    go(w.execute(store=store, execution_id="k1"))
    names = [type(event).__name__ for event in store.events("k1")]
    assert names[2:4] == ["StepCompleted", "DivergeTaken"]
    route = store.events("k1")[3]
    assert (route.choice, route.target) == ("x", "matched")


def test_an_exception_class_is_matched_after_its_process_is_gone(store, go, fails):
    """The route is chosen by names in the log, not by the live exception."""
    from cerebelum_nb._core.value import ErrorInfo
    from cerebelum_nb._engine.routing import choose
    from cerebelum_nb._engine.user_errors import error_info

    first = outcome(FirmlyRefusedError())

    @workflow
    def w(wf):
        wf.timeline(first >> rest)
        wf.diverge(from_step=first, patterns={RefusedError: matched})

    recorded = error_info(FirmlyRefusedError())
    restored = ErrorInfo(type=recorded.type, message=recorded.message, mro=recorded.mro)
    assert choose(w.plan().diverges["looked_at"], restored, None) == "RefusedError"


# -- branches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "way"), [(5, "high"), (0, "low")])
def test_a_branch_runs_in_between(store, go, value, way):
    first = outcome(value)
    high, low = step(name="high")(lambda: 1), step(name="low")(lambda: 1)

    @workflow
    def w(wf):
        wf.timeline(first >> rest)
        wf.branch(after=first, on=lambda n: n > 3, when_true=high, when_false=low)

    assert list(go(w.execute(store=store)).results) == ["looked_at", way, "rest"]


def test_any_truth_will_do_for_a_branch(store, go):
    first = outcome("text")

    @workflow
    def w(wf):
        wf.timeline(first >> rest)
        wf.branch(after=first, on=lambda text: text, when_true=matched)

    assert "matched" in go(w.execute(store=store)).results


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_predicate_that_raises_fails_the_run_with_its_own_error(store, fails, error):
    first = outcome(0)

    def predicate(n):
        raise error

    @workflow
    def w(wf):
        wf.timeline(first >> rest)
        wf.branch(after=first, on=predicate, when_true=matched)

    failure = fails(w.execute(store=store))
    assert isinstance(failure.__cause__, error) and failure.failed_step == "looked_at"


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_pattern_that_raises_fails_the_run_with_its_own_error(store, fails, error):
    first = outcome(0)

    def pattern(n):
        raise error

    @workflow
    def w(wf):
        wf.timeline(first >> rest)
        wf.diverge(from_step=first, patterns=[(pattern, matched)])

    failure = fails(w.execute(store=store))
    assert isinstance(failure.__cause__, error)


def test_a_fixed_predicate_is_asked_again_by_a_resume(store, go, fails):
    first, fixed = outcome(0), []

    @workflow
    def w(wf):
        wf.timeline(first >> rest)
        wf.branch(after=first, on=lambda n: bool(fixed or 1 / 0), when_true=matched)

    error = fails(w.execute(store=store))
    fixed.append(1)
    assert "matched" in go(w.resume(error.execution_id, store=store)).results


def test_a_predicate_cannot_change_the_result_it_sees(store, go):
    first = outcome({"n": 1})
    after = step(name="after")(lambda looked_at: looked_at)

    @workflow
    def w(wf):
        wf.timeline(first >> after)
        wf.branch(after=first, on=lambda result: result.update(n=666), when_true=matched)

    assert go(w.execute(store=store)).output == {"n": 1}


# -- actions ------------------------------------------------------------------------------------------------


def test_a_loop_runs_until_its_result_is_right(store, go):
    @step
    async def build(context):
        return context.visit

    check = step(name="check")(lambda build: "bad" if build < 3 else "good")

    @workflow
    def w(wf):
        wf.timeline(build >> check >> rest)
        wf.diverge(from_step=check, patterns={"bad": flow.back_to(build)})

    result = go(w.execute(store=store))
    assert dict(result.results) == {"build": 3, "check": "good", "rest": "rest"}


def test_a_loop_without_end_stops_with_a_clear_error(store, fails):
    first = outcome("again")

    @workflow(max_jumps=5)
    def w(wf):
        wf.timeline(first)
        wf.diverge(from_step=first, patterns={"again": flow.back_to(first)})

    error = fails(w.execute(store=store))
    assert "stopped after 5 jumps" in str(error) and "max_jumps" in str(error)


def test_to_fail_by_route_tells_the_reason(store, fails):
    first = outcome("x")

    @workflow
    def w(wf):
        wf.timeline(first >> rest)
        wf.diverge(from_step=first, patterns={"x": flow.fail("no more room")})

    error = fails(w.execute(store=store))
    assert "no more room" in str(error)


def test_a_failure_by_route_of_a_result_says_how_to_make_that_result_again(store, go, fails):
    """The step completed, so fixing it alone changes nothing: the hint has to run it again."""
    answers = ["bad", "good"]
    first = step(name="first")(lambda: answers.pop(0))

    @workflow
    def w(wf):
        wf.timeline(first >> rest)
        wf.diverge(from_step=first, patterns={"bad": flow.fail("it is bad")})

    error = fails(w.execute(store=store))
    assert "rerun=" in error.resume_hint


def test_to_end_completes_early(store, go):
    first = outcome("x")

    @workflow
    def w(wf):
        wf.timeline(first >> rest)
        wf.diverge(from_step=first, patterns={"x": flow.end()})

    result = go(w.execute(store=store))
    assert (result.status, result.output, list(result.results)) == ("COMPLETED", "x", ["looked_at"])


def test_a_routed_failure_may_be_handled_and_rejoin(store, go):
    first = outcome(RefusedError())

    @workflow
    def w(wf):
        wf.timeline(first >> matched >> rest)
        wf.diverge(from_step=first, patterns={RefusedError: rest})

    assert list(go(w.execute(store=store)).results) == ["rest"]
