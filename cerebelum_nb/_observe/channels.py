"""Destinations of notifications: a signed webhook, without dependencies, or any service that Apprise supports.

URLs contain secrets. Only their scheme is shown, and logged errors never contain them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Protocol

from ..errors import CerebelumError
from .extras import need
from .news import News

__all__ = ["SECRET", "Channel", "Webhook", "channels"]

SECRET = "CEREBELUM_NOTIFY_SECRET"
_SECONDS = 10.0
_WEBHOOKS = {"http": "http", "https": "https", "json": "http", "jsons": "https"}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://\S+")


class Channel(Protocol):
    """A destination of notifications."""

    shown: str
    """How to name it in messages, without its secrets."""
    name: str
    """A digest that identifies it, without its address."""

    def send(self, news: News, link: str) -> None:
        """Send a message.

        Raises:
            CerebelumError: it was not delivered; the message does not contain the URL.
        """
        ...


class Webhook:
    """Posts JSON to a URL, signed according to Standard Webhooks if there is a secret.

    Args:
        url: the URL.
        secret: the key that signs messages: text, or ``whsec_`` and base64.
    """

    def __init__(self, url: str, secret: str = "") -> None:
        scheme, _, rest = url.partition("://")
        self._url = f"{_WEBHOOKS[scheme.lower()]}://{rest}"
        self._key = _key(secret)
        self.shown, self.name = f"{scheme.lower()}://...", _name(url)
        self._open = urllib.request.build_opener(_NoRedirect).open

    def send(self, news: News, link: str) -> None:
        """Post a message."""
        body = json.dumps(_payload(news, link)).encode()
        stamp = str(int(time.time()))
        number = hashlib.blake2b(repr(news).encode(), digest_size=12)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "cerebelum_nb",
            "webhook-id": f"msg_{number.hexdigest()}",
            "webhook-timestamp": stamp,
        }
        if self._key:
            signed = b".".join([headers["webhook-id"].encode(), stamp.encode(), body])
            mac = base64.b64encode(hmac.digest(self._key, signed, "sha256")).decode()
            headers["webhook-signature"] = f"v1,{mac}"
        request = urllib.request.Request(self._url, body, headers, method="POST")
        try:
            with self._open(request, timeout=_SECONDS) as answer:
                answer.read(1024)
        except urllib.error.HTTPError as error:
            error.close()
            raise CerebelumError(f"it answered {error.code}") from None
        except Exception as error:  # noqa: BLE001 - urllib raises many kinds of errors; each means not delivered
            reason = getattr(error, "reason", None)
            raise CerebelumError(type(reason if isinstance(reason, Exception) else error).__name__) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a POST would become a GET, and its body would be lost or sent to another host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


class _Apprise:
    """Any service that Apprise supports, by URL."""

    def __init__(self, url: str) -> None:
        need("apprise", "notify")
        scheme = url.partition("://")[0].lower()
        with warnings.catch_warnings():  # it imports two hundred modules, some of which use deprecated names
            warnings.simplefilter("ignore")
            import apprise

            self._apprise = apprise.Apprise()
            is_known = self._apprise.add(url)
        if not is_known:
            raise CerebelumError(
                f"Apprise does not understand the {scheme}:// URL to notify: its documentation lists the URL of each "
                "service"
            )
        self.shown, self.name = f"{scheme}://...", _name(url)

    def send(self, news: News, link: str) -> None:
        """Send a message."""
        import apprise

        kinds = {"failed": "FAILURE", "interrupted": "FAILURE", "late": "WARNING", "completed": "SUCCESS"}
        body = "\n\n".join(part for part in (news.text, link) if part) or news.title
        kind = getattr(apprise.NotifyType, kinds.get(news.kind, "INFO"))
        if not self._apprise.notify(title=news.title, body=body, notify_type=kind):
            raise CerebelumError("it was not delivered")


def channels(places: Iterable[str]) -> tuple[Channel, ...]:
    """Make the destinations.

    Args:
        places: URLs; ``env:NAME`` for those in an environment variable, ``file:PATH`` for those in a file, separated
            by white space, with ``#`` before comments.

    Raises:
        CerebelumError: one is not a URL, a variable is not set, a file cannot be read, or Apprise is needed but not
            installed.

    Example:
        >>> [channel.shown for channel in channels(["https://example.com/hook?token=abc"])]
        ['https://...']
    """
    secret = os.environ.get(SECRET, "")
    found: dict[str, Channel] = {}
    for url in (url for place in places for url in _urls(place)):
        match = _URL.fullmatch(url)
        if match is None:
            raise CerebelumError("the receiver must be a URL such as https://..., env:NAME or file:PATH")
        channel = Webhook(url, secret) if match[1].lower() in _WEBHOOKS else _Apprise(url)
        found[channel.name] = channel
    if not found:
        raise CerebelumError("nobody to notify: give a URL, env:NAME or file:PATH")
    return tuple(found.values())


def _urls(place: str) -> list[str]:
    if place.startswith("env:"):
        name = place.removeprefix("env:")
        if name not in os.environ:
            raise CerebelumError(f"the environment variable {name}, which holds the URL to notify, is not set")
        text = os.environ[name]
    elif place.startswith("file:") and not place.startswith("file://"):
        path = Path(place.removeprefix("file:")).expanduser()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise CerebelumError(f"the file {path}, which holds the URL to notify, cannot be read: {reason}") from None
    else:
        text = place
    return [url for line in text.splitlines() if not line.lstrip().startswith("#") for url in line.split()]


def _payload(news: News, link: str) -> dict[str, object]:
    """Return the body of a webhook; chat services show its ``text``."""
    text = "\n".join(part for part in (news.title, news.text, link) if part)
    about = {
        "kind": news.kind,
        "title": news.title,
        "execution_id": news.execution_id,
        "workflow": news.workflow,
        "version": news.version,
        "at": news.at / 1e6,
        "step": news.step,
        "error": news.error,
        "link": link,
    }
    return {"text": text, **{name: value for name, value in about.items() if value not in ("", 0)}}


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise CerebelumError(f"the text after whsec_ in ${SECRET} is not base64") from None


def _name(url: str) -> str:
    return hashlib.blake2b(url.encode(), digest_size=8, person=b"cerebelum-notify").hexdigest()
