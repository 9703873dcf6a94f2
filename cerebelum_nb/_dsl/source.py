"""Find the source of a code object, and check that it is the source of this very code.

A file may have changed since its module was imported, so a source is used only if compiling it gives the same bytecode.
fingerprint.py finds what a function reaches.
"""

from __future__ import annotations
import __future__

import ast
import dis
import hashlib
import linecache
import sys
import textwrap
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from types import CodeType, MappingProxyType
from typing import Any

from .._core.record import record
from .._text.syntax import parse_python
from .constants import digest_of

__all__ = [
    "CHANGING",
    "FUTURE_FLAGS",
    "Source",
    "chains",
    "class_source",
    "copy_tree",
    "difference",
    "file_digest",
    "node_of",
    "plain_text",
    "source_of",
]

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Definition = Function | ast.ClassDef

FUTURE_FLAGS = sum({getattr(__future__, name).compiler_flag for name in __future__.all_feature_names})


@record
class Source:
    """The source of a function, lambda or class.

    ``plain`` is the part that counts: `ast.unparse` without decorators, docstring, annotations and defaults. Without a
    source, ``text`` is empty and ``plain`` is a digest of the bytecode, which is valid for one version of Python.
    ``chains`` are the globals that it reads, each with the attributes read from it; ``imports`` the modules that it
    imports, relative ones with their dots; ``changes`` the names of containers whose members it changes.
    """

    plain: str
    digest: str
    text: str
    file: str
    line: int
    chains: tuple[tuple[str, ...], ...] = ()
    imports: tuple[str, ...] = ()
    changes: frozenset[str] = frozenset()


_cache: dict[int, tuple[weakref.ref[CodeType], Source]] = {}


def source_of(code: CodeType, module_globals: dict[str, Any]) -> Source | None:
    """Find the source of a code object; None if there is none. Cached for the lifetime of the code."""
    key = id(code)
    known = _cache.get(key)
    if known is not None:
        return known[1]
    source = _find(code, module_globals)
    if source is None:
        return None  # not cached: linecache may get its source later
    # by identity: equal code objects of two files or cells have different sources
    _cache[key] = (weakref.ref(code, lambda _: _cache.pop(key, None)), source)
    return source


def _find(code: CodeType, module_globals: dict[str, Any]) -> Source | None:
    name = code.co_filename
    node = node_of(code, module_globals)
    file = _file(name, module_globals)
    if file is None:
        return None
    if node is None:
        plain = f"bytecode {_version()} {bytecode(code)}"
        return Source(
            plain=plain,
            digest=digest_of(plain),
            text="",
            file=name,
            line=code.co_firstlineno,
            chains=tuple(chains(code)),
        )
    stripped = _plain(node)
    inside = list(ast.walk(stripped))
    names = {inner.id for inner in inside if isinstance(inner, ast.Name)}
    plain = ast.unparse(stripped)
    return Source(
        plain=plain,
        digest=digest_of(plain),
        text=file.segment(node),
        file=name,
        line=node.lineno,
        chains=tuple(chain for chain in chains(code) if chain[0] in names),
        imports=tuple(_imports(inside)),
        changes=frozenset(_changes(inside)),
    )


def node_of(code: CodeType, module_globals: dict[str, Any]) -> Function | None:
    """Find the definition from which a code object was compiled, with positions in its file; None without a source."""
    for _ in range(2):
        file = _file(code.co_filename, module_globals)
        node = None if file is None else file.node(code)
        if node is not None:
            return node
        linecache.checkcache(code.co_filename)
    return None


def plain_text(node: ast.AST) -> str:
    """Write the part of a function that counts, without comments, docstrings and annotations."""
    stripped = _Strip().visit(copy_tree(node))
    return "" if stripped is None else ast.unparse(ast.fix_missing_locations(stripped))


