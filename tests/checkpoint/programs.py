"""Random steps: every kind of statement, around and beside waits, with aliases, closures and exceptions."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["write_program"]

_NAMES, _LISTS = ("a", "b", "c"), ("l", "m")

_HEAD = """\
def make():
    async def step(inputs, z=2):
        global G
        a = 1; b = 'x'; c = 3; l = inputs; m = [5, l]; d = {}; p = Point(1); it = iter(l); k = 0; n = 0; i = 0
        def inc(x=1):
            nonlocal n
            n += x
            return n
        lam = lambda w: w
"""
_FOOT = """\
        return (a, b, c, l, m, repr(d), repr(p), k, n, i, inc(), lam(2), l is m[-1] if m else 0, list(it))
    return step
"""
_WAITS = (
    "await nap({w})",
    "{v} = await nap({w})",
    "{v} = len(await nap({w})) + {e}",
    "d['x'] = await nap({w})",
    "a, b = await nap({w}), 7",
    "c = [await nap({w}) for a in range(2)]",
    "await nap(str(l.pop() if l else 0))",
    "a = await helper({l})",
    "b = await nap({w}) if {q} else await nap({w})",
    "m.append(await nap({w}))",
    "effects.append(await nap({w}))",
    "c = (await nap({w})) and (await nap({w}))",
    "p.n = len(await nap({w}))",
    "a = [b, *[await nap({w})]]",
    "(c := await nap({w}))",
    'a = f"{{await nap({w})}}!"',
)
_SIMPLE = (
    "{v} = {e}",
    "effects.append(({i}, repr({e})))",
    "effects.append(({i}, repr((a, l))))",
    "l.append({e}) if len(l) < 8 else None",
    "m.append({e}) if len(m) < 8 else None",
    "{l} = {l}",
    "a, *b = {l} or [0]",
    "del c",
    "d['y'] = l",
    "d['i'] = len(d)",
    "p.n += 1",
    "q = p",
    "m = [l, l] if len(repr(l)) < 99 else []",
    "G += 1",
    "inc(2)",
    "lam = lambda w, u=a: (w, u, n)",
    "it = iter(m)",
    "a = next(it, 'end')",
    "raise ValueError(a)",
    "return (a, b, l)",
    "l += [1] if len(l) < 8 else []",
    "p = Point(len(l))",
    "l[0:1] = [[{v}]] if len(repr({v})) < 99 else []",
    "d = {{'x': l}}",
    "b = (l, m) if len(repr((l, m))) < 99 else 0",
    "import math as mm",
    "fz = frozenset((1, 2))",
    "e2 = ValueError('x')",
    "cyc = [1]; cyc.append(cyc)",
    "bm = l.append",
)
_EXPRESSIONS = (
    *("{v}", "4", "({v} + 1)", "len({l})", "(k := {v})", "[q for q in {l}]", "inc()", "p.n"),
    *("d.get('x', 0)", "lam(1)", "sum(1 for q in {l})", "z", "k"),
)
_CONDITIONS = ("len({l}) % 2", "str({v}) > 'b'", "True", "p.n > 3", "{v} == {v}")
_ITERABLES = (
    *("range(3)", "l[:3]", "reversed(m[:2])", "'xy'", "l if len(l) < 4 else []", "iter([1, 2])"),
    *(
        "(y for y in (1, 2))",
        "map(str, (1, 2))",
        "filter(None, [1, 0, 2])",
        "[[1], [2]]",
        "[await nap({w})]",
        "{{3, 1}}",
        "d",
        "reversed(d.values())",
    ),
)
_PAIRS = ("enumerate(m[:2])", "list(d.items())[:2]", "zip('ab', l)", "d.items()", "{{'a': 1, 'b': 2}}.items()")


_PURE = tuple(one for one in _EXPRESSIONS if one != "inc()")
"""What may stand before a call that raises in one statement: what that did stays done, and would be done twice."""

_TRIPS = (
    "trip()",
    "{v} = trip()",
    "{v} = [{p}, trip()]",
    "effects.append((trip(), {v}))",
    "d['z'] = {e}; d['w'] = trip()",
    "if trip() and {q}: {v} = {e}",
    "{l} = [trip() for q in {l}]",
    "k += trip()",
    "p.n = trip()",
    "inc(trip())",
    "m = m if trip() else l",
)


def write_program(chance: random.Random, *, trips: bool = False) -> str:
    """Write a step's source: ``make()`` returns the step; ``trips`` adds statements that may raise ``Tripped``."""
    writer = _Writer(chance, trips)
    body = [line for depth in (3, 2, 2) for line in writer.block(depth, 2, in_loop=False)]
    return _HEAD + "\n".join(body) + "\n" + _FOOT


