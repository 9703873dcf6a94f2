# ruff: noqa: E501 - a program a line
"""Every construct around a wait is entered again with the values it had, or refused: never with wrong ones."""

from __future__ import annotations

import contextlib
import sys
import types

import pandas
import pytest

from cerebelum_nb._checkpoint.cursor import twin_of

from .harness import Waits, interrupted, is_nap, load, program, uninterrupted

RESTORED = {
    "two names of one list": "a=[1]; b=a\nawait nap()\nb.append(2)\nreturn a, a is b",
    "an instance of a class of the module": "p=Point(1)\nawait nap()\nreturn isinstance(p, Point), p",
    "a class of the step": "class K:\n    def f(self): return 7\nk=K()\nawait nap()\nreturn k.f(), isinstance(k, K)",
    "a global by another name": "s=effects\nawait nap()\ns.append(1)\nreturn s is effects",
    "a global function by another name": "h=helper\nawait nap()\nreturn h is helper",
    "a lambda over a cell that changes": "n=1\nf=lambda: n\nawait nap()\nn=5\nreturn f()",
    "a lambda with a default": "n=1\nf=lambda q=[n]: q\nawait nap()\nn=5\nf()[0]+=1\nreturn f()",
    "a function defined in an if": "if inputs:\n    def g(): return 3\nawait nap()\nreturn g()",
    "two closures over one cell": (
        "def mk():\n    v=0\n    def inc():\n        nonlocal v; v+=1; return v\n    def get(): return v\n"
        "    return inc, get\ni,g=mk()\nawait nap()\ni()\nreturn g()"
    ),
    "a generator that nobody reads again": "g=(i for i in range(3)); n=next(g)\nawait nap()\nreturn n",
    "a loop over a dict's items": "d={'a':1,'b':2}\nfor k,v in d.items():\n    await nap()\n    d[k]=v+1\nreturn d",
    "a loop over a list that grows": "q=[1]\nfor i in q:\n    await nap()\n    if i<4: q.append(i+1)\nreturn q",
    "a loop over a dict that changes": "d={'a':1,'b':2,'c':3}; o=[]\nfor k,v in d.items():\n    await nap()\n    d['b']=9; o.append(v)\nfor v in reversed(d.values()):\n    await nap()\n    d['a']=8; o.append(v)\nreturn o",
    "a loop over a dict that grows": "d={'a':1}\nfor k in d:\n    await nap()\n    d['b']=2\nreturn d",
    "a loop over a set that grows": "s={1}\nfor k in s:\n    await nap()\n    s.add(2)\nreturn s",
    "an exhausted iterator of a dict": "d={}; i=iter(d); next(i, 0)\nawait nap()\nd['a']=1\nreturn list(i)",
    "views of a dict": "import types\nd={'a':1}; k=d.keys(); v=d.values(); i=d.items(); p=types.MappingProxyType(d)\nawait nap()\nd['b']=2\nreturn k, v, i, dict(p)",
    "views of an ordered dict": "import collections\nd=collections.OrderedDict(a=1); v=d.values()\nawait nap()\nd['b']=2\nreturn list(v)",
    "an iterator of a dict in an iterator": "d={'a':1,'b':2}; i=enumerate(d.values()); next(i)\nawait nap()\nd['b']=3\nreturn list(i)",
    "a series over an array": "import numpy as np, pandas as pd\na=np.zeros(2); s=pd.Series(a, copy=False)\nawait nap()\na[0]=9\nreturn float(s[0])",
    "the dict of an object": "p=Point(3); v=vars(p)\nawait nap()\np.n=5\nreturn v['n'], vars(p) is v",
    "what belongs to a module": "import os, sys\ne=os.environ; s=sys.path\nawait nap()\nreturn e is os.environ, s is sys.path",
    "a loop over a set": "s={1,2,3}; t=[]\nfor i in s:\n    await nap()\n    t.append(i)\nreturn sorted(t)",
    "enumerate, zip, reversed, map": (
        "o=[]\nfor i,(a,b) in enumerate(zip('ab', reversed([1,2]))):\n    await nap(); o.append((i,a,b))\n"
        "for m in map(str,[1,2]):\n    await nap(); o.append(m)\nreturn o"
    ),
    "a loop variable with another value": "o=[]\nfor i in (1, 2):\n    i=i*10\n    await nap()\n    o.append(i)\nreturn o",
    "a head of with that changed": "p='a'\nwith Managed(p) as f:\n    p='b'\n    await nap()\n    return f, p",
    "an exception in a local": "try:\n    1/0\nexcept ZeroDivisionError as e:\n    k=e\nawait nap()\nreturn repr(k)",
    "a wait in an except, then raise": "try:\n    1/0\nexcept ZeroDivisionError:\n    await nap()\n    raise",
    "the cause of a kept exception": (
        "try:\n    try: {}['k']\n    except KeyError as e: raise ValueError(1) from e\n"
        "except ValueError as v:\n    await nap()\n    return repr(v.__cause__)"
    ),
    "an exception with two arguments": (
        "try:\n    raise UnicodeDecodeError('a', b'b', 0, 1, 'r')\nexcept Exception as e:\n    await nap()\n    return str(e)"
    ),
    "try and finally": "try:\n    await nap()\n    effects.append(1)\nfinally:\n    effects.append('finally')\nreturn 3",
    "a wait in try's else": "try:\n    a=1\nexcept ValueError:\n    a=2\nelse:\n    await nap()\n    a=3\nreturn a",
    "an array": "import numpy as np\na=np.zeros(4)\nawait nap()\na[0]=9\nreturn float(a.sum())",
    "a frame and its column": (
        "import pandas as pd\nd=pd.DataFrame({'a':[1,2]}); c=d['a']\nawait nap()\nd.loc[0,'a']=5\nreturn list(d['a']), list(c)"
    ),
    "a bound method": "l=[1]; f=l.append\nawait nap()\nf(2)\nreturn l",
    "a lock that nobody reads again": "import threading\nk=threading.Lock()\nawait nap()\nreturn 1",
    "a comprehension that waits": "x=5\nys=[await nap(str(x)) for x in (1,2)]\nreturn x, ys",
    "values that JSON lacks": (
        "a=float('nan'); b=float('inf'); c=10**50; d={(1,2):3}; e='\\ud800'; f={1:2}\nawait nap()\nreturn a, b, c, d, e, f"
    ),
    "exact types": "a=True; b=1.0; c=[True,1,1.0,None]\nawait nap()\nreturn a, b, c, type(b)",
    "a parameter that was deleted": "del z\nawait nap()\nreturn z",
    "a global set before": "global G\nG=5\nawait nap()\nreturn G",
    "a walrus in the condition": "if (n:=3) and await nap():\n    return n",
    "a generator of random numbers": "import random\nr=random.Random(1); r.random()\nawait nap()\nreturn r.random()",
    "a module": "import math as m\nawait nap()\nreturn m.pi",
    "a list in itself": "l=[1]; l.append(l)\nawait nap()\nreturn l[1] is l",
    "collections": "import collections as c\nd=c.defaultdict(lambda: 5); q=c.deque([1],3)\nawait nap()\nreturn d[0], q",
    "a partial of a nested function": (
        "import functools\ndef h(a,b): return a+b\np=functools.partial(h, 1)\nawait nap()\nreturn p(2)"
    ),
    "loops with else and break": (
        "for i in range(3):\n    for j in range(3):\n        await nap()\n        if j==1: break\n    else:\n"
        "        return 'no'\nelse:\n    return i, j"
    ),
    "match": (
        "match inputs:\n    case [a, *rest]:\n        await nap()\n        return a, rest\n    case _:\n        return 'other'"
    ),
    "while with a wait in its head": "n=0\nwhile await nap() and n<3:\n    n+=1\nreturn n",
    "an argument that changes what it reads": "l=[1,2]\na=await nap(str(l.pop()))\nreturn a, l",
    "a helper that changes its argument": "l=[]\nn=await helper(l)\nreturn n, l",
    "two waits in one statement": "a=(await nap('a'), await nap('b'))\nreturn a",
}

