"""Names and tags of executions: which are valid, how tags change, and which executions a pattern selects."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from .._text.text import cut

__all__ = [
    "MOST_TAGS",
    "NO_LABELS",
    "Labels",
    "changed_tags",
    "check_name",
    "check_tags",
    "describe_labels",
    "name_matches",
]

MOST_TAGS = 50
"""How many tags an execution may have."""

_LONGEST = 200
_LONGEST_TAG = 100


class Labels(NamedTuple):
    """The name of an execution ("" if it has none), and its tags, sorted."""

    name: str = ""
    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: object, tags: Any) -> Labels:
        """Check a name and tags that a caller gives.

        Raises:
            TypeError: the name is not text, or the tags are not a collection of texts.
            ValueError: a name or a tag is invalid.

        Example:
            >>> Labels.of("release 4.2", ["prod", "eu"])
            Labels(name='release 4.2', tags=('eu', 'prod'))
        """
        if name is None and tags == ():
            return NO_LABELS
        return cls("" if name is None else check_name(name), check_tags(tags))


NO_LABELS = Labels()


def check_name(name: object) -> str:
    """Check the name of an execution; return it without spaces around it.

    Raises:
        TypeError: it is not text.
        ValueError: it is empty, longer than 200 characters, or more than one line.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of an execution must be text, such as 'release 4.2', not {name!r}")
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST:
        raise ValueError(
            f"the name of an execution must be one line of at most {_LONGEST} printable characters, such as "
            f"'release 4.2', not {cut(repr(name), 80)}"
        )
    return name.strip()


def check_tags(tags: Any) -> tuple[str, ...]:
    """Check tags; return them sorted, each once.

    Raises:
        TypeError: they are a single text, or not all of them are text.
        ValueError: a tag has invalid characters, or there are too many.

    Example:
        >>> check_tags({"prod", "team:core"})
        ('prod', 'team:core')
    """
    if isinstance(tags, (str, bytes)) or not isinstance(tags, Iterable):
        hint = f"tags=[{tags!r}]" if isinstance(tags, str) else 'tags=["prod", "eu"]'
        raise TypeError(f"tags must be a list of texts: {hint}, not {tags!r}")
    found = list(tags)
    for tag in found:
        if not isinstance(tag, str):
            raise TypeError(f"a tag must be text, such as 'prod', not {tag!r}")
        if not _TAG.fullmatch(tag) or len(tag) > _LONGEST_TAG or not tag.isprintable():
            raise ValueError(
                f"a tag must be one word of at most {_LONGEST_TAG} characters, such as 'prod' or 'team:core': starting "
                f"with a letter or a digit, without spaces and commas, not {cut(repr(tag), 80)}"
            )
    if len(set(found)) > MOST_TAGS:
        raise ValueError(f"an execution can have at most {MOST_TAGS} tags, not {len(set(found))}")
    return tuple(sorted(set(found)))


_TAG = re.compile(r"\w[^\s,]*")


def changed_tags(tags: tuple[str, ...], added: Iterable[str], removed: Iterable[str]) -> tuple[str, ...]:
    """Return the tags after some were added and others removed.

    Example:
        >>> changed_tags(("prod", "test"), ["eu"], ["test"])
        ('eu', 'prod')
    """
    return tuple(sorted({*tags, *added}.difference(removed)))


def describe_labels(name: str | None, tags: Iterable[str]) -> str:
    """Write a name and tags for people, on one line.

    Example:
        >>> describe_labels("release 4.2", ("eu", "prod"))
        'release 4.2 #eu #prod'
    """
    return " ".join([*([name] if name else []), *(f"#{tag}" for tag in tags)])


def name_matches(name: str, wanted: str) -> bool:
    """Whether a name matches; ``*`` in the pattern matches any characters.

    Example:
        >>> name_matches("release 4.2", "release *"), name_matches("release 4.2", "release")
        (True, False)
    """
    return re.fullmatch(".*".join(map(re.escape, wanted.split("*"))), name) is not None