class _Writer:
    def __init__(self, chance: random.Random, trips: bool) -> None:
        self.chance, self.trips, self.made = chance, trips, 0

    def block(self, depth: int, indent: int, *, in_loop: bool) -> list[str]:
        count = self.chance.randrange(1, 5)
        return [line for _ in range(count) for line in self._statement(depth, indent, in_loop=in_loop)]

    def _fill(self, template: str) -> str:
        while "{" in template.replace("{{", "").replace("}}", ""):
            self.made += 1
            template = template.replace("{{", "\1").replace("}}", "\2")
            for mark, choose in self._marks.items():
                while mark in template:
                    template = template.replace(mark, choose(), 1)
            template = template.replace("\1", "{{").replace("\2", "}}")
        return template.replace("{{", "{").replace("}}", "}")

    @property
    def _marks(self) -> dict[str, Callable[[], str]]:
        pick = self.chance.choice
        return {
            "{e}": lambda: pick(_EXPRESSIONS),
            "{p}": lambda: pick(_PURE),
            "{q}": lambda: pick(_CONDITIONS),
            "{w}": lambda: f"'{pick('stuv')}'",
            "{v}": lambda: pick(_NAMES),
            "{l}": lambda: pick(_LISTS),
            "{i}": lambda: str(self.made),
        }

    def _statement(self, depth: int, indent: int, *, in_loop: bool) -> list[str]:
        kind, pad = self.chance.random(), "    " * indent
        if self.trips and self.chance.random() < 0.2:
            return [pad + self._fill(self.chance.choice(_TRIPS))]
        if kind < 0.27:
            return [pad + self._fill(self.chance.choice(_WAITS))]
        if kind < 0.6 or depth == 0:
            simple = (*_SIMPLE, "break", "continue", "continue") if in_loop else _SIMPLE
            return [pad + self._fill(self.chance.choice(simple))]

        def inside(deeper: int = 1, *, loop: bool = in_loop) -> list[str]:
            return self.block(depth - 1, indent + deeper, in_loop=loop)

        def head(template: str, deeper: int = 0) -> str:
            return "    " * (indent + deeper) + self._fill(template)

        self.made += 1
        name = f"w{self.made}"
        match self.chance.randrange(17):
            case 0 | 1:
                return [head("if {q}:"), *inside()]
            case 2:
                return [head("if await nap({w}):"), *inside(), head("elif {q}:"), *inside(), head("else:"), *inside()]
            case 3 | 4 | 5:
                pair = self.chance.random() < 0.3
                target = self.chance.choice(("a, b", "i", "(i, a)") if pair else ("a", "i", "b", "d['i']", "p.n"))
                loop = [
                    head(f"for {target} in {self.chance.choice(_PAIRS if pair else _ITERABLES)}:"),
                    *inside(loop=True),
                ]
                return loop if self.chance.random() < 0.6 else [*loop, head("else:"), *inside()]
            case 6:
                test = self.chance.choice((f"{name} < 2", f"await nap({{w}}) and {name} < 2"))
                loop = [head(f"{name} = 0"), head(f"while {test}:"), head(f"{name} += 1", 1), *inside(loop=True)]
                return loop if self.chance.random() < 0.6 else [*loop, head("else:"), *inside()]
            case 7 | 8 | 9:
                caught = self.chance.choice(("ValueError", "Exception", "(ValueError, TypeError)", "BaseException"))
                named = self.chance.choice(("", " as e"))
                made = [head("try:"), *inside(), head(f"except {caught}{named}:"), *inside()]
                if self.chance.random() < 0.4:
                    made += [head("else:"), *inside()]
                if self.chance.random() < 0.4:
                    made += [head("finally:"), head("effects.append(('finally', {i}))", 1)]
                return made
            case 10:
                last = self.chance.choice(("raise", "effects.append(repr(e))", "raise ValueError(1) from e"))
                begin = [head("try:"), head("raise KeyError('k')", 1), head("except KeyError as e:")]
                return [*begin, *inside(), head(last, 1)]
            case 11:
                begin = [head("for t in range(2):"), head("try:", 1), *inside(2, loop=True)]
                return [*begin, head("finally:", 1), head("effects.append(('finally', {i}))", 2)]
            case 12:
                how = (
                    "Managed(l) as y",
                    "Managed(3)",
                    "Managed(1) as a, Managed(2)",
                    "contextlib.suppress(ValueError)",
                )
                return [head(f"with {self.chance.choice(how)}:"), *inside()]
            case 13:
                how = ("Managed(1) as y", "Managed(await nap({w})) as a")
                return [head(f"async with {self.chance.choice(how)}:"), *inside()]
            case 14:
                return [head("async for j in count_up(2):"), *inside(loop=True)]
            case 15:
                subject = self.chance.choice(("a", "l", "(a, b)", "d"))
                cases = ("case int() as h if h > 1:", "case [f, *g]:", "case {{'x': h}}:", "case _:")
                made = [head(f"match {subject}:")]
                for case in cases:
                    made += [head(case, 1), *inside(2)]
                return made
            case _:
                return [head("def inc(x=1, y=a):"), head("nonlocal n", 1), head("n += x", 1), head("return n", 1)]
