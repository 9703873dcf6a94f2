"""A step's function compiled again, so that it can be entered at a statement.

The *first* twin is the user's function, statement for statement, with small additions where it can wait:

- a mark before a statement that waits. The mark and the frame's current instruction tell the place independently; where
  they disagree, no checkpoint is made. With ``checkpoint="lines"`` every statement is marked, and the mark is recorded
  before the statement runs (an async function awaits it);
- hidden variables for the iterator of a loop around a wait, for what the head of a `with` reads, and for the exception
  of a handler around a wait;
- guards that keep `finally` and `except` from running when the attempt is left and will be entered again.

The *entry* twin of a place omits the code before the place. Inside a loop that code is under ``if not .r``, where
``.r`` is true until the place is reached. Hidden names begin with a dot, as the ``.0`` of a comprehension does, so no
program can use them. Statements that do not wait are compiled unchanged, with their positions in the file: tracebacks,
breakpoints and coverage see the user's own lines. Nothing here knows about logs or event loops.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Collection
from typing import Any

from .._dsl import source
from .._text.syntax import parse_python
from .liveness import Liveness
from .nodes import (
    assign_kept,
    at,
    bound_by,
    cursor_attribute,
    has_item,
    is_kept,
    is_not_entering,
    load,
    read_item,
    store,
)
from .places import COMPREHENSIONS, Block, IsOperation, Place, Statements, is_text, own_nodes

__all__ = ["NoTwinError", "Twin", "code_position"]

_SEES_ALL = ("eval", "exec")
"""Builtins that may read any local variable by name."""

Inside = Callable[[str, int, Block], Block]


class NoTwinError(Exception):
    """Raised if a function cannot be entered at its statements; the text says why."""


class Twin:
    """The twins of one code object.

    Args:
        fn: the function.
        is_operation: tells which calls of a plain function may wait.
        lines: whether every statement is recorded before it runs.
    """

    def __init__(self, fn: types.FunctionType, is_operation: IsOperation, *, lines: bool = False) -> None:
        code = self.code = fn.__code__
        node = source.node_of(code, fn.__globals__)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            raise NoTwinError("its source cannot be found")
        if any(map(_reads_all, ast.walk(node))):
            raise NoTwinError("it reads all its variables at once, where those of a twin would be among them")
        self.node, self.lines = node, lines
        self.statements = Statements(node, is_operation, every=lines)
        self.places = self.statements.places
        self.names = [name for name in (*code.co_varnames, *code.co_cellvars) if not name.startswith(".")]
        count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
        self.parameters = code.co_varnames[:count]
        self._sees_all = any(isinstance(n, ast.Name) and n.id in _SEES_ALL for n in ast.walk(node))
        self._first: types.CodeType | None = None
        self._entries: dict[int, types.CodeType] = {}
        self._at: dict[tuple[int, int], tuple[types.CodeType, Place | None]] = {}
        self._liveness: Liveness | None = None
        self._live: dict[int, frozenset[str]] = {}
        self._hidden: dict[int, tuple[frozenset[str], frozenset[str]]] = {}
        self._nested: dict[tuple[str, int, int], tuple[int, types.CodeType]] | None = None

    @property
    def is_marked(self) -> bool:
        """Whether the twin reports the beginning of any statement."""
        return self.statements.any_marked

    def find(self, digest: str) -> Place | None:
        """Return the place with this digest; None if the function no longer has it."""
        return self.statements.find(digest)

    def place_at(self, code: types.CodeType, instruction: int) -> Place | None:
        """Return the innermost statement whose head contains an instruction of a twin; None if there is none."""
        at = self._at.get((id(code), instruction))  # by id: hashing a code object takes longer than the whole search
        if at is None:
            first, last, begin, end = list(code.co_positions())[instruction // 2]
            known = first is not None and last is not None and begin is not None and end is not None
            place = self.statements.at((first, begin), (last, end)) if known else None  # type: ignore[arg-type]
            at = self._at[id(code), instruction] = code, place  # with the code, so that its id is not reused
        return at[1]

    def live(self, place: Place) -> frozenset[str]:
        """Return the locals whose present value may be read from this place on, among them all cells."""
        if self._sees_all:
            return frozenset(self.names)
        if place.number not in self._live:
            self._liveness = self._liveness or Liveness(self.code)
            self._live[place.number] = self._liveness.at(place.node) | frozenset(self.code.co_cellvars)
        return self._live[place.number]

    def needs(self, place: Place, missing: Collection[str]) -> str:
        """Return the name of a missing variable that may be read from this place on; "" if there is none."""
        if not missing:  # the usual case; it saves the analysis of the bytecode
            return ""
        live = self.live(place)
        return min((name for name in missing if name[0] == "." or name in live), default="")

    def made(self) -> list[types.CodeType]:
        """Return the twins that were compiled so far."""
        return [*([self._first] if self._first is not None else ()), *self._entries.values()]

    def is_top(self, place: Place) -> bool:
        """Whether there is no code before a place."""
        return place.digest == self.places[0].digest

    def names_before(self, place: Place) -> set[str]:
        """Return the names that the statements before a place read."""
        nodes = [node for node in self.statements.before(place) if isinstance(node, ast.AST)]
        return {one.id for node in nodes for one in ast.walk(node) if isinstance(one, ast.Name)}

    def bound_by(self, place: Place) -> list[str]:
        """Return the names that a `with` binds."""
        return bound_by(place.node)

    def head_names(self, place: Place) -> list[str]:
        """Return the hidden names for the variables that the `with` heads around a place read."""
        found: dict[str, None] = {}
        for around in place.withs:
            self._items(around.node, lambda n, k=around.level: found.setdefault(f".h{k}.{n}") or load(n))  # type: ignore[misc]
        return list(found)

    def hidden(self, place: Place) -> tuple[frozenset[str], frozenset[str]]:
        """Return the hidden variables that a place needs, and those of them that are iterators of a ``range``."""
        if place.number not in self._hidden:
            names = {f".i{loop.level}" for loop in place.loops} | {f".e{one.level}" for one in place.handlers}
            ranges = {f".i{loop.level}" for loop in place.loops if _is_over_range(loop.node)}  # no other code sees them
            self._hidden[place.number] = frozenset({*names, *self.head_names(place)}), frozenset(ranges)
        return self._hidden[place.number]

    def nested(self) -> dict[tuple[str, int, int], tuple[int, types.CodeType]]:
        """Return the code of the nested functions by their position."""
        if self._nested is None:
            self._nested = {}
            todo = [self.first()]
            while todo:
                for const in todo.pop(0).co_consts:
                    if isinstance(const, types.CodeType):
                        self._nested.setdefault(code_position(const), (len(self._nested), const))
                        todo.append(const)
        return self._nested

    # -- the first twin -------------------------------------------------------------------------------------

    def first(self) -> types.CodeType:
        """Return the code of the function from its top."""
        if self._first is None:
            self._first = self._compile([*self._cells(), *self._all(self.node.body)])
        return self._first

    def _all(self, block: Block) -> Block:
        return [new for statement in block for new in (*self._marks(statement), self._around(statement))]

    def _marks(self, statement: ast.stmt) -> Block:
        place = self.statements.of(statement)
        if isinstance(statement, ast.While) or not (place.waits or self._is_recorded(place)):
            return []
        return [at(ast.Expr(self._mark(place)), statement)]

    def _is_recorded(self, place: Place) -> bool:
        """Whether a statement is recorded before it runs; before the first statement there is nothing to record."""
        first = place.number == 0 and not isinstance(place.node, ast.While)
        return self.lines and place.marked and not place.refusal and not first

    def _mark(self, place: Place) -> ast.expr:
        """Make the call that reports the beginning of a statement."""
        if not self._is_recorded(place):
            return ast.Call(
                cursor_attribute("mark_impure" if place.impure else "mark"), [ast.Constant(place.number)], []
            )
        call = ast.Call(cursor_attribute("line"), [ast.Constant(place.number)], [])
        return ast.Await(call) if self.statements.is_async else call

    def _around(self, statement: ast.stmt, inside: Inside | None = None) -> Any:
        """Copy a statement with its blocks changed; return the statement itself if nothing in it waits."""
        place = self.statements.of(statement)
        level = place.level
        if inside is None:
            if not self.statements.holds[id(statement)] and not (isinstance(statement, ast.While) and place.marked):
                return statement
            inside = lambda field, index, block: self._all(block)  # noqa: E731
        new: Any = ast.copy_location(type(statement)(**dict(ast.iter_fields(statement))), statement)
        for field in ("body", "orelse", "finalbody"):
            if getattr(statement, field, None):
                setattr(new, field, inside(field, 0, getattr(statement, field)))
        match statement:
            case ast.While() if place.waits or self._is_recorded(place):
                new.test = at(ast.BoolOp(ast.Or(), [self._mark(place), statement.test]), statement.test)
            case ast.For():
                iterator = ast.Call(cursor_attribute("iter"), [statement.iter], [])
                new.iter = at(ast.NamedExpr(store(f".i{level}"), iterator), statement.iter)
            case ast.With() | ast.AsyncWith():
                new.items = self._items(statement, lambda n: ast.NamedExpr(store(f".h{level}.{n}"), load(n)))
                bound = ast.Tuple([load(n) for n in bound_by(statement)], ast.Load())
                head_has_ended = ast.Expr(ast.Call(cursor_attribute("mark"), [ast.Constant(-1)], []))
                first = statement.body[0]
                bind = ast.Assign([store(f".w{level}")], bound)
                begin = [bind, head_has_ended] if place.marked else [bind]
                new.body = [*(at(statement, first) for statement in begin), *new.body]
            case ast.Match():
                new.cases = [
                    ast.match_case(case.pattern, case.guard, inside("cases", index, case.body))
                    for index, case in enumerate(statement.cases)
                ]
            case ast.Try() | ast.TryStar():
                left = cursor_attribute("left")
                if statement.finalbody:
                    unless_left = ast.If(ast.UnaryOp(ast.Not(), left), new.finalbody, [])
                    new.finalbody = [at(unless_left, statement.finalbody[0])]
                new.handlers = [
                    self._handler(statement, index, handler, inside("handlers", index, handler.body))
                    for index, handler in enumerate(statement.handlers)
                ]
        return new

    def _handler(
        self, statement: ast.Try | ast.TryStar, index: int, handler: ast.ExceptHandler, block: Block
    ) -> ast.ExceptHandler:
        """Make an `except` that raises again when the attempt is left, and keeps its exception if its body waits."""
        first = handler.body[0]
        body = [at(ast.If(cursor_attribute("left"), [ast.Raise()], []), first), *block]
        name = handler.name
        if isinstance(statement, ast.Try) and self.statements.marks_in(handler.body):
            kept = f".e{self.statements.of(statement).level}"
            if name:
                body.insert(0, at(ast.Assign([store(kept)], load(name)), first))
            else:
                name = kept
        return ast.copy_location(ast.ExceptHandler(handler.type, name, body), handler)

    def _items(self, statement: Any, read: Callable[[str], ast.expr]) -> list[ast.withitem]:
        """Copy the head of a `with`, reading each local with ``read``: the head runs again when it is entered."""
        names, bound = set(self.names), set(bound_by(statement))

        class Reads(ast.NodeTransformer):
            def visit_Name(self, node: ast.Name) -> ast.expr:
                if isinstance(node.ctx, ast.Load) and node.id in names:
                    return at(read(node.id), node)  # type: ignore[no-any-return]
                return node

            def visit(self, node: ast.AST) -> Any:
                return node if isinstance(node, (ast.Lambda, *COMPREHENSIONS)) else super().visit(node)

        made = []
        for item in statement.items:
            made.append(ast.withitem(Reads().visit(source.copy_tree(item.context_expr)), item.optional_vars))
            names -= bound  # a later item may read what an earlier one bound
        return made

    # -- the entry twin of a place --------------------------------------------------------------------------

    def entry(self, place: Place) -> types.CodeType:
        """Return the code of the function from a place on."""
        if place.number not in self._entries:
            blocks = [(field, index) for _, field, index in place.path if field]
            statements = [node for node, field, _ in place.path if not field]
            body = self._enter(self.node.body, blocks[1:], statements, in_loop=False)
            begin = [at(statement, self.node) for statement in self._restored(place)]
            self._entries[place.number] = self._compile([*self._cells(), *begin, *body])
        return self._entries[place.number]

    def _restored(self, place: Place) -> Block:
        """Make the statements that restore every variable; ``.v`` holds the values by name."""
        values = ast.Call(cursor_attribute("begin"), [load(".k") if self.code.co_cellvars else ast.Constant(None)], [])
        made: Block = [ast.Assign([store(".v")], values), ast.Assign([store(".r")], ast.Constant(True))]
        for name in self.names:
            gone: Block = [ast.Delete([ast.Name(name, ast.Del())])] if name in self.parameters else []
            made.append(ast.If(has_item(".v", name), [ast.Assign([store(name)], read_item(".v", name))], gone))
        hidden = [f".i{loop.level}" for loop in place.loops]
        made += [ast.Assign([store(name)], read_item(".v", name)) for name in hidden]
        for name in self.head_names(place):
            get = ast.Call(ast.Attribute(load(".v"), "get", ast.Load()), [ast.Constant(name)], [])
            made.append(ast.Assign([store(name)], get))
        return [*made, ast.Assign([store(".v")], ast.Constant(None))]

    def _enter(self, block: Block, fields: list[tuple[str, int]], way: list[ast.AST], *, in_loop: bool) -> Block:
        """Make a block that begins at the first statement of ``way``."""
        here = next(i for i, statement in enumerate(block) if statement is way[0])
        before, target, after = block[:here], block[here], block[here + 1 :]
        scoping = (ast.Global, ast.Nonlocal)
        new: Block = [statement for statement in before if isinstance(statement, scoping)]
        if not in_loop:  # omitted code still declares which names are global
            for statement in before:
                inner = [node for node in own_nodes(statement) if node is not statement and isinstance(node, scoping)]
                new += [ast.copy_location(type(node)(node.names), node) for node in inner]
        run = [statement for statement in before if not isinstance(statement, scoping)]
        if in_loop and run:
            new.append(at(ast.If(is_not_entering(), self._all(run), []), run[0]))
        if len(way) == 1:
            new.append(at(ast.Assign([store(".r")], ast.Constant(False)), target))
            new += self._all([target])
        else:
            if in_loop and (marks := self._marks(target)):
                new.append(at(ast.If(is_not_entering(), marks, []), target))
            new.append(self._through(target, fields, way[1:], in_loop=in_loop))
        return new + self._all(after)

    def _through(self, s: Any, fields: list[tuple[str, int]], way: list[ast.AST], *, in_loop: bool) -> ast.stmt:
        """Change a statement around the place so that its head does not run the first time."""
        field, index = fields[0]
        level = self.statements.of(s).level
        looping = in_loop or (isinstance(s, (ast.For, ast.While)) and field == "body")

        def inside(one: str, i: int, block: Block) -> Block:
            if (one, i) == (field, index):
                return self._enter(block, fields[1:], way, in_loop=looping)
            return self._all(block)

        new = self._around(s, inside)
        entering, not_entering = load(".r"), is_not_entering()
        match s:
            case ast.If() | ast.While():
                into = ast.BoolOp(ast.Or(), [entering, new.test])
                past = ast.BoolOp(ast.And(), [not_entering, new.test])
                new.test = at(into if field == "body" else past, s.test)
            case ast.For() if field == "body":
                rest = ast.Call(cursor_attribute("again"), [load(f".i{level}")], [])
                new.iter = at(ast.IfExp(entering, rest, new.iter), s.iter)
                new.target = at(store(".t"), s.target)
                # The body may have changed the targets, so they are assigned from the second round on.
                assign = at(ast.Assign([s.target], load(".t")), s.target)
                new.body = [at(ast.If(not_entering, [assign], []), s.target), *new.body]
            case ast.For():
                new.iter = at(ast.IfExp(entering, ast.Tuple([], ast.Load()), new.iter), s.iter)
            case ast.Match():
                case, any_subject = s.cases[index], at(ast.MatchAs(None, None), s.subject)
                first = ast.match_case(any_subject, at(entering, s.subject), new.cases[index].body)
                new.cases[index] = ast.match_case(case.pattern, case.guard, self._all(case.body))
                new.cases.insert(0, first)
                new.subject = at(ast.IfExp(entering, ast.Constant(None), s.subject), s.subject)
            case ast.Try() | ast.TryStar() if field == "orelse":
                new.body = [at(ast.If(not_entering, new.body, []), s.body[0])]
            case ast.Try() if field == "handlers":
                again = ast.Raise(ast.Call(cursor_attribute("raised"), [ast.Constant(level)], []))
                new.body = [at(ast.If(entering, [at(again, s.body[0])], new.body), s.body[0])]
                self._name_again(new.handlers[index], s.handlers[index])
            case ast.With() | ast.AsyncWith():
                new.items = self._items(
                    s,
                    lambda n: ast.IfExp(
                        load(".r"), load(f".h{level}.{n}"), ast.NamedExpr(store(f".h{level}.{n}"), load(n))
                    ),
                )
                # The body may have given these names another value.
                back = [
                    at(ast.If(ast.BoolOp(ast.And(), [load(".r"), is_kept(n)]), [assign_kept(n)], []), s.body[0])
                    for n in dict.fromkeys(bound_by(s))
                ]
                new.body = [new.body[0], *back, *new.body[1:]]
            case ast.Try() | ast.TryStar() if field == "body":
                pass
            case _:
                raise NoTwinError(f"a {type(s).__name__} cannot be entered at its {field}")
        return new  # type: ignore[no-any-return]

    def _name_again(self, new: ast.ExceptHandler, handler: ast.ExceptHandler) -> None:
        """Restore the name of an `except`: the handler may have given it another value, or deleted it."""
        if not handler.name:
            return
        gone: Block = [ast.Delete([ast.Name(handler.name, ast.Del())])]
        kept = ast.If(is_kept(handler.name), [assign_kept(handler.name)], gone)
        # After the two statements with which `_handler` begins the body.
        new.body.insert(2, at(ast.If(load(".r"), [kept], []), handler.body[0]))

    # -- compiling ------------------------------------------------------------------------------------------

    def _cells(self) -> Block:
        """Make ``.k = lambda: (cells)``, a function whose closure holds the frame's cells."""
        if not self.code.co_cellvars:
            return []
        reads = ast.Tuple([load(name) for name in self.code.co_cellvars], ast.Load())
        nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        return [at(ast.Assign([store(".k")], ast.Lambda(nothing, reads)), self.node)]

    def _compile(self, body: Block) -> types.CodeType:
        old = self.node
        arguments = source.copy_tree(old.args)
        arguments.kwonlyargs = [*arguments.kwonlyargs, at(ast.arg(".c"), old)]
        arguments.kw_defaults = [*arguments.kw_defaults, None]
        docstring = [s for s in old.body[:1] if is_text(s)]  # or another constant, which does nothing
        body = docstring + [s for s in body if not any(s is text for text in docstring)]
        fields: dict[str, Any] = {"name": old.name, "args": arguments, "decorator_list": []}
        if hasattr(old, "type_params"):
            fields["type_params"] = old.type_params
        inner = ast.copy_location(type(old)(body=body or [at(ast.Pass(), old)], **fields), old)
        outer = parse_python(f"def _({', '.join(self.code.co_freevars)}): pass").body[0]
        assert isinstance(outer, ast.FunctionDef)
        outer.body = [inner]
        module = ast.fix_missing_locations(ast.Module([outer], []))
        flags = self.code.co_flags & source.FUTURE_FLAGS
        compiled = compile(module, self.code.co_filename, "exec", flags, dont_inherit=True)
        around = next(const for const in compiled.co_consts if isinstance(const, types.CodeType))
        inners = [const for const in around.co_consts if isinstance(const, types.CodeType)]
        made = next(const for const in inners if const.co_name == old.name)
        return _renamed(made, made.co_qualname, self.code.co_qualname)


def _reads_all(node: ast.AST) -> bool:
    """Whether this is ``locals()`` or the like."""
    match node:
        case ast.Call(func=ast.Name(id="locals" | "vars" | "dir"), args=[], keywords=[]):
            return True
    return False


def _is_over_range(loop: ast.stmt) -> bool:
    match loop:
        case ast.For(iter=ast.Call(func=ast.Name(id="range"))):
            return True
    return False


def code_position(code: types.CodeType) -> tuple[str, int, int]:
    """Return what identifies a nested code object in every twin that contains it."""
    columns = [position[2] for position in code.co_positions() if position[0] is not None and position[2]]
    return code.co_qualname, code.co_firstlineno, hash(tuple(columns[:40]))


def _renamed(code: types.CodeType, old: str, new: str) -> types.CodeType:
    consts = tuple(_renamed(c, old, new) if isinstance(c, types.CodeType) else c for c in code.co_consts)
    name = new + code.co_qualname[len(old) :] if code.co_qualname.startswith(old) else code.co_qualname
    return code.replace(co_consts=consts, co_qualname=name)
