"""Makes the tests of a promoted module: replays of recorded runs, and a crash after every event."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .._archive.files import file_name
from .._archive.pack import pack
from .._core.fold import fold
from .._core.state import State
from .._core.state_name import ExecutionState
from .._store.sqlite import SqliteStore
from .proof import Proof

__all__ = ["write_tests"]

_MOST = 3
"""How many recorded runs of each workflow become tests."""

_HEAD = '''"""Tests of {module}, made by `cerebelum promote` from {notebook} and its recorded runs. Change them."""

from pathlib import Path

import pytest
from {module} import {names}

from cerebelum_nb.testing import recorded, replay

HISTORIES = Path(__file__).parent / "histories"
'''

_REPLAY = """

@pytest.mark.parametrize("history", {histories})
def test_{name}_could_resume_a_recorded_run(history):
    replay(HISTORIES / history, {name}, pure={pure})
"""

_CRASH = '''

@pytest.mark.crash_after_every_event{repeat}
def test_{name}_survives_every_crash(workflows):
    """Every step returns what it returned then. Leave out the double of a step that a test may run."""
    then = recorded(HISTORIES / "{history}")
    run = workflows.run({name}, then.inputs, doubles=then.results)
    assert run.output == then.output
'''


_NO_CRASH = """

# No crash of {name} is tested: in none of these runs has every step a result that could replace it.
"""


def write_tests(target: Path, notebook: Path, proofs: Mapping[str, Proof], store: SqliteStore) -> list[Path]:
    """Write the tests of a module into ``tests``, and recorded runs into ``tests/histories``.

    Args:
        target: the file of the module.
        notebook: the notebook from which it was made.
        proofs: the proof of each workflow, by the name of its function.
        store: the log.

    Returns:
        The files that were written.
    """
    folder = Path("tests")
    (folder / "histories").mkdir(parents=True, exist_ok=True)
    module = ".".join(target.with_suffix("").parts) if not target.is_absolute() else target.stem
    text = _HEAD.format(module=module, notebook=notebook.name, names=", ".join(proofs))
    written: list[Path] = []
    for name, proof in proofs.items():
        kept = [one.execution_id for one in proof.histories if not one.refused][:_MOST]
        files = [
            pack(one, folder / "histories" / f"{file_name(one)}.jsonl", for_tests=True, store=store) for one in kept
        ]
        written += [made.path for made in files]
        pure = [proven.step for proven in proof.steps if proven.tried and proven.tried == proven.as_recorded]
        if files:
            text += _REPLAY.format(name=name, histories=[made.path.name for made in files], pure=pure)
        whole = [one for one in kept if _is_whole(fold(store.events(one)))]
        if whole:
            external = [proven.step for proven in proof.steps if proven.external]
            repeat = f"(repeat={external})" if external else ""  # doubles have no effect, so they may repeat
            text += _CRASH.format(name=name, history=f"{file_name(whole[0])}.jsonl", repeat=repeat)
        elif files:
            text += _NO_CRASH.format(name=name)
    place = folder / f"test_{target.stem}.py"
    place.write_text(text, encoding="utf-8")
    return [place, *written]


def _is_whole(state: State) -> bool:
    """Whether a run completed, and the result of each step was kept, so that no step has to run in a test."""
    results = [step.output for step in state.steps.values() if step.settled]
    return state.lifecycle is ExecutionState.COMPLETED and all(out is not None and out.restorable for out in results)
