"""Values and errors as the log holds them: plain data, without decoding."""

from __future__ import annotations

from dataclasses import field

from .record import frozen, record

__all__ = ["ErrorInfo", "Value"]


@frozen
class Value:
    """An encoded value as the log holds it.

    ``codec`` is ``"json"`` (``json`` is its text), ``"tagged"`` (JSON with tags for what JSON lacks, such as
    ``{"$date": "2026-01-02"}``), ``"cloudpickle"`` or ``"arrow"`` (``digest`` identifies the payload, which is stored
    once per content) or ``"none"`` (not kept: only type and preview are known). ``masked`` lists the paths at which a
    secret was masked; such a value cannot be restored completely.
    """

    codec: str
    json: str = ""
    type: str = ""
    preview: str = ""
    digest: str = ""
    size: int = 0
    masked: tuple[str, ...] = ()
    payload: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def is_json(self) -> bool:
        """Whether it is a JSON text, with or without tags."""
        return self.codec == "json" or self.codec == "tagged"

    @property
    def restorable(self) -> bool:
        """Whether the log holds the whole value."""
        return self.codec != "none" and not self.masked

    @property
    def text(self) -> str:
        """The text that people see: its JSON text or its preview, else its type.

        Example:
            >>> Value("json", json="[1, 2]").text, Value("none", type="socket.socket").text
            ('[1, 2]', 'socket.socket')
        """
        return self.json if self.is_json else self.preview or self.type


@record
class ErrorInfo:
    """A failure as the log keeps it.

    ``mro`` names the exception's classes (``module.qualname``, most derived first), so that a route by exception
    class still matches after the process that raised it is gone. ``reason`` is set if the step returned
    ``{"error": reason}`` instead of raising. Its ``str`` is the reason, else ``type: message``.
    """

    type: str
    message: str
    traceback: str = ""
    mro: tuple[str, ...] = ()
    reason: str | None = None

    def __str__(self) -> str:
        return self.reason if self.reason is not None else f"{self.type}: {self.message}"
