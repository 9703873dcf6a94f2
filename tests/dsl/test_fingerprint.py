"""A fingerprint changes with whatever changes the result of a step, and with nothing else."""

import ast
import functools
import importlib
import itertools
import linecache
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebelum_nb._dsl.fingerprint import Fingerprint, explain, fingerprint
from cerebelum_nb._dsl.source import source_of
from cerebelum_nb._dsl.step import step

_numbers = itertools.count()


def load(text: str, name: str = "cell", **given_globals: Any) -> types.SimpleNamespace:
    """Run a text as a cell: its source is known to linecache only."""
    file = f"<cell {next(_numbers)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {"__name__": f"user_{name}", **given_globals}
    exec(compile(text, file, "exec"), namespace)
    return types.SimpleNamespace(**namespace)


def of(text: str, **given_globals: Any) -> Fingerprint:
    found = fingerprint(load(text, **given_globals).f)
    assert found is not None
    return found


def reasons(old: str, new: str) -> list[str]:
    return explain(of(old).parts, of(new).parts)


BODY = """
LIMIT = 5

def clean(x):
    return x * 2

def make(rate):
    def f(x, n=3, *, k='k'):
        y = clean(x) + LIMIT
        return y * rate + n, k
    return f

f = make(1.5)
"""

NO_CHANGES = {
    "a comment": ("    return x * 2", "    return x * 2  # twice\n    # done"),
    "an empty line": ("    return x * 2", "\n    return x * 2"),
    "spaces and parentheses": ("y * rate + n, k", "((y*rate)   +n , k)"),
    "quotes": ("'k'", '"k"'),
    "the spelling of a number": ("LIMIT = 5\n", "LIMIT = 0x5\n"),
    "a docstring": ("        y = clean", "        'Compute.'\n        y = clean"),
    "the docstring of a helper": ("    return x * 2", "    'Twice.'\n    return x * 2"),
    "an annotation": ("def f(x, n=3", "def f(x: float, n: int = 3"),
    "the annotation of a result": ("def clean(x)", "def clean(x: int) -> int"),
    "the annotation of a variable": ("        y = clean", "        y: float = clean"),
    "a function it does not call": ("LIMIT = 5\n", "LIMIT = 5\ndef other(): return 1\n"),
    "how a default is written": ("n=3", "n=1 + 2"),
}
CHANGES = {
    "its own code": ("clean(x) + LIMIT", "clean(x) - LIMIT"),
    "a constant": ("LIMIT = 5\n", "LIMIT = 6\n"),
    "the type of a constant": ("LIMIT = 5\n", "LIMIT = 5.0\n"),
    "a helper": ("x * 2", "x * 3"),
    "what a helper reads": ("x * 2", "x * TWO\nTWO = 2"),
    "a default": ("n=3", "n=4"),
    "a keyword default": ("k='k'", "k='j'"),
    "a closure": ("make(1.5)", "make(2.5)"),
    "that a default is there": ("n=3", "n"),
}


@pytest.mark.parametrize(("old", "new"), NO_CHANGES.values(), ids=NO_CHANGES)
def test_it_stays_the_same_if_nothing_that_runs_changes(old: str, new: str) -> None:
    assert old in BODY
    assert of(BODY).digest == of(BODY.replace(old, new)).digest


@pytest.mark.parametrize(("old", "new"), CHANGES.values(), ids=CHANGES)
def test_it_changes_with_what_runs(old: str, new: str) -> None:
    assert old in BODY
    assert of(BODY).digest != of(BODY.replace(old, new)).digest


@given(st.sets(st.sampled_from(sorted(NO_CHANGES))), st.sets(st.sampled_from(sorted(CHANGES))))
def test_any_mix_of_edits_changes_it_exactly_when_one_of_them_counts(idle: set[str], real: set[str]) -> None:
    text = BODY
    for name in sorted(real):
        text = text.replace(*CHANGES[name])
    for name in sorted(idle):
        text = text.replace(*NO_CHANGES[name])
    assert (of(BODY).digest != of(text).digest) == bool(real)


data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("text", ["def f(): return C", "def f(c=C): return c", "f = (lambda c: lambda: c)(C)"])
@given(one=data, other=data)
def test_data_counts_by_value(text: str, one: Any, other: Any) -> None:
    assert (of(text, C=one).digest == of(text, C=other).digest) == (repr(one) == repr(other))


def test_sets_count_by_their_members() -> None:
    text = "def f(): return C"
    assert of(text, C={"a", "b"}).digest == of(text, C={"b", "a"}).digest != of(text, C={"a"}).digest


