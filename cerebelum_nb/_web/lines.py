"""The steps of an execution as lines: their attempts and waits on a time axis, and what each waits for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .._core.describe_steps import Waiting, describe_items, row_of, undo_rows, waits_of
from .._core.events import SignalReceived
from .._core.state import State
from .._core.step_state import Operation, Phase, StepState
from .._history.spans import Span, Timeline, covered
from .._views.card import Row

__all__ = ["AT_WORK", "Bar", "OpenSignal", "StepLine", "lines_of", "open_signals"]

AT_WORK = ("running", "sleeping", "approval", "retrying")
"""The looks of steps whose time is running."""
_MOST_BARS = 60
"""If a step has more bars, they are joined on a grid of `_PLACES`."""
_PLACES = 200


@dataclass(frozen=True, kw_only=True)
class Bar:
    """An attempt or a wait, in seconds since the run's start; ``end`` is None while it lasts."""

    kind: str
    start: float
    end: float | None
    title: str


@dataclass(frozen=True, kw_only=True)
class StepLine:
    """The line of a step; ``look`` is a key of ``MARKS``."""

    name: str
    look: str
    step: StepState | None
    percent: float | None = None
    bars: tuple[Bar, ...] = ()
    waits: tuple[Waiting, ...] = ()

    @property
    def is_live(self) -> bool:
        """Whether the step is running or waiting."""
        return self.look in AT_WORK


@dataclass(frozen=True, kw_only=True)
class OpenSignal:
    """A signal that steps wait for; times are µs since the epoch.

    Attributes:
        name: the name of the signal.
        steps: the steps that wait for it.
        since: when the first of them began to wait.
        due_at: when the first of them stops waiting; None if none does.
        received: signals of this name that no step has taken yet.
    """

    name: str
    steps: tuple[str, ...]
    since: int
    due_at: int | None
    received: tuple[SignalReceived, ...]


def open_signals(state: State) -> tuple[OpenSignal, ...]:
    """List the signals that steps wait for, the longest wait first."""
    found: dict[str, list[tuple[str, Operation]]] = {}
    if state.waiting and not state.lifecycle.is_final:
        for step, known in state.attempted():
            for operation in () if known.settled else known.operations.values():
                if operation.kind == "signal" and not operation.done:
                    found.setdefault(operation.signal, []).append((step, operation))
    listed = [
        OpenSignal(
            name=name,
            steps=tuple(step for step, _ in waits),
            since=min(operation.at for _, operation in waits),
            due_at=min((due for _, operation in waits if (due := operation.due_at) is not None), default=None),
            received=tuple(signal for signal in state.signals.values() if signal.name == name),
        )
        for name, waits in found.items()
    ]
    return tuple(sorted(listed, key=lambda signal: signal.since))


def lines_of(
    rows: Iterable[Row], state: State, spans: Timeline, start: int, now: int, *, interrupted: bool, lasting: bool
) -> tuple[StepLine, ...]:
    """Draw the line of every step.

    Args:
        rows: the steps as a card has them.
        state: the state of the execution.
        spans: its attempts and waits.
        start: when the run started, µs since the epoch.
        now: the time that is shown, µs since the epoch.
        interrupted: whether the process that ran the steps has died.
        lasting: whether attempts and waits without an end are still going on.
    """
    bars = _bars(spans, state, start, lasting=lasting)
    steps = {**state.steps, **undo_rows(state)}
    return tuple(
        StepLine(
            name=row.name,
            look="interrupted" if interrupted and row.state in AT_WORK else row.state,
            step=steps.get(row.name),
            percent=row.percent,
            bars=tuple(bars.get(row.name, ())),
            waits=tuple(_waits(steps[row.name], now)) if row.name in steps else (),
        )
        for row in rows
    )


def _bars(spans: Timeline, state: State, start: int, *, lasting: bool) -> dict[str, list[Bar]]:
    found: dict[str, list[tuple[Span, bool]]] = {}
    for span in (*spans.attempts, *spans.waits):
        if span.end < start:  # a fork has copied it
            continue
        step = state.step(span.step)
        is_last = step is not None and (step.visit, step.attempt) == (span.visit, span.attempt)
        is_open = step is not None and is_last and step.phase in (Phase.RUNNING, Phase.RETRYING)
        lasts = lasting and is_open and span.end >= spans.end and not state.lifecycle.is_final
        found.setdefault(row_of(span.step), []).append((span, lasts))
    return {
        name: _joined(its, start, spans.end - start)
        if len(its) > _MOST_BARS
        else [_bar(span.kind, span.start, None if lasts else span.end, start, _title(span)) for span, lasts in its]
        for name, its in found.items()
    }


def _joined(spans: Iterable[tuple[Span, bool]], start: int, length: int) -> list[Bar]:
    """Join many bars, such as those of a foreach's items: bars of a kind that touch, or nearly, become one."""
    place = max(1, length // _PLACES)
    kinds: dict[tuple[str, bool], list[tuple[int, int]]] = {}
    for span, lasts in spans:
        begin, end = (span.start - start) // place * place, -((start - span.end) // place) * place
        kinds.setdefault((span.kind, lasts), []).append((begin, max(begin + place, end)))
    return [
        _bar(kind, start + begin, None if lasts else start + end, start, f"attempts or waits: {kind}")
        for (kind, lasts), its in kinds.items()
        for begin, end in covered(its)
    ]


def _bar(kind: str, begin: int, end: int | None, start: int, title: str) -> Bar:
    ended = None if end is None else max(0, end - start) / 1e6
    return Bar(kind=kind, start=max(0, begin - start) / 1e6, end=ended, title=title)


def _title(span: Span) -> str:
    visit = f", visit {span.visit}" if span.visit > 1 else ""
    return f"attempt {span.attempt}{visit}: {span.kind}"


def _waits(step: StepState, now: int) -> Iterator[Waiting]:
    if step.items is not None:
        yield Waiting(describe_items(step, now))
    yield from waits_of(step)
