"""The steps of an execution as lines: what each did when, and what it waits for, signals among it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .._core.describe import Waiting, items_told, row_of, undo_rows, waits_of
from .._core.events import SignalReceived
from .._core.state import State
from .._core.step_state import Operation, Phase, StepState
from .._history.spans import Span, Timeline, covered
from .._views.card import Row

__all__ = ["AT_WORK", "Bar", "OpenSignal", "StepLine", "lines_of", "open_signals"]

AT_WORK = ("running", "sleeping", "approval", "retrying")
"""The looks of steps for which time moves on."""
_MOST_BARS = 60
_PLACES = 200
"""Where a step has more bars than that, they are joined on a grid of that many places."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Something that lasted, in seconds since the run's start; ``end`` is None while it lasts."""

    kind: str
    start: float
    end: float | None
    title: str


@dataclass(frozen=True, kw_only=True)
class StepLine:
    """A step as its line shows it; ``look`` is a key of ``MARKS``."""

    name: str
    look: str
    step: StepState | None
    percent: float | None = None
    bars: tuple[Bar, ...] = ()
    waits: tuple[Waiting, ...] = ()

    @property
    def is_live(self) -> bool:
        """Whether it is at work, or waits."""
        return self.look in AT_WORK


@dataclass(frozen=True, kw_only=True)
class OpenSignal:
    """A signal that steps wait for; times are µs since the epoch.

    Attributes:
        name: its name.
        steps: who waits for it.
        since: when the first of them began to.
        due_at: when the first of them stops, None when none does.
        received: what was sent and is not taken yet: no process runs the execution.
    """

    name: str
    steps: tuple[str, ...]
    since: int
    due_at: int | None
    received: tuple[SignalReceived, ...]


def open_signals(state: State) -> tuple[OpenSignal, ...]:
    """List the signals that steps wait for, in the order in which the first of them began to."""
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
        state: what is known of them.
        spans: what lasted how long.
        start: when the run started, µs since the epoch.
        now: the moment that is shown, µs since the epoch.
        interrupted: whether the process is gone that was at work on them.
        lasting: whether what has not ended is still at work.
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
        if span.end < start:  # a fork keeps it, and does not run it
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
    """Draw many bars, as of the items of a foreach, as few: those of a kind that touch, or nearly, become one."""
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
        yield Waiting(items_told(step, now))
    yield from waits_of(step)
