"""The frame that ``history.diff`` returns: a DataFrame that shows the essence of itself.

It imports pandas: import it only when such a frame is made.
"""

from __future__ import annotations

import html
from typing import Any

import pandas as pd  # noqa: TID253  # this module is only imported when it is needed

from ..core.duration import format_seconds
from .shown import as_html, as_lines, cut

__all__ = ["Diff"]


class Diff(pd.DataFrame):
    """A comparison of two executions. What is selected from it is a plain DataFrame."""

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        return "\n".join([self._head(), *(f"  {line}" for line in as_lines(self._rows()))])

    def _repr_html_(self) -> str:
        return f"<div><b>{html.escape(self._head())}</b>{as_html(self._rows())}</div>"

    def _head(self) -> str:
        changed = self[["inputs_changed", "code_changed", "output_changed"]].fillna(False).any(axis=1)
        changed |= self["state_a"].astype("str").fillna("") != self["state_b"].astype("str").fillna("")
        told = f"{changed.sum()} of {len(self)} rows differ" if changed.any() else "nothing differs"
        return f"a: {self.attrs['a']}; b: {self.attrs['b']}: {told}"

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
                    cut(_text(row["difference"])),
                )
            )
        return rows


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)


def _took(duration: Any) -> str:
    return "" if pd.isna(duration) else format_seconds(duration.total_seconds())
