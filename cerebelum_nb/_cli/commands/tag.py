"""``cerebelum tag``: what lists find an execution by, changed from a terminal, at any time."""

from __future__ import annotations

from typing import Any

import click

from ..app import as_json, core_option, log_options, open_either
from ..echo import paint
from .completion import execution_argument
from .decide import user

__all__ = ["tag"]

_MINUS = "\0-"


class _Tags(click.Command):
    """A command of which ``-test`` is no option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; what begins with one minus is a tag to remove."""
        named = [_MINUS + arg[1:] if arg[:1] == "-" and arg[1:2] != "-" and arg != "-h" else arg for arg in args]
        return super().parse_args(ctx, named)


def _as_change(
    ctx: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read ``+eu`` and ``-test``."""
    from ..._core.labels import check_tags

    added = [text[1:] for text in given if text.startswith("+")]
    removed = [text.removeprefix(_MINUS) for text in given if text.startswith(_MINUS)]
    for text in given:
        if not text.startswith(("+", _MINUS)):
            raise click.BadParameter(f"say +{text} to add this tag, or -{text} to remove it", ctx, param)
    try:
        return check_tags(added), check_tags(removed)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


@click.command(cls=_Tags)
@execution_argument()
@click.argument("change", metavar="+TAG|-TAG ...", nargs=-1, callback=_as_change)
@click.option("--by", metavar="NAME", help="Who tags it, for the log; by default your user name.")
@click.option("--json", "json_", is_flag=True, help="One object: execution_id, tags.")
@core_option
@log_options
@click.pass_context
def tag(ctx: click.Context, execution_id: str, change: Any, by: str | None, json_: bool) -> None:
    """Add tags to an execution, or remove some.

    `cerebelum tag ID +eu -test` adds one and removes another. The execution may run, wait or have ended. Without a
    change its tags are shown.
    """
    from ..._engine.tagging import tag as change_tags

    added, removed = change
    store = open_either(ctx)
    row = store.execution(execution_id)
    try:
        tags = change_tags(store, row.execution_id, added, removed, by or user())
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if json_:
        as_json({"execution_id": row.execution_id, "tags": [*tags]})
    else:
        paint(f"{row.execution_id}: {' '.join(tags) or 'no tags'}")
