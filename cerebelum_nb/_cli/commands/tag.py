"""``cerebelum tag``: change the tags of executions."""

from __future__ import annotations

import time
from typing import Any

import click

from ..._client.reading import list_statuses
from ..._core.state_name import ExecutionState
from ...errors import ExecutionNotFoundError
from ..app import core_option, labels_of, log_options, open_either, print_json
from ..echo import paint
from ..states import StateType
from .completion import ids, workflows
from .decide import user

__all__ = ["tag"]

_MINUS = "\0-"
_ALL = 10**9


class _Tags(click.Command):
    """A command that takes ``-test`` as a tag to remove instead of an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Mark the tags to remove, so that click does not take them for options."""
        named = [_MINUS + arg[1:] if arg[:1] == "-" and arg[1:2] != "-" and arg != "-h" else arg for arg in args]
        return super().parse_args(ctx, named)


def _parse_change(
    ctx: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    """Separate ids from ``+eu`` and ``-test``."""
    from ..._core.labels import check_tags

    named = [text for text in given if not text.startswith(("+", _MINUS))]
    added = [text[1:] for text in given if text.startswith("+")]
    removed = [text.removeprefix(_MINUS) for text in given if text.startswith(_MINUS)]
    try:
        return named, check_tags(added), check_tags(removed)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


@click.command(cls=_Tags)
@click.argument("change", metavar="[ID]... [+TAG|-TAG]...", nargs=-1, callback=_parse_change, shell_complete=ids())
@click.option("--workflow", metavar="NAME", shell_complete=workflows, help="Instead of IDs: those of this workflow.")
@click.option("--status", metavar="STATE", type=StateType(interrupted=True), help="Those in this state.")
@click.option("--name", metavar="NAME", help="Those with this name; * matches any characters.")
@click.option(
    "--tag", "tags", metavar="TAG", multiple=True, help="Those with this tag. Can be repeated: with all of them."
)
@click.option("--by", metavar="NAME", help="Who tags them, as recorded in the log; by default your user name.")
@click.option("--json", "json_", is_flag=True, help="One object: execution_id, tags; of several: executions.")
@core_option
@log_options
@click.pass_context
def tag(
    ctx: click.Context,
    change: Any,
    workflow: str | None,
    status: ExecutionState | str | None,
    name: str | None,
    tags: tuple[str, ...],
    by: str | None,
    json_: bool,
) -> None:
    """Add tags to executions, or remove some.

    `cerebelum tag ID +eu -test` adds one and removes another. Give several IDs, or select executions with the options
    of `cerebelum list`: `cerebelum tag --workflow nightly --status failed +seen`. They can be in any state. Without a
    change, their tags are shown.
    """
    from ..._engine.tagging import tag as change_tags

    named, added, removed = change
    wanted: dict[str, Any] = {"workflow": workflow, "status": status, "name": name, "tags": tags}
    if bool(named) == any(wanted.values()):
        raise click.UsageError("name executions by their IDs, or say which with --workflow, --status, --name or --tag")
    labels = labels_of(name, tags)
    store = open_either(ctx)
    if named:
        found = [_full_id(store, word) for word in named]
    else:
        wanted |= {"name": labels.name or None, "tags": labels.tags, "children": True}
        rows, _ = list_statuses(store, time.time_ns() // 1000, **wanted, limit=_ALL, offset=0)
        found = [one.execution_id for one in rows]
    changed = []
    for execution_id in dict.fromkeys(found):
        try:
            now = change_tags(store, execution_id, added, removed, by or user())
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        changed.append({"execution_id": execution_id, "tags": [*now]})
        if not json_:
            paint(f"{execution_id}: {' '.join(now) or 'no tags'}")
    if json_:
        print_json(changed[0] if len(named) == 1 else {"executions": changed})
    elif not changed:
        click.secho("no execution matches", err=True, dim=True)


def _full_id(store: Any, word: str) -> str:
    """Return the whole id of an execution."""
    try:
        return str(store.execution(word).execution_id)
    except ExecutionNotFoundError as error:
        raise ExecutionNotFoundError(
            f"{error}\nIf it is a tag: say +{word} to add it, or -{word} to remove it."
        ) from None
