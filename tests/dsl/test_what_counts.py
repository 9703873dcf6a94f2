"""What a step reads counts by content if it can be digested, and the same code counts the same wherever it runs."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import threading
import types
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from fractions import Fraction
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebelum_nb._dsl.fingerprint import fingerprint, unseen
from tests.dsl.test_fingerprint import load, of

Limits = namedtuple("Limits", "low high")
READS = "def f():\n    return C"


def digest(value, text=READS):
    return of(text, C=value).digest


# -- by content ---------------------------------------------------------------------------------------------

VALUES = {
    "a pattern": lambda n: re.compile("a+" * 150 + str(n)),
    "the flags of a pattern": lambda n: re.compile("a", re.IGNORECASE if n else 0),
    "a numpy number": lambda n: np.float64(n),
    "a numpy text": lambda n: np.str_(n),
    "the type of a numpy number": lambda n: (np.int32, np.int64)[n](1),
    "a small array": lambda n: np.array([1, n]),
    "a large array": lambda n: np.arange(20_000) + n,
    "the shape of an array": lambda n: np.zeros((2, 3) if n else (3, 2)),
    "an array of objects": lambda n: np.array(["a", n], dtype=object),
    "a frame": lambda n: pd.DataFrame({"a": [1, n], "b": ["x", "y"]}),
    "the label of a column": lambda n: pd.DataFrame({f"a{n}": [1]}),
    "the index of a frame": lambda n: pd.DataFrame({"a": [1]}, index=[n]),
    "a series": lambda n: pd.Series([1, n], name="s"),
    "an index": lambda n: pd.Index([1, n]),
    "a timestamp": lambda n: pd.Timestamp(2026, 1, 1 + n),
    "a period": lambda n: pd.Period(f"2026-0{n + 1}"),
    "a named tuple": lambda n: Limits(1, n),
    "a Counter": lambda n: Counter(a=1 + n),
    "a defaultdict": lambda n: defaultdict(int, a=n),
    "the default of a defaultdict": lambda n: defaultdict((int, str)[n]),
    "an OrderedDict": lambda n: OrderedDict(a=n),
    "a deque": lambda n: deque([1, n]),
    "a bytearray": lambda n: bytearray([n]),
    "a mapping that cannot be changed": lambda n: types.MappingProxyType({"a": n}),
    "a namespace": lambda n: types.SimpleNamespace(a=n),
    "a time zone": lambda n: ZoneInfo(("Europe/Madrid", "UTC")[n]),
    "an exception": lambda n: ValueError(n),
    "a fraction inside a tuple": lambda n: (Limits(Fraction(n, 3), [n]),),
}


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
def test_a_value_counts_by_its_content(make):
    assert digest(make(0)) == digest(make(0))
    assert digest(make(0)) != digest(make(1))
    assert not unseen(of(READS, C=make(0)).parts)


@given(st.lists(st.integers(-5, 5), max_size=4), st.lists(st.integers(-5, 5), max_size=4))
def test_arrays_count_by_content(one, other):
    assert (digest(np.array(one, dtype=int)) == digest(np.array(other, dtype=int))) == (one == other)


OWN = """
{decorator}
class Client:
    def __init__(self, limit):
        self.limit, self.calls, self.rows = limit, 0, []
    def get(self):
        self.calls += 1
        self.rows.append(1)
        return self.limit

class Holder:
    __slots__ = ("client",)
    def __init__(self, client):
        self.client = client

client = Client({limit})
holder = Holder(client)
table = {{"client": client}}

def f():
    return {reads}
