"""A ``%%step`` cell as a step: find what it assigns and reads, run it, and restore its result. No log, no display."""

from __future__ import annotations

import ast
import inspect
import symtable
import types
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .._dsl.constants import constant, digest_of, shorten
from .._dsl.fingerprint import Part, reach
from .._dsl.source import file_digest
from .._text.syntax import parse_python
from .._values import Redactor, fingerprint_args

__all__ = ["Cell", "read_cell"]

_VALUE = "__cerebelum_value__"
_MISSING = object()
_NAMED = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    type,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The body of a ``%%step`` cell.

    Attributes:
        name: the step's name.
        source: the body as it is executed, magics already rewritten.
        assigns: the variables that are its result, in order; empty if its last expression is the result.
        reads: the globals that it reads before it assigns them.
        shows: whether to show its last expression.
        bound: every name that its text binds.
    """

    name: str
    source: str
    assigns: tuple[str, ...]
    reads: tuple[str, ...]
    shows: bool
    bound: frozenset[str]
    body: types.CodeType
    definitions: tuple[tuple[str, types.CodeType], ...]

    async def run(self, namespace: dict[str, Any]) -> Any:
        """Run it in a namespace, like any cell; return the value of its last expression."""
        __tracebackhide__ = True
        await _evaluate(self.body, namespace)
        return namespace.pop(_VALUE, None)

    def result(self, namespace: dict[str, Any]) -> dict[str, Any]:
        """Return the variables that it has assigned, except modules."""
        values = {name: namespace[name] for name in self.assigns if name in namespace}
        return {name: value for name, value in values.items() if not isinstance(value, types.ModuleType)}

    def assigned_by_magics(
        self, before: dict[str, Any], namespace: dict[str, Any], hidden: Collection[str]
    ) -> dict[str, Any]:
        """Return the data that its magics assigned, which its text does not show: ``%time y = f()``."""
        return {
            name: value
            for name, value in namespace.items()
            if name not in self.bound
            and not name.startswith("_")
            and name not in hidden
            and not isinstance(value, _NAMED)
            and before.get(name, _MISSING) is not value
        }

    def left_by_blocks(self, namespace: dict[str, Any]) -> dict[str, Any]:
        """Return the variables that loops, ``with`` and patterns have bound, such as ``i`` after ``for i in``."""
        names = sorted(name for name in self.bound if name not in self.assigns and not name.startswith("_"))
        found = {name: namespace[name] for name in names if name in namespace}
        return {name: value for name, value in found.items() if not isinstance(value, _NAMED)}

    def digests(self, namespace: dict[str, Any]) -> dict[str, str]:
        """Digest the data that it reads, to detect changes in place."""
        read = {name: namespace[name] for name in self.reads if name in namespace and name not in self.assigns}
        return {n: fingerprint_args((v,), {}) for n, v in read.items() if not isinstance(v, _NAMED)}

    def restore(self, result: dict[str, Any], namespace: dict[str, Any]) -> None:
        """Restore the variables that it assigned, and run its imports and definitions again."""
        for kind, code in self.definitions:
            if kind == "import":
                exec(code, namespace)
        namespace.update(result)
        for kind, code in self.definitions:
            if kind == "def":
                exec(code, namespace)

    def parts(
        self, namespace: dict[str, Any], hidden: Collection[str] = (), redactor: Redactor | None = None
    ) -> list[Part]:
        """Return the parts of its code and of the variables that it reads, as they are now.

        Args:
            namespace: the namespace in which it would run.
            hidden: names to ignore, such as IPython's.
            redactor: knows secrets, whose values are ignored.
        """
        found = [Part(kind="code", name=self.name, digest=file_digest(self.source), text=self.source, line=1)]
        code: list[str] = []
        for name in self.reads:
            if name in hidden:
                continue
            value = namespace.get(name, _MISSING)
            if value is _MISSING:
                continue
            if not isinstance(value, _NAMED):
                found.append(_variable(name, value, redactor))
            if isinstance(value, _NAMED) or constant(value) is None:
                code.append(name)
        return [*found, *reach(self.body, code, namespace)]


def read_cell(name: str, source: str, compiled: Callable[[ast.AST], types.CodeType]) -> Cell:
    """Read a cell's body.

    Args:
        name: the step's name.
        source: the body, with magics already rewritten to Python.
        compiled: compiles a module under the cell's name, with top-level ``await`` allowed.

    Raises:
        SyntaxError: it is not valid Python.
    """
    tree = parse_python(source)
    shows = bool(tree.body) and isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";")
    assigns = tuple(dict.fromkeys(n for node in tree.body for n in _assigned(node) if not n.startswith("_")))
    bound = frozenset(n for node in tree.body for n in _stored(node))
    reads = _free(tree, source, bound)
    definitions = tuple(
        ("import" if isinstance(node, (ast.Import, ast.ImportFrom)) else "def", compiled(_module([node])))
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        or (isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name not in assigns)
    )
    body = list(tree.body)
    if body and isinstance(last := body[-1], ast.Expr):
        kept = ast.Assign([ast.Name(_VALUE, ast.Store())], last.value)
        body[-1] = ast.fix_missing_locations(ast.copy_location(kept, last))
    return Cell(
        name=name,
        source=source,
        assigns=assigns,
        reads=reads,
        shows=shows,
        bound=bound,
        body=compiled(_module(body)),
        definitions=definitions,
    )


def _module(body: list[ast.stmt]) -> ast.Module:
    return ast.Module(body, type_ignores=[])


async def _evaluate(code: types.CodeType, namespace: dict[str, Any]) -> None:
    __tracebackhide__ = True
    outcome = eval(code, namespace)
    if code.co_flags & inspect.CO_COROUTINE:
        await outcome


def _variable(name: str, value: Any, redactor: Redactor | None) -> Part:
    text = constant(value)
    digest = digest_of(fingerprint_args((value,), {}, redactor=redactor))
    return Part(kind="variable", name=name, digest=digest, text="" if text is None else shorten(text))


def _assigned(node: ast.AST) -> Iterator[str]:
    """Yield the variables assigned at the cell's top level, but not those that loops and ``with`` bind."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Lambda():
            return
        case ast.Assign():
            for target in node.targets:
                yield from _names(target)
        case ast.AugAssign() | ast.AnnAssign():
            yield from _names(node.target)
        case ast.NamedExpr():
            yield node.target.id
    for child in ast.iter_child_nodes(node):
        yield from _assigned(child)


