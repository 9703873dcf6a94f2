"""A step's function compiled once more, so that it can be entered at a statement.

The *first* twin is the user's function, statement for statement, with small additions only where a wait can happen:

- a mark before a statement that waits, so that two independent witnesses know the place: the mark, and the position
  of the instruction at which the frame stands. Where they disagree, no checkpoint is made. With ``checkpoint="lines"``
  every statement is marked, and an async function awaits the mark, which is recorded before the statement runs;
- a hidden name for the iterator of a loop around a wait, for what the head of a `with` reads, and for the exception
  of a handler around a wait;
- guards that keep `finally` and `except` from running when the attempt is only left, to be entered again.

The *entry* twin of a place drops what stands before the place; inside loops it stands behind ``if not .r``, where
``.r`` is true until the place is reached. Hidden names begin with a dot, as the ``.0`` of a comprehension does, so
that no program can have them. Statements that do not wait are compiled as they are, with the positions of the file:
tracebacks, breakpoints and coverage see the user's own lines. Nothing here knows of logs or event loops.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Collection
from typing import Any

from .._dsl import source
from .._text.syntax import parse_python
from .liveness import Liveness
from .nodes import at, bound_by, given_back, is_among, is_kept, is_not_entering, member, name_of, of_cursor, stored
from .places import COMPREHENSIONS, Block, IsOperation, Place, Statements, is_text, own_nodes

__all__ = ["NoTwinError", "Twin", "code_position"]

_SEES_ALL = ("eval", "exec")
"""Builtins that may read any local by its name."""

Inside = Callable[[str, int, Block], Block]


class NoTwinError(Exception):
    """This function cannot be entered at its statements; the text says why."""


class Twin:
    """The twins of one code object.

    Args:
        fn: the function.
        is_operation: which calls may wait, in a plain function.
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
        """Whether it says of any statement that it begins."""
        return self.statements.any_marked

    def find(self, digest: str) -> Place | None:
        """Return the place before which the same statements stand; None when there is none any more."""
        return self.statements.find(digest)

    def place_at(self, code: types.CodeType, instruction: int) -> Place | None:
        """Return the innermost statement whose head holds an instruction of one of the twins; None if there is none."""
        at = self._at.get((id(code), instruction))  # to hash code takes longer than all of this
        if at is None:
            first, last, begin, end = list(code.co_positions())[instruction // 2]
            known = first is not None and last is not None and begin is not None and end is not None
            place = self.statements.at((first, begin), (last, end)) if known else None  # type: ignore[arg-type]
            at = self._at[id(code), instruction] = code, place  # with the code itself, so that its id stays its own
        return at[1]

    def live(self, place: Place) -> frozenset[str]:
        """Return the locals whose present value may be read from this place on; cells always may."""
        if self._sees_all:
            return frozenset(self.names)
        if place.number not in self._live:
            self._liveness = self._liveness or Liveness(self.code)
            self._live[place.number] = self._liveness.at(place.node) | frozenset(self.code.co_cellvars)
        return self._live[place.number]

    def needs(self, place: Place, missing: Collection[str]) -> str:
        """Name one of the missing variables that is read from this place on; "" if none is."""
        if not missing:  # most often; it is not worth an analysis of the bytecode
            return ""
        live = self.live(place)
        return min((name for name in missing if name[0] == "." or name in live), default="")

    def made(self) -> list[types.CodeType]:
        """Return the twins that were compiled so far."""
        return [*([self._first] if self._first is not None else ()), *self._entries.values()]

    def is_top(self, place: Place) -> bool:
        """Whether nothing stands before a place."""
        return place.digest == self.places[0].digest

    def names_before(self, place: Place) -> set[str]:
        """Return the names that the statements before a place read."""
        nodes = [node for node in self.statements.before(place) if isinstance(node, ast.AST)]
        return {one.id for node in nodes for one in ast.walk(node) if isinstance(one, ast.Name)}

    def bound_by(self, place: Place) -> list[str]:
        """Return the names that a `with` gives values to."""
        return bound_by(place.node)

    def head_names(self, place: Place) -> list[str]:
        """Return the hidden names of what the heads of the `with` statements around a place read."""
        found: dict[str, None] = {}
        for around in place.withs:
            self._items(around.node, lambda n, k=around.level: found.setdefault(f".h{k}.{n}") or name_of(n))  # type: ignore[misc]
        return list(found)

    def hidden(self, place: Place) -> tuple[frozenset[str], frozenset[str]]:
        """Return the hidden variables that a place needs, and those of them that are iterators of a ``range``."""
        if place.number not in self._hidden:
            names = {f".i{loop.level}" for loop in place.loops} | {f".e{one.level}" for one in place.handlers}
            ranges = {f".i{loop.level}" for loop in place.loops if _is_over_range(loop.node)}  # nobody else has these
            self._hidden[place.number] = frozenset({*names, *self.head_names(place)}), frozenset(ranges)
        return self._hidden[place.number]

    def nested(self) -> dict[tuple[str, int, int], tuple[int, types.CodeType]]:
        """Return the code of the functions defined in it, by where they stand."""
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
        """Return the function as it runs from its top."""
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
        """Whether a statement is recorded before it runs; before the first there is nothing to record."""
        first = place.number == 0 and not isinstance(place.node, ast.While)
        return self.lines and place.marked and not place.refusal and not first

    def _mark(self, place: Place) -> ast.expr:
        """A call that says that a statement begins."""
        if not self._is_recorded(place):
            return ast.Call(of_cursor("mark_impure" if place.impure else "mark"), [ast.Constant(place.number)], [])
        call = ast.Call(of_cursor("line"), [ast.Constant(place.number)], [])
        return ast.Await(call) if self.statements.is_async else call

    def _around(self, statement: ast.stmt, inside: Inside | None = None) -> Any:
        """Copy a statement around its changed blocks; one in which nothing waits is kept as it is."""
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
                iterator = ast.Call(of_cursor("iter"), [statement.iter], [])
                new.iter = at(ast.NamedExpr(stored(f".i{level}"), iterator), statement.iter)
            case ast.With() | ast.AsyncWith():
                new.items = self._items(statement, lambda n: ast.NamedExpr(stored(f".h{level}.{n}"), name_of(n)))
                bound = ast.Tuple([name_of(n) for n in bound_by(statement)], ast.Load())
                ended = (
                    [ast.Expr(ast.Call(of_cursor("mark"), [ast.Constant(-1)], []))] if place.marked else []
                )  # its head
                first = statement.body[0]
                bind = ast.Assign([stored(f".w{level}")], bound)
                new.body = [*(at(one, first) for one in (bind, *ended)), *new.body]
            case ast.Match():
                new.cases = [
                    ast.match_case(case.pattern, case.guard, inside("cases", index, case.body))
                    for index, case in enumerate(statement.cases)
                ]
            case ast.Try() | ast.TryStar():
                left = of_cursor("left")
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
        """An `except` that lets pass what ends an attempt that is only left, and keeps its exception if it waits."""
        first = handler.body[0]
        body = [at(ast.If(of_cursor("left"), [ast.Raise()], []), first), *block]
        name = handler.name
        if isinstance(statement, ast.Try) and self.statements.marks_in(handler.body):
            kept = f".e{self.statements.of(statement).level}"
            if name:
                body.insert(0, at(ast.Assign([stored(kept)], name_of(name)), first))
            else:
                name = kept
        return ast.copy_location(ast.ExceptHandler(handler.type, name, body), handler)

    def _items(self, statement: Any, read: Callable[[str], ast.expr]) -> list[ast.withitem]:
        """The head of a `with`, each local that it reads by way of ``read``: it is read again on the way in."""
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
        """Return the function as it runs from a place on."""
        if place.number not in self._entries:
            blocks = [(field, index) for _, field, index in place.path if field]
            statements = [node for node, field, _ in place.path if not field]
            body = self._enter(self.node.body, blocks[1:], statements, in_loop=False)
            begin = [at(statement, self.node) for statement in self._restored(place)]
            self._entries[place.number] = self._compile([*self._cells(), *begin, *body])
        return self._entries[place.number]

    def _restored(self, place: Place) -> Block:
        """The statements that give every variable its value: ``.v`` holds them by name."""
        values = ast.Call(of_cursor("begin"), [name_of(".k") if self.code.co_cellvars else ast.Constant(None)], [])
        made: Block = [ast.Assign([stored(".v")], values), ast.Assign([stored(".r")], ast.Constant(True))]
        for name in self.names:
            gone: Block = [ast.Delete([ast.Name(name, ast.Del())])] if name in self.parameters else []
            made.append(ast.If(is_among(".v", name), [ast.Assign([stored(name)], member(".v", name))], gone))
        hidden = [f".i{loop.level}" for loop in place.loops]
        made += [ast.Assign([stored(name)], member(".v", name)) for name in hidden]
        for name in self.head_names(place):
            get = ast.Call(ast.Attribute(name_of(".v"), "get", ast.Load()), [ast.Constant(name)], [])
            made.append(ast.Assign([stored(name)], get))
        return [*made, ast.Assign([stored(".v")], ast.Constant(None))]

    def _enter(self, block: Block, fields: list[tuple[str, int]], way: list[ast.AST], *, in_loop: bool) -> Block:
        """A block from the first statement of ``way`` on."""
        here = next(i for i, statement in enumerate(block) if statement is way[0])
        before, target, after = block[:here], block[here], block[here + 1 :]
        scoping = (ast.Global, ast.Nonlocal)
        new: Block = [statement for statement in before if isinstance(statement, scoping)]
        if not in_loop:  # what is dropped still says which names are global
            for statement in before:
                inner = [node for node in own_nodes(statement) if node is not statement and isinstance(node, scoping)]
                new += [ast.copy_location(type(node)(node.names), node) for node in inner]
        run = [statement for statement in before if not isinstance(statement, scoping)]
        if in_loop and run:
            new.append(at(ast.If(is_not_entering(), self._all(run), []), run[0]))
        if len(way) == 1:
            new.append(at(ast.Assign([stored(".r")], ast.Constant(False)), target))
            new += self._all([target])
        else:
            if in_loop and (marks := self._marks(target)):
                new.append(at(ast.If(is_not_entering(), marks, []), target))
            new.append(self._through(target, fields, way[1:], in_loop=in_loop))
        return new + self._all(after)

    def _through(self, s: Any, fields: list[tuple[str, int]], way: list[ast.AST], *, in_loop: bool) -> ast.stmt:
        """A statement on the way to the place: the first time its head does not run again."""
        field, index = fields[0]
        level = self.statements.of(s).level
        looping = in_loop or (isinstance(s, (ast.For, ast.While)) and field == "body")

        def inside(one: str, i: int, block: Block) -> Block:
            if (one, i) == (field, index):
                return self._enter(block, fields[1:], way, in_loop=looping)
            return self._all(block)

        new = self._around(s, inside)
        entering, not_entering = name_of(".r"), is_not_entering()
        match s:
            case ast.If() | ast.While():
                into = ast.BoolOp(ast.Or(), [entering, new.test])
                past = ast.BoolOp(ast.And(), [not_entering, new.test])
                new.test = at(into if field == "body" else past, s.test)
            case ast.For() if field == "body":
                rest = ast.Call(of_cursor("again"), [name_of(f".i{level}")], [])
                new.iter = at(ast.IfExp(entering, rest, new.iter), s.iter)
                new.target = at(stored(".t"), s.target)
                # The targets keep what they were given since: they are assigned from the second round on.
                assign = at(ast.Assign([s.target], name_of(".t")), s.target)
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
                again = ast.Raise(ast.Call(of_cursor("raised"), [ast.Constant(level)], []))
                new.body = [at(ast.If(entering, [at(again, s.body[0])], new.body), s.body[0])]
                self._name_again(new.handlers[index], s.handlers[index])
            case ast.With() | ast.AsyncWith():
                new.items = self._items(
                    s,
                    lambda n: ast.IfExp(
                        name_of(".r"), name_of(f".h{level}.{n}"), ast.NamedExpr(stored(f".h{level}.{n}"), name_of(n))
                    ),
                )
                # What the head bound may have been given another value since.
                back = [
                    at(ast.If(ast.BoolOp(ast.And(), [name_of(".r"), is_kept(n)]), [given_back(n)], []), s.body[0])
                    for n in dict.fromkeys(bound_by(s))
                ]
                new.body = [new.body[0], *back, *new.body[1:]]
            case ast.Try() | ast.TryStar() if field == "body":
                pass
            case _:
                raise NoTwinError(f"a {type(s).__name__} cannot be entered at its {field}")
        return new  # type: ignore[no-any-return]

    def _name_again(self, new: ast.ExceptHandler, handler: ast.ExceptHandler) -> None:
        """Give the name of an `except` the value it had: the handler may have given it another, or deleted it."""
        if not handler.name:
            return
        gone: Block = [ast.Delete([ast.Name(handler.name, ast.Del())])]
        kept = ast.If(is_kept(handler.name), [given_back(handler.name)], gone)
        # Behind the two statements with which `_handler` begins its body.
        new.body.insert(2, at(ast.If(name_of(".r"), [kept], []), handler.body[0]))

    # -- compiling ------------------------------------------------------------------------------------------

    def _cells(self) -> Block:
        """``.k = lambda: (cells)``: a function whose closure holds the frame's cells."""
        if not self.code.co_cellvars:
            return []
        reads = ast.Tuple([name_of(name) for name in self.code.co_cellvars], ast.Load())
        nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        return [at(ast.Assign([stored(".k")], ast.Lambda(nothing, reads)), self.node)]

    def _compile(self, body: Block) -> types.CodeType:
        old = self.node
        arguments = source.copy_tree(old.args)
        arguments.kwonlyargs = [*arguments.kwonlyargs, at(ast.arg(".c"), old)]
        arguments.kw_defaults = [*arguments.kw_defaults, None]
        docstring = [s for s in old.body[:1] if is_text(s)]  # may be another constant: it does nothing
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
    """Whether it is ``locals()`` or the like."""
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
    """Tell a nested code object from others, in whichever twin it was compiled."""
    columns = [position[2] for position in code.co_positions() if position[0] is not None and position[2]]
    return code.co_qualname, code.co_firstlineno, hash(tuple(columns[:40]))


def _renamed(code: types.CodeType, old: str, new: str) -> types.CodeType:
    consts = tuple(_renamed(c, old, new) if isinstance(c, types.CodeType) else c for c in code.co_consts)
    name = new + code.co_qualname[len(old) :] if code.co_qualname.startswith(old) else code.co_qualname
    return code.replace(co_consts=consts, co_qualname=name)
