"""Workflows that run on both engines."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from cerebelum_nb import flow, foreach, poll, retry, sleep, step, wait_for_signal, workflow
from cerebelum_nb import wait_for_approval as ask

tries: dict[str, int] = {}


def shaky(key):
    tries[key] = tries.get(key, 0) + 1
    if tries[key] < 3:
        raise ConnectionError("not yet")
    return tries[key]


@step
async def retried(context):
    return await retry(shaky, context.execution_id, max_attempts=5, delay=20)


@step
def with_operations(context):
    print("hello")
    number = context.run("once", len, "abcd")
    sleep("30ms")
    return poll(lambda: number, interval=10)


@step(process=True)
def elsewhere(context):
    print("hello from", os.getpid() != context.run("pid", os.getppid))
    sleep("20ms")
    return poll(lambda: context.run("once", len, "abcd"), interval=10)


@step
def returns_error(inputs):
    return {"error": "limit"}


@step
def by_hand(inputs):
    return "person"


@step(timeout=0.2, retries=1, retry_delay=0.1)
async def times_out():
    await asyncio.sleep(5)


@step
def of_a_class():
    return (1, {2, 3})


@step
def uses(of_a_class, missing=None):
    return [list(of_a_class[0:1]), missing]


@step
def raises(inputs):
    raise ValueError("it cannot")


@step
def one():
    return 1


@step
def two():
    return 2


@step
def fails_beside():
    raise OSError("cut")


@step
def total(one, two):
    return one + two


@step
def count(context):
    return context.visit


@step
def regions():
    return ["ams3", "nyc1", {"name": "x" * 10_000}]


@step
async def deploy(region, context):
    print(f"deploying to {context.item}\n", end="")
    return {"of": region, "n": await context.run("size", len, region)}


@step
def report(deploy):
    return [type(one).__name__ for one in deploy], deploy[0]


@step
def numbers(inputs):
    return range(5)


@step
def square(number):
    return (number, {number**2})


@step
async def odd(square, number):
    if number == 3:
        raise ValueError("three is refused")
    return number, square


@step
def each_input(name):
    return name.upper()


@step
def gather(odd):
    return [str(one) for one in odd]


@step
async def first_signal(context):
    return await wait_for_signal("go"), await wait_for_signal("go", match=lambda data: data != 2)


@step
async def no_signal():
    try:
        await wait_for_signal("never", timeout="50ms")
    except Exception as error:
        return type(error).__name__


def is_early(visit):
    return visit < 3


def made(name, describe):
    describe.__name__ = describe.__qualname__ = name
    return workflow(describe)


operations = made("c_operations", lambda wf: wf.timeline(retried >> with_operations >> elsewhere))
routed = made(
    "c_routed",
    lambda wf: (
        wf.timeline(returns_error >> with_operations),
        wf.diverge(from_step=returns_error, patterns={"limit": by_hand}),
    ),
)
unrouted = made("c_unrouted", lambda wf: wf.timeline(returns_error))
pickled = made("c_pickled", lambda wf: wf.timeline(of_a_class >> uses))
predicate = made(
    "c_predicate",
    lambda wf: (
        wf.timeline(by_hand >> of_a_class),
        wf.branch(after=by_hand, on=lambda r: r.nothing, when_true=one, when_false=None),
    ),
)
branched = made(
    "c_branched",
    lambda wf: (
        wf.timeline(by_hand >> of_a_class),
        wf.branch(after=by_hand, on=lambda r: r == "person", when_true=one, when_false=None),
    ),
)
again = made(
    "c_again",
    lambda wf: (
        wf.timeline(by_hand >> of_a_class),
        wf.diverge(from_step=by_hand, patterns={"person": flow.retry(max_attempts=3)}),
    ),
)
ended = made(
    "c_ended",
    lambda wf: (wf.timeline(by_hand >> of_a_class), wf.diverge(from_step=by_hand, patterns={"_": flow.end()})),
)
skipped = made(
    "c_skipped",
    lambda wf: (
        wf.timeline(by_hand >> returns_error >> of_a_class),
        wf.diverge(from_step=by_hand, patterns={"_": flow.skip_to(of_a_class)}),
    ),
)
looped = made(
    "c_looped",
    lambda wf: (
        wf.timeline(one >> count >> of_a_class),
        wf.diverge(from_step=count, patterns={is_early: flow.back_to(one), "_": flow.proceed()}),
    ),
)
timed = made("c_timed", lambda wf: wf.timeline(times_out))
failing = made("c_failing", lambda wf: wf.timeline(one >> raises >> two))
grouped = made("c_grouped", lambda wf: wf.timeline([one, two] >> total))
beside = made("c_beside", lambda wf: wf.timeline([one, fails_beside] >> by_hand))

each = made("c_each", lambda wf: wf.timeline(regions >> foreach(deploy, region=regions) >> report))
collected = made(
    "c_collected",
    lambda wf: wf.timeline(
        numbers >> foreach(square >> odd, number=numbers, max_concurrency=2, on_error="collect") >> gather
    ),
)
each_failed = made("c_each_failed", lambda wf: wf.timeline(numbers >> foreach(square >> odd, number=numbers) >> gather))
each_routed = made(
    "c_each_routed",
    lambda wf: (
        wf.timeline(numbers >> foreach(square >> odd, number=numbers) >> gather),
        wf.diverge(from_step=odd, patterns={"error": by_hand}),
    ),
)
each_missing = made("c_each_missing", lambda wf: wf.timeline(foreach(each_input, name="inputs.names")))
each_given = made("c_each_given", lambda wf: wf.timeline(foreach(each_input, name="inputs.given")))
signalled = made("c_signalled", lambda wf: wf.timeline(one >> [first_signal, no_signal]))


@step
def place(region):
    return str(region)[:4]


@place.on_rollback(retries=1, retry_delay=0.01)
async def displace(place, region, context, error=None):
    if context.attempt == 1 and place == "nyc1":
        raise ConnectionError("not yet")
    return await context.run("undone", len, f"{place}{region}"), str(error)


@step
def sites():
    return ["ams3", "nyc1"]


@sites.on_rollback
def forget_sites(sites, place=None):
    return len(sites), place


rolled_back = workflow(name="c_rolled_back", on_failure="rollback")(
    lambda wf: wf.timeline(one >> sites >> foreach(place, region=sites) >> raises)
)


@step
def begun():
    return {"id": 7}


@begun.on_rollback
def cannot_undo(error):
    raise OSError(f"still there, after: {error}")


stuck = workflow(name="c_stuck", on_failure="rollback")(lambda wf: wf.timeline(begun >> two >> raises))


@step
async def endless():
    await asyncio.sleep(600)


out_of_time = workflow(name="c_out_of_time", timeout="5s")(lambda wf: wf.timeline(endless))


@step
async def asked(inputs):
    return f"{inputs['of']} answers"


@step
def judged(asked):
    if asked.startswith("bad"):
        raise ValueError(f"it is not true: {asked}")
    return asked


@asked.on_rollback
def unasked(asked, context):
    return context.run("undone", len, asked)


inner = made("c_inner", lambda wf: wf.timeline(asked >> judged))


@step
async def calls():
    results = [await inner.execute({"of": name}) for name in ("here", "there")]
    return [(result.output, result.results["asked"], result.status) for result in results]


@step
def calls_plainly(calls):
    return inner.run({"of": "thread"}).output


@step
def names():
    return ["ana", "bad", "cy"]


placed = inner.given(lambda one: {"of": f"place {one}"}, name="placed")
of_each = inner.given(lambda name: {"of": name}, name="of_each")
is_bad = inner.given(lambda one: {"of": "bad"}, name="is_bad")
children = made("c_children", lambda wf: wf.timeline(one >> placed >> calls >> calls_plainly))
child_failed = made("c_child_failed", lambda wf: wf.timeline(one >> is_bad >> two))
child_each = made("c_child_each", lambda wf: wf.timeline(names >> foreach(of_each, name=names, on_error="collect")))
child_undone = workflow(name="c_child_undone", on_failure="rollback")(lambda wf: wf.timeline(one >> placed >> raises))

CONFORMING = [
    children,
    child_failed,
    child_each,
    child_undone,
    out_of_time,
    rolled_back,
    stuck,
    each,
    collected,
    each_failed,
    each_routed,
    each_missing,
    each_given,
    signalled,
    operations,
    routed,
    unrouted,
    pickled,
    predicate,
    branched,
    again,
    ended,
    skipped,
    looped,
    timed,
    failing,
    grouped,
    beside,
]


@step
async def asks(inputs):
    answer = await ask("deploy", data={"to": "prod"}, timeout_ms=3_600_000)
    return {"answered": answer}


approved = made("approved", lambda wf: wf.timeline(one >> asks))


@step(cache=True)
def publishes(context):
    context.note("url", "https://a.example.org")
    context.note("count", {"of": 3})
    return "published"


@workflow(tags=["there"])
def publishing(wf):
    wf.timeline(publishes)


ALL = [*CONFORMING, approved, publishing]


# -- workflows whose workers die ------------------------------------------------------------------------------


def mark(folder, word):
    """Record a word that a test waits for, and the worker that wrote it."""
    with (Path(folder) / "marks").open("a") as file:
        file.write(f"{word} {os.getpid()}\n")


async def hold(folder, gate):
    """Run until a test opens the gate."""
    while not (Path(folder) / gate).exists():
        await asyncio.sleep(0.02)


@step
def quick(inputs):
    mark(inputs["folder"], "quick")
    return 1


@step
async def held(inputs, context):
    context_run = await context.run("once", mark, inputs["folder"], "once")
    mark(inputs["folder"], "held")
    await hold(inputs["folder"], "gate")
    await context.run("late", mark, inputs["folder"], "late")
    return context_run


@step(effect="external")
async def charged(inputs):
    mark(inputs["folder"], "charged")
    await hold(inputs["folder"], "gate")
    return "receipt"


@step
async def slept(inputs):
    mark(inputs["folder"], "asleep")
    await sleep("3s")
    return "awake"


@step
async def worked(inputs):
    mark(inputs["folder"], "at work")
    await hold(inputs["folder"], "gate")
    return "done"


@step
async def reminded(inputs):
    seen = {"welcome"}  # no JSON: it travels as bytes
    mark(inputs["folder"], "welcome")
    await sleep("20ms")
    seen.add("reminder")
    mark(inputs["folder"], "reminder")
    await hold(inputs["folder"], "gate")
    return sorted(seen)


@step
def repaired(inputs):
    mark(inputs["folder"], "top")
    size = len(inputs)
    return size / int((Path(inputs["folder"]) / "divisor").read_text())


mortal = made("m_mortal", lambda wf: wf.timeline(one >> [quick, held] >> two))
external = made("m_external", lambda wf: wf.timeline(one >> charged >> two))
sleeper = made("m_sleeper", lambda wf: wf.timeline(one >> slept >> two))
long = made("m_long", lambda wf: wf.timeline(one >> worked >> two))
reminder = made("m_reminder", lambda wf: wf.timeline(one >> reminded))
repair = made("m_repair", lambda wf: wf.timeline(one >> repaired))

family = made("m_family", lambda wf: wf.timeline(one >> mortal.given(lambda inputs: dict(inputs), name="born") >> two))


def one_of(number):
    async def body(inputs):
        mark(inputs["folder"], f"c{number}")
        await hold(inputs["folder"], "gate")
        return number

    body.__name__ = body.__qualname__ = f"c{number}"
    return step(body)


members = [one_of(number) for number in range(20)]
crowd = made("m_crowd", lambda wf: wf.timeline(one >> members))

MORTAL = [crowd, family, mortal, external, sleeper, long, reminder, repair]