REFUSED = {
    "a generator that is read later": "g=(i for i in range(3)); next(g)\nawait nap()\nreturn next(g)",
    "a loop over a generator": "for i in (j for j in range(2)):\n    await nap()\nreturn i",
    "an open file that is read later": "f=open('/dev/null'); f.read()\nawait nap()\nreturn f.read()",
    "an open file by another name": "with open('/dev/null') as f:\n    g=f\n    await nap()\n    return g is f",
    "a file opened for writing": "with open('/dev/null','w') as f:\n    f.write('a')\n    await nap()\nreturn 1",
    "two arrays over one memory": "import numpy as np\na=np.zeros(4); v=a[1:]\nawait nap()\nv[0]=9\nreturn float(a.sum())",
    "an array of records over another": "import numpy as np\na=np.zeros(2, [('x','f8')]); r=a.view(np.recarray)\nawait nap()\na['x'][0]=9\nreturn float(r.x[0])",
    "a record of an array": "import numpy as np\na=np.zeros(2, [('x','f8')]); r=a[0]\nawait nap()\na['x'][0]=9\nreturn float(r['x'])",
    "a memoryview": "b=bytearray(b'ab'); m=memoryview(b)\nawait nap()\nm[0]=99\nreturn b",
    "a lock that is read later": "import threading\nk=threading.Lock()\nawait nap()\nreturn k.locked()",
    "what a with gave, by another name": (
        "async with Managed([1]) as t:\n    u=t\n    await nap()\n    u.append(2)\n    return t"
    ),
    "async for": "async for j in count_up(2):\n    await nap()\nreturn j",
    "a wait in a finally": "try:\n    a=1\nfinally:\n    await nap()\nreturn a",
    "an iterator beyond the end of its list": "l=[1,2]; i=iter(l); next(i), next(i); l.pop()\nawait nap()\nl.append(3)\nreturn list(i)",
    "an iterator back over a list that has become shorter": "l=[1,2,3]; i=reversed(l); l.clear()\nawait nap()\nl.append(3)\nreturn list(i)",
    "an iterator of an ordered dict": "import collections\nd=collections.OrderedDict(a=1,b=2); i=iter(d)\nawait nap()\nreturn list(i)",
    "an iterator of a dict that has grown": "d={'a':1}; i=iter(d); d['b']=2\nawait nap()\nreturn list(i)",
    "eval() that is read later": "a=1; g=(i for i in [1])\nawait nap()\nreturn eval('a')",
}
if pandas.__version__ < "3":  # there they share memory
    REFUSED["a frame and its column"] = RESTORED.pop("a frame and its column")


