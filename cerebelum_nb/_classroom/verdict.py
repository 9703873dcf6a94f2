"""The result of a check, as text and in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .._text.html import Html
from .._text.style import MARKS
from .language import say

__all__ = ["Score", "Verdict", "check"]

_DONE, _NOT_YET = MARKS["completed"], MARKS["approval"]


@dataclass(frozen=True)
class Verdict:
    """Whether an exercise is done, and what is missing if it is not. True if it is done.

    Attributes:
        exercise: its number and title.
        hints: what is missing.

    Example:
        >>> Verdict("1 predict", ["count again"])
        1 predict: not yet
          - count again
    """

    exercise: str
    hints: Sequence[str] = ()

    def __bool__(self) -> bool:
        return not self.hints

    def __repr__(self) -> str:
        if not self.hints:
            return f"✓ {self.exercise}: {say('done')}"
        return "\n".join([f"{self.exercise}: {say('not yet')}", *(f"  - {hint}" for hint in self.hints)])

    def _repr_html_(self) -> str:
        mark, word = (_DONE, say("done")) if self else (_NOT_YET, say("not yet"))
        hints = Html().join(Html("<li>{}</li>").format(_with_code(hint)) for hint in self.hints)
        return Html(
            '<div style="border-left:4px solid {0};padding:2px 10px"><b style="color:{0}">{1} {2}: {3}</b>{4}</div>'
        ).format(mark.colour, mark.sign, self.exercise, word, Html("<ul>{}</ul>").format(hints) if hints else "")


def _with_code(hint: str) -> Html:
    """Show the parts between backticks as code."""
    parts = hint.split("`")
    return Html().join(Html("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


@dataclass(frozen=True)
class Score:
    """How far a lesson is done.

    Attributes:
        lesson: its name.
        verdicts: what each check says, by the exercise's number and title.
        findings: what is wrong with the log, if it was altered; see ``archive.verify``.

    Example:
        >>> Score("lesson-1", {"1 predict": Verdict("1 predict")})
        ✓ 1 predict: done
        lesson-1: 1 of 1
    """

    lesson: str
    verdicts: Mapping[str, Verdict]
    findings: Sequence[str] = ()

    @property
    def done(self) -> int:
        """How many exercises are done."""
        return sum(map(bool, self.verdicts.values()))

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self.verdicts)

    def __bool__(self) -> bool:
        return self.done == self.total and not self.findings

    def __str__(self) -> str:
        return say("{done} of {total}", done=self.done, total=self.total)

    def __repr__(self) -> str:
        return "\n".join([*map(repr, self.verdicts.values()), *self.findings, f"{self.lesson}: {self}"])

    def _repr_html_(self) -> str:
        rows = [Html(verdict._repr_html_()) for verdict in self.verdicts.values()]
        rows += [Html("<div>{}</div>").format(finding) for finding in self.findings]
        return Html().join([*rows, Html("<p><b>{}: {}</b></p>").format(self.lesson, self)])


def check(title: str, *facts: tuple[object, str]) -> Verdict:
    """Say whether something is done, from facts of your own.

    Args:
        title: what is checked.
        facts: pairs of what should be true and what to do if it is not; :class:`Evidence` has facts of the log.

    Returns:
        What is missing; nothing if every fact holds.

    Example:
        >>> from cerebelum_nb.classroom import Evidence
        >>> run = Evidence(log).run(release.run())
        >>> check("build once", (run.ran_once("build"), "build ran again"), (run.output == "jar", "it built no jar"))
        build once: not yet
          - it built no jar
    """
    return Verdict(title, [hint for fact, hint in facts if not fact])
