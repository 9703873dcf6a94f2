"""``Secret``: a value that is never written. redactor.py masks secrets wherever they would show."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Generic, NoReturn, Protocol, TypeVar, cast

from ..errors import SecretMissingError, SerializationError

__all__ = ["MASK", "Secret", "join_path", "reveal_to", "split_path"]

MASK = "********"
"""The text that replaces a secret."""

T = TypeVar("T")

_PATH = re.compile(r"""\.?([^\W\d]\w*)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]""")


class Secret(Generic[T]):
    """Keep a value out of the log, of reprs and of error messages.

    It is equal to another secret with an equal value, and copies like it; pickling it is refused.

    Example:
        >>> token = Secret("s3cr3t-token")
        >>> print(token)
        ********
        >>> token.reveal()
        's3cr3t-token'
    """

    __slots__ = ("_missing", "_source", "_value")

    def __init__(self, value: T | Secret[T]) -> None:
        inner = value if isinstance(value, Secret) else None
        self._missing: str | None = None if inner is None else inner._missing
        self._source: tuple[str, str] = ("", "") if inner is None else inner._source
        self._value: T = cast(T, value) if inner is None else inner._value

    @classmethod
    def missing(cls, path: str, execution_id: str = "", step: str = "") -> Secret[Any]:
        """Make the placeholder of a secret that was masked at ``path`` and is not in this process.

        Args:
            path: where it was in the value.
            execution_id: the execution to which the value belongs.
            step: the step whose result the value is; "" for the inputs.
        """
        secret: Secret[Any] = cls.__new__(cls)
        secret._missing, secret._source = path, (execution_id, step)
        secret._value = None
        return secret

    @property
    def is_missing(self) -> bool:
        """Whether the value has to be given again before it can be revealed."""
        return self._missing is not None

    def reveal(self) -> T:
        """Return the value itself.

        Inside a step, its execution masks the value from then on in everything it writes and shows, wherever the secret
        came from: inputs, a global, a default, a closure.

        Raises:
            SecretMissingError: it is not in this process; the message says how to give it again.
        """
        if self._missing is None:
            for redactor in _redactors_here():
                redactor.add(self)
            return self._value
        raise SecretMissingError(_describe_missing(self._missing, *self._source), path=self._missing)

    def __getattr__(self, name: str) -> Any:
        """A text that contained a secret is masked as a whole; using its placeholder as text raises this error."""
        if not name.startswith("_") and self._missing is not None:
            self.reveal()
        raise AttributeError(f"a Secret has no attribute {name!r}: reveal() gives its value")

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return bool(self._missing == other._missing and self._value == other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._missing, self._value))

    def __copy__(self) -> Secret[T]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret[T]:
        return self if self.is_missing else type(self)(copy.deepcopy(self._value, memo))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise SerializationError(
            "A Secret is never stored. Put it in a dict or a list of plain values, where it is masked, or use "
            "@step(keep=False)."
        )


class _Redactor(Protocol):
    def add(self, secret: object) -> None: ...


def _no_redactors() -> Iterable[_Redactor]:
    return ()


_redactors_here: Callable[[], Iterable[_Redactor]] = _no_redactors


def reveal_to(find: Callable[[], Iterable[_Redactor]]) -> None:
    """Register a function that returns the redactors of the step that runs here; the engine knows it."""
    global _redactors_here
    _redactors_here = find


def _describe_missing(path: str, execution_id: str, step: str) -> str:
    """Describe which secret is missing, and how to supply it."""
    holder = f"the result of step '{step}'" if step else "the inputs"
    where = f"{f'at {path!r} ' if path else ''}in {holder}{f' of execution {execution_id}' if execution_id else ''}"
    resume = f"await wf.resume({json.dumps(execution_id) if execution_id else 'id'}, "
    how = (
        f"Run the step again, in Python: `{resume}rerun=[{json.dumps(step)}])`, or take it from the inputs."
        if step
        else f"Give it again, in Python: `{resume}inputs={_inputs_for(path)})`."
    )
    return f"The secret {where} is not in this process: secrets are never written to the log. {how}"


def _inputs_for(path: str) -> str:
    """Write the ``inputs=`` that supplies the secret at ``path``."""
    text = "Secret(...)"
    for key in reversed(split_path(path) or ["token"]):
        text = f"[..., {text}]" if isinstance(key, int) else f"{{{json.dumps(key, ensure_ascii=False)}: {text}}}"
    return text


def join_path(path: str, key: str | int) -> str:
    """Extend a masked path: ``token``, ``db.password``, ``[2].key``, ``["a key"]``; ``""`` is the root."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if re.fullmatch(r"[^\W\d]\w*", key):
        return f"{path}.{key}" if path else key
    return f"{path}[{json.dumps(key)}]"


def split_path(path: str) -> list[str | int]:
    """Split a masked path, the inverse of `join_path`."""
    return [
        int(match[2]) if match[2] else json.loads(match[3]) if match[3] else match[1] for match in _PATH.finditer(path)
    ]
