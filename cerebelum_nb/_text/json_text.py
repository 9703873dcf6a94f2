"""JSON from any source, parsed and formatted without RecursionError; and JSON written fast.

Every reader of recorded JSON uses it: in a log from elsewhere, a value may be nested arbitrarily deeply.
"""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Callable
from typing import Any

__all__ = ["compact", "indented", "parse"]


_read = json.JSONDecoder().raw_decode


def compact(*, allow_nan: bool) -> Callable[[object], str]:
    """Return a function that writes a value as JSON without spaces; the value must not contain itself.

    Args:
        allow_nan: whether NaN and infinities are written as Python reads them, or raise ValueError.

    Example:
        >>> compact(allow_nan=False)({"host": [1, None]})
        '{"host":[1,null]}'
    """
    plain = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=allow_nan, separators=(",", ":"))
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return plain.encode
    # JSONEncoder.encode makes a new one at each call, which is a third of the time for a small value.
    chunks = make(None, plain.default, json.encoder.encode_basestring, None, ":", ",", False, False, allow_nan)
    return lambda value: "".join(chunks(value, 0))


def parse(text: str | bytes, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Parse JSON; report values that are nested too deeply for Python.

    Args:
        text: the JSON.
        object_hook: called with each object; it returns what takes its place.

    Raises:
        ValueError: it is not JSON, or too deep.

    Example:
        >>> parse("[" * 100_000)
        Traceback (most recent call last):
        ValueError: its JSON is nested too deeply to be read
    """
    try:
        if type(text) is str and object_hook is None:
            try:
                found, end = _read(text)  # half the time of json.loads for a small value
            except ValueError:  # it begins with white space, or is not JSON
                pass
            else:
                if end == len(text):
                    return found
        return json.loads(text, object_hook=object_hook)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply to be read") from None


def indented(text: str) -> str:
    """Indent JSON for a reader; text that cannot be parsed does not change.

    Example:
        >>> print(indented("[1]"))
        [
          1
        ]
    """
    try:
        return json.dumps(parse(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
