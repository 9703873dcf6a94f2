"""The frame that ``history.diff`` returns: a DataFrame whose repr is a summary.

It imports pandas: import it only when such a frame is made.
"""

from __future__ import annotations

from typing import Any

import pandas as pd  # noqa: TID253  # this module is only imported when it is needed

from .._text.duration import format_seconds
from .._text.html import Html, small_table
from .._text.text import as_lines, cut

__all__ = ["Diff"]

_WIDEST = 60


class Diff(pd.DataFrame):
    """A comparison of two executions. Selecting from it returns a plain DataFrame."""

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        return "\n".join([self._head(), *(f"  {line}" for line in as_lines(self._rows()))])

    def _repr_html_(self) -> str:
        return Html("<div><b>{}</b>{}</div>").format(self._head(), small_table(self._rows()))

    def _head(self) -> str:
        inputs, steps = self.iloc[:1], self.iloc[1:]
        others = [
            (
                "outcomes",
                steps["output_changed"].fillna(False) | (_texts(steps["state_a"]) != _texts(steps["state_b"])),
            ),
            ("code", steps["code_changed"].fillna(False)),
        ]
        parts = ["inputs differ"] if inputs["output_changed"].fillna(False).any() else []
        parts += [
            f"{what} of {changed.sum()} of {len(steps)} steps differ" for what, changed in others if changed.any()
        ]
        return f"a: {self.attrs['a']}; b: {self.attrs['b']}: {', '.join(parts) or 'nothing differs'}"

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("step", "a", "b", "took a", "took b", "changed", "difference")]
        for row in self.to_dict("records"):
            changed = [what for what in ("inputs", "code", "output") if row[f"{what}_changed"] is True]
            rows.append(
                (
                    row["step"],
                    _text(row["state_a"]),
                    _text(row["state_b"]),
                    _took(row["duration_a"]),
                    _took(row["duration_b"]),
                    " ".join(changed),
                    cut(_text(row["difference"]), _WIDEST),
                )
            )
        return rows


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _texts(column: Any) -> Any:
    return column.astype("str").fillna("")


def _took(duration: Any) -> str:
    return "" if pd.isna(duration) else format_seconds(duration.total_seconds())
