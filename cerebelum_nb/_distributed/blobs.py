"""Values that are too big for a history: files by digest, in a folder or a bucket that all machines share.

Small values travel in the history, so machines that share no folder work too, until a value is big.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from .._core.events import Event
from .._core.value import Value
from ..errors import StoreError
from .wire import Row, to_row, with_value

__all__ = ["INLINE_BYTES", "Blobs", "blobs_at"]

INLINE_BYTES = 8 * 1024
"""The largest value, in bytes, that the history holds; the server takes 2 MB in one message and 50 MB in all."""

_BLOB = '"@blob"'
_MOST_BYTES = 1 << 30


class Blobs:
    """Bytes by digest.

    It also takes the place of a log for the values of an execution: ``payload``, ``largest``, ``trusted``, ``redact``.

    Args:
        place: a folder, or a URL that fsspec knows, such as ``s3://bucket/cerebelum``.
        redact: names of inputs that are masked.
    """

    trusted = True
    largest = _MOST_BYTES

    def __init__(self, place: str, redact: tuple[str, ...] = ()) -> None:
        self.location, self.redact = place, redact
        self._remote: Any = None
        if "://" in place:
            try:
                self._remote, root = import_module("fsspec").core.url_to_fs(place)
            except (ImportError, ValueError) as error:
                raise StoreError(
                    f"values cannot be kept at {place}: {error}. It takes fsspec and its package for that kind of URL: "
                    f"pip install fsspec, and s3fs for s3://, gcsfs for gs://, adlfs for abfs://"
                ) from error
            self._root = str(root)
        else:
            self._root = str(Path(place).expanduser())

    def has(self, digest: str) -> bool:
        """Whether there are bytes of a digest, as far as this place can say."""
        path = self._path(digest)
        try:
            return bool(self._remote.exists(path)) if self._remote is not None else Path(path).exists()
        except Exception:  # noqa: BLE001 - the packages of fsspec raise what they like
            return False

    def put(self, digest: str, data: bytes) -> None:
        """Keep bytes, once per digest.

        Raises:
            StoreError: they cannot be written.
        """
        path = self._path(digest)
        try:
            if self._remote is not None:
                if not self._remote.exists(path):
                    self._remote.makedirs(path.rpartition("/")[0], exist_ok=True)
                    self._remote.pipe_file(path, data)
                return
            final = Path(path)
            if final.exists():
                return
            final.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            half = final.with_name(f"{final.name}.{secrets.token_hex(4)}")
            half.write_bytes(data)
            half.replace(final)
        except Exception as error:
            if self._remote is None and not isinstance(error, OSError):
                raise  # the packages of fsspec raise what they like
            raise StoreError(f"a value of {len(data):,} bytes cannot be written to {self.location}: {error}") from error

    def payload(self, digest: str) -> bytes:
        """Read bytes.

        Raises:
            StoreError: they are not there.
        """
        path = self._path(digest)
        try:
            found = self._remote.cat_file(path) if self._remote is not None else Path(path).read_bytes()
        except FileNotFoundError as error:
            raise StoreError(
                f"the value {digest[:16]}... is not in {self.location}. Values over {INLINE_BYTES >> 10} KB go through "
                f"a folder (or a URL such as s3://...) that the caller and every worker share: set CEREBELUM_BLOBS to "
                f"the same place for all of them"
            ) from error
        except Exception as error:
            if self._remote is None and not isinstance(error, OSError):
                raise
            raise StoreError(f"the value {digest[:16]}... cannot be read from {self.location}: {error}") from error
        return bytes(found)

    def to_row(self, event: Event, most: int = INLINE_BYTES) -> Row:
        """Lay an event out for the history; a value of more than ``most`` bytes is kept here."""
        return to_row(with_value(event, partial(self._offload, most=most)))

    def load(self, event: Event, *, whole: bool = False) -> Event:
        """Return an event with its values as a local log has them.

        Args:
            event: an event from the history.
            whole: whether to read big values that are bytes now; by default they are read when they are used.
        """
        return with_value(event, partial(self._load, whole=whole))

    def _offload(self, value: Value, most: int) -> Value:
        if value.payload is not None:
            if len(value.payload) <= most:
                return replace(value, payload=None, json=f'"{base64.b64encode(value.payload).decode()}"')
            self.put(value.digest, value.payload)
            return replace(value, payload=None)
        if value.is_json and len(value.json) > most and not value.digest:
            data = value.json.encode("utf-8", "surrogatepass")
            digest = hashlib.sha256(data).hexdigest()
            self.put(digest, data)
            return replace(value, json=_BLOB, digest=digest, size=len(data))
        return value

    def _load(self, value: Value, whole: bool) -> Value:
        if value.is_json:
            if value.json != _BLOB or not value.digest:
                return value
            text = self.payload(value.digest).decode("utf-8", "surrogatepass")
            return replace(value, json=text, digest="", size=0)
        if value.json:
            return replace(value, json="", payload=base64.b64decode(value.json.strip('"')))
        if whole and value.digest and value.payload is None and value.codec != "none":
            return replace(value, payload=self.payload(value.digest))
        return value

    def _path(self, digest: str) -> str:
        name = digest.replace(":", "-").replace("/", "-")
        return f"{self._root}/{name[:2]}/{name}"


def blobs_at(place: str | None, redact: tuple[str, ...] = ()) -> Blobs:
    """Open the given place, else ``$CEREBELUM_BLOBS``, else a folder of this user on this machine."""
    return Blobs(place or os.environ.get("CEREBELUM_BLOBS") or "~/.cerebelum/blobs", redact)