def _names(target: ast.AST) -> Iterator[str]:
    match target:
        case ast.Name():
            yield target.id
        case ast.Tuple() | ast.List():
            for item in target.elts:
                yield from _names(item)
        case ast.Starred() | ast.Subscript() | ast.Attribute():  # df["total"] = ... changes df
            yield from _names(target.value)


def _free(tree: ast.Module, source: str, bound: frozenset[str]) -> tuple[str, ...]:
    """Return the globals that are read before they are certainly assigned, including those of functions."""
    table = symtable.symtable(source, "<cell>", "exec")
    inner = {name for child in table.get_children() for name in _globals_of(child, inlined=True)}
    found: dict[str, None] = dict.fromkeys(sorted(inner - bound))
    own: set[str] = set()
    for node in tree.body:
        for name in _loads(node):
            if name not in own:
                found[name] = None
        own.update(_certain(node))
    return tuple(found)


def _stored(node: ast.AST) -> Iterator[str]:
    """Yield the names that a cell binds anywhere outside functions and classes."""
    match node:
        case ast.Name(ctx=ast.Store() | ast.Del()):
            yield node.id
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
            return
        case ast.Lambda():
            return
        case ast.alias():
            yield node.asname or node.name.partition(".")[0]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            yield from _assigned(node)  # only a walrus binds a name outside it
            return
    for child in ast.iter_child_nodes(node):
        yield from _stored(child)


