"""Promotes a notebook: writes the module, imports it, compares it with the log, and writes tests on request."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from .._store.sqlite import SqliteStore
from .._text.text import counted, did_you_mean
from .._workflow.workflow import Workflow
from ..errors import CerebelumError
from .draft import Draft, draft_of
from .proof import Proof, prove
from .tests import write_tests

__all__ = ["Promoted", "PromotionError", "promote"]


class PromotionError(CerebelumError):
    """A notebook cannot become a module as it is; ``problems`` are the reasons."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = list(problems)
        super().__init__("\n".join([message, *(f"  - {problem}" for problem in problems)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """A module that was written, its comparison with recorded runs, and its tests."""

    path: Path
    draft: Draft
    proofs: Sequence[Proof]
    tests: Sequence[Path] = ()


def promote(
    notebook: Path,
    target: Path,
    store: SqliteStore | None,
    *,
    workflow: str | None = None,
    runs: int = 5,
    pure: Collection[str] = (),
    tests: bool = False,
    force: bool = False,
) -> Promoted:
    """Write the workflows of a notebook into a module, and compare it with recorded runs.

    Args:
        notebook: the file of the notebook.
        target: the file of the module.
        store: the log of the recorded runs; None if there is none.
        workflow: the only workflow to take; by default all.
        runs: how many recorded runs to compare, the newest first.
        pure: the names of steps that only compute; they are called with their recorded arguments.
        tests: whether to write tests and the histories of recorded runs too.
        force: whether to write in spite of problems, and over an existing file.

    Raises:
        PromotionError: there are problems, or the module cannot be imported; nothing was written.
        WorkflowNotFoundError: the file is not a notebook, or defines no such workflow.
    """
    draft = draft_of(notebook, workflow)
    if target.suffix != ".py" or not target.stem.isidentifier():
        raise PromotionError(f"{target} is not a valid module name: choose a file such as {target.parent / 'flow.py'}")
    if draft.problems and not force:
        reasons = counted(len(draft.problems), "reason")
        text = f"{notebook} cannot become a module as it is, for {reasons} (--force writes it anyway):"
        raise PromotionError(text, draft.problems)
    if target.exists() and not force:
        raise PromotionError(f"{target} exists: nothing was written. Name another file, or replace it with --force")
    if tests and store is None:
        raise PromotionError("tests are made from recorded runs, and there is no log here: name it with --db FILE")
    before = target.read_bytes() if target.exists() else None
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(draft.text, encoding="utf-8")
    _format(target)
    try:
        with _imported(target) as module:
            flows = [vars(module)[name] for name in draft.workflows]
            _check(pure, flows)
            proofs = [prove(flow, store, runs=runs, pure=_of(flow, pure)) for flow in flows if store is not None]
    except BaseException:
        if before is None:
            target.unlink()
        else:
            target.write_bytes(before)
        raise
    written: list[Path] = []
    if tests and store is not None:
        written = write_tests(target, notebook, dict(zip(draft.workflows, proofs, strict=True)), store)
        _format(written[0])
    return Promoted(path=target, draft=draft, proofs=proofs, tests=written)


def _check(pure: Collection[str], flows: Sequence[Workflow]) -> None:
    """Raise PromotionError if one of the names is not a step."""
    known = {name for flow in flows for name in flow.plan().steps}
    for name in pure:
        if name != "all" and name not in known:
            hint = did_you_mean(name, known, f"There are: {', '.join(sorted(known))}.")
            raise PromotionError(f"there is no step {name!r} to treat as pure. {hint}")


def _of(flow: Workflow, pure: Collection[str]) -> list[str]:
    plan = flow.plan()
    free = [name for name, spec in plan.steps.items() if spec.policy.effect != "external" and name not in plan.each]
    return free if "all" in pure else [name for name in free if name in pure]


@contextmanager
def _imported(target: Path) -> Iterator[ModuleType]:
    """Import the new module under the name of its file; inside the block, steps' own processes can import it too."""
    spec = importlib.util.spec_from_file_location(target.stem, target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # steps find their newest version there
    folder = os.fspath(target.resolve().parent)
    sys.path.insert(0, folder)
    try:
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise PromotionError(
                f"the module raised {type(error).__name__} when it was imported, so nothing was written: {error}"
            ) from error
        yield module
    finally:
        sys.path.remove(folder)


def _format(target: Path) -> None:
    """Format a file with ruff, if it is installed."""
    if (ruff := shutil.which("ruff")) is not None:
        for arguments in (["check", "--select", "I", "--fix"], ["format"]):
            subprocess.run([ruff, *arguments, "--quiet", target], check=False, capture_output=True)
