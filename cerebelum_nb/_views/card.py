"""The card of a run at one moment: data, text and HTML. No widgets, no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from .._core.describe_steps import describe_items, describe_notes, row_of, shown_state, undo_rows, waits_of
from .._core.graph import key_of
from .._core.labels import describe_labels
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.step_state import Phase, StepState
from .._engine.hints import Advice, advise_on
from .._engine.ports import ExecutionView, RunningStep
from .._text.duration import format_seconds
from .._text.html import Html, escape, quoted
from .._text.style import MARKS
from .._text.text import counted
from .failure import Failure
from .graph import Graph

__all__ = ["SMALL", "STYLE", "Card", "Row", "html_row", "last_printed"]

_FEW = 12
"""A longer list of steps is folded."""

_MOST = 500
"""A card of more steps has no picture, and only the rows of steps that are at work or in trouble. Of ten thousand steps
the picture takes 3 MB, and nothing else runs in the kernel for the half second in which it is drawn and sent."""

_QUIET = ("completed", "waiting", "skipped")

_MOST_NOTED = 5

_MOST_PRINTED = 12_000
"""The most characters of printed output in a saved card."""

_EARLY, _SOON_SECONDS = 5.0, 3.0
"""Before this many percent and seconds there is no estimate of the time left: it would be a guess."""

_ACTIVE = ("running", "sleeping", "approval", "retrying")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One step: its name, its state (a key of ``MARKS``), seconds, percent done, a note, its last lines printed."""

    name: str
    state: str
    seconds: float | None = None
    percent: float | None = None
    note: str = ""
    parallel: bool = False
    printed: str = ""
    undoes: bool = False  # the row of a rollback, which undoes the step

    @property
    def active(self) -> bool:
        """Whether it is running or waiting."""
        return self.state in _ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A run at one moment."""

    workflow: str
    execution_id: str
    state: ExecutionState
    seconds: float
    rows: tuple[Row, ...]
    graph: Graph
    failure: Failure | None = None
    total: int = 0
    reason: str = ""
    advice: Advice | None = None
    labels: str = ""

    @classmethod
    def of(cls, execution: ExecutionView, graph: Graph | None = None) -> Card:
        """Make the card of a run of this process; the ``graph`` of its plan is drawn once and reused."""
        scopes, graph = execution.at_work(), graph or Graph(execution.plan)
        advice = None if execution.stops_before else advise_on(execution)
        return cls.at(
            execution.id, execution.state, execution.now(), graph, scopes, mask=execution.redactor.mask, advice=advice
        )

    @classmethod
    def at(
        cls,
        execution_id: str,
        state: State,
        now: int,
        graph: Graph,
        scopes: Mapping[str, RunningStep] | None = None,
        mask: object = str,
        advice: Advice | None = None,
        known: Mapping[str, Row] | None = None,
    ) -> Card:
        """Make the card of a folded state.

        Args:
            execution_id: the execution.
            state: the fold of its events.
            now: the time, µs since the epoch.
            graph: the picture of its plan.
            scopes: the running steps of this process.
            mask: hides secrets in what they print.
            advice: how to resume it; None to hide it.
            known: rows to use unchanged.
        """
        plan, scopes = graph.plan, scopes or {}
        parallel = {name for stage in plan.timeline if len(stage) > 1 for name in stage}
        undos = undo_rows(state)
        at_work = {row_of(name): scope for name, scope in scopes.items()} if undos else {}
        names = dict.fromkeys((*(n for stage in plan.timeline for n in stage), *state.steps))
        ended = state.completed_at or (state.updated_at if state.lifecycle is ExecutionState.PAUSED else now)
        over = state.lifecycle is ExecutionState.COMPLETED
        return cls(
            workflow=state.workflow or plan.workflow,
            execution_id=execution_id,
            state=state.status,
            seconds=max(0, ended - state.started_at) / 1e6 if state.started_at else 0.0,
            rows=tuple(
                (known and known.get(name))
                or _row(name, state.steps.get(name), now, name in parallel, over, scopes, mask)
                for name in names
            )
            + tuple(
                _row_of_undo(step, _row(name, step, now, False, over, at_work, mask)) for name, step in undos.items()
            ),
            graph=graph,
            failure=Failure.of(plan, state, advice),
            total=state.total_steps,
            reason=state.reason or "",
            advice=advice,
            labels=describe_labels(state.name, state.tags),
        )

    @property
    def states(self) -> dict[str, str]:
        """The state of every step."""
        rest = "skipped" if self.state is ExecutionState.COMPLETED else "waiting"
        return {**dict.fromkeys(self.graph.plan.steps, rest), **{row.name: row.state for row in self.rows}}

    @property
    def heading(self) -> str:
        """The workflow, its state, and how many steps are done."""
        over = self.state is ExecutionState.COMPLETED  # then a route has handled every failed step
        steps = self.graph.plan.steps  # a failed step that has been renamed does not count
        rows = [row for row in self.rows if not row.undoes and (row.state == "completed" or row.name in steps)]
        done = sum(row.state == "completed" or (over and row.state == "failed") for row in rows)
        words = "starting" if self.state is ExecutionState.UNSPECIFIED else self.state.words
        return f"{self.workflow}: {words}, {done} of {max(self.total, len(rows))} steps"

    @property
    def is_large(self) -> bool:
        """Whether it has too many steps to show all of them."""
        return len(self.rows) > _MOST

    @property
    def shown(self) -> tuple[Row, ...]:
        """The rows to show, of a large run only those that say something."""
        if not self.is_large:
            return self.rows
        return tuple(islice((row for row in self.rows if row.state not in _QUIET), _MOST))

    def bundle(self) -> dict[str, str]:
        """Return it as the output of a notebook."""
        return {"text/plain": self.to_text(), "text/html": self.to_html()}

    def to_text(self) -> str:
        """Write it as text that is the same in every run, without ids and times."""
        lines = [self.heading]
        for row in self.shown:
            note = f"  {row.note}" if row.note and row.state in ("failed", "interrupted") else ""
            lines.append(f"  {MARKS[row.state].sign} {row.name}{note}")
        if self.is_large:
            lines.append(f"  {self._rest}")
        if self.failure is not None:
            lines.append(self.failure.to_text())
        elif self.advice is not None:
            lines.append(f"{self.advice.what} {self.advice.short}")
        return "\n".join(lines)

    def head_html(self, *, exact: bool = True) -> Html:
        """Write the heading; while the run goes on, with whole seconds."""
        took = format_seconds(self.seconds) if exact else f"{self.seconds:.0f}s" if self.seconds < 60 else ""
        took = took or format_seconds(round(self.seconds))
        name, _, rest = self.heading.partition(": ")
        why = f" ({self.reason})" if self.reason else ""
        labels = Html(" {}").format(self.labels) if self.labels else ""
        return Html("<div style='padding:2px 0'><b>{}</b> <code>{}</code>{} &nbsp;{}{}, {}</div>").format(
            name, self.execution_id, labels, rest, why, took
        )

    def to_html(self) -> Html:
        """Write the whole card without widgets, legible in light and dark themes."""
        rows = Html().join(html_row(row, printed) for row, printed in self._rows_with_printed())
        if self.is_large:
            rows += Html("<tr><td></td><td colspan='3'>{}</td></tr>").format(self._rest)
        few = len(self.rows) <= _FEW
        picture = Html() if self.is_large else self.graph.to_image(self.states)
        failure = Html()
        if self.failure is not None:
            failure = self.failure.to_html()
        elif self.advice is not None:
            ways = Html("<br>").join(Html("<code>{}</code>").format(quoted(way)) for way in self.advice.ways)
            failure = Html("<div style='margin:4px 0'>{} {}</div>").format(self.advice.what, ways)
        return Html(
            "<div style='{}'>{}{}{}<details{}><summary>steps</summary>"
            "<table style='font-size:12px;margin:4px 0'>{}</table></details></div>"
        ).format(STYLE, self.head_html(), picture, failure, " open" if few else "", rows)

    @property
    def _rest(self) -> str:
        return f"... {counted(len(self.rows) - len(self.shown), 'more step')}"

    def _rows_with_printed(self) -> Iterator[tuple[Row, str]]:
        left = _MOST_PRINTED
        for row in self.shown:
            shown = last_printed(row)
            if row.state == "failed" or len(shown) > left:  # the failure has the lines of a failed step
                shown = ""
            left -= len(shown)
            yield row, shown


SMALL = (
    "margin:0;font-family:var(--jp-code-font-family,monospace);font-size:11px;line-height:1.3;background:none;"
    "color:inherit;opacity:.75;white-space:pre-wrap"
)
STYLE = "font-family:var(--jp-ui-font-family,sans-serif);font-size:13px;max-width:64em"


def _row(
    name: str,
    step: StepState | None,
    now: int,
    parallel: bool,
    over: bool,
    scopes: Mapping[str, RunningStep],
    mask: object,
) -> Row:
    if step is None:
        return Row(name=name, state="skipped" if over else "waiting", parallel=parallel)
    if step.items is not None:
        return _row_of_items(name, step, now, parallel, over)
    scope = scopes.get(name)
    percent, message, printed = step.percent, step.message, step.printed
    if scope is not None and scope.percent is not None:
        percent, message = scope.percent, scope.message
    if scope is not None and scope.printed is not None and callable(mask):
        printed += scope.printed.peek(mask)
    state = shown_state(step, over)
    note = _note(step, _estimated(message, percent, step, now), now)
    return Row(
        name=name,
        state=state,
        seconds=((step.ended_at if step.settled else now) - step.started_at) / 1e6 if step.started_at else None,
        percent=percent if step.phase is Phase.RUNNING else None,
        note=", ".join(filter(None, (note, *describe_notes(step, _MOST_NOTED)))),
        parallel=parallel,
        printed=printed,
    )


def _row_of_items(name: str, step: StepState, now: int, parallel: bool, over: bool) -> Row:
    """Make one row for all items of a foreach."""
    items = step.items
    assert items is not None
    shown = [item for item in (*islice(items.failed, 2), *islice(items.running, 2)) if items.steps[item].printed]
    error = "" if step.phase is not Phase.FAILED or items.failed else _note(step, "", now)
    return Row(
        name=name,
        state=shown_state(step, over),
        seconds=((step.ended_at if step.settled else now) - step.started_at) / 1e6 if step.started_at else None,
        percent=None if step.settled or not items.keys else 100 * items.settled / len(items.keys),
        note=error or describe_items(step, now),
        parallel=parallel,
        printed="\n".join(f"[{key_of(item)}] {line}" for item in shown for line in _tail(items.steps[item].printed)),
    )


def _row_of_undo(step: StepState, row: Row) -> Row:
    return replace(row, undoes=True, note=row.note or step.message)


def _tail(text: str) -> list[str]:
    return text.splitlines()[-2:]


def _note(step: StepState, message: str, now: int) -> str:
    if step.phase is Phase.COMPLETED:
        if step.source:
            return f"taken from {step.source.rpartition('@')[0]}"
        return "done by hand" if step.by_hand else f"on {step.worker}" if step.worker else ""
    if step.phase is Phase.FAILED and step.error is not None:
        on = "" if step.diverge is None else ", handled by a route"
        where = f" (on {step.worker})" if step.worker else ""
        return f"{step.error.type}: {step.error.message}".splitlines()[0][:200] + where + on
    parts = []
    if step.phase is Phase.RUNNING:
        parts += [message] if message else []
        parts += [f"attempt {step.attempt}"] if step.attempt > 1 else []
    return ", ".join([*parts, *(waiting.text(partial(_time_until, now=now)) for waiting in waits_of(step))])


def _estimated(message: str, percent: float | None, step: StepState, now: int) -> str:
    """Add the estimated time left to the message of a step with progress."""
    spent = (now - step.started_at) / 1e6
    if step.phase is not Phase.RUNNING or percent is None or not _EARLY <= percent < 100 or spent < _SOON_SECONDS:
        return message
    left = spent * (100 - percent) / percent
    return f"{message}, about {format_seconds(round(left))} left".removeprefix(", ")


def _time_until(due_at: int, now: int) -> str:
    seconds = max(0.0, (due_at - now) / 1e6)
    return f"in {format_seconds(seconds if seconds < 1 else round(seconds))}" if seconds else "now"


def last_printed(row: Row) -> str:
    """Return the last lines that a step printed."""
    return "\n".join(line[:200] for line in row.printed.splitlines()[-5:])


def html_row(row: Row, printed: str, value: str = "") -> Html:
    """Write a step as the row of a table: its sign, name, time, note, value, and what it printed."""
    timed = row.seconds is not None and row.state not in ("waiting", "skipped", "interrupted")
    took = format_seconds(row.seconds or 0.0) if timed else ""
    name = Html("&nbsp;&nbsp;" if row.parallel else "") + row.name
    note = escape(row.note)
    if value:
        note += Html("<code style='overflow-wrap:anywhere;white-space:normal'>{}</code>").format(quoted(value))
    if printed:
        note += Html("<pre style='{}'>{}</pre>").format(SMALL, printed)
    return Html(
        "<tr><td>{}</td><td style='text-align:left'>{}</td><td>{}</td><td style='text-align:left'>{}</td></tr>"
    ).format(MARKS[row.state].sign, name, took, note)