"""


@pytest.mark.parametrize("reads", ["client.get()", "holder.client.get()", "table['client'].get()"])
def test_an_object_of_a_user_class_counts_by_its_settings_not_by_what_its_methods_change(reads):
    one, same, other = (load(OWN.format(decorator="", limit=limit, reads=reads)) for limit in (1, 1, 2))
    assert fingerprint(one.f).digest == fingerprint(same.f).digest != fingerprint(other.f).digest
    before = fingerprint(one.f).digest
    one.client.get()
    assert fingerprint(one.f).digest == before
    assert not unseen(fingerprint(one.f).parts)


def test_an_object_counts_by_all_that_its_attributes_reach():
    text = (
        "class Box:\n    pass\nbox = Box()\nbox.inner = Box()\nbox.inner.n = {}\nbox.me = box\ndef f():\n    return box"
    )
    assert of(text.format(1)).digest == of(text.format(1)).digest != of(text.format(2)).digest


STATE = {
    "a Counter": ("from collections import Counter\nC = Counter()", "C['a'] += 1"),
    "an array": ("import numpy as np\nC = np.zeros(3)", "C[0] = 1"),
    "a deque": ("from collections import deque\nC = deque()", "C.appendleft(1)"),
    "a number": ("C = 0", "C += 1"),
    "an attribute": ("class Box:\n    n = 0\nC = Box()", "C.n = 1"),
    "a list that a helper changes": ("C = []\ndef note():\n    C.append(1)", "note()\n    len(C)"),
}


@pytest.mark.parametrize(("made", "change"), STATE.values(), ids=STATE)
def test_what_a_step_itself_changes_does_not_make_it_stale(made, change):
    declared = "    global C\n" if change == "C += 1" else ""
    cell = load(f"{made}\ndef f():\n{declared}    {change}\n    return C")
    before = fingerprint(cell.f).digest
    cell.f()
    assert fingerprint(cell.f).digest == before


def test_a_local_variable_of_a_helper_is_not_the_global_of_that_name():
    text = "ROWS = [{}]\ndef note():\n    ROWS = []\n    ROWS.append(1)\ndef f():\n    note()\n    return ROWS"
    assert of(text.format(1)).digest != of(text.format(2)).digest


# -- what is uncertain --------------------------------------------------------------------------------------


class Connection:
    """An object as of an installed package, whose content cannot be read."""


Connection.__module__ = "sqlite3"


def test_a_live_object_is_uncertain():
    found = of(READS, C=Connection())
    assert unseen(found.parts) == ["cannot tell whether C changed: only the type of <sqlite3.Connection> counts"]


def test_a_table_that_is_too_large_to_digest_is_uncertain_too():
    assert unseen(of(READS, C=np.zeros(1_000_000)).parts)


@pytest.mark.parametrize("value", [json, json.dumps, threading.Lock(), __import__("logging").getLogger("x"), len, int])
def test_code_loggers_and_locks_are_not_uncertain(value):
    assert not unseen(of(READS, C=value).parts)


# -- wherever it runs ---------------------------------------------------------------------------------------

HELPERS = {
    "open": "def f():\n    with open('x') as file:\n        return file.read()",
    "exit": "def f():\n    exit(1)",
    "display": "def f():\n    display(1)",
    "contextmanager": "@contextmanager\ndef helper():\n    yield {n}\n"
    "def f():\n    with helper() as x:\n        return x",
    "cache": "@functools.cache\ndef helper(x):\n    return x + {n}\ndef f():\n    return helper(1)",
    "lru_cache": "@functools.lru_cache(8)\ndef helper(x):\n    return x + {n}\ndef f():\n    return helper(1)",
    "singledispatch": "@functools.singledispatch\ndef helper(x):\n    return 0\n"
    "@helper.register(int)\ndef of_int(x):\n    return {n}\ndef f():\n    return helper(1)",
    "partial": "def helper(x, y):\n    return x + y\nadd = functools.partial(helper, {n})\ndef f():\n    return add(1)",
    "dataclass": "@dataclass\nclass Config:\n    size: int = {n}\n    def area(self):\n        return self.size\n"
    "def f():\n    return Config().area()",
    "an object": "class Box:\n    def __init__(self, n):\n        self.n = n\n"
    "box = Box({n})\ndef f():\n    return box.n",
    "a base class": "class Base:\n    def get(self):\n        return {n}\n"
    "class Sub(Base):\n    pass\n"
    "def f():\n    return Sub().get()",
    "an alias of a class": "class Base:\n    n = {n}\nOther = Base\ndef f():\n    return Other.n",
    "an enum": "class Color(Enum):\n    RED = {n}\ndef f():\n    return Color.RED.value",
    "a named tuple": "Pair = namedtuple('Pair', 'a b')\nC = Pair(1, {n})\ndef f():\n    return C",
    "wraps": "def deco(g):\n    @functools.wraps(g)\n    def inner():\n        return g()\n    return inner\n"
    "@deco\ndef helper():\n    return {n}\ndef f():\n    return helper()",
    "a pattern": "P = re.compile('a' * {n})\ndef f():\n    return P.findall('aa')",
    "a method": "class Box:\n    def get(self):\n        return {n}\nget = Box().get\ndef f():\n    return get()",
}
IMPORTS = (
    "import functools, json, re\nfrom collections import namedtuple\nfrom contextlib import contextmanager\n"
    "from dataclasses import dataclass\nfrom enum import Enum\nfrom cerebelum_nb._dsl.fingerprint import fingerprint\n"
)


def program(n):
    """A program with all helpers, each under its own names, which prints what each counts as."""
    text = IMPORTS
    for number, body in enumerate(HELPERS.values()):
        names = re.findall(r"^(?:def|class) (\w+)|^(\w+) =", body, re.MULTILINE)
        for name in {one or other for one, other in names}:
            body = re.sub(rf"\b{name}\b(?!')", f"{name}{number}", body)
        text += body.replace("{n}", str(n)) + "\n\n"
    functions = ", ".join(f"f{number}" for number in range(len(HELPERS)))
    return text + f"DIGESTS = [fingerprint(one).digest for one in ({functions},)]\n"


SHELL = """
import json
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell(Path("flow.py").read_text(), store_history=True).raise_error()
print(json.dumps(shell.user_ns["DIGESTS"]))
"""
WAYS = {
    "script": [sys.executable, "script.py"],
    "module": [sys.executable, "-c", "import json, flow; print(json.dumps(flow.DIGESTS))"],
    "kernel": [sys.executable, "shell.py"],
}


@pytest.fixture(scope="module")
def digests(tmp_path_factory):
    """Return what each helper counts as: in a script, a module and a kernel, and after a change."""
    found = {}
    for n in (1, 2):
        folder = tmp_path_factory.mktemp(f"n{n}")
        (folder / "flow.py").write_text(program(n))
        (folder / "script.py").write_text(program(n) + "print(json.dumps(DIGESTS))\n")
        (folder / "shell.py").write_text(SHELL)
        for way, command in WAYS.items() if n == 1 else [("module", WAYS["module"])]:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
            found[way, n] = dict(zip(HELPERS, json.loads(done.stdout.splitlines()[-1]), strict=True))
    return found


@pytest.mark.process
@pytest.mark.parametrize("helper", HELPERS)
def test_the_same_code_counts_the_same_in_a_script_a_module_and_a_kernel(digests, helper):
    assert digests["script", 1][helper] == digests["module", 1][helper] == digests["kernel", 1][helper]


@pytest.mark.process
@pytest.mark.parametrize("helper", [name for name, body in HELPERS.items() if "{n}" in body])
def test_a_change_inside_a_decorated_helper_is_seen(digests, helper):
    assert digests["module", 1][helper] != digests["module", 2][helper]


# -- reloading ----------------------------------------------------------------------------------------------

FLOW = """
from cerebelum_nb import step, workflow

