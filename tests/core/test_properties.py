"""Any prefix of any history folds, keeps the invariants, and resumes to the same results.

Random workflows run in the real engine, on a log in memory and a clock that jumps. Then the process "dies" after
any of the recorded events: that prefix is put into a fresh log and resumed.
"""

from __future__ import annotations

import inspect
import zlib
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cerebelum_nb import flow, poll, retry, sleep, step, wait_for_approval, workflow
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.graph import Action
from cerebelum_nb.errors import ApprovalTimeoutError

from .lives import dies_and_resumes, outcome, world

# -- steps --------------------------------------------------------------------------------------------------

WAYS = (
    "plain",
    "thread",
    "sleep",
    "poll",
    "run",
    "retry",
    "flaky",
    "broken",
    "set",
    "sleepy flaky",
    "threaded waits",
    "asks",
)


@dataclass
class Part:
    """A step to be made: how it behaves, what it reads, and what it says in its first visits, for routes."""

    name: str
    way: str
    reads: tuple[str, ...] = ()
    says: str = "ok"
    visits: int = 99


def make_step(part: Part) -> Any:
    """Make a step that does the same in every life of its process."""
    name, way = part.name, part.way

    def asking() -> str | None:
        world.asked[name] += 1
        return "ready" if world.asked[name] > 2 else None

    def connecting() -> str:
        world.asked[name] += 1
        if world.asked[name] < 3:
            raise ConnectionError(name)
        return "connected"

    def answer(context: Any, known: dict[str, Any]) -> Any:
        said = part.says if context.visit <= part.visits else "done"
        if said == "error":
            return {"error": "refused"}
        seen = zlib.crc32(repr(sorted((n, sorted(map(str, v or "-"))) for n, v in known.items())).encode())
        return {name, str(seen)} if way == "set" and said == "ok" else {"status": said, "seen": seen}

    async def body(context: Any, **known: Any) -> Any:
        if way == "sleep":
            await sleep("90s")
        elif way == "poll":
            known["polled"] = await poll(asking, interval=1000, max_attempts=50)
        elif way == "run":
            known["done"] = await context.run("mail", str.upper, name)
            known["more"] = await context.run("mail", str.lower, name)
        elif way == "retry":
            known["retried"] = await retry(connecting, max_attempts=9, delay=100)
        elif way == "asks":
            known["asked"] = "nobody"
            try:
                await wait_for_approval(data=name, timeout_ms="3h")
            except ApprovalTimeoutError:
                known["asked"] = "in vain"
        elif way == "sleepy flaky":
            await sleep("1h")
            known["done"] = await context.run("mail", str.upper, name)
            await sleep("1h")
        if way.endswith("flaky") and context.attempt == 1:
            raise ConnectionError(name)
        if way == "broken" and not world.fixed:
            raise RuntimeError(name)
        return answer(context, known)

    def threaded(context: Any, **known: Any) -> Any:
        if way == "threaded waits":
            sleep("2m")
            known["done"] = context.run("mail", str.upper, name)
        return answer(context, known)

    fn: Any = threaded if way.startswith("thread") else body
    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY)]
    parameters += [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=None) for n in part.reads]
    fn.__signature__ = inspect.Signature(parameters)
    return step(name=name, retries=int(way.endswith("flaky")), retry_delay=3)(fn)


# -- workflows ----------------------------------------------------------------------------------------------

Stages = list[list[str]]


@dataclass
class Shape:
    """A workflow to be made; a target is stages, a flow action or None."""

    timeline: Stages
    parts: dict[str, Part] = field(default_factory=dict)
    branches: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    diverges: dict[str, dict[str, Any]] = field(default_factory=dict)


def make_workflow(shape: Shape) -> Any:
    steps = {name: make_step(part) for name, part in shape.parts.items()}

    def chain(target: Any) -> Any:
        if target is None or isinstance(target, Action):
            return target
        members = [[steps[n] for n in names] if len(names) > 1 else steps[names[0]] for names in target]
        whole = members[0]
        for member in members[1:]:
            whole = whole >> member
        return whole

    @workflow(name="random")
    def made(wf: Any) -> None:
        wf.timeline([[steps[n] for n in names] for names in shape.timeline])
        for name, (yes, no) in shape.branches.items():
            wf.branch(after=steps[name], on=_said_ok, when_true=chain(yes), when_false=chain(no))
        for name, choices in shape.diverges.items():
            wf.diverge(from_step=steps[name], patterns={p: chain(t) for p, t in choices.items()})

    return made


