"""Plots of the log with matplotlib: the timeline of one run, and the durations, failures and time of many.

Each function returns matplotlib's axes, so that a plot can be restyled: ``ax.set_title(...)``,
``ax.figure.savefig(...)``. A notebook shows them when they are the last line of a cell; with ``ax=`` the plot becomes
part of the caller's figure. data.py reads what the plots of many runs need; the other modules draw, and are imported
with matplotlib when the first plot is made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..._core.arguments import ExecutionLike, workflow_name
from ..._text.duration import format_seconds
from ..._text.text import counted, did_you_mean
from ...errors import CerebelumError
from ..sources import Source, opened
from ..spans import marks, timeline
from .data import attempts, completed, handled_errors, nothing_to_draw, of_workflow, shares, timelines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    Draw = Callable[..., Axes]

__all__ = ["plot", "plot_durations", "plot_failures", "plot_time", "plot_trend"]

_MOST_TRENDS = 6


def plot(execution_id: ExecutionLike, *, store: Source | None = None, ax: Axes | None = None) -> Axes:
    """Draw the timeline of one run: a row per step, a bar per attempt, and the waits inside the bars.

    Colour and hatch show how an attempt ended. Ticks are the tries of polls, retries and ``context.run``. The
    background is grey where no process was running it. If the run was idle most of the time, long waits and pauses are
    drawn shortened, between dashed lines, with their length on top.

    Args:
        execution_id: the execution.
        store: the log, or its path; by default the session's.
        ax: the axes to draw on; by default new ones, as tall as the steps need.

    Returns:
        The axes; x is the time since the start in the unit its label names, y the steps' places.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        CerebelumError: matplotlib is not installed, or no step has started yet.

    Example:
        >>> result = release.run()
        >>> ax = history.plot(result.execution_id)
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['build']
    """
    draw: Draw = _import_drawing("gantt").draw
    with opened(store) as log:
        row = log.execution(execution_id)
        run = timeline(marks(log.events(row.execution_id)))
    if not run.attempts:
        raise CerebelumError(f"there is nothing to draw: no step of execution {row.execution_id} has started yet")
    shown = row.summary
    title = f"{shown.workflow} {row.execution_id}: {shown.state.words}, {format_seconds((run.end - run.start) / 1e6)}"
    return draw(run, title, ax)


def plot_durations(workflow: Any, *, store: Source | None = None, ax: Axes | None = None) -> Axes:
    """Draw how long each step takes across the runs of a workflow: a box per step, with its outliers.

    The box holds the middle half of the completed attempts, the line in it is the median, and the whiskers reach up to
    1.5 times the box; outliers are points. With fewer than 5 attempts, each is a point. Waits inside a step count. The
    axis is logarithmic when the longest is more than 50 times the shortest.

    Args:
        workflow: its name, or the workflow itself.
        store: the log, or its path; by default the session's.
        ax: the axes to draw on; by default new ones.

    Returns:
        The axes; x is the duration in the unit its label names, y the steps in the order they run.

    Raises:
        CerebelumError: matplotlib is not installed, or the log holds no completed step of that workflow.

    Example:
        >>> run = release.run()
        >>> ax = history.plot_durations("release")
        >>> ax.get_title(loc="left")
        'release: how long its steps take, 1 run'
    """
    workflow = _required_name(workflow)
    draw: Draw = _import_drawing("across").durations
    done = completed(workflow, store)
    taken = {name: list(group["seconds"]) for name, group in done.groupby("step", sort=False, observed=True)}
    runs = done["execution_id"].nunique()
    return draw(taken, f"{workflow}: how long its steps take, {counted(runs, 'run')}", ax)


def plot_failures(workflow: Any = None, *, store: Source | None = None, ax: Axes | None = None) -> Axes:
    """Draw how often attempts of each step fail, with counts and 95 % intervals, the worst on top.

    A retried attempt has failed; an interrupted attempt does not count. A returned ``{"error": ...}`` that a route
    handled is not a failure. Steps that never failed are left out if others did. The interval is Wilson's (see
    ``wilson`` in across.py).

    Args:
        workflow: only this workflow; by default all, and the rows say which.
        store: the log, or its path; by default the session's.
        ax: the axes to draw on; by default new ones.

    Returns:
        The axes; x is the rate in percent.

    Raises:
        CerebelumError: matplotlib is not installed, or no attempt has ended.

    Example:
        >>> run = release.run()
        >>> ax = history.plot_failures("release")
        >>> ax.get_title(loc="left")
        'release: attempts that failed'
    """
    workflow = workflow_name(workflow)
    draw: Draw = _import_drawing("across").failures
    found = attempts(workflow, store)
    ended = found[found["state"].isin(["COMPLETED", "FAILED", "RETRIED"])]
    if ended.empty:
        raise CerebelumError(f"there is nothing to draw: no attempt {of_workflow(workflow)}has ended yet")
    names = ended["step"].astype(str)
    rows = names if workflow is not None else ended["workflow"].astype(str) + ": " + names
    failed = ended["state"].ne("COMPLETED") & ~handled_errors(ended, store)
    grouped = failed.groupby(rows).agg(["sum", "count"])
    worst = grouped.assign(rate=grouped["sum"] / grouped["count"]).sort_values(["rate", "count"], ascending=False)
    shown = worst[worst["sum"] > 0] if (worst["sum"] > 0).any() else worst
    counts = {str(name): (int(bad), int(total)) for name, bad, total in shown[["sum", "count"]].itertuples()}
    never = len(worst) - len(shown)
    rest = f", {counted(never, 'step')} never" if never else ""
    return draw(counts, f"{workflow or 'all workflows'}: attempts that failed{rest}", ax)


def plot_time(workflow: Any, *, waits: bool = True, store: Source | None = None, ax: Axes | None = None) -> Axes:
    """Draw where the time of a workflow's runs goes: per step, split into work, waiting and failed attempts.

    Waiting means sleeps, approvals and polls, even while no process was running them; failed attempts include the
    delays after them. Each bar is the mean over the runs.

    Args:
        workflow: its name, or the workflow itself.
        waits: False leaves out waiting, so that an approval of a day does not hide the rest.
        store: the log, or its path; by default the session's.
        ax: the axes to draw on; by default new ones.

    Returns:
        The axes; x is the time per run in the unit its label names, y the steps in the order they run.

    Raises:
        CerebelumError: matplotlib is not installed, or the log holds no run of that workflow.

    Example:
        >>> run = release.run()
        >>> ax = history.plot_time("release")
        >>> ax.get_title(loc="left")
        'release: where the time goes, 1 run'
    """
    workflow = _required_name(workflow)
    draw: Draw = _import_drawing("across").shares
    runs = list(timelines(workflow, store))
    if not any(run.attempts for run in runs):
        raise nothing_to_draw(workflow, store)
    spent: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for run in runs:
        for step, kind, seconds in shares(run):
            if waits or kind != "waiting":
                spent[step][kind] += seconds / len(runs)
    left_out = "" if waits else ", waits left out"
    return draw(spent, f"{workflow}: where the time goes, {counted(len(runs), 'run')}{left_out}", ax)


def plot_trend(
    workflow: Any, steps: Collection[str] | None = None, *, store: Source | None = None, ax: Axes | None = None
) -> Axes:
    """Draw whether steps become slower: the duration of each completed attempt over time, and the rolling median.

    The median is over a tenth of the runs, at least 5.

    Args:
        workflow: its name, or the workflow itself.
        steps: up to six names; by default the six that take longest.
        store: the log, or its path; by default the session's.
        ax: the axes to draw on; by default new ones.

    Returns:
        The axes; x is the time in UTC, y the duration in the unit its label names.

    Raises:
        ValueError: more than six steps are named.
        CerebelumError: matplotlib is not installed, or no such step of that workflow is completed.

    Example:
        >>> run = release.run()
        >>> ax = history.plot_trend("release")
        >>> ax.get_title(loc="left")
        'release: rolling median of its steps'
    """
    workflow = _required_name(workflow)
    draw: Draw = _import_drawing("across").trend
    done = completed(workflow, store)
    known = list(dict.fromkeys(done["step"]))
    if steps is None:
        order = done.groupby("step", observed=True)["seconds"].median().sort_values(ascending=False)
        chosen = [str(name) for name in order.index[:_MOST_TRENDS]]
    else:
        chosen = [steps] if isinstance(steps, str) else list(steps)
    if len(chosen) > _MOST_TRENDS:
        raise ValueError(
            f"steps= takes at most {_MOST_TRENDS} names, to keep their lines distinguishable, not {len(chosen)}"
        )
    for name in chosen:
        if name not in known:
            hint = did_you_mean(name, known, f"Available: {', '.join(known)}.")
            raise CerebelumError(f"no step {name!r} of workflow {workflow!r} is completed. {hint}")
    taken = {}
    for name in chosen:
        own = done[done["step"] == name].sort_values("started_at")
        window = max(5, len(own) // 10)
        median = own["seconds"].rolling(window, min_periods=1).median()
        taken[name] = (own["started_at"].tolist(), own["seconds"].to_numpy(), median.to_numpy())
    return draw(taken, f"{workflow}: rolling median of its steps", ax)


def _required_name(workflow: Any) -> str:
    name = workflow_name(workflow)
    if name is None:
        raise TypeError("workflow= must be the name of a workflow, or the workflow itself, not None")
    return name


def _import_drawing(name: str) -> Any:
    try:
        import matplotlib  # noqa: F401  # only to say what is missing
    except ImportError:
        raise CerebelumError("plots need matplotlib: pip install 'cerebelum_nb[plot]'") from None
    return import_module(f".{name}", __package__)
