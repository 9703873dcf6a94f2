"""Encode any Python value for the log, and decode it.

A value becomes JSON if it survives that unchanged, with exact types; JSON with tags for other standard types (tags.py);
Arrow for frames, series, arrays and tables if pyarrow is installed (arrow.py); otherwise a pickle (pickles.py). This
module reads and writes no files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from .._core.value import Value
from .._text.json_text import compact, parse
from ..errors import SerializationError, UntrustedValueError
from . import arrow, pickles
from .classes import Home, UnknownClassError
from .foreign import ForeignBytes
from .gather_secrets import gather
from .large import ANY_LEVELS, LARGE_TEXT, PIECE, LargeValueError, is_large, parse_large, weigh, write_large
from .preview import preview, type_name
from .redactor import Redactor
from .secret import Secret, split_path
from .tags import DEEPEST, NotJsonError, Writer, put, read
from .walk import find

__all__ = ["decode", "encode", "json_of"]

_CONSTANTS = {None: Value("json", "null"), True: Value("json", "true"), False: Value("json", "false")}

_dump = compact(allow_nan=False)


def encode(
    value: object,
    *,
    keep: bool = True,
    redactor: Redactor | None = None,
    path: str = "output",
    home: Home = (),
    at_once: bool = False,
) -> Value:
    """Encode a value for the log.

    Args:
        value: anything.
        keep: False keeps only its type and preview (codec ``"none"``).
        redactor: the secrets of the execution; secrets found in the value are added to it.
        path: the name of the value in errors.
        home: where else to look for the classes of ``__main__``.
        at_once: whether it must not take longer than an event loop may be kept from its other work.

    Returns:
        A `Value`; its ``masked`` lists where secrets were: ``token``, ``db.password``, ``[2].key``, ``["a key"]``, or
        ``""`` for the whole value.

    Raises:
        SerializationError: it cannot be stored; the message and ``.path`` name the culprit inside it.
        LargeValueError: it takes too long to be encoded ``at_once``; encode it in a thread.

    Example:
        >>> encode({"ip": "10.0.0.1"}).json
        '{"ip":"10.0.0.1"}'
    """
    if not redactor and keep:
        if value is None or value is True or value is False:
            return _CONSTANTS[value]
        weight = weigh(value, DEEPEST)
        if weight > PIECE and at_once:
            raise LargeValueError
        if weight and (text := json_of(value, weight > PIECE)) is not None:
            return Value("json", text)
    if at_once and is_large(value, searched=keep):
        raise LargeValueError
    if redactor is None:
        redactor = Redactor()
    gather(value, redactor, set(), 0)
    if not keep:
        return Value("none", type=type_name(value), preview=preview(value, redactor=redactor))
    for codec in ("json", "tagged"):
        writer = Writer(redactor, home, tags=codec == "tagged")
        try:
            tree = writer.write(value)
            is_small = weigh(tree, ANY_LEVELS) <= PIECE
            text = _dump(tree) if is_small else write_large(tree, ANY_LEVELS, _dump)
        except (NotJsonError, ValueError):  # the latter: an int with too many digits
            continue
        return Value(codec, text, masked=tuple(dict.fromkeys(writer.masked)))
    return _as_bytes(value, redactor, path, home)


def decode(
    value: Value,
    load: Callable[[str], bytes],
    *,
    trusted: bool = True,
    where: str = "",
    missing: Callable[[str], Secret[Any]] = Secret.missing,
    home: Home = (),
) -> Any:
    """Restore a value; each call returns a new one.

    Args:
        value: an encoded value.
        load: reads the payload of a digest.
        trusted: False refuses values that need unpickling.
        where: names the value in errors: ``"the output of step 'fetch'"``.
        missing: returns the replacement for the secret that was masked at a path.
        home: where else to look for the classes of ``__main__``.

    Returns:
        The value; where a secret was masked there is a `Secret` that is missing.

    Raises:
        UntrustedValueError: it is pickled and ``trusted`` is False.
        SerializationError: it was not kept, or cannot be restored here.
    """
    name = where or "This value"
    if value.codec == "json":
        return _from_json(value, missing, where)
    if value.codec == "tagged":
        return _from_tags(value, missing, home, trusted, where)
    if value.codec == "none":
        raise SerializationError(
            f"{name} was not kept (keep=False): it was {_what(value)}. Run the step that returned it again.",
            path=where,
        )
    if value.codec == "list":
        return _from_members(value, load, trusted, name, missing, home)
    if value.codec == "arrow":
        return _from_arrow(value, load, trusted, where)
    if value.codec != "cloudpickle":
        raise SerializationError(
            f"{name} is stored as {value.codec!r}, which this version of cerebelum_nb cannot read: upgrade.",
            path=where,
        )
    if not trusted:
        raise UntrustedValueError(
            f"{name} is {_what(value)}. Restoring it means unpickling it, which can run any code, and this log is not "
            "trusted. If you know who wrote it, open it with `connect(path, trusted=True)`.",
            path=where,
        )
    payload = load(value.digest)
    if isinstance(payload, ForeignBytes):
        raise UntrustedValueError(
            f"{name} is {_what(value)}. It came from an unpacked file. Restoring it means unpickling it, which can run "
            "any code. If you know who packed it, unpack the file again with `--trust`.",
            path=where,
        )
    try:
        return pickles.loads(payload, home)
    except Exception as exc:  # unpickling runs whatever the classes define
        raise SerializationError(
            f"{name} is {_what(value)} and cannot be restored here: {type(exc).__name__}: {exc}. "
            f"Define or import `{value.type}` as it was (of a package: install the version that wrote it), or run the "
            f"step that returned it again.",
            path=where,
        ) from exc


def _from_members(
    value: Value,
    load: Callable[[str], bytes],
    trusted: bool,
    name: str,
    missing: Callable[[str], Secret[Any]],
    home: Home,
) -> Any:
    """Restore a list of values with several codecs, as :func:`~cerebelum_nb._core.items.joined` writes it."""
    masked: dict[int, list[str]] = {}
    for path in value.masked:
        index, _, inner = path[1:].partition("]")
        masked.setdefault(int(index), []).append(inner.removeprefix("."))
    restored = []
    for place, (codec, *rest) in enumerate(parse(value.json)):
        if len(rest) == 1:
            member = Value(codec, _dump(rest[0]), masked=tuple(masked.get(place, ())))
        else:
            digest, kind, shown = rest
            member = Value(codec, digest=digest, type=kind, preview=shown)
        restored.append(decode(member, load, trusted=trusted, where=f"{name}[{place}]", missing=missing, home=home))
    return restored


def _parsed(text: str) -> Any:
    return parse(text) if len(text) < LARGE_TEXT else parse_large(text)


def _restore_masks(tree: Any, value: Value, missing: Callable[[str], Secret[Any]]) -> Any:
    for path in value.masked:
        tree = put(tree, split_path(path), missing(path), tagged=value.codec == "tagged")
    return tree


def _from_json(value: Value, missing: Callable[[str], Secret[Any]], where: str) -> Any:
    try:
        return _restore_masks(_parsed(value.json), value, missing)
    except (ValueError, TypeError, LookupError) as exc:
        raise SerializationError(
            f"{where or 'This value'} is stored as JSON that cannot be read ({exc}). Run the step that returned it "
            "again.",
            path=where,
        ) from exc


def _from_tags(value: Value, missing: Callable[[str], Secret[Any]], home: Home, trusted: bool, where: str) -> Any:
    name = where or "This value"
    try:
        return read(_restore_masks(_parsed(value.json), value, missing), home, importing=trusted)
    except UnknownClassError as exc:
        message = f"{name} cannot be restored here: {exc}. Define or import it as it was, or run the step again."
        raise (SerializationError if trusted else UntrustedValueError)(message, path=where) from exc
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError) as exc:
        raise SerializationError(
            f"{name} is stored as tagged JSON that cannot be read ({type(exc).__name__}: {exc}). Run the step that "
            "returned it again.",
            path=where,
        ) from exc


def _from_arrow(value: Value, load: Callable[[str], bytes], trusted: bool, where: str) -> Any:
    payload = load(value.digest)
    try:
        return arrow.loads(payload, trusted=trusted and not isinstance(payload, ForeignBytes))
    except ImportError as exc:
        message = f"it is stored as Arrow, and {exc.name} is not installed: pip install 'cerebelum_nb[arrow]'"
        raise SerializationError(f"{where or 'This value'} is {_what(value)}; {message}", path=where) from exc
    except (ValueError, TypeError, KeyError, OSError) as exc:  # ArrowInvalid is a ValueError
        message = (
            f"and its Arrow bytes cannot be read ({type(exc).__name__}: {exc}). Run the step that returned it again."
        )
        raise SerializationError(f"{where or 'This value'} is {_what(value)}, {message}", path=where) from exc


def _what(value: Value) -> str:
    return f"a {value.type.removeprefix('builtins.')}: {value.preview}"


def _short_type(value: object) -> str:
    return type_name(value).removeprefix("builtins.")


# -- JSON ---------------------------------------------------------------------------------------------


def json_of(value: object, large: bool = False) -> str | None:
    """Write a value as JSON; None if no UTF-8 text brings it back unchanged.

    Args:
        value: dicts with text keys, lists and scalars, by exact types.
        large: whether it is written in pieces; then its types are checked too.
    """
    try:
        if large:
            return write_large(value, DEEPEST, _dump)
        text = _dump(value)
        if not text.isascii():
            text.encode()  # a lone surrogate is not UTF-8, and SQL cannot read it
    except (NotJsonError, ValueError):  # the latter: NaN, infinity, an int with too many digits, a lone surrogate
        return None
    return text


# -- Arrow and cloudpickle ----------------------------------------------------------------------------


def _as_bytes(value: object, redactor: Redactor, path: str, home: Home) -> Value:
    codec, payload = "arrow", arrow.dumps(value, compress=False) if redactor else arrow.dumps(value)
    if payload is None:
        codec = "cloudpickle"
        try:
            payload = pickles.dumps(value, home)
        except Exception as exc:  # noqa: BLE001 - pickling runs whatever the classes define
            raise _unstorable(value, exc, redactor, path) from None  # the frames of a pickler do not help
    named = _find_named(value, path, redactor)
    if named is None and redactor.reveals(payload):
        named = find(value, path, lambda key, item: _reveals(item, redactor), redactor=redactor, deepest=True) or (
            path,
            value,
        )
    if named is not None:
        raise SerializationError(
            f"{redactor.mask(named[0])} holds a secret, and {path} is a {_short_type(value)}, which is stored "
            "as bytes that cannot be masked. Leave the secret out, return dicts and lists of plain values, "
            "or use @step(keep=False).",
            path=redactor.mask(named[0]),
        )
    if codec == "arrow" and redactor:
        payload = arrow.dumps(value) or payload
    return Value(
        codec,
        type=type_name(value),
        preview=preview(value, redactor=redactor),
        digest=hashlib.sha256(payload).hexdigest(),
        size=len(payload),
        payload=payload,
    )


def _find_named(value: object, path: str, redactor: Redactor) -> tuple[str, object] | None:
    if not redactor.names:
        return None
    return find(value, path, lambda key, item: redactor.hides(key) and item is not None, redactor=redactor)


def _unstorable(value: object, exc: Exception, redactor: Redactor, path: str) -> SerializationError:
    where, culprit = find(value, path, lambda key, item: _fails(item), redactor=redactor, deepest=True) or (
        path,
        value,
    )
    where = redactor.mask(where)
    if isinstance(culprit, Secret):
        return SerializationError(
            f"{where} is a Secret inside a {_short_type(value)}, where it cannot be masked. Put it "
            "in a dict or a list of plain values, or use @step(keep=False).",
            path=where,
        )
    return SerializationError(
        f"{where} is a {_short_type(culprit)} and cannot be stored ({type(exc).__name__}: "
        f"{redactor.mask(str(exc))}). Use plain data, an id or a file path in its place; the result of a step that "
        "must stay alive, such as a connection, can be kept in memory with @step(keep=False).",
        path=where,
    )


def _fails(value: object) -> bool:
    try:
        pickles.dumps(value)
    except Exception:  # noqa: BLE001 - only whether it fails matters here
        return True
    return False


def _reveals(value: object, redactor: Redactor) -> bool:
    try:
        return redactor.reveals(pickles.dumps(value))
    except Exception:  # noqa: BLE001 - a member that cannot be pickled alone
        return False
