"""Wrong uses of the DSL and the API: each is an error that says what happened, where, and what to do next.

The table is for reading: a message is good if somebody who sees only the message knows what to type.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

import pytest

from cerebelum_nb import (
    CerebelumError,
    Context,
    ExecutionNotFoundError,
    ProgressReporter,
    ResumeError,
    Secret,
    StepDefinitionError,
    StoreError,
    WorkflowDefinitionError,
    WorkflowError,
    connect,
    flow,
    poll,
    retry,
    sleep,
    step,
    workflow,
)
from cerebelum_nb.testing import FakeClock, MemoryStore


def named(name):
    def fn():
        return name

    return step(name=name)(fn)


a, b, c, d = map(named, "abcd")


@workflow
def sound(wf):
    wf.timeline(a >> b)


def plan(describe):
    """Evaluate a workflow as a run would."""
    return lambda: workflow(name="w")(describe).plan()


def timeline(*items):
    return plan(lambda wf: wf.timeline(*items))


def branch(**how):
    return plan(lambda wf: wf.timeline(a >> b) or wf.branch(**{"after": a, "on": bool, "when_true": c} | how))


def diverge(patterns, **how):
    return plan(lambda wf: wf.timeline(a >> b) or wf.diverge(**{"from_step": a, "patterns": patterns} | how))


def run(work):
    """Run a coroutine under a clock that jumps."""
    with FakeClock():
        return asyncio.run(work)


def execute(**how):
    return lambda: run(sound.execute(**{"store": MemoryStore()} | how))


def resume(*args, **how):
    """Resume after one completed run, k1."""

    def wrong():
        store = MemoryStore()
        run(sound.execute(store=store, execution_id="k1"))
        run(sound.resume(*args, **{"store": store} | how))

    return wrong


def in_step(fn):
    """Use something in a step, and raise what the step raised."""

    def wrong():
        made = workflow(name="w")(lambda wf: wf.timeline(step(name="one")(fn)))
        with pytest.raises(WorkflowError) as caught:
            run(made.execute(store=MemoryStore()))
        raise caught.value.__cause__ or caught.value

    return wrong


async def anything(*args, **kwargs):
    pass


def yields():
    yield 1


class Callable:
    def __call__(self):
        pass


class Cluster:
    def deploy(self):
        pass


S, W = StepDefinitionError, WorkflowDefinitionError

STEPS = [
    ("a value instead of a function", lambda: step(5), S, r"takes a function, not 5.*above the def"),
    ("a name without name=", lambda: step("fetch"), S, r"not 'fetch'.*@step\(name='\.\.\.'\)"),
    ("a class", lambda: step(Cluster), S, r"takes a function.*plain def or async def"),
    ("a staticmethod", lambda: step(staticmethod(yields)), S, r"put it above a plain def"),
    ("@step twice", lambda: step(a), S, r"<step a> is already a step: write @step once"),
    ("a generator", lambda: step(yields), S, r"'yields' yields, but a step has one result. Return a list"),
    ("a lambda without a name", lambda: step(lambda: 1), S, r"write step\(name='\.\.\.'\)"),
    ("a partial without a name", lambda: step(partial(print)), S, r"no name: write step\(name='\.\.\.'\)"),
    ("an object without a name", lambda: step(Callable()), S, r"no name: write step\(name='\.\.\.'\)"),
    ("a name with a space", lambda: step(name="my step")(anything), S, r"'my step' cannot.*such as 'my_step'"),
    ("a name with a dash", lambda: step(name="fetch-url")(anything), S, r"'fetch-url' cannot.*'fetch_url'"),
    ("a keyword as a name", lambda: step(name="import")(anything), S, r"'import' cannot be a step's name"),
    ("a number as a name", lambda: step(name=3)(anything), S, r"a step's name must be text, not 3.*name='fetch'"),
    ("context as a name", lambda: named("context"), S, r"'context' is reserved.*another name"),
    ("inputs as a name", lambda: named("inputs"), S, r"'inputs' is reserved"),
    ("its own result", lambda: step(name="x")(lambda x: 1), S, r"'x' needs its own result: rename"),
    ("positional-only", lambda: step(name="x")(lambda build, /: 1), S, r"'build' is positional-only.*remove the '/'"),
    ("*args", lambda: step(name="x")(lambda *builds: 1), S, r"\*builds names no step.*\*\*kwargs"),
    ("negative retries", lambda: step(retries=-1)(anything), S, r"'anything': retries .*from 0, not -1"),
    ("retries as text", lambda: step(retries="3")(anything), S, r"retries .*whole number.*not '3'"),
    ("retries True", lambda: step(retries=True)(anything), S, r"retries .*not True"),
    ("retry_delay not understood", lambda: step(retry_delay="soon")(anything), S, r"'soon' is invalid.*'5s'"),
    ("retry_delay negative", lambda: step(retry_delay=-1)(anything), S, r"retry_delay must be zero or more"),
    ("backoff under 1", lambda: step(backoff=0.5)(anything), S, r"backoff multiplies.*at least 1, not 0.5"),
    (
        "retry_on by name",
        lambda: step(retry_on="OSError")(anything),
        S,
        r"retry_on must be an exception class.*'OSError'",
    ),
    ("retry_on a list", lambda: step(retry_on=[OSError])(anything), S, r"a tuple of them, or a plain function"),
    ("timeout zero", lambda: step(timeout=0)(anything), S, r"timeout must be more than zero; leave it out"),
    ("timeout a list", lambda: step(timeout=[5])(anything), S, r"timeout must be a number, a timedelta or text"),
    ("timeout infinite", lambda: step(timeout=float("inf"))(anything), S, r"timeout must be.*finite"),
    ("keep as text", lambda: step(keep="no")(anything), S, r"keep must be True or False, not 'no'"),
    ("@sleep above @step", lambda: sleep(seconds=1)(a), S, r"between @step and the function"),
    ("@poll above @step", lambda: poll(condition=bool)(a), S, r"between @step and the function"),
]

TIMELINES = [
    ("no timeline", plan(lambda wf: None), W, r"timeline is empty: call wf.timeline\(first >> second\)"),
    ("an empty timeline", timeline(), W, r"timeline is empty"),
    ("an empty list", timeline([]), W, r"timeline is empty"),
    ("an empty parallel list", timeline(a, [[]]), W, r"a parallel list is empty; remove it"),
    ("None", timeline(None), W, r"1 problem.*a step is expected, not None: give"),
    ("dots", timeline(a >> ...), W, r"a step is expected, not Ellipsis"),
    ("text", timeline(a >> "b"), W, r"'b' is text; give the step itself, without quotes"),
    ("a plain function", timeline(a >> yields), W, r"'yields' is a plain function; put @step above its def"),
    ("a called async step", lambda: timeline(a >> anything())(), W, r"'anything\(\)' was called; name the step"),
    ("a number", timeline(a >> 3), W, r"3 \(int\) is not a step; steps are made with @step"),
    ("a dict", timeline({"a": a}), W, r"\(dict\) is not a step"),
    ("a set", timeline(a >> {b, c}), W, r"is a set, which has no order; .* in a list"),
    ("a flow action", timeline(a >> flow.end()), W, r"end\(\) is a flow action; it is a target of branch or diverge"),
    ("a chain in a list", timeline(a >> [b >> c, d]), W, r"a parallel list takes steps, not <step b> >> <step c>"),
    ("two lists in a row", lambda: plan(lambda wf: wf.timeline([a, b] >> [c, d]))(), W, r"a chain starts with a step"),
    ("greater-than", lambda: plan(lambda wf: wf.timeline(a > b))(), W, r"steps are joined by >>"),
    ("a pipe", lambda: plan(lambda wf: wf.timeline(a | b))(), W, r"steps are joined by >>"),
    ("less-than-less-than", lambda: plan(lambda wf: wf.timeline(a << b))(), W, r"steps are joined by >>"),
    ("a step twice", timeline(a >> b >> a), W, r"a -> b -> a. Each step may be in it only once; .*flow.back_to\(a\)"),
    ("a step twice in a list", timeline(a >> [b, b]), W, r"'b' appears 2 times in one parallel list.*keep it once"),
    ("two steps of a name", timeline(a >> named("a")), W, r"two different steps are named 'a' \(test_bad_input"),
    (
        "an unknown dependency",
        timeline(a >> step(name="x")(lambda zzz: 1)),
        W,
        r"'x' needs 'zzz', which is not a step of this workflow: put zzz on the timeline, or remove the parameter",
    ),
    ("a misspelt one", timeline(named("build") >> step(name="x")(lambda biuld: 1)), W, r"Did you mean 'build'\?"),
    ("a method", timeline(a >> step(Cluster.deploy)), W, r"'self'.*a plain function, not a method"),
    ("a later dependency", timeline(step(name="x")(lambda a: 1) >> a), W, r"needs the result of 'a'.*put 'a' earlier"),
    ("a sibling", timeline(a >> [b, step(name="x")(lambda b: 1)]), W, r"'b', which never runs before it"),
    ("several problems", timeline(a >> "b" >> 3), W, r"2 problems:\n.*'b' is text.*3 \(int\)"),
]

ROUTES = [
    (
        "branch by position",
        plan(lambda wf: wf.timeline(a) or wf.branch(a, bool, c)),
        W,
        r"write wf.branch\(after=\.\.\.",
    ),
    ("branch misspelt", branch(when_yes=c), W, r"wf.branch: .*'when_yes'; write wf.branch\(after="),
    ("branch without a step", branch(after=None), W, r"branch after None: after=: a step is expected, not None"),
    ("branch after text", branch(after="a"), W, r"branch after 'a': after=: 'a' is text; give the step itself"),
    ("branch after a stray step", branch(after=d), W, r"branch is at 'd', which is on no path: put d on"),
    ("branch without a predicate", branch(on=None), W, r"on= takes a function of the step's result, such as lambda"),
    ("branch on a value", branch(on=True), W, r"on= takes a function.*not True"),
    ("branch on a step", branch(on=b), W, r"on= takes a function"),
    ("branch on an async function", branch(on=anything), W, r"the predicate is async; make it a plain def"),
    ("branch on a function of nothing", branch(on=lambda: True), W, r"takes the step's result as its one argument"),
    ("branch on and condition", branch(condition=bool), W, r"two names for the same thing: give only one"),
    (
        "branch that decides nothing",
        branch(when_true=None),
        W,
        r"neither when_true= nor when_false=.*give at least one path",
    ),
    ("branch to the timeline", branch(when_true=b), W, r"'b' is already on the timeline.*flow.skip_to\(b\)"),
    ("branch to text", branch(when_true="c"), W, r"when_true=: 'c' is text"),
    ("an action not called", branch(when_true=flow.end), W, r"flow.end was not called; write flow.end\("),
    (
        "two branches of a step",
        plan(lambda wf: [wf.timeline(a), *[wf.branch(after=a, on=bool, when_true=s) for s in (c, d)]]),
        W,
        r"'a' already has a branch; nest the second",
    ),
    ("diverge by position", plan(lambda wf: wf.timeline(a) or wf.diverge(a, {})), W, r"write wf.diverge\(from_step="),
    ("diverge without patterns", diverge(None), W, r"patterns= takes a dict from pattern to path, such as"),
    ("diverge with no patterns", diverge({}), W, r"patterns= takes a dict"),
    ("diverge with a list of steps", diverge([c, d]), W, r"patterns= takes a dict"),
    ("diverge from a stray step", diverge({"x": c}, from_step=d), W, r"diverge is at 'd'"),
    ("diverge to nothing", diverge({"x": None}), W, r"pattern x has no path; to continue.*flow.proceed\(\)"),
    ("a step as a pattern", diverge({c: "x"}), W, r"is a step; patterns go on the left, paths on the right"),
    ("an async pattern", diverge([(anything, c)]), W, r"is async; patterns are plain functions"),
    ("a pattern of two arguments", diverge([(lambda x, y: 1, c)]), W, r"takes the step's result as its one argument"),
    ("an exception as a pattern", diverge([(ValueError("x"), c)]), W, r"give its class: ValueError"),
    ("a tuple of exceptions", diverge({(OSError, KeyError): c}), W, r"give each class its own line"),
    ("a class as a pattern", diverge({dict: c}), W, r"is a class, but not an exception; use a function"),
    ("a dict as a key", plan(lambda wf: wf.diverge(from_step=a, patterns={{"x": 1}: c})), W, r"a list of pairs"),
    ("back_to ahead", diverge({"x": flow.back_to(b)}), W, r"goes forwards; use flow.skip_to\(b\)"),
    ("skip_to behind", diverge({"x": flow.skip_to(a)}), W, r"goes backwards; use flow.back_to\(a\)"),
    ("back_to nowhere", diverge({"x": flow.back_to("zzz")}), W, r"back_to\(zzz\) names a step that is on no path"),
    ("a jump to a value", lambda: flow.back_to(3), W, r"flow.back_to takes a step, not 3"),
    ("retry no times", lambda: flow.retry(0), W, r"max_attempts counts all attempts.*from 1, not 0"),
    ("fail with an error", lambda: flow.fail(ValueError("x")), W, r"flow.fail takes the reason as text"),
    ("a path past its rejoin", diverge({"x": b >> c}), W, r"end the path at 'b'"),
]

WORKFLOWS = [
    ("a value", lambda: workflow(5), W, r"takes a function that describes the timeline, def deploy\(wf\)"),
    ("a class", lambda: workflow(Cluster), W, r"def deploy\(wf\)"),
    ("a step", lambda: workflow(a), W, r"@workflow takes a function"),
    ("@workflow twice", lambda: workflow(sound), W, r"'sound' is already a workflow: write @workflow once"),
    ("an async function", lambda: workflow(anything), W, r"only describes the timeline.*plain def"),
    ("no argument", lambda: workflow(lambda: None), W, r"must take one argument.*\(wf\)"),
    ("two arguments", lambda: workflow(lambda wf, x: None), W, r"must take one argument"),
    ("no name", lambda: workflow(name="")(lambda wf: None), W, r"the name must be text, not ''"),
    ("no jumps", lambda: workflow(max_jumps=0)(lambda wf: None), W, r"max_jumps must be a whole number from 1, not 0"),
]

RUNS = [
    (
        "inputs that are a list",
        execute(inputs=[1]),
        TypeError,
        r"inputs must be a dict of names to values, such as \{'size'",
    ),
    (
        "inputs that are text",
        execute(inputs="small"),
        TypeError,
        r"inputs must be a dict of names to values.*str 'small'",
    ),
    (
        "a secret as all inputs",
        execute(inputs=Secret({"t": 1})),
        TypeError,
        r"inputs must be a dict of names to values",
    ),
    ("inputs by number", execute(inputs={1: "x"}), TypeError, r"names of inputs must be text, not 1"),
    ("an id that is a number", execute(execution_id=5), TypeError, r"an execution id must be text, such as 'k3v9"),
    ("an id that is blank", execute(execution_id=" "), TypeError, r"an execution id must be text"),
    (
        "a schedule whose id is blank",
        lambda: sound.schedule(every="1h", schedule_id="", store=MemoryStore()),
        TypeError,
        r"a schedule id must be text",
    ),
    ("a log that is none", execute(store=5), StoreError, r"store= takes a log from connect\(path\), or a path"),
    ("a url that is no address", execute(core_url="http://core"), CerebelumError, r"a core url is HOST:PORT, such as"),
    ("nobody at a core url", execute(core_url="localhost:1"), StoreError, r"no Temporal server can be reached at"),
    ("start without a loop", lambda: sound.start(store=MemoryStore()), CerebelumError, r"sound\.run\("),
    ("resume of an unknown id", resume("zzz"), ExecutionNotFoundError, r"zzz"),
    ("resume of a number", resume(5), TypeError, r"an execution id must be text"),
    (
        "resume of a completed run",
        resume("k1"),
        ResumeError,
        r"nothing to resume. Start a new one with.*or run it all again",
    ),
    ("resume of nothing", resume(), ResumeError, r"the last of its 1 executions, k1, is COMPLETED. Start a new one"),
    ("rerun of an unknown step", resume("k1", rerun=["zz"]), ResumeError, r"rerun names 'zz'.*Its steps are a, b"),
    (
        "rerun of a number",
        resume("k1", rerun=[1]),
        ResumeError,
        r"rerun takes names of steps, such as rerun=\['build'\]",
    ),
    ("rerun of a bare number", resume("k1", rerun=1), ResumeError, r"rerun takes names of steps"),
    ("rerun without stale steps", resume("k1", rerun="stale"), ResumeError, r"no step's code has changed"),
    ("a durability that is none", lambda: connect(":memory:", durability="fast"), ValueError, r"'full'.*'normal'"),
    ("redact as text", lambda: connect(":memory:", redact="token"), TypeError, r"list of names, such as \['token'\]"),
    (
        "hibernation by number",
        lambda: connect(":memory:", hibernate_after=5),
        ValueError,
        r"hibernate_after must be a timedelta",
    ),
    (
        "hibernation at some time",
        lambda: connect(":memory:", hibernate_after="soon"),
        ValueError,
        r"hibernate_after 'soon' is invalid: write it as .* '2 days'",
    ),
]

OPERATIONS = [
    ("sleep of nothing", lambda: sleep(), TypeError, r"await sleep\('5s'\) in a step, or @sleep\(seconds=5\)"),
    ("sleep of two kinds", lambda: sleep(5, seconds=5), TypeError, r"sleep takes one duration"),
    ("sleep not understood", lambda: sleep("5 months"), ValueError, r"sleep '5 months' is invalid.*'1h30m'"),
    ("sleep too long", lambda: sleep("9999999d"), ValueError, r"sleep can be at most 1,000 years, not 9999999d"),
    ("sleep of a huge number", lambda: sleep(10**400), ValueError, r"at most 1,000 years"),
    ("sleep below zero", lambda: sleep(-1), ValueError, r"sleep must be zero or more and finite, not -1"),
    ("sleep below zero by date", lambda: sleep(timedelta(-1)), ValueError, r"sleep must be zero or more"),
    ("sleep of a list", lambda: sleep([5]), TypeError, r"sleep must be a number, a timedelta or text such as '5s'"),
    ("sleep of True", lambda: sleep(True), TypeError, r"sleep must be a number"),
    ("sleep for NaN", lambda: sleep(float("nan")), ValueError, r"finite, not nan"),
    ("@sleep below zero", lambda: sleep(seconds=-5), ValueError, r"sleep: seconds must be zero or more"),
    ("poll of nothing", lambda: poll(), TypeError, r"await poll\(check, interval='5s'\) in a step, or @poll"),
    ("poll of a result", lambda: poll(True), TypeError, r"poll takes a function to check.*got True"),
    ("poll of both kinds", lambda: poll(bool, condition=bool), TypeError, r"await poll\(check.*or @poll"),
    ("poll no times", lambda: poll(bool, max_attempts=0), ValueError, r"poll: max_attempts counts all attempts"),
    ("poll not understood", lambda: poll(bool, interval="often"), ValueError, r"poll: interval 'often'"),
    ("@poll on a value", lambda: poll(condition=True), TypeError, r"condition must be a function of the step's result"),
    (
        "retry of a result",
        lambda: retry(5),
        TypeError,
        r"the function and its arguments separately: await retry\(connect",
    ),
    ("retry no times", lambda: retry(bool, max_attempts=0), ValueError, r"retry: max_attempts counts all attempts"),
    ("retry with a bad backoff", lambda: retry(bool, backoff="2"), ValueError, r"backoff multiplies the delay"),
    ("retry on a name", lambda: retry(bool, on_error="OSError"), TypeError, r"on_error must be an exception class"),
    ("a side effect without a name", lambda: Context().run(print), TypeError, r"context.run"),
    ("a side effect named by a number", lambda: Context().run(5, print), ValueError, r"context.run\('send-mail', send"),
    (
        "a side effect that was called",
        lambda: Context().run("x", 5),
        TypeError,
        r"the function and its arguments separately",
    ),
    ("a colon in its name", lambda: Context().run("a:b", print), ValueError, r"the name is text without ':'"),
    ("progress of nothing", lambda: ProgressReporter(5), TypeError, r"parameter named context"),
    ("progress as text", lambda: ProgressReporter(Context()).update("half"), TypeError, r"number from 0 to 100"),
    ("a secret that is missing", Secret.missing("db.password").reveal, CerebelumError, r"inputs=.*password"),
]

TABLE = [*STEPS, *TIMELINES, *ROUTES, *WORKFLOWS, *RUNS, *OPERATIONS]


@pytest.mark.parametrize(("wrong", "error", "says"), [case[1:] for case in TABLE], ids=[case[0] for case in TABLE])
def test_wrong_use_says_what_to_do(wrong, error, says):
    with pytest.raises(error, match=f"(?s){says}") as caught:
        wrong()
    assert len(str(caught.value).splitlines()) <= 20, "it fits on one screen"
    if issubclass(error, CerebelumError):
        assert not isinstance(caught.value, AssertionError)


def test_the_table_is_long_enough():
    assert len(TABLE) >= 60


def test_every_wrong_use_has_its_own_line():
    for table in (STEPS, TIMELINES, ROUTES, WORKFLOWS, RUNS, OPERATIONS):
        names = [case[0] for case in table]
        assert len(set(names)) == len(names)
