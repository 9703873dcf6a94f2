"""The shape of a workflow's inputs (a dataclass, a TypedDict or a pydantic model), against which inputs are checked.

The log holds plain values by name, so that inputs can be read without the class. The objects that steps receive are
made from these each time. Pydantic checks its own models; fitting.py checks the others.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from .._text.text import cut
from ..errors import WorkflowDefinitionError
from .fitting import Field, MisfitError, fields_of, fit, learn, made_of, plain
from .json_schema import schema_of
from .secret import Secret

__all__ = ["Shape", "shape_of", "shape_taken"]


class Shape:
    """The inputs that a workflow takes.

    Args:
        cls: the dataclass or TypedDict.
        fields: its fields by name.
    """

    def __init__(self, cls: type[Any], fields: Mapping[str, Field]) -> None:
        self.cls, self._fields = cls, fields

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the inputs; empty if they are not known."""
        return tuple(self._fields)

    def as_given(self, inputs: Any) -> Any:
        """Return inputs as names with values, also if they are an instance of the class."""
        if dataclasses.is_dataclass(self.cls) and isinstance(inputs, self.cls):
            return {name: getattr(inputs, name) for name in self._fields}
        return inputs

    def take(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Check inputs against the shape.

        Args:
            given: names to values.

        Returns:
            The inputs to record, converted and with defaults; and every problem.
        """
        problems: list[str] = []
        made = made_of(self.cls, self._fields, given, "", problems)
        return ({} if problems else {name: plain(value) for name, value in made.items()}), problems

    def make(self, recorded: Mapping[str, Any]) -> Any:
        """Make the object that steps receive from recorded inputs.

        Raises:
            ValueError: they do not fit.
        """
        problems: list[str] = []
        made = made_of(self.cls, self._fields, recorded, "", problems)
        if problems:
            raise ValueError("; ".join(problems))
        return made if typing.is_typeddict(self.cls) else self.cls(**made)

    def read(self, name: str, text: str, parsed: Any) -> Any:
        """Interpret a value on a command line: the text itself if the field takes text, otherwise the parsed JSON.

        Args:
            name: the input.
            text: the text.
            parsed: the text parsed as JSON, or the text if it is not JSON.
        """
        field = self._fields.get(name)
        if field is None or isinstance(parsed, str) or field.type is Any:
            return parsed
        try:
            fit(field.type, text, name)
        except MisfitError:
            return parsed
        return text

    def schema(self) -> dict[str, Any]:
        """Describe the inputs as JSON Schema."""
        return schema_of(self.cls, self._fields)


class _ModelShape(Shape):
    """A pydantic model, which checks, converts and describes itself."""

    def __init__(self, cls: Any) -> None:
        super().__init__(cls, {})

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the inputs; empty if it takes others too."""
        return () if self.cls.model_config.get("extra") == "allow" else tuple(self.cls.model_fields)

    def as_given(self, inputs: Any) -> Any:
        """Return inputs as names with values, also if they are an instance of the model."""
        return dict(inputs) if isinstance(inputs, self.cls) else inputs

    def take(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Check inputs against the model."""
        try:
            made = self.cls.model_validate(_revealed(given))
        except ValueError as error:
            return {}, [_describe_problem(problem) for problem in getattr(error, "errors", list)()] or [str(error)]
        return {name: plain(value) for name, value in made.model_dump().items()}, []

    def make(self, recorded: Mapping[str, Any]) -> Any:
        """Make an instance of the model."""
        return self.cls.model_validate(_revealed(recorded))

    def read(self, name: str, text: str, parsed: Any) -> Any:
        """Return the text itself if the field is text."""
        field = self.cls.model_fields.get(name)
        return text if field is not None and field.annotation is str and not isinstance(parsed, str) else parsed

    def schema(self) -> dict[str, Any]:
        """Describe the model as JSON Schema."""
        made: dict[str, Any] = self.cls.model_json_schema()
        return made


def shape_of(cls: Any, where: str, space: Mapping[str, Any] | None = None) -> Shape | None:
    """Read the shape of inputs; None if there is no class.

    Args:
        cls: a dataclass, a TypedDict or a pydantic model.
        where: names the declaration in messages.
        space: the globals of the code that uses it, for annotations that are text: a script that a command has loaded
            is not the ``__main__`` in ``sys.modules``.

    Raises:
        WorkflowDefinitionError: it is something else, or its annotations cannot be read.
    """
    if cls is None:
        return None
    if isinstance(cls, type) and hasattr(cls, "model_validate") and hasattr(cls, "model_fields"):
        return _ModelShape(cls)
    if not isinstance(cls, type) or not (dataclasses.is_dataclass(cls) or typing.is_typeddict(cls)):
        raise WorkflowDefinitionError(
            f"{where}: inputs= must be a dataclass, a TypedDict or a pydantic model, not {cut(repr(cls), 60)}"
        )
    try:
        learn(cls, space)
        return Shape(cls, fields_of(cls))
    except (NameError, TypeError) as error:
        raise WorkflowDefinitionError(f"{where}: the fields of {cls.__name__} cannot be read: {error}") from error


def shape_taken(fn: Callable[..., Any]) -> Shape | None:
    """Read the shape from the annotation of a step's parameter ``inputs``; None if there is none."""
    try:
        fn = inspect.unwrap(fn)
        return shape_of(get_type_hints(fn).get("inputs"), "", fn.__globals__)
    except (WorkflowDefinitionError, NameError, TypeError, AttributeError):
        return None


def _revealed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Reveal the secrets for pydantic, which has its own secret types."""
    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in given.items()}


def _describe_problem(problem: Mapping[str, Any]) -> str:
    where = ".".join(map(str, problem["loc"])) or "the inputs"
    if problem["type"] == "missing":
        return f"{where} is missing"
    shown = "" if isinstance(problem["input"], Mapping) else f" is {cut(repr(problem['input']), 60)}"
    message = problem["msg"]
    return f"{where}{shown}: {message[:1].lower()}{message[1:]}"