@step
def one():
    return {n}

@step(name="two")
def other(one):
    return [one, {n}]

@workflow
def flow(wf):
    wf.timeline({path})
"""


def test_a_reloaded_module_gives_its_new_steps_to_modules_that_imported_the_old_ones(tmp_path, monkeypatch):
    from cerebelum_nb import workflow
    from cerebelum_nb.testing import MemoryStore

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = tmp_path / "reloaded_flow.py"
    file.write_text(FLOW.format(n=1, path="one >> other"))
    module = importlib.import_module("reloaded_flow")
    one, other, flow = module.one, module.other, module.flow
    mine = workflow(name="mine")(lambda wf: wf.timeline(one >> [other]))
    assert mine.run(store=MemoryStore()).output == [1, 1]
    file.write_text(FLOW.format(n=22, path="one"))
    importlib.reload(module)
    assert mine.run(store=MemoryStore()).output == [22, 22]
    assert flow.run(store=MemoryStore()).output == 22


# -- costs --------------------------------------------------------------------------------------------------


def test_the_cost_per_helper_does_not_grow_with_the_number_of_helpers():
    def calls(count):
        text = "\n".join(f"def h{n}(x):\n    return x + {n}" for n in range(count))
        cell = load(f"{text}\ndef f():\n    return [{', '.join(f'h{n}' for n in range(count))}]")
        made = 0

        def see(frame, event, argument):
            nonlocal made
            made += 1

        sys.setprofile(see)
        try:
            fingerprint(cell.f)
        finally:
            sys.setprofile(None)
        return made / count

    calls(5)
    assert calls(400) < 1.3 * calls(50)
