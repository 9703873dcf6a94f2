"""The language of a lesson: that in the notebook's file name, or $CEREBELUM_LANG."""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path

from .._engine.origin import notebook_path

__all__ = ["language", "say", "say_counted", "texts"]

_FOLDER = Path(__file__).with_name("lessons")


def language() -> str:
    """Return the language of this notebook.

    Example:
        >>> language()
        'en'
    """
    _, found, chosen = Path(notebook_path()).stem.rpartition("_")
    if found and (_FOLDER / chosen).is_dir():
        return chosen
    return os.environ.get("CEREBELUM_LANG", "en")


def say(text: str, **values: object) -> str:
    """Return a message in the language of this notebook, or in English if it has no translation.

    Args:
        text: the message in English, with placeholders in braces.
        values: the values of the placeholders.

    Example:
        >>> say("you said {said!r}", said=2)
        'you said 2'
    """
    here = language()
    if here != "en":
        text = texts(here, "messages").get(text, text)
    return text.format(**values) if values else text


def say_counted(number: int, one: str, several: str, **values: object) -> str:
    """Return the first message for the number 1, and the second, with ``{n}``, for any other.

    Example:
        >>> say_counted(1, "1 event", "{n} events"), say_counted(2, "1 event", "{n} events")
        ('1 event', '2 events')
    """
    return say(one if number == 1 else several, n=number, **values)


@cache
def texts(chosen: str, name: str) -> dict[str, str]:
    """Read the translations of a lesson by the names of its cells, or of messages by their English texts."""
    path = _FOLDER / chosen / f"{name}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