@pytest.mark.process
def test_it_is_equal_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "user_cell.py").write_text(BODY)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import user_cell; from cerebelum_nb._dsl.fingerprint import fingerprint as f\n"
        "print(f(user_cell.f).digest)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == of(BODY).digest


def test_an_f_string_does_not_depend_on_how_this_python_quotes() -> None:
    f = load("def f(a): return f'{a!r:>{a}}' f\"{a['k']}\"").f
    source = source_of(f.__code__, f.__globals__)
    assert source is not None
    assert source.plain.splitlines()[1] == (
        "    return f-string((a, 114, f-string('>', (a, -1, None))), (a['k'], -1, None))"
    )


# -- what it reaches ----------------------------------------------------------------------------------


def test_helpers_of_helpers_count() -> None:
    text = "def a(): return 1\ndef b(): return a()\ndef f(): return b()"
    assert of(text).digest != of(text.replace("return 1", "return 2")).digest


def test_a_recursive_helper_ends() -> None:
    text = "def even(n): return odd(n - 1)\ndef odd(n): return even(n - 1)\ndef f(): return even(1) or f()"
    assert [part.name for part in of(text).parts] == ["f", "even", "odd"]


@pytest.mark.parametrize(
    "text",
    [
        "def a(): return 1\nT = {'a': a}\ndef f(): return T['a']()",
        "def a(): return 1\nT = [len, a]\ndef f(): return T[1]()",
        "import functools\ndef a(n): return 1\np = functools.partial(a, 2)\ndef f(): return p()",
        "import functools\n@functools.lru_cache\ndef a(): return 1\ndef f(): return a()",
        "class M:\n    def a(self): return 1\nm = M()\ndef f(): return m.a()",
        "class M:\n    @property\n    def a(self): return 1\ndef f(): return M().a",
        "class B:\n    def a(self): return 1\nclass M(B): pass\ndef f(): return M().a()",
        "class M:\n    a = 1\n\n\ndef f(): return M.a",
        "def a(): return 1\nclass M:\n    def m(self): return a()\ndef f(): return M().m()",
        "def a(): return 1\nf = lambda: a()",
        "def a(): return 1\ndef f(): return [a() for _ in 'x']",
        "def a(): return 1\ndef f(g=a): return g()",
        "def a(g):\n    def w(): return g() + 1\n    return w\n@a\ndef b(): return 2\ndef f(): return b()",
        "import enum\nclass E(enum.Enum):\n    A = 1\ndef f(): return E.A.value",
        "import dataclasses\n@dataclasses.dataclass\nclass D:\n    a: int = 1\nd = D()\ndef f(): return d",
        "class W:\n    def __init__(self, fn): self.fn = fn\n@W\ndef a(): return 1\ndef f(): return a.fn()",
    ],
)
def test_an_edit_of_what_is_reached_counts(text: str) -> None:
    edited = text.replace("return 1", "return 9").replace("= 1", "= 9").replace("+ 1", "+ 9")
    assert edited != text
    assert of(text).digest != of(edited).digest


def test_a_name_bound_to_another_helper_counts() -> None:
    text = "def a(): return 1\ndef b(): return 2\npick = a\ndef f(): return a(), b(), pick()"
    assert of(text).digest != of(text.replace("pick = a", "pick = b")).digest


def test_another_installed_function_under_the_same_name_counts() -> None:
    assert (
        of("from json import dumps as g\ndef f(): g()").digest != of("from json import loads as g\ndef f(): g()").digest
    )


def test_a_live_object_counts_by_its_class_only() -> None:
    text = "import threading\nlock = threading.Lock()\ndef f(): return lock"
    assert of(text).digest == of(text).digest


def test_the_code_of_another_step_does_not_count() -> None:
    def another(text: str) -> str:
        return of("def f(): return other.name", other=step(load(text).other)).digest

    assert another("def other(): return 1") == another("def other(): return 2")


def test_a_decorator_of_the_step_itself_is_not_its_code() -> None:
    text = "def f(): return 1"
    assert of(text).digest == fingerprint(step(load(text).f)).digest  # type: ignore[union-attr]


def test_a_variable_in_the_closure_is_read_again() -> None:
    made = load(
        "def make():\n    n = 1\n    def f(): return n\n"
        "    def assign(v):\n        nonlocal n\n        n = v\n    return f, assign"
    )
    f, assign = made.make()
    before = fingerprint(f)
    assign(2)
    assert fingerprint(f) != before


@pytest.mark.parametrize(
    ("made", "body"),
    [
        ("LOG = []", "LOG.append(1)"),
        ("LOG = {}", "LOG['n'] = LOG.get('n', 0) + 1"),
        ("LOG = {'n': 0}", "LOG['n'] += 1"),
        ("LOG = set()", "LOG.add(len(LOG))"),
    ],
)
def test_a_container_that_it_changes_itself_is_not_a_constant(made: str, body: str) -> None:
    cell = load(f"{made}\ndef f():\n    {body}\n    return len(LOG)\n")
    before = fingerprint(cell.f)
    cell.f()
    assert fingerprint(cell.f) == before