@pytest.mark.parametrize("lines", [False, True], ids=["waits", "lines"])
@pytest.mark.parametrize("body", RESTORED.values(), ids=RESTORED)
def test_the_variables_are_restored(body: str, lines: bool) -> None:
    source = program(body)
    whole, parts = uninterrupted(source), interrupted(source, lambda _: True, lines=lines)
    assert parts.left and not parts.fell_back
    assert parts.same_as(whole)


@pytest.mark.parametrize("refused", ["a loop over a generator", "async for", "a wait in a finally"])
def test_a_program_that_is_refused_at_a_wait_may_be_left_at_other_statements(refused: str) -> None:
    source = program(REFUSED[refused])
    at_lines = interrupted(source, lambda name: name.startswith("line"), lines=True)
    assert at_lines.same_as(uninterrupted(source))


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_it_is_refused(body: str) -> None:
    assert interrupted(program(body), lambda _: True).fell_back


def test_an_object_of_a_users_module_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = types.ModuleType("shop_settings")
    settings.SIZES = {"web": 1}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop_settings", settings)
    body = (
        "s=shop_settings.SIZES\nawait nap()\nshop_settings.SIZES['web']=inputs[0]+z\nreturn s, s is shop_settings.SIZES"
    )
    source = "import shop_settings\n" + program(body)
    parts = interrupted(source, lambda _: True)
    assert parts.left and parts.ended[1] == "({'web': 5}, True)"


@pytest.mark.parametrize("name", ["stdout", "version_info", "path"])
def test_an_object_of_sys_is_not_copied(name: str) -> None:
    source = "import sys\n" + program(f"s=sys.{name}\nawait nap()\nreturn s is sys.{name}")
    parts = interrupted(source, lambda _: True)
    assert parts.left and not parts.fell_back and parts.ended[1] == "True"


def test_a_loop_in_which_nothing_waits_does_not_continue_with_the_iterator_of_another() -> None:
    source = program("for i in [1, 2]:\n    await nap()\nfor i in [3, 4]:\n    trip()\n    effects.append(i)\nreturn i")
    fails = iter([False, True])  # in the second round
    parts = interrupted(source, lambda _: False, lambda: next(fails, False))
    assert parts.left and (parts.fell_back or parts.same_as(uninterrupted(source)))


def test_a_step_that_calls_locals_has_no_twin() -> None:
    source = program("a=1\nawait nap()\nreturn sorted(locals())")
    with contextlib.ExitStack() as files:
        fn, _ = load(source, Waits(lambda _: False), [], files)
        assert "reads all its variables" in str(twin_of(fn, is_nap))


def test_a_cell_of_the_enclosing_function_is_shared() -> None:
    source = program("nonlocal y\ny+=1\nawait nap()\ny+=1\nreturn y", before="y=1")
    assert interrupted(source, lambda _: True).same_as(uninterrupted(source))


def test_a_plain_step_is_entered_like_an_async_one() -> None:
    source = program("o=[]\nfor i in range(3):\n    a=await nap(str(i))\n    o.append((i, a))\nreturn o")
    source = source.replace("async def", "def").replace("await ", "")
    parts = interrupted(source, lambda _: True)
    assert parts.left == 3 and parts.same_as(uninterrupted(source))
