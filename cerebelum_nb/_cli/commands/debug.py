"""``cerebelum debug``: go through a run event by event, as through a program in a debugger.

Nothing runs: the position is the number of an event, and the state is the fold of the events up to it.
"""

from __future__ import annotations

import cmd
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import click

from ..._core.describe_events import detail, title
from ..._core.events import EVENT_TYPES, Event, StepCompleted, StepEvent, StepStarted
from ..._core.fold import fold
from ..._core.state import State
from ..._core.step_state import StepState
from ..._core.value import Value
from ..._history.facts import changes, facts
from ..._history.replay import transitions
from ..._text.duration import format_seconds, short_seconds
from ..._text.json_text import indented
from ..._text.terminal import Cell, Column, clean, styled, table, width, wrap
from ..._text.text import cut, one_line
from ..._text.times import utc
from ..app import log_options, open_log
from ..echo import emit, paint
from .completion import execution_argument

__all__ = ["debug"]

_AROUND = 5
"""How many events are listed before and after the current one."""
_MOST_CHANGES = 8
_PLUMBING = (
    ".code",
    ".inputs",
    ".settled_at",
    ".routed_at",
    ".started_at",
    ".ended_at",
    "module",
    "qualname",
    "source",
)
"""`show state` shows these fields, but their changes are not listed after an event."""


@click.command()
@execution_argument()
@log_options
@click.pass_context
def debug(ctx: click.Context, execution_id: str) -> None:
    """Go through a run event by event: what happened, what was known.

    The commands at the prompt are next, prev, jump N, break STEP, continue, show, list, values, help and quit, or their
    first letters; an empty line is next. It also reads commands from a pipe. Nothing runs, and nothing is written.
    """
    store = open_log(ctx)
    row = store.execution(execution_id)
    walk = Walk(row.execution_id, store.events(row.execution_id, upto=row.version))
    walk.greet()
    walk.go_on()