def test_a_container_in_a_closure_is_treated_the_same() -> None:
    cell = load("def made():\n    seen = []\n    def f():\n        seen.append(1)\n    return f\nf = made()\n")
    before = fingerprint(cell.f)
    cell.f()
    assert fingerprint(cell.f) == before


def test_a_container_that_it_only_reads_counts_by_value() -> None:
    cell = load("LOG = []\ndef f():\n    return [*LOG, LOG.count(1), LOG[:]]\n")
    before = fingerprint(cell.f)
    cell.LOG.append(1)
    assert fingerprint(cell.f) != before


def test_a_constant_is_read_again() -> None:
    f = load("N = 1\ndef f(): return N").f
    before = fingerprint(f)
    f.__globals__["N"] = 2
    assert fingerprint(f) != before


def test_a_redefined_helper_is_read_again() -> None:
    f = load("def a(): return 1\ndef f(): return a()").f
    before = fingerprint(f)
    f.__globals__["a"] = load("def a(): return 2").a
    assert fingerprint(f) != before


def test_an_empty_closure_cell_is_allowed() -> None:
    made = load("def make():\n    def f(): return later\n    yield f\n    later = 1")
    assert fingerprint(next(made.make())) is not None


def test_a_bound_method_of_a_package_counts_by_name() -> None:
    text = "import random\nroll = random.Random().choice\ndef f(): return roll"
    assert reasons(text, text.replace(".choice", ".shuffle")) == [
        "constant roll was <random.Random.choice>, is <random.Random.shuffle>"
    ]


# -- kinds of callables -------------------------------------------------------------------------------


def test_lambdas_on_one_line_are_distinguished() -> None:
    made = load("a, b, f = (lambda x: x + 1), (lambda x: x + 2), lambda: lambda x: x + 1")
    texts = [fingerprint(one).parts[0].text for one in (made.a, made.b, made.f, made.f())]  # type: ignore[union-attr]
    assert texts == ["lambda x: x + 1", "lambda x: x + 2", "lambda: lambda x: x + 1", "lambda x: x + 1"]


def test_a_method_counts_with_its_class() -> None:
    text = "class M:\n    n = 1\n    def a(self): return self.n\n\n\nf = M().a"
    assert of(text).digest != of(text.replace("n = 1", "n = 2")).digest


def test_a_callable_object_counts_by_its_call() -> None:
    text = "class M:\n    def __call__(self): return 1\nf = M()"
    assert of(text).digest != of(text.replace("return 1", "return 2")).digest


def test_the_arguments_of_a_partial_count() -> None:
    text = "import functools\ndef g(n): return n\nf = functools.partial(g, n=1)"
    assert reasons(text, text.replace("n=1", "n=2")) == ["default of `n` was 1, is 2"]


def test_a_wrapper_made_by_a_package_is_unwrapped() -> None:
    cached = functools.lru_cache(load("def f(): return 1").f)
    assert fingerprint(cached) == fingerprint(cached.__wrapped__)


@pytest.mark.parametrize("fn", [len, print, functools.partial(len), int], ids=repr)
def test_a_function_without_source_has_no_fingerprint(fn: Callable[..., Any]) -> None:
    assert fingerprint(fn) is None


def test_code_without_a_file_has_no_fingerprint() -> None:
    namespace: dict[str, Any] = {}
    exec(compile("def f(): pass", "<nowhere>", "exec"), namespace)  # Python 3.13 has a text for "<string>" in xdist
    assert fingerprint(namespace["f"]) is None


# -- modules ------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], types.ModuleType]]:
    """Write and import modules of a user's project."""
    monkeypatch.syspath_prepend(str(tmp_path))
    written: list[str] = []

    def write(name: str, text: str) -> types.ModuleType:
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        sys.modules.pop(name, None)
        linecache.checkcache()
        written.append(name)
        return importlib.import_module(name)

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield write
    for name in written:
        sys.modules.pop(name, None)


Project = Callable[[str, str], types.ModuleType]


@pytest.mark.parametrize(
    "text",
    [
        "import uh\ndef f(): return uh.g()",
        "from uh import g\ndef f(): return g()",
        "def f():\n    import uh\n    return uh.g()",
    ],
)
def test_a_helper_in_another_file_counts(project: Project, text: str) -> None:
    project("uh", "def g(): return 1\n")
    before = of(text)
    project("uh", "def g(): return 22\n")
    assert of(text).digest != before.digest


