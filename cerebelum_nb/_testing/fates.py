"""``fates``: a Hypothesis strategy for when a run crashes, and in which order parallel steps end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .._engine.crash import Crashed
from .._store.base import Commit
from .every_crash import event_name

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["Fate", "fates"]


@dataclass(slots=True, eq=False)
class Fate:
    """What happens to the runs of one test: ``Workflows(fate=fate)``. Use each for one :class:`Workflows`.

    Attributes:
        crashes: at which commits of the test they crash, counted from 0, and whether before it.
        turns: how many turns of the event loop doubles that are values take, in order of their calls.
        repeat: steps with an external effect that may happen twice.

    Example:
        >>> with Workflows(fate=Fate(crashes=[(0, False)])) as workflows:
        ...     run = workflows.run(release)
        ...     run.output, [type(event).__name__ for event in run.events].count("WorkflowResumed")
        ('image', 1)
    """

    crashes: Sequence[tuple[int, bool]] = ()
    turns: Sequence[int] = ()
    repeat: Sequence[str] = ()
    pending: bool = field(default=False, repr=False)
    _commits: int = field(default=0, repr=False)
    _calls: int = field(default=0, repr=False)

    def strikes(self, commits: Sequence[Commit], *, before: bool) -> Crashed | None:
        """Count a commit, and return a crash if it is one of ``crashes``."""
        number = self._commits
        if not before:
            self._commits += 1
        if (number, before) not in self.crashes:
            return None
        if before:
            self._commits += 1  # the commit is lost, and is not counted after it
        self.pending = True
        commit = commits[0]
        kind, _, step = event_name(commit.events[-1]).partition(" ")
        return Crashed(commit.execution_id, commit.after + len(commit.events), kind, step, before=before)

    def next_turns(self) -> int:
        """Return how many turns the next double takes."""
        self._calls += 1
        return self.turns[(self._calls - 1) % len(self.turns)] if self.turns else 0


def fates(*, crashes: int = 3, commits: int = 30, repeat: Sequence[str] = ()) -> SearchStrategy[Fate]:
    """Make a Hypothesis strategy for what happens to the runs of a test.

    Args:
        crashes: the most crashes.
        commits: among how many commits of a test; a simple run has two for each step.
        repeat: steps with an external effect that may happen twice.

    Raises:
        ImportError: Hypothesis is not installed.

    Example:
        >>> from hypothesis import given, settings
        >>> @settings(max_examples=3, deadline=None, database=None)
        ... @given(fates(crashes=1))
        ... def test_a_release_survives(fate):
        ...     with Workflows(fate=fate) as workflows:
        ...         assert workflows.run(release).output == "image"
        >>> test_a_release_survives()
    """
    try:
        from hypothesis import strategies as st
    except ImportError as error:
        raise ImportError("fates() makes a strategy of Hypothesis: pip install hypothesis") from error
    place = st.tuples(st.integers(0, commits - 1), st.booleans())
    turns = st.lists(st.integers(0, 5), max_size=6)
    return st.builds(Fate, crashes=st.lists(place, max_size=crashes), turns=turns, repeat=st.just(tuple(repeat)))
