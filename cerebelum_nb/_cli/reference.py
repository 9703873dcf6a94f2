"""Write the reference of the command line as Markdown: ``python -m cerebelum_nb._cli.reference > docs/cli.md``.

All of it comes from the commands themselves, so it cannot contradict them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from . import main
from .app import EXITS

__all__ = ["reference"]

_HEAD = """\
<!-- Generated: python -m cerebelum_nb._cli.reference > docs/cli.md -->

# The command line

`cerebelum` shows and controls every execution of a log, from any terminal, whichever process runs it.

**Which log:** `--db PATH`, else `$CEREBELUM_DB`, else `.cerebelum/history.db` in the working directory. `--db` and
`--debug` (which shows the traceback of an error) can come before or after the command's name.

**Ids** may be shortened to any unambiguous prefix.

**For programs:** `--json` prints one JSON object, with the field names of the
[status client](../README.md#from-a-program); names are added to it, never changed. Without it, tables fit the
terminal's width, and are coloured on a terminal (`NO_COLOR=1` turns that off); in a pipe nothing is cut. Results go to
stdout, errors and remarks to stderr.

**Completion** of commands, options, ids, workflows and states: add one line to the shell's start-up file:

```bash
eval "$(_CEREBELUM_COMPLETE=bash_source cerebelum)"      # ~/.bashrc
eval "$(_CEREBELUM_COMPLETE=zsh_source cerebelum)"       # ~/.zshrc
_CEREBELUM_COMPLETE=fish_source cerebelum | source       # ~/.config/fish/config.fish
```

## Exit codes

| code | meaning |
|---|---|
"""


_EVERYWHERE = {"--db", "--debug", "--help"}
"""Options of every command; the top of the page describes them."""


def reference() -> str:
    """Return the page."""
    assert isinstance(main, click.Group)
    context = click.Context(main, info_name="cerebelum", **main.context_settings)
    codes = "\n".join(f"| {code.value} | {_code(meaning)} |" for code, meaning in EXITS.items())
    commands = [(name, main.get_command(context, name)) for name in main.list_commands(context)]
    table = "\n".join(
        f"| [`{name}`](#cerebelum-{name}) | {command.get_short_help_str(limit=200)} |"
        for name, command in commands
        if command is not None
    )
    parts = [f"{_HEAD}{codes}\n\n## Commands\n\n| command | |\n|---|---|\n{table}"]
    for name, command in commands:
        if command is not None:
            parts += ["\n".join(part) for part in _commands(context, name, command)]
    return "\n\n".join(parts) + "\n"


def _commands(parent: click.Context, name: str, command: click.Command) -> Iterator[Iterator[str]]:
    """Write a command; after a group, its commands."""
    yield _command(parent, name, command)
    if isinstance(command, click.Group):
        inside = click.Context(command, info_name=name, parent=parent)
        for word in command.list_commands(inside):
            if (found := command.get_command(inside, word)) is not None:
                yield _command(inside, f"{name} {word}", found)


def _command(parent: click.Context, name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    yield f"## cerebelum {name}\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\ncerebelum {name} {usage}\n```\n"
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    yield "\n\n".join(_code(" ".join(text.split())) for text in paragraphs)
    rows = [
        record
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option)
        and _EVERYWHERE.isdisjoint(parameter.opts)
        and (record := parameter.get_help_record(context)) is not None
    ]
    if rows:
        yield "\n| option | |\n|---|---|"
    for names, text in rows:
        yield f"| `{names}` | {_code(' '.join(text.split()))} |"


def _code(text: str) -> str:
    """Escape what Markdown would take for a column."""
    return re.sub(r"\|", r"\\|", text)


if __name__ == "__main__":
    click.echo(reference(), nl=False)