def test_other_names_of_a_module_do_not_count(project: Project) -> None:
    text = "import uh\ndef f(): return uh.g()"
    project("uh", "def g(): return 1\n")
    before = of(text)
    project("uh", "def g(): return 1\ndef other(): return 2\n")
    assert of(text).digest == before.digest


def test_constants_of_another_module_count(project: Project) -> None:
    text = "import uh\ndef f(): return uh.N"
    project("uh", "N = 1\n")
    before = of(text)
    project("uh", "N = 22\n")
    assert explain(before.parts, of(text).parts) == ["constant uh.N was 1, is 22"]


def test_a_file_edited_after_its_import_is_not_the_source_of_what_runs(project: Project, tmp_path: Path) -> None:
    old = project("uh", "def f(): return 1\n")
    (tmp_path / "uh.py").write_text("def f(): return 222\n")
    linecache.checkcache()
    edited = fingerprint(old.f)
    assert edited is not None
    assert edited.digest != fingerprint(project("uh", "def f(): return 222\n").f).digest  # type: ignore[union-attr]


# -- explain ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("+ LIMIT", "- LIMIT", "the step's own code changed at line 9"),
        ("x * 2", "x * 3", "helper `clean` changed at line 5"),
        ("LIMIT = 5", "LIMIT = 10", "constant LIMIT was 5, is 10"),
        ("n=3", "n=4", "default of `n` was 3, is 4"),
        ("1.5", "2.5", "closure variable `rate` was 1.5, is 2.5"),
    ],
)
def test_a_change_is_explained(old: str, new: str, reason: str) -> None:
    assert reasons(BODY, BODY.replace(old, new)) == [reason]


def test_the_line_is_the_line_of_the_change_not_of_a_comment_before_it() -> None:
    old = "def f():\n    a = 1\n    return a"
    assert reasons(old, "def f():\n    # new\n    a = 1\n    return -a") == ["the step's own code changed at line 4"]


def test_an_added_statement_has_its_own_line() -> None:
    assert reasons("def f():\n    a = 1", "def f():\n    a = 1\n    b = 2") == ["the step's own code changed at line 3"]


def test_new_and_removed_parts_are_named() -> None:
    new = BODY.replace("+ LIMIT", "+ BASE").replace("LIMIT = 5", "BASE = 5")
    assert reasons(BODY, new)[1:] == ["constant BASE is new", "constant LIMIT is no longer used"]


def test_without_a_change_there_is_no_explanation() -> None:
    assert reasons(BODY, BODY + "# end") == []


def test_a_changed_lambda_over_several_lines_has_its_line() -> None:
    old = "f = (lambda x: [\n    x,\n    1])"
    assert reasons(old, old.replace("1]", "2]")) == ["the step's own code changed at line 3"]


# -- notebooks ----------------------------------------------------------------------------------------

CELLS = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from cerebelum_nb._dsl.fingerprint import explain, fingerprint
shell = InteractiveShell.instance()
shell.user_ns["fingerprint"] = fingerprint
def cell(text):
    shell.run_cell(text, store_history=True).raise_error()
def now():
    shell.run_cell("found = fingerprint(f)").raise_error()
    return shell.user_ns["found"]
cell("N = 5\\ndef clean(x):\\n    return x + N")
cell("class Shape:\\n    side: int = 1")
cell("%config InteractiveShell.ast_node_interactivity = 'all'\\nimport json\\n"
     "async def f(x):\\n    return json.dumps(clean(x)), Shape")
cell("import asyncio\\nawait asyncio.sleep(0)\\nlate = lambda: 1")
first = now()
assert first is not None and first == now()
cell("N = 6")
second = now()
print(explain(first.parts, second.parts))
cell("def clean(x):\\n    # a comment\\n    return x + N + 1")
third = now()
print(explain(second.parts, third.parts))
cell("class Shape:\\n    side: int = 2")
print(explain(third.parts, now().parts))
late = fingerprint(shell.user_ns["late"])
print(late.parts[0].text)
print(first.parts[0].text.splitlines()[0])
"""


@pytest.mark.process
def test_cells_of_a_real_shell_are_followed_from_version_to_version(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CELLS],
        capture_output=True,
        text=True,
        env={"IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    constant, helper, cls, late, calls_what_its_cell_imports = done.stdout.splitlines()
    assert ast.literal_eval(constant) == ["constant N was 5, is 6"]
    assert ast.literal_eval(helper) == ["helper `clean` changed at line 3"]
    assert ast.literal_eval(cls) == ["class `Shape` changed at line 2", "class `Shape.side` was 1, is 2"]
    assert late == "lambda: 1"
    assert calls_what_its_cell_imports == "async def f(x):"