def class_source(cls: type, files: Iterable[tuple[str, dict[str, Any]]]) -> Source | None:
    """Find the source of a class in the first of these files that defines it; its ``changes`` are attributes."""
    for name, module_globals in files:
        file = _file(name, module_globals)
        for node in () if file is None else file.index.get((cls.__name__, 0), ()):
            assert isinstance(node, ast.ClassDef) and file is not None
            stripped = _plain(node)
            assert isinstance(stripped, ast.ClassDef)
            plain = ast.unparse(stripped)
            return Source(
                plain=plain,
                digest=digest_of(plain),
                text=file.segment(node),
                file=name,
                line=node.lineno,
                changes=frozenset(_changed_attributes(stripped)),
            )
    return None


# -- finding the definition ---------------------------------------------------------------------------


class _File:
    """One version of a file's text, read, parsed and compiled once for all of its functions."""

    def __init__(self, name: str, lines: list[str]) -> None:
        self.name, self.lines = name, lines
        self._compiled: dict[tuple[int, bool], dict[tuple[str, int], list[CodeType]]] = {}

    @cached_property
    def text(self) -> str:
        return "".join(self.lines)

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree; empty if the text is not Python."""
        try:
            return parse_python(self.text)
        except (SyntaxError, ValueError, RecursionError):
            return ast.Module([], [])

    @cached_property
    def index(self) -> dict[tuple[str, int], list[Definition]]:
        """Every function by name and first line, which may be a decorator's; every class by name and 0."""
        index: dict[tuple[str, int], list[Definition]] = {}
        for node in ast.walk(self.tree):
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                    index.setdefault((node.name, line), []).append(node)
                case ast.Lambda():
                    index.setdefault(("<lambda>", node.lineno), []).append(node)
                case ast.ClassDef():
                    index.setdefault((node.name, 0), []).insert(0, node)
        return index

    def compiled(self, flags: int, *, apart: bool) -> dict[tuple[str, int], list[CodeType]]:
        """Return the code objects to which this text compiles, by name and first line.

        A kernel compiles the statements of a cell ``apart``. That makes a difference if a function calls into a module
        that the same cell imports: CPython compiles ``module.call()`` in another way if it sees the import.
        """
        found = self._compiled.get((flags, apart))
        if found is not None:
            return found
        found = self._compiled[flags, apart] = {}
        allowed = flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        units = [ast.Module([node], []) for node in self.tree.body] if apart else [self.tree]
        try:
            todo = [compile(unit, self.name, "exec", allowed, dont_inherit=True) for unit in units]
        except (SyntaxError, ValueError, RecursionError):
            return found
        while todo:
            code = todo.pop()
            found.setdefault((code.co_name, code.co_firstlineno), []).append(code)
            todo += [const for const in code.co_consts if isinstance(const, CodeType)]
        return found

    def node(self, code: CodeType) -> Function | None:
        """Return the definition of a code object; None if this text has other code there."""
        key = (code.co_name, code.co_firstlineno)
        nodes = self.index.get(key, [])
        if not nodes:
            return None
        runs, flags = bytecode(code), code.co_flags & FUTURE_FLAGS
        written = (one for apart in (False, True) for one in self.compiled(flags, apart=apart).get(key, ()))
        if all(bytecode(one) != runs for one in written):
            return None
        if len(nodes) > 1:
            nodes = [node for node in nodes if isinstance(node, ast.Lambda) and _holds(node.body, code)]
            # of nested lambdas, the innermost one that contains all the code
            nodes.sort(key=lambda node: len(ast.dump(node)))
        node = nodes[0] if nodes else None
        return node if isinstance(node, Function) else None

    def segment(self, node: Any) -> str:
        """Return the text of a definition, as written."""
        if isinstance(node, ast.Lambda):
            return ast.get_source_segment(self.text, node) or ""
        return textwrap.dedent("".join(self.lines[node.lineno - 1 : node.end_lineno]))


_files: dict[str, _File] = {}
_MOST_FILES = 128


def _file(name: str, module_globals: dict[str, Any]) -> _File | None:
    """Read a file as `linecache` has it now; None without a text."""
    lines = linecache.getlines(name, module_globals)
    if not lines:
        return None
    known = _files.get(name)
    if known is None or (known.lines is not lines and known.lines != lines):
        while len(_files) >= _MOST_FILES:
            _files.pop(next(iter(_files)))
        known = _files[name] = _File(name, lines)
    return known


