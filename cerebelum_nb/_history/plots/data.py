"""Read what the plots of many runs show: their attempts, how long these took, and where the time went."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..._store.event_key import event_of
from ..._text.text import did_you_mean
from ...errors import CerebelumError
from ..sources import Source, each, snapshot
from ..spans import Interval, Mark, Timeline, covered, outside, timeline
from ..tables import events, executions, steps

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["attempts", "completed", "handled_errors", "nothing_to_draw", "of_workflow", "shares", "timelines"]

_FAILED = ("failed", "retried", "interrupted")


def completed(workflow: str, store: Source | None) -> pd.DataFrame:
    """Read completed attempts with their seconds, in the order in which steps run."""
    found = attempts(workflow, store)
    done = found[(found["state"] == "COMPLETED") & found["duration"].notna()]
    if done.empty:
        raise CerebelumError(f"there is nothing to draw: no step of workflow {workflow!r} is completed")
    return done.assign(step=done["step"].astype(str), seconds=done["duration"].dt.total_seconds())


def attempts(workflow: str | None, store: Source | None) -> pd.DataFrame:
    """Read the attempts of all steps, in the order in which they started.

    Raises:
        CerebelumError: there are none.
    """
    found = steps(workflow=workflow, store=store)
    if found.empty:
        raise nothing_to_draw(workflow, store)
    return found


def handled_errors(attempts: pd.DataFrame, store: Source | None) -> pd.Series[bool]:
    """Return for each attempt whether it returned an error that a route handled."""
    import pandas as pd

    keys = ["execution_id", "step", "visit"]
    routed = events(type="DivergeTaken", expand=True, store=store)
    if "choice" in routed:
        routed = routed[routed["choice"].notna()]
    taken = pd.MultiIndex.from_frame(routed[keys].astype("str"))
    found = pd.MultiIndex.from_frame(attempts[keys].astype("str")).isin(taken)
    return attempts["state"].eq("FAILED") & attempts["output"].notna() & found


def timelines(workflow: str, store: Source | None) -> Iterable[Timeline]:
    """Read the timelines of the runs of a workflow."""
    with each(store) as logs:
        for log in logs.values():
            with snapshot(log) as db:
                rows = db.execute(
                    f"""SELECT e.execution, e.type, e.at, e.step, e.visit, e.attempt,
                        CASE WHEN e.type NOT LIKE 'Step%' AND json_valid(e.data) THEN json_extract(e.data, '$.op') END,
                        CASE WHEN e.type = 'StepInterrupted' AND json_valid(e.data)
                            THEN json_extract(e.data, '$.ended_at') END
                    FROM execution x JOIN event e ON {event_of("x.key")}
                    WHERE x.workflow = ? AND e.type <> 'StepProgressed' AND e.type <> 'StepPrinted'
                    ORDER BY e.key""",
                    (workflow,),
                ).fetchall()
            for _, group in itertools.groupby(rows, key=lambda row: row[0]):
                yield timeline(
                    Mark(kind, at, step or "", visit or 1, attempt or 1, op or "", ended)
                    for _, kind, at, step, visit, attempt, op, ended in group
                )


def shares(run: Timeline) -> Iterable[tuple[str, str, float]]:
    """Split the time of a run by step and kind, in seconds; waits that overlap count once."""
    waits: dict[str, list[Interval]] = defaultdict(list)
    lost: dict[str, list[Interval]] = defaultdict(list)
    worked: dict[str, list[Interval]] = defaultdict(list)
    for wait in run.waits:
        (lost if wait.kind == "delay" else waits)[wait.step].append((wait.start, wait.end))
    for attempt in run.attempts:
        (lost if attempt.kind in _FAILED else worked)[attempt.step] += run.pieces(attempt)
    for step in run.steps:
        waited = covered(waits[step])
        yield step, "waiting", _seconds(waited)
        for kind, pieces in (("failed attempts and delays", lost[step]), ("work", worked[step])):
            yield step, kind, _seconds(part for piece in covered(pieces) for part in outside(piece, waited))


def _seconds(intervals: Iterable[Interval]) -> float:
    return sum(end - start for start, end in intervals) / 1e6


def nothing_to_draw(workflow: str | None, store: Source | None) -> CerebelumError:
    """Make the error that says why there is nothing to draw."""
    known = [str(name) for name in executions(store=store)["workflow"].unique()]
    if not known:
        return CerebelumError("there is nothing to draw: the log holds no execution yet. Run a workflow first")
    if workflow is not None and workflow not in known:
        hint = did_you_mean(workflow, known, f"Available: {', '.join(known)}.")
        return CerebelumError(f"there is nothing to draw: the log holds no run of a workflow {workflow!r}. {hint}")
    return CerebelumError(f"there is nothing to draw: no step {of_workflow(workflow)}has started yet")


def of_workflow(workflow: str | None) -> str:
    """Name the workflow in a message, with a space after it; "" for all."""
    return "" if workflow is None else f"of workflow {workflow!r} "
