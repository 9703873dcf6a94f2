"""Lesson C: from the notebook to a module, with tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..._promote.proof import prove
from ..._testing.workflow_run import WorkflowRun
from ..._testing.workflows import Workflows
from ..._workflow.workflow import Workflow
from ..evidence import Answer, Evidence
from ..language import say
from . import Exercise, Exercises, you_said

__all__ = ["EXERCISES"]


class _Counting(Workflows):
    """Counts the runs of a student's test; if ``spoiled``, the parcel is lost in ``ship``."""

    def __init__(self, *, spoiled: bool) -> None:
        super().__init__()
        self._spoiled, self.count = spoiled, 0

    def run(
        self,
        flow: Workflow,
        inputs: Mapping[str, Any] | None = None,
        *,
        doubles: Mapping[Any, Any] | None = None,
        execution_id: str | None = None,
    ) -> WorkflowRun:
        self.count += 1
        more = {"ship": "the parcel is lost"} if self._spoiled else {}
        return super().run(flow, inputs, doubles={**(doubles or {}), **more}, execution_id=execution_id)


def _test_it(log: Evidence, test: Callable[[Workflows], object]) -> Any:
    """Run a student's test with the order as it is, and with an order that loses the parcel."""
    outcome: dict[str, Any] = {}
    for name, spoiled in (("right", False), ("spoiled", True)):
        with _Counting(spoiled=spoiled) as workflows:
            try:
                test(workflows)
                outcome[name] = ""
            except Exception as error:  # noqa: BLE001 - the error of the student's test is the answer
                outcome[name] = f"{type(error).__name__}: {error}".strip(": ")
            outcome["runs"] = workflows.count
    return outcome


def _tests_something(log: Evidence, answer: Answer) -> Iterator[str]:
    if answer.value["right"]:
        yield say(
            "your test fails with the order as it is, {error}: is there a double of `charge`?",
            error=answer.value["right"],
        )
    elif not answer.value["runs"]:
        yield say("your test runs nothing: begin with run = workflows.run(order, ...)")
    elif not answer.value["spoiled"]:
        yield say("your test passes when `ship` loses the parcel, too: assert run.output == ...")


def _crashed(log: Evidence, answer: Answer) -> Iterator[str]:
    charge, pack = answer.value
    if charge != 1:
        yield say("{said}: `charge` had finished before the crash. Does it run again?", said=you_said(answer))
    if pack != 2:
        yield say("{said}: `pack` was at work when it crashed. Count its first start, too", said=you_said(answer))


def _prove(log: Evidence, path: str) -> Any:
    """Compare a student's module with the newest run in the log."""
    found = Path(path)
    if not found.is_file():
        return {"there": False}
    spec = importlib.util.spec_from_file_location(f"promoted_{found.stem}", found)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # steps find their newest version there
    try:
        spec.loader.exec_module(module)
        proof = prove(module.order, log.store, runs=1, pure=())
    finally:
        del sys.modules[spec.name]
    return {"there": True, "same": {proven.step: proven.same for proven in proof.steps}}


def _promoted(log: Evidence, answer: Answer) -> Iterator[str]:
    if not answer.value["there"]:
        yield say("there is no shop.py: what does `promote` say, and have you saved the notebook?")
        return
    other = [step for step, same in answer.value["same"].items() if not same]
    if other:
        yield say(
            "no run completed this code of {steps}: run the order once more, save, and promote again",
            steps=", ".join(other),
        )


EXERCISES = Exercises(
    "lesson-C",
    "From the notebook to a module",
    (
        Exercise("a test", _tests_something, asks="write the test", record=_test_it),
        Exercise("a crash", _crashed, asks="write a number in place of both `...`"),
        Exercise("promote", _promoted, asks="promote the notebook", record=_prove),
    ),
)