def _globals_of(table: symtable.SymbolTable, *, inlined: bool = False) -> Iterator[str]:
    """Yield the globals that the scopes inside a cell read; with ``inlined``, :func:`_loads` covers comprehensions.

    Since Python 3.12 a comprehension at the top level is not a separate scope.
    """
    if not (inlined and table.get_name() in ("listcomp", "setcomp", "dictcomp")):
        inlined = False
        for symbol in table.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                yield symbol.get_name()
    for child in table.get_children():
        yield from _globals_of(child, inlined=inlined)


def _loads(node: ast.AST, local: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the names that a statement reads at the cell's top level, except those that it has bound before."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            around: Iterable[ast.AST] = node.decorator_list
            if not isinstance(node, ast.ClassDef):
                around = [*around, *node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
            else:
                around = [*around, *node.bases, *node.keywords]
            for child in around:
                yield from _loads(child, local)
            return
        case ast.Lambda():
            return  # a separate scope, see _globals_of
        case ast.GeneratorExp():
            yield from _loads(node.generators[0].iter, local)
            return  # the rest is a separate scope too
        case ast.ListComp() | ast.SetComp() | ast.DictComp():
            for generator in node.generators:
                yield from _loads(generator.iter, local)
                local |= set(_names(generator.target))
                for test in generator.ifs:
                    yield from _loads(test, local)
            for made in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:
                yield from _loads(made, local)
            return
        case ast.Name(ctx=ast.Load()):
            if node.id not in local:
                yield node.id
            return
        case ast.AugAssign(target=ast.Name(id=name)):
            yield name
        case ast.AnnAssign():  # annotations do not count
            for child in (node.target, *([] if node.value is None else [node.value])):
                yield from _loads(child, local)
            return
        case ast.For() | ast.AsyncFor():
            yield from _loads(node.iter, local)
            inside = local | set(_names(node.target))
            yield from _block([*node.body, *node.orelse], inside)
            return
        case ast.With() | ast.AsyncWith():
            for item in node.items:
                yield from _loads(item.context_expr, local)
                if item.optional_vars is not None:
                    local |= set(_names(item.optional_vars))
            yield from _block(node.body, local)
            return
        case ast.If() | ast.While():
            yield from _loads(node.test, local)
            local |= set(_assigned(node.test))  # a walrus
            yield from _block(node.body, local)
            yield from _block(node.orelse, local)
            return
        case ast.Try() | ast.TryStar():
            yield from _block(node.body, local)
            for handler in node.handlers:
                if handler.type is not None:
                    yield from _loads(handler.type, local)
                yield from _block(handler.body, local | ({handler.name} if handler.name else set()))
            yield from _block([*node.orelse, *node.finalbody], local)
            return
    for child in ast.iter_child_nodes(node):
        yield from _loads(child, local)


def _block(body: list[ast.stmt], local: frozenset[str]) -> Iterator[str]:
    for node in body:
        yield from _loads(node, local)
        local |= _certain(node)


def _certain(node: ast.stmt) -> frozenset[str]:
    """Return the names that a statement binds, whichever path it takes."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return frozenset({node.name})
        case ast.Import() | ast.ImportFrom():
            return frozenset(alias.asname or alias.name.partition(".")[0] for alias in node.names)
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.Expr():
            return frozenset(_assigned(node))
        case ast.With() | ast.AsyncWith():
            bound = {n for item in node.items if item.optional_vars is not None for n in _names(item.optional_vars)}
            return frozenset(bound).union(*map(_certain, node.body))
        case ast.If():
            return _all_of(node.body) & _all_of(node.orelse)
        case ast.Try() | ast.TryStar():
            ways = [_all_of([*node.body, *node.orelse]), *(_all_of(handler.body) for handler in node.handlers)]
            return frozenset.intersection(*ways) | _all_of(node.finalbody)
    return frozenset()


def _all_of(body: list[ast.stmt]) -> frozenset[str]:
    return frozenset().union(*map(_certain, body)) if body else frozenset()