class Walk(cmd.Cmd):
    """The prompt, and the event it is at."""

    def __init__(self, execution_id: str, events: list[Event]) -> None:
        super().__init__(stdin=sys.stdin, stdout=sys.stdout)
        self._id, self._events = execution_id, events
        self._breaks: dict[str, None] = {}
        self._steps = dict.fromkeys(event.step for event in events if isinstance(event, StepEvent))
        self.use_rawinput = sys.stdin.isatty()
        self._set_position(1)

    def greet(self) -> None:
        """Print which run it is, and its first event."""
        last = fold(self._events)
        done = f"{len(last.finished)} of {last.total_steps} steps"
        head = f"{last.workflow} {self._id}: {last.status.words}, {done}, {len(self._events)} events"
        for line in wrap(head):
            emit(styled(line, "bold"))
        for line in wrap("h lists the commands, an empty line is next, q quits"):
            emit(styled(line, "dim"))
        self._show_event()

    def go_on(self) -> None:
        """Take commands until the end; Ctrl-C only drops the line that is being typed."""
        while True:
            try:
                self.cmdloop()
                return
            except KeyboardInterrupt:
                if not self.use_rawinput:
                    raise
                emit("")

    # -- the commands ---------------------------------------------------------------------------------------

    def do_next(self, argument: str) -> None:
        """Go on."""
        self._move_by(argument, 1)

    def do_prev(self, argument: str) -> None:
        """Go back."""
        self._move_by(argument, -1)

    def do_jump(self, argument: str) -> None:
        """Go somewhere else."""
        if argument in self._steps:
            self._move(self._first(argument))
        elif argument in ("start", "end"):
            self._move(1 if argument == "start" else len(self._events))
        elif (number := self._number(argument)) is not None:
            self._move(number)

    def do_break(self, argument: str) -> None:
        """Add a place to stop at."""
        known = {**dict.fromkeys(self._steps), **dict.fromkeys(EVENT_TYPES)}
        if argument and argument not in known:
            self._refuse("step or type of event", argument, known)
            return
        if argument:
            self._breaks[argument] = None
        self._lines([f"stops at: {', '.join(self._breaks) or 'nothing'}"])

    def do_delete(self, argument: str) -> None:
        """Remove a breakpoint."""
        self._breaks = {name: None for name in self._breaks if argument and name != argument}
        self.do_break("")

    def do_continue(self, argument: str) -> None:
        """Continue to the next breakpoint."""
        found = (number for number, event in self._numbered() if number > self._at and self._stops(event))
        self._move(next(found, len(self._events)))

    def do_show(self, argument: str) -> None:
        """Show what was known."""
        if not argument:
            self._show_run()
        elif (known := self._state.step(argument)) is not None:
            self._lines(_step(argument, known))
        elif argument == "inputs":
            self._lines(_pretty(self._state.inputs))
        elif argument == "state":
            self._lines(f"{name} = {text}" for name, text in facts(self._state).items())
        elif argument in self._steps:
            self._lines([f"{argument} has not started yet; its first event is {self._first(argument)}"])
        else:
            self._refuse("step", argument, dict.fromkeys([*self._steps, "inputs", "state"]))

    def do_values(self, argument: str) -> None:
        """Show what steps have returned."""
        for name in self._state.finished:
            emit(cut(f"{clean(name)} = {clean(_short(self._state.steps[name].output))}", width() or 120))
        if not self._state.finished:
            emit("no step is completed yet")

    def do_list(self, argument: str) -> None:
        """List events."""
        if argument in ("", "all"):
            centre = self._at
        elif (number := self._number(argument)) is None:
            return
        else:
            centre = number
        first = 1 if argument == "all" else max(1, min(centre - _AROUND, len(self._events) - 2 * _AROUND))
        last = len(self._events) if argument == "all" else first + 2 * _AROUND
        rows = []
        for number, (event, state) in enumerate(transitions(self._events[:last]), start=1):
            if number >= first:
                here = ">" if number == self._at else "*" if self._stops(event) else ""
                cells = Cell(str(number), "dim"), Cell(title(event), _style(event)), Cell(detail(event, state), "dim")
                rows.append((Cell(here), *cells))
        for line in table(_EVENTS, rows, width())[1:]:
            emit(line)

    def do_help(self, arg: str) -> None:
        """List the commands."""
        for name, (argument, effect) in _COMMANDS.items():
            emit(f"{styled(name, 'bold')} {argument}".rstrip())
            for line in wrap(effect, "    "):
                emit(line)

    def do_quit(self, argument: str) -> bool:
        """End."""
        return True

    # -- how a line is read ---------------------------------------------------------------------------------

    @property
    def prompt(self) -> str:  # type: ignore[override]  # it says where the prompt is
        """The position in the run; "" for a pipe."""
        return f"{self._at}/{len(self._events)}> " if self.use_rawinput else ""

    def emptyline(self) -> bool:
        """Go on."""
        self.do_next("")
        return False

    def onecmd(self, line: str) -> bool:
        """Run a command, given by its name or the beginning of it."""
        try:
            word, *rest = shlex.split(line) or [""]
        except ValueError:  # an open quote
            word, *rest = line.split()
        if line == "EOF":
            if self.use_rawinput:
                emit("")
            return True
        if not word:
            return self.emptyline()
        name = next((name for name in _COMMANDS if name.startswith(word.casefold())), "help" if word == "?" else None)
        if name is None:
            self._refuse("command", word, dict.fromkeys(_COMMANDS))
            return False
        run: Callable[[str], bool | None] = getattr(self, f"do_{name}")
        return bool(run(" ".join(rest)))

    def completenames(self, text: str, *ignored: object) -> list[str]:
        """Complete a command."""
        return [f"{name} " for name in _COMMANDS if name.startswith(text)]

    def completedefault(self, text: str, *ignored: object) -> list[str]:
        """Complete the argument of a command."""
        return [name for name in (*self._steps, "inputs", "state", "all", "end") if name.startswith(text)]

    # -- moving and printing --------------------------------------------------------------------------------

    def _numbered(self) -> Iterator[tuple[int, Event]]:
        return enumerate(self._events, start=1)

    def _first(self, step: str) -> int:
        return next(number for number, event in self._numbered() if getattr(event, "step", None) == step)

    def _stops(self, event: Event) -> bool:
        if type(event).__name__ in self._breaks:
            return True
        starts = isinstance(event, StepStarted) or (isinstance(event, StepCompleted) and event.by_hand)
        return starts and getattr(event, "step", None) in self._breaks

    def _move_by(self, argument: str, sign: int) -> None:
        number = self._number(argument or "1")
        if number is not None:
            self._move(self._at + sign * number)

    def _number(self, text: str) -> int | None:
        if text.isascii() and text.isdigit() and 1 <= int(text) <= len(self._events):
            return int(text)
        paint(f"{text!r} is not an event: the events are 1 to {len(self._events)}", "red", err=True)
        return None

    def _move(self, number: int) -> None:
        """Go to an event and show it; stop at the first and the last event."""
        number = max(1, min(number, len(self._events)))
        if number == self._at:
            ends = {1: " the first", len(self._events): " the last"}
            emit(styled(f"this is{ends.get(number, '')} event{'' if number in ends else f' {number}'}", "dim"))
            return
        self._set_position(number)
        self._show_event()

    def _set_position(self, number: int) -> None:
        self._at = number
        self._before = fold(self._events[: number - 1])
        (self._current,) = transitions(islice(self._events, number - 1, number), self._before)

    @property
    def _state(self) -> State:
        return self._current.state

    def _show_event(self) -> None:
        """Print what happened, and what it changed."""
        event, state = self._current
        since = format_seconds(max(0, event.at - state.started_at) / 1e6)
        head = f"event {self._at}: {title(event)}"
        when = f"{since} in, at {utc(event.at)}"
        for line in wrap(head):
            emit(styled(line, _style(event) or "bold"))
        for line in wrap(when, "    "):
            emit(styled(line, "dim"))
        for line in wrap(detail(event, state), "    ") if detail(event, state) else ():
            emit(line)
        changed = [change for change in changes(self._before, state) if not change[0].endswith(_PLUMBING)]
        for name, old, new in changed[:_MOST_CHANGES]:
            line = f"  {clean(name)}: {clean(old or '-')} → {clean(new or '-')}"
            emit(styled(cut(line, width() or 120), "dim"))
        if len(changed) > _MOST_CHANGES:
            emit(styled(f"  ... {len(changed) - _MOST_CHANGES} more: show state", "dim"))

    def _show_run(self) -> None:
        from ..._core.summary import summarise
        from ..._store.base import ExecutionRow
        from ..picture import Picture

        state = self._state
        row = ExecutionRow(execution_id=self._id, version=state.version, summary=summarise(state))
        for line in Picture(row=row, state=state, now=state.updated_at, interrupted=False, command=str).past(width()):
            emit(line)

    def _lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            for part in wrap(line) if line.strip() else [""]:
                emit(part)

    def _refuse(self, what: str, given: str, known: dict[str, None]) -> None:
        import difflib

        near = difflib.get_close_matches(given, known, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"available: {one_line(', '.join(known), 400)}"
        for line in wrap(f"there is no {what} {given!r}: {hint}"):
            paint(line, "red", err=True)


_COMMANDS = {
    "next": ("[N]", "go to the next event, or N events ahead"),
    "prev": ("[N]", "go back by one event, or by N"),
    "jump": ("N|STEP|start|end", "go to event N, to the first one of a step, to the first or the last event"),
    "break": (
        "[STEP|EVENT]",
        "stop where a step starts, or at a type of event such as StepFailed; without an argument, list them",
    ),
    "delete": ("[STEP|EVENT]", "remove that breakpoint; without an argument, all of them"),
    "continue": ("", "go to the next breakpoint, or to the end"),
    "show": ("[STEP|inputs|state]", "the run, a step, its inputs, or all of the state, as of this event"),
    "list": ("[N|all]", "the events around this one, around event N, or all"),
    "values": ("", "what the completed steps have returned, as of this event"),
    "help": ("", "this list"),
    "quit": ("", "end"),
}
"""The arguments and the effect of each command; if an abbreviation fits several, the first one runs."""
_EVENTS = (
    Column(title=""),
    Column(title="", right=True),
    Column(title="", least=12),
    Column(title="", least=4, drop=1),
)


def _style(event: Event) -> str:
    name = type(event).__name__
    return "red" if name.endswith(("Failed", "Retried")) else "green" if name.endswith("Completed") else ""


def _step(name: str, step: StepState) -> Iterator[str]:
    took = f", {short_seconds((step.ended_at - step.started_at) / 1e6)}" if step.settled and step.started_at else ""
    visit = f", visit {step.visit}" if step.visit > 1 else ""
    yield f"{name}: {step.phase.lower()}{visit}, attempt {step.attempt}{took}"
    for op, operation in step.operations.items():
        tried = f", {operation.number} tries" if operation.number else ""
        yield f"  {op.rsplit(':', 2)[0]}: {'done' if operation.done else 'open'}{tried}"
    if step.output is not None:
        yield "returned:"
        yield from (f"  {line}" for line in _pretty(step.output))
    if step.error is not None:
        yield f"{step.error.type}: {step.error.message}"
        yield from step.error.traceback.splitlines()
    if step.printed:
        yield "printed:"
        yield from (f"  {line}" for line in step.printed.splitlines())


def _pretty(value: Value | None) -> Iterator[str]:
    if value is None:
        yield "(none)"
    elif value.is_json:
        yield from indented(value.json).splitlines()
    else:
        yield from value.preview.splitlines() or [value.type]


def _short(value: Value | None) -> str:
    return "" if value is None else one_line(value.text)
