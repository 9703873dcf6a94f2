"""The secrets of one execution, and how they are masked.

Every place masks before anything is written or shown:

- values: codec.py gathers a value's secrets (gather_secrets.py), then tags.py masks them as it writes; a value that
  would be stored as bytes is refused. Previews: preview.py; digests of arguments: arguments.py;
- what a step publishes: prints, progress and the names of operations in _engine/scope.py (on a cluster also
  _distributed/host.py), notes in _operations/note.py, approvals in _operations/approval.py; with ``process=True``
  in _engine/process.py; what widgets show in _views/progress.py and _views/card.py;
- errors: ``describe`` in _engine/values.py for the log, ``without_secrets`` in _engine/user_errors.py for the notebook,
  an ``{"error": ...}`` that a step returns in _engine/classify_outcome.py, and `here()` in _notebook/here.py;
- what a run records of itself: its name in _workflow/start.py, plan and code in _engine/plan_payloads.py, keys of items
  in _engine/foreach.py, checkpoints in _engine/checkpoints.py. Tags and names of signals that contain one are refused;
- packs: _archive/scrub.py masks secrets that were not known when the execution was recorded.

Each calls :meth:`Redactor.mask`, which replaces a secret in every form in which programs write it.
"""

from __future__ import annotations

import json
import re
import threading
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from urllib.parse import quote, quote_plus, unquote

from .secret import MASK, Secret

__all__ = ["Redactor"]

SHORTEST = 4
"""Shorter secrets are masked in their own place, but not searched for inside other texts."""

SHORTEST_LINE = 8
"""Shorter lines of a secret are not searched for: they are often ordinary words, as in a configuration."""

_NONE: frozenset[str] = frozenset()

_URL_PASSWORD = re.compile(r"[A-Za-z][\w+.-]*://[^/?#\s:@]*:([^/?#\s]+)@")


