"""A question with several options: radio buttons in a notebook, letters in text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .._host.frontend import Audience, audience
from .._text.html import Html
from .language import say
from .verdict import Verdict

__all__ = ["Quiz", "quiz"]


class Quiz:
    """A question that is shown, and answered by a click or a letter.

    Attributes:
        verdict: what the check said of the last answer; None before one was given.

    Example:
        >>> asked = quiz("What is a log?", {"a": "a tree", "b": "a diary"}, "b")
        >>> asked.choose("b")
        ✓ What is a log?: done
    """

    def __init__(
        self, question: str, options: Mapping[str, str], check: Callable[[str], Verdict], answer: Any = ...
    ) -> None:
        self._question, self._options, self._check = question, dict(options), check
        self.verdict: Verdict | None = None
        if answer is not ...:
            self.choose(answer)

    def choose(self, letter: Any) -> Verdict:
        """Answer it.

        Raises:
            ValueError: there is no such option.
        """
        if letter not in self._options:
            raise ValueError(f"the options are {', '.join(self._options)}, and {letter!r} is none of them")
        self.verdict = self._check(letter)
        return self.verdict

    def __repr__(self) -> str:
        rows = [self._question, *(f"  {letter}) {text}" for letter, text in self._options.items())]
        return "\n".join([*rows, *([repr(self.verdict)] if self.verdict is not None else [])])

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if self.verdict is None and audience() is Audience.NOTEBOOK:
            display(self._widget())  # type: ignore[no-untyped-call]
        else:
            shown = {"text/plain": repr(self), "text/html": self._html()}
            display(shown, raw=True)  # type: ignore[no-untyped-call]

    def _widget(self) -> Any:
        import ipywidgets

        buttons = ipywidgets.RadioButtons(
            options=[(text, letter) for letter, text in self._options.items()],
            value=None,
            layout=ipywidgets.Layout(width="auto"),
        )
        verdict = ipywidgets.HTML()

        def chosen(change: Mapping[str, Any]) -> None:
            verdict.value = self.choose(change["new"])._repr_html_()

        buttons.observe(chosen, names="value")
        return ipywidgets.VBox([ipywidgets.HTML(Html("<b>{}</b>").format(self._question)), buttons, verdict])

    def _html(self) -> Html:
        rows = Html().join(Html("<li>{}) {}</li>").format(*option) for option in self._options.items())
        verdict = Html("") if self.verdict is None else Html(self.verdict._repr_html_())
        return Html("<b>{}</b><ul style='list-style:none'>{}</ul>{}").format(self._question, rows, verdict)


def quiz(question: str, options: Mapping[str, str], right: str | Callable[[], str], answer: Any = ...) -> Quiz:
    """Ask a question with several options.

    Args:
        question: the question.
        options: the options by their letters.
        right: the letter of the right one, or a function that finds it out, from the log for example.
        answer: the answer; left as `...`, one answers by a click.

    Returns:
        The question; as the last value of a cell it is shown.

    Raises:
        ValueError: the answer is none of the options.

    Example:
        >>> quiz("What runs again?", {"a": "everything", "b": "what was not finished"}, "b", answer="b")
        What runs again?
          a) everything
          b) what was not finished
        ✓ What runs again?: done
    """

    def check(letter: str) -> Verdict:
        found = right if isinstance(right, str) else right()
        return Verdict(question, [] if letter == found else [say("not {letter}: look again", letter=letter)])

    return Quiz(question, options, check, answer)
