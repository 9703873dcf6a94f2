"""The failure card: which step, where, why, with what inputs, and the call that resumes it. Data, text and HTML."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .._core.describe_steps import describe_rollback
from .._core.graph import Plan, undone_by
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.value import Value
from .._engine.hints import Advice
from .._text.html import Html, quoted
from .._text.text import counted, cut

__all__ = ["Failure"]

_FRAME = re.compile(r'^\s*File "(?P<file>.+?)", line (?P<line>\d+)', re.MULTILINE)
_CELL = re.compile(r"Cell In\[\d+\]")
_MOST_LINES = 40
_LAST_PRINTED = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a run failed.

    Attributes:
        step: the step that failed it; None when the run itself did.
        error: the exception's class and message, in one line.
        where: the cell or file and the line of the user's code, "" when it is not known.
        traceback: the user's own, without library frames.
        inputs: previews of the step's arguments, by parameter.
        printed: the last lines it printed.
        advice: how to resume it; None to hide it.
        kept: how many steps are finished and will not run again; for a rollback, its progress.
    """

    step: str | None
    error: str
    where: str
    traceback: str
    inputs: tuple[tuple[str, str], ...]
    printed: str
    advice: Advice | None
    kept: str

    @classmethod
    def of(cls, plan: Plan, state: State, advice: Advice | None) -> Failure | None:
        """Describe a failed run; None if it has not failed.

        Example:
            >>> Failure.of(Plan(workflow="w", timeline=(), steps={}), State(), None) is None
            True
        """
        if state.lifecycle not in (ExecutionState.FAILED, ExecutionState.ROLLED_BACK) or state.error is None:
            return None
        step, error = state.failed_step, state.error
        own = error.type in ("flow.fail", "flow.retry", "JumpLimit", "returned error")
        return cls(
            step=step,
            error=error.message if own else f"{error.type}: {error.message}",
            where=_where(error.traceback),
            traceback=_shorten(error.traceback),
            inputs=tuple(_inputs(plan, state, step)) if step is not None else (),
            printed="\n".join(_printed(state, step).splitlines()[-_LAST_PRINTED:]),
            advice=advice,
            kept=f"{describe_rollback(state) or counted(len(state.finished), 'finished step') + ' kept'}.",
        )

    @property
    def what(self) -> str:
        """What failed, as the first word of a sentence: a step, or the undoing of one."""
        return "Undoing" if undone_by(self.step or "") else "Step"

    @property
    def about(self) -> str:
        """The step that failed, or that could not be undone."""
        return undone_by(self.step or "") or self.step or ""

    def to_text(self) -> str:
        """Write it as text that is the same in every run: the call is given without an id."""
        what = f"{self.what.lower()} '{self.about}' failed" if self.step else "the run failed"
        lines = [f"{what}{f', {self.where}' if self.where else ''}: {self.error}"]
        if self.traceback:
            lines += [f"    {line}" for line in self.traceback.rstrip().splitlines()]
        lines += [f"  {name} = {shown}" for name, shown in self.inputs]
        kept = self.kept
        return "\n".join([*lines, kept if self.advice is None else f"{kept} {self.advice.what} {self.advice.short}"])

    def to_html(self) -> Html:
        """Write it as a box that is legible in light and dark themes."""
        what = Html("{} <code>{}</code> failed").format(self.what, self.about) if self.step else "The run failed"
        where = Html(" in <b>{}</b>").format(self.where) if self.where else ""
        parts = [
            Html("<div><b style='color:#d55e00'>✗</b> {}{}</div>").format(what, where),
            Html("<div style='margin:4px 0;font-weight:bold'>{}</div>").format(self.error),
        ]
        if self.traceback:
            parts.append(_block(self.traceback))
        if self.inputs:
            row = Html("<div><code>{}</code> = <code>{}</code></div>")
            rows = Html().join(row.format(name, quoted(shown)) for name, shown in self.inputs)
            parts.append(Html("<div style='margin:4px 0'>It was given:{}</div>").format(rows))
        if self.printed:
            parts.append(Html("<div style='margin:4px 0'>It printed last:{}</div>").format(_block(self.printed)))
        kept = self.kept
        text = kept if self.advice is None else f"{kept} {self.advice.what}"
        ways = "" if self.advice is None else _block("\n".join(self.advice.ways))
        parts.append(Html("<div style='margin-top:4px'>{}{}</div>").format(text, ways))
        style = "border:1px solid #d55e00;border-left-width:5px;padding:6px 10px;margin:6px 0;max-width:56em"
        return Html("<div style='{}'>{}</div>").format(style, Html().join(parts))


def _where(traceback: str) -> str:
    """Return the last frame in a cell, or else the first frame."""
    frames = [(found["file"], found["line"]) for found in _FRAME.finditer(traceback)]
    if not frames:
        return ""
    file, line = next(((f, n) for f, n in reversed(frames) if _CELL.fullmatch(f)), frames[0])
    return f"{file.replace(chr(92), '/').rpartition('/')[2]}, line {line}"


def _printed(state: State, step: str | None) -> str:
    """Return what a failed step printed; for a foreach, what its first failed item printed."""
    known = state.step(step or "")
    if known is not None and known.items is not None and known.items.failed:
        known = known.items.steps[next(iter(known.items.failed))]
    return "" if known is None else known.printed


def _inputs(plan: Plan, state: State, step: str) -> list[tuple[str, str]]:
    spec = plan.steps.get(step)
    if spec is None:
        return []
    found = [
        (name, _preview(state.steps[name].output))
        for name in (*spec.requires, *spec.optional)
        if name in state.steps and state.steps[name].has_result
    ]
    return [*found, ("inputs", _preview(state.inputs))] if spec.takes_inputs else found


def _preview(value: Value | None) -> str:
    if value is None:
        return ""
    return cut(value.text, 300)


def _shorten(traceback: str) -> str:
    lines = traceback.splitlines()
    if len(lines) <= _MOST_LINES:
        return traceback
    half = _MOST_LINES // 2
    return "\n".join([*lines[:half], f"  ... {len(lines) - 2 * half} lines ...", *lines[-half:]])


def _block(text: str) -> Html:
    style = (
        "margin:3px 0;padding:4px 8px;overflow:auto;white-space:pre;line-height:1.35;color:inherit;"
        "font-family:var(--jp-code-font-family,monospace);font-size:12px;background:rgba(128,128,128,.14)"
    )
    return Html("<pre style='{}'>{}</pre>").format(style, quoted(text.rstrip()))