def _said_ok(result: Any) -> bool:
    return "ok" in str(result)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Draw a workflow that ends: who jumps back says so in its first visits only."""
    sizes = draw(st.lists(st.sampled_from([1, 1, 1, 2, 3]), min_size=1, max_size=5))
    shape = Shape([[f"t{i}{'abc'[j]}" for j in range(size)] for i, size in enumerate(sizes)])
    count = iter(range(100))
    made: list[Stages] = []

    def part(name: str, reads: tuple[str, ...]) -> None:
        shape.parts[name] = Part(name, draw(st.sampled_from(WAYS)), reads)

    def path(reads: tuple[str, ...]) -> Stages:
        """Some steps off the timeline, the first of them alone; at times a path that is there already."""
        if made and draw(st.integers(0, 4)) == 0:
            return draw(st.sampled_from(made))
        stages = [[f"p{next(count)}" for _ in range(size)] for size in draw(st.sampled_from([[1], [1, 1], [1, 2]]))]
        for names in stages:
            for name in names:
                part(name, reads)
            reads = (*reads, *names)
        if draw(st.integers(0, 3)) == 0:
            shape.parts[stages[0][0]].says = "busy"
            shape.parts[stages[0][0]].visits = draw(st.integers(0, 2))
            shape.diverges[stages[0][0]] = {"busy": flow.retry(max_attempts=4)}
        elif draw(st.integers(0, 4)) == 0:
            shape.branches[stages[-1][0]] = (path(reads), None)
        made.append(stages)
        return stages

    before: tuple[str, ...] = ()
    for names in shape.timeline:
        for name in names:
            part(name, tuple(n for n in before if draw(st.booleans())))
        before = (*before, *names)
    for index, names in enumerate(shape.timeline):
        alone = [i for i, stage in enumerate(shape.timeline) if len(stage) == 1]
        for name in names:
            route = draw(
                st.sampled_from(["", "", "", "branch", "path", "loop", "rejoin", "skip", "retry", "error", "end"])
            )
            seen = before[: before.index(name) + 1]
            behind = [i for i in alone if i <= index]
            ahead = [i for i in alone if i > index]
            where = draw(st.sampled_from((ahead if route == "skip" else behind + ahead) or [None]))
            step_there = None if where is None else shape.timeline[where][0]
            told = shape.parts[name]
            if route == "branch":
                told.says = draw(st.sampled_from(["ok", "other"]))
                shape.branches[name] = (path(seen), draw(st.sampled_from([None, "path"])) and path(seen))
            elif route == "path":
                told.says = draw(st.sampled_from(["ok", "away"]))
                shape.diverges[name] = {"away": path(seen)}
            elif route == "loop" and behind:
                told.says, told.visits = "again", draw(st.integers(1, 2))
                shape.diverges[name] = {"again": flow.back_to(shape.timeline[draw(st.sampled_from(behind))][0])}
            elif route == "rejoin" and step_there:
                told.says, told.visits = "again", draw(st.integers(1, 2))
                shape.diverges[name] = {"again": [*path(seen), [step_there]]}
            elif route == "skip" and step_there:
                told.says, told.visits = "skip", draw(st.sampled_from([1, 99]))
                shape.diverges[name] = {"skip": flow.skip_to(step_there)}
            elif route == "retry":
                told.says, told.visits = "busy", draw(st.integers(0, 2))
                shape.diverges[name] = {"busy": flow.retry(max_attempts=4)}
            elif route == "error":
                told.says, told.way = "error", "plain"
                shape.diverges[name] = {"error": draw(st.sampled_from([flow.proceed(), flow.end(), "path"]))}
                if shape.diverges[name]["error"] == "path":
                    shape.diverges[name] = {"refused": path(seen)}
            elif route == "end":
                told.way = "plain"  # a failure would be routed on, and fixing it would change the way
                shape.diverges[name] = {"ok": flow.end(), "_": flow.proceed()}
    return shape


# -- lives and deaths ---------------------------------------------------------------------------------------


def with_failures(history: list[Any]) -> dict[str, Any]:
    failed = {n: s.error.message for n, s in fold(history).steps.items() if s.error and not s.has_result}
    return {**outcome(history), "failures": failed}


def dies(shape: Shape, deaths: Any, hibernates: bool = False, portion: int = 1) -> None:
    dies_and_resumes(make_workflow(shape), deaths, hibernates, outcome=with_failures, portion=portion)


portions = st.sampled_from([1, 2, 128])


quickly = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@quickly
@given(shapes(), st.lists(st.integers(1, 80), min_size=1, max_size=3), portions)
def test_any_prefix_of_any_history_resumes_to_the_same_results(shape: Shape, deaths: list[int], portion: int) -> None:
    dies(shape, lambda length: deaths, portion=portion)


@quickly
@given(shapes(), st.lists(st.integers(1, 80), min_size=1, max_size=3), portions)
def test_any_prefix_of_a_history_with_hibernation_resumes_to_the_same_results(
    shape: Shape, deaths: list[int], portion: int
) -> None:
    dies(shape, lambda length: deaths, True, portion)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(quickly, max_examples=1500)
@given(shapes(), st.booleans(), portions)
def test_every_prefix_of_many_histories_resumes_to_the_same_results(
    shape: Shape, hibernates: bool, portion: int
) -> None:
    dies(shape, lambda length: range(length - 1, 0, -1), hibernates, portion)