def _holds(body: ast.expr, code: CodeType) -> bool:
    start, stop = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
    spots = [spot for spot in list(code.co_positions())[1:] if None not in spot and spot[2:] != (0, 0)]
    return bool(spots) and all(start <= (s[0], s[2]) and (s[1], s[3]) <= stop for s in spots)


def bytecode(code: CodeType) -> str:
    """Digest a code object without its line numbers."""
    digest = hashlib.sha256()

    def feed(value: object) -> None:
        if isinstance(value, CodeType):
            feed((value.co_code, value.co_names, value.co_varnames, value.co_freevars, value.co_argcount))
            feed((value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags, value.co_consts))
            feed(value.co_exceptiontable)
        elif isinstance(value, tuple):
            digest.update(b"(%d" % len(value))
            for item in value:
                feed(item)
        elif isinstance(value, frozenset):
            digest.update(repr(sorted(map(repr, value))).encode("utf-8", "surrogatepass"))
        else:
            digest.update(f"{type(value).__name__} {value!r};".encode("utf-8", "surrogatepass"))

    feed(code)
    return digest.hexdigest()[:16]


# -- the part that counts -----------------------------------------------------------------------------


class _Strip(ast.NodeTransformer):
    """Drop docstrings and annotations; a class keeps the annotations of its body, which are its fields."""

    def __init__(self) -> None:
        self.in_class = False

    def _body(self, node: Any, in_class: bool) -> Any:
        outer, self.in_class = self.in_class, in_class
        self.generic_visit(node)
        self.in_class = outer
        if hasattr(node, "type_params"):
            node.type_params = []
        if isinstance(node.body, list):
            first = node.body[0] if node.body else None
            text = first.value if isinstance(first, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                node.body = node.body[1:]
            node.body = node.body or [ast.Pass(lineno=getattr(node, "lineno", 1), col_offset=0)]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self._body(node, False)  # type: ignore[no-any-return]

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self._body(node, False)  # type: ignore[no-any-return]

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._body(node, True)  # type: ignore[no-any-return]

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._body(node, True)  # type: ignore[no-any-return]

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """Write an f-string as a call: its quotes differ between Python 3.11 and 3.12."""
        self.generic_visit(node)
        parts: list[ast.expr] = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                spec = part.format_spec or ast.Constant(value=None)
                items = [part.value, ast.Constant(value=part.conversion), spec]
                parts.append(ast.Tuple(elts=items, ctx=ast.Load()))
            elif parts and isinstance(parts[-1], ast.Constant) and isinstance(part, ast.Constant):
                parts[-1] = ast.Constant(value=f"{parts[-1].value!s}{part.value!s}")
            elif not isinstance(part, ast.Constant) or part.value:
                parts.append(part)
        call = ast.Call(func=ast.Name(id="f-string", ctx=ast.Load()), args=parts, keywords=[])
        return ast.copy_location(call, node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        if self.in_class:
            return node
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)


def _plain(node: ast.AST) -> ast.AST:
    """Copy the part of a definition that counts; defaults are left out, as fingerprint.py adds their values."""
    node = _Strip().visit(copy_tree(node))
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        node.decorator_list = []
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        hidden = ast.Constant(value=..., lineno=node.lineno, col_offset=node.col_offset)
        node.args.defaults = [hidden for _ in node.args.defaults]
        node.args.kw_defaults = [default and hidden for default in node.args.kw_defaults]
    return ast.fix_missing_locations(node)


def copy_tree(node: Any) -> Any:
    """Copy a syntax tree; `copy.deepcopy` takes ten times as long."""
    if isinstance(node, list):
        return [copy_tree(item) for item in node]
    if not isinstance(node, ast.AST):
        return node
    made = type(node)(**{name: copy_tree(value) for name, value in ast.iter_fields(node)})
    for name in node._attributes:
        if hasattr(node, name):
            setattr(made, name, getattr(node, name))
    return made


def chains(code: CodeType) -> list[tuple[str, ...]]:
    """Return the globals that a code object and those inside it read, with the attributes read from them."""
    found: dict[tuple[str, ...], None] = {}
    chain: tuple[str, ...] = ()
    for instruction in dis.get_instructions(code):
        if instruction.opname.startswith(("LOAD_ATTR", "LOAD_METHOD")) and chain:
            chain = (*chain, str(instruction.argval))
            continue
        if chain:
            found[chain] = None
        reads = instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
        chain = (str(instruction.argval),) if reads else ()
    for const in code.co_consts:
        if isinstance(const, CodeType):
            found.update(dict.fromkeys(chains(const)))
    return list(found)


CHANGING = {
    name
    for changes, keeps in ((list, tuple), (set, frozenset), (dict, MappingProxyType), (deque, tuple))
    for name in vars(changes).keys() - vars(keeps).keys() - {"copy", "fromkeys", "__copy__", "maxlen"}
} | {"subtract", "move_to_end"}
"""Methods that change lists, dicts, sets and similar types."""


def _changes(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the names that are changed in place, through a method or a member, or rebound.

    A name of which an attribute is set is followed by a dot.
    """
    for inner in nodes:
        match inner:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if method in CHANGING:
                yield name
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                yield name
            case ast.Attribute(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                yield f"{name}."
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                yield from names


def _changed_attributes(cls: ast.ClassDef) -> Iterator[str]:
    """Yield the attributes that the methods of a class change after ``__init__``: its state, not its settings."""
    for method in cls.body:
        if not isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef)) or method.name in _MAKING:
            continue
        arguments = [*method.args.posonlyargs, *method.args.args]
        me = arguments[0].arg if arguments else ""
        for inner in ast.walk(method):
            match inner:
                case ast.Attribute(value=ast.Name(id=name), attr=attribute, ctx=ast.Store() | ast.Del()) if name == me:
                    yield attribute
                case ast.Subscript(
                    value=ast.Attribute(value=ast.Name(id=name), attr=attribute), ctx=ast.Store() | ast.Del()
                ) if name == me:
                    yield attribute
                case ast.Call(
                    func=ast.Attribute(value=ast.Attribute(value=ast.Name(id=name), attr=attribute), attr=change)
                ) if name == me and change in CHANGING:
                    yield attribute


_MAKING = {"__init__", "__new__", "__post_init__", "__attrs_post_init__", "__setstate__", "model_post_init"}


def _imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for inner in nodes:
        if isinstance(inner, ast.Import):
            yield from (alias.name for alias in inner.names)
        elif isinstance(inner, ast.ImportFrom):
            module = "." * inner.level + (inner.module or "")
            yield module
            between = "" if module.endswith(".") else "."
            yield from (f"{module}{between}{alias.name}" for alias in inner.names)


@lru_cache(maxsize=128)
def file_digest(text: str) -> str:
    """Digest the part of a whole file that counts."""
    try:
        return digest_of(ast.unparse(_Strip().visit(parse_python(text))))
    except (SyntaxError, ValueError, RecursionError):
        return digest_of(text)


def difference(old: str, new: str) -> int | None:
    """Find the first line of ``new``, counted from 1, whose meaning differs from ``old``."""
    try:
        trees = [_plain(_parsed(text)) for text in (old, new)]
    except (SyntaxError, ValueError):
        return None
    return _differs(trees[0], trees[1], 1)


def _parsed(text: str) -> ast.AST:
    try:
        tree = parse_python(text)
        return tree.body[0] if len(tree.body) == 1 else tree  # a cell holds several statements
    except SyntaxError:
        return parse_python(f"({text})").body[0]  # a lambda over several lines


def _differs(old: object, new: object, line: int) -> int | None:
    line = getattr(new, "lineno", line)
    if type(old) is not type(new):
        return line
    if isinstance(new, list):
        assert isinstance(old, list)
        for one, other in zip(old, new, strict=False):
            found = _differs(one, other, line)
            if found is not None:
                return found
        if len(old) == len(new):
            return None
        at = min(len(old), len(new) - 1)
        return getattr(new[at], "lineno", line) if new else line
    if isinstance(new, ast.AST):
        for name, value in ast.iter_fields(new):
            found = _differs(getattr(old, name, None), value, line)
            if found is not None:
                return found
        return None
    return None if old == new else line


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