class Redactor:
    """The texts that one execution must not write. False while there are none.

    A secret is searched for as its text ``str(value)`` and as that text appears in JSON, in a repr, in a URL, in HTML,
    in base64 (also as part of something longer, such as ``user:password``) and in hex; for a container, every text and
    number in it is searched for, and for a text what programs take out of one (:func:`_parts`). Texts shorter than 4
    characters are not: masking every "1" would destroy the log and reveal where the secret is.

    Args:
        names: dict keys (whole, any case) whose values are also secrets.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = frozenset(name.casefold() for name in names) if names else _NONE
        self._forms: tuple[str, ...] = ()
        self._needles: tuple[bytes, ...] = ()
        self._known = _NONE
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._forms or self.names)

    def __repr__(self) -> str:
        return f"Redactor(names={sorted(self.names)}, forms={len(self._forms)})"

    @property
    def known(self) -> frozenset[str]:
        """The texts that it searches for."""
        return self._known

    def add(self, secret: object) -> None:
        """Search for this secret from now on; a plain value counts as one, a missing secret adds nothing."""
        texts = {text for text in _texts(secret, 0) if len(text) >= SHORTEST and text not in MASK}
        if texts <= self._known:
            return
        with self._lock:  # steps in threads share the redactor of their execution
            known = self._known | texts
            forms = {form for text in texts - self._known for form in _forms(text)}.union(self._forms)
            wide = (text.encode(code, "surrogatepass") for text in known for code in ("utf-16-le", "utf-32-le"))
            self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))
            self._needles = tuple({*map(_bytes_of, forms), *wide})
            self._known = known  # last: a thread that finds a text here must also find its forms

    def hides(self, key: object) -> bool:
        """Whether the value under this dict key is redacted by its name."""
        return bool(self.names) and isinstance(key, str) and key.casefold() in self.names

    def mask(self, text: str) -> str:
        """Replace every occurrence of every secret; overlapping ones are masked together."""
        spans = sorted(_spans(text, self._forms))
        if not spans:
            return text
        pieces, end = [], 0
        for start, stop in spans:
            if start >= end:
                pieces += [text[end:start], MASK]
            end = max(end, stop)
        masked = "".join([*pieces, text[end:]])
        # The text left and right of a secret may now form another secret: then nothing is kept.
        return MASK if any(form in masked for form in self._forms) else masked

    def begun(self, text: str) -> int:
        """Return how many characters at the end of a text may begin a secret."""
        longest = max(map(len, self._forms), default=0)
        for size in range(min(longest - 1, len(text)), 0, -1):
            end = text[-size:]
            if any(form.startswith(end) for form in self._forms):
                return size
        return 0

    def covers(self, number: int | float) -> bool:
        """Whether this number, written as text, is a secret."""
        return bool(self._forms) and str(number) in self._forms

    def reveals(self, data: bytes) -> bool:
        """Whether a payload contains a secret, as UTF-8, UTF-16 or UTF-32 text; not if it is compressed."""
        return any(needle in data for needle in self._needles)


def _texts(value: object, depth: int) -> Iterator[str]:
    match value:
        case Secret():
            if not value.is_missing:
                yield from _texts(value._value, depth)
        case None | bool():
            return
        case str():
            yield from _parts(str.__str__(value), depth)
        case bytes() | bytearray():
            yield from _parts(bytes(value).decode("utf-8", "surrogateescape"), depth)
            yield bytes(value).hex()
        case dict() if depth < 20:
            for item in value.values():
                yield from _texts(item, depth + 1)
        case list() | tuple() | set() | frozenset() if depth < 20:
            for item in value:
                yield from _texts(item, depth + 1)
        case _:
            with suppress(Exception):  # a user's __str__; an int with too many digits
                yield str(value)
            if depth < 20:
                with suppress(Exception):  # an object may have no state, or one that cannot be read
                    yield from _texts(object.__getstate__(value), depth + 1)  # its attributes, those in slots too


def _parts(text: str, depth: int) -> Iterator[str]:
    """Yield a text and the parts that programs take out of it.

    These are the text without the line break at its end, its lines, the values of JSON, and the password of a URL.
    """
    yield text
    stripped = text.strip()
    yield stripped
    if len(lines := stripped.splitlines()) > 1:
        yield from (line.strip() for line in lines if len(line.strip()) >= SHORTEST_LINE)
    if stripped[:1] in ("{", "[") and depth < 20:
        with suppress(ValueError, RecursionError):
            yield from _texts(json.loads(stripped), depth + 1)
    if (found := _URL_PASSWORD.match(stripped)) is not None:
        yield found[1]
        yield unquote(found[1])


def _forms(text: str) -> Iterator[str]:
    """Yield the forms of a secret's text in logs, errors, URLs and JSON."""
    import html  # not at the top: most runs have no secret, and the import takes a millisecond

    data = _bytes_of(text)
    yield from _escaped(text)
    for safe in ("", "/", "-_.!~*'()", ";/?:@&=+$,#-_.!~*'()"):  # quote(x, ""), quote(x), encodeURIComponent, encodeURI
        quoted = quote(data, safe=safe)
        yield quoted
        yield re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), quoted)
        yield quote(quoted, safe="")
    yield quote_plus(data)
    yield quote_plus(data, safe="/")
    for quotes in (False, True):
        for apostrophe in ("&#x27;", "&#39;", "&apos;"):
            yield html.escape(text, quote=quotes).replace("&#x27;", apostrophe)
    for encode in (b64encode, urlsafe_b64encode):
        yield from _within_base64(data, encode)
    yield data.hex()
    yield data.hex().upper()


def _escaped(text: str) -> Iterator[str]:
    """Yield a text as it is, in JSON, in a repr, in the repr of its bytes, and in each of these a second time."""
    data = _bytes_of(text)
    once = {
        text,
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
        repr(data)[2:-1],
    }
    for form in once:
        yield form
        # Which kind of quotes a repr escapes depends on the text around it.
        yield form.replace("'", "\\'")
        yield json.dumps(form)[1:-1]
        yield json.dumps(form, ensure_ascii=False)[1:-1]
        yield repr(form)[1:-1]


def _within_base64(data: bytes, encode: Callable[[bytes], bytes]) -> Iterator[str]:
    """Yield the base64 of bytes at each of the three possible offsets in a longer text.

    The characters at either end also depend on the neighbouring bytes, so they are left out.
    """
    for before in range(3):
        written = encode(b"\0" * before + data).decode()
        inside = written[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        if len(inside) >= SHORTEST:
            yield inside


def _bytes_of(text: str) -> bytes:
    """Encode a text as UTF-8; undecodable bytes in it as they are."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # another lone surrogate
        return text.encode("utf-8", "surrogatepass")


def _spans(text: str, forms: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    for form in forms:
        at = text.find(form)
        while at >= 0:
            yield at, at + len(form)
            at = text.find(form, at + 1)
