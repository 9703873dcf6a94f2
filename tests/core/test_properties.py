"""Any prefix of any history folds, keeps the invariants, and resumes to the same results.

Random workflows run in the real engine, on a log in memory and a clock that jumps. Then the process "dies" after
any of the recorded events: that prefix is put into a fresh log and resumed.
"""

from __future__ import annotations

import asyncio
import inspect
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from cerebelum_nb import ResumeError, WorkflowError, flow, poll, retry, sleep, step, workflow
from cerebelum_nb.core.events import (
    OperationCompleted,
    SleepCompleted,
    StepCompleted,
    StepStarted,
    WorkflowCompleted,
)
from cerebelum_nb.core.state import check, fold
from cerebelum_nb.engine.execution import summarise
from cerebelum_nb.store.base import Commit
from cerebelum_nb.testing import FakeClock, MemoryStore

ID = "k1"
WAYS = ("plain", "sync", "sleep", "poll", "run", "retry", "flaky", "broken", "set", "sleepy flaky")


@dataclass
class World:
    """What is outside of the workflow: it outlives the process, and a broken step can be mended in it."""

    mended: bool = False
    asked: Counter[str] = field(default_factory=Counter)


world = World()


@dataclass
class Part:
    """A step to be made: how it behaves, what it reads, and what it says in its first visits (for routes)."""

    name: str
    way: str = "plain"
    reads: tuple[str, ...] = ()
    says: str = "ok"
    visits: int = 99  # how many of its visits say so

    def make(self) -> Any:
        name, says, visits, way = self.name, self.says, self.visits, self.way

        def answer(context: Any, known: dict[str, Any]) -> Any:
            said = says if context.visit <= visits else "done"
            if said == "error":
                return {"error": "refused"}
            seen = zlib.crc32(repr(sorted(known.items(), key=lambda item: item[0])).encode())
            value = {"status": said, "by": name, "seen": seen}
            return value if way != "set" or said != "ok" else {name, str(seen)}

        def asking() -> str | None:
            world.asked[name] += 1
            return "ready" if world.asked[name] > 2 else None

        def connecting() -> str:
            world.asked[name] += 1
            if world.asked[name] < 3:
                raise ConnectionError(name)
            return "connected"

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
            elif way == "sleepy flaky":
                await sleep("1h")
                known["done"] = await context.run("mail", str.upper, name)
                await sleep("1h")
            if way.endswith("flaky") and context.attempt == 1:
                raise ConnectionError(name)
            if way == "broken" and not world.mended:
                raise RuntimeError(name)
            return answer(context, known)

        def plain(context: Any, **known: Any) -> Any:
            return answer(context, known)

        fn = plain if way == "sync" else body
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter("context", keyword)]
        parameters += [inspect.Parameter(n, keyword, default=None) for n in self.reads]
        fn.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        policy = {"retries": 1, "retry_delay": 3} if way.endswith("flaky") else {}
        return step(name=name, **policy)(fn)


@dataclass
class Shape:
    """A workflow to be made."""

    timeline: list[list[str]]
    parts: dict[str, Part]
    branches: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    diverges: dict[str, dict[str, Any]] = field(default_factory=dict)

    def make(self) -> Any:
        steps = {name: part.make() for name, part in self.parts.items()}

        def chain(stages: Any) -> Any:
            if stages is None or not isinstance(stages, list):
                return stages
            found: Any = None
            for names in stages:
                member = [steps[n] for n in names] if len(names) > 1 else steps[names[0]]
                found = member if found is None else found >> member
            return found

        @workflow
        def random_flow(wf: Any) -> None:
            for names in self.timeline:
                wf.timeline(steps[names[0]] if len(names) == 1 else [steps[names[0]]])
                if len(names) > 1:
                    raise AssertionError
            for name, (yes, no) in self.branches.items():
                wf.branch(
                    after=steps[name], on=lambda r: "o" in str(r), when_true=chain(yes), when_false=chain(no)
                )
            for name, choices in self.diverges.items():
                wf.diverge(from_step=steps[name], patterns={p: chain(t) for p, t in choices.items()})

        def timeline(wf: Any) -> None:
            whole: Any = None
            for names in self.timeline:
                member: Any = [steps[n] for n in names]
                whole = (whole >> member) if whole is not None else member
            wf.timeline(whole)

        del random_flow, timeline
        return steps, chain

    def workflow(self) -> Any:
        steps, chain = self.make()

        @workflow(name="random")
        def made(wf: Any) -> None:
            whole = chain(self.timeline)
            wf.timeline(whole >> steps["last"])
            for name, (yes, no) in self.branches.items():
                predicate = _is_ok
                wf.branch(after=steps[name], on=predicate, when_true=chain(yes), when_false=chain(no))
            for name, choices in self.diverges.items():
                wf.diverge(from_step=steps[name], patterns={p: chain(t) for p, t in choices.items()})

        return made


def _is_ok(result: Any) -> bool:
    return "ok" in str(result)
