"""The module of a notebook's workflows: their definitions in order, and the problems of what cannot be in a module.

It has what the workflows use by name. If a function was fixed and run again, its last definition takes the place of the
first. Comments above a definition stay.
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .._archive.for_tests import NAMES
from .._workflow.statements import (
    as_python,
    bound,
    defines,
    is_assignment,
    modified,
    parse_cell,
    read_cells,
    wanted_names,
)
from ..errors import WorkflowNotFoundError

__all__ = ["Draft", "draft_of"]

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_OF_NOTEBOOKS = {"In", "Out", "_", "__", "___", "display", "exit", "quit"}
_TOKEN = re.compile(r"\b(AKIA[0-9A-Z]{16}|gh[pousr]_\w{30,}|sk-\w{20,}|xox[abp]-[\w-]{10,}|eyJ\w{20,}\.\w{10,})")
_WRITTEN = re.compile(r"get_ipython\(\)\.run_cell_magic\('writefile', '(?:-a )?(?P<file>\S+\.py)'")
_SECRET = re.compile("|".join(NAMES), re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class _Statement:
    """A statement of a cell: its text, and the global names that it uses and binds."""

    cell: int
    node: ast.stmt
    text: str
    uses: frozenset[str]
    binds: frozenset[str]
    defines: bool

    @property
    def is_import(self) -> bool:
        return isinstance(self.node, (ast.Import, ast.ImportFrom))

    @property
    def is_function(self) -> bool:
        return isinstance(self.node, _FUNCTIONS)


@dataclass(slots=True)
class Draft:
    """The text of a module, the names of its workflows' functions, the problems that forbid to write it, and notes."""

    text: str
    workflows: Sequence[str]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def draft_of(notebook: Path, workflow: str | None = None) -> Draft:
    """Draft the module of a notebook's workflows.

    Args:
        notebook: the file of the notebook.
        workflow: the name of the only workflow to take, or of its function; by default all.

    Raises:
        WorkflowNotFoundError: the file is not a notebook, or defines no such workflow.
    """
    statements = list(_statements(read_cells(notebook)))
    chosen = [s for s in statements if s.is_function and (name := _workflow_name(s.node)) and workflow in (None, *name)]
    if not chosen:
        raise WorkflowNotFoundError(_no_workflow(notebook, workflow, statements))
    kept, problems, notes = _reached(statements, chosen)
    problems += [problem for statement in kept for problem in (*_magics(statement), *_secrets(statement))]
    return Draft(_text(notebook, kept), sorted({_name(s.node) for s in chosen}), problems, notes)


def _statements(cells: Sequence[str]) -> Iterator[_Statement]:
    trees = [(number, as_python(source), parse_cell(source)) for number, source in enumerate(cells, start=1)]
    nodes = [node for _, _, tree in trees if tree is not None for node in tree.body]
    wanted = wanted_names(nodes)
    assigned = {name for node in nodes if is_assignment(node) for name in bound(node)}
    for number, source, tree in trees:
        for node in () if tree is None else tree.body:
            binds = bound(node) | modified(node)
            for child in ast.walk(node) if not isinstance(node, _FUNCTIONS) else ():
                binds |= {child.name} if isinstance(child, _FUNCTIONS) else _imported(child)
            text = _slice(source, node)
            yield _Statement(number, node, text, _globals_of(node), frozenset(binds), defines(node, wanted, assigned))


def _reached(
    statements: Sequence[_Statement], chosen: Sequence[_Statement]
) -> tuple[list[_Statement], list[str], list[str]]:
    """Return the statements that the chosen ones use by name, in the order of the module; with problems and notes."""
    kept: dict[_Statement, None] = {}
    problems: list[str] = []
    notes: list[str] = []
    done: set[str] = set()
    todo = [(name, None) for name in dict.fromkeys(_name(s.node) for s in chosen)]
    asked: list[tuple[str, _Statement | None]] = list(todo)
    while asked:
        name, by = asked.pop()
        if name in done or hasattr(builtins, name):
            continue
        done.add(name)
        makers = [s for s in statements if name in s.binds]
        found = [s for s in makers if s.defines]
        ran = [s for s in makers if not s.defines and name in bound(s.node)]
        reader = f"'{_name(by.node)}' (code cell {by.cell})" if by is not None else "the module"
        if ran:
            problems.append(
                f"{reader} reads '{name}', which code cell {ran[-1].cell} computes by running something: pass it as an "
                f"input, or compute it in a step"
            )
        elif not found and name in _OF_NOTEBOOKS:
            problems.append(f"{reader} uses '{name}', which only a notebook has: import it, or leave it out")
        elif not found and name != "get_ipython":
            problems.append(f"{reader} reads '{name}', which no cell of the notebook defines")
        values = {ast.dump(s.node.value) for s in found if isinstance(s.node, ast.Assign) and bound(s.node) == {name}}
        if len(values) > 1:
            cells = ", ".join(str(s.cell) for s in found)
            problems.append(f"'{name}' is set to different values in code cells {cells}: keep one, or make it an input")
        functions = [s for s in found if s.is_function]
        if len({s.text for s in functions}) > 1:
            notes.append(
                f"'{name}' is defined in code cells {', '.join(str(s.cell) for s in functions)}: the last counts"
            )
        for statement in [*found[-1:]] if functions else found:
            kept[statement] = None
            asked += [(used, statement) for used in statement.uses]
        asked += [(_name(s.node), s) for s in statements if s.is_function and name in _decorated_by(s.node)]
    return _ordered(statements, kept), problems, notes


def _ordered(statements: Sequence[_Statement], kept: dict[_Statement, None]) -> list[_Statement]:
    """Sort statements; the last definition of a function takes the place of its first."""
    first: dict[str, int] = {}
    for index, statement in enumerate(statements):
        if statement.is_function:
            first.setdefault(_name(statement.node), index)
    place = {s: first[_name(s.node)] if s.is_function else i for i, s in enumerate(statements)}
    return sorted(kept, key=place.__getitem__)


def _text(notebook: Path, kept: Sequence[_Statement]) -> str:
    used = frozenset().union(*(s.uses for s in kept))
    imports = list(dict.fromkeys(_import(s, used) for s in kept if s.is_import))
    future = [line for line in imports if line.startswith("from __future__")]
    imports = [*future, *(line for line in imports if line not in future)]
    parts, before = "", None
    for statement in kept:
        if not statement.is_import:
            gap = "\n" if before is not None and not (before.is_function or statement.is_function) else "\n\n\n"
            parts, before = parts + gap + statement.text, statement
    return (
        f'"""The workflows of {notebook.name}, written by `cerebelum promote`."""\n\n'
        + "\n".join(imports)
        + parts
        + "\n"
    )


def _import(statement: _Statement, used: frozenset[str]) -> str:
    """Return the text of an import without the names that the module does not use."""
    node = statement.node
    if not isinstance(node, ast.ImportFrom) or node.module == "__future__" or node.names[0].name == "*":
        return statement.text
    names = [alias for alias in node.names if (alias.asname or alias.name) in used]
    if len(names) == len(node.names):
        return statement.text
    return ast.unparse(ast.ImportFrom(node.module, names, node.level))


def _slice(source: str, node: ast.stmt) -> str:
    """Return the text of a statement with the comments directly above it."""
    lines = source.splitlines()
    start = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    if not lines[start - 1].startswith(("@", "#")) and node.col_offset:
        return ast.get_source_segment(source, node) or ast.unparse(node)
    while start > 1 and lines[start - 2].startswith("#"):
        start -= 1
    text = "\n".join(lines[start - 1 : node.end_lineno])
    return ast.unparse(node) if ";" in lines[(node.end_lineno or 1) - 1].partition("#")[0] else text


def _globals_of(node: ast.stmt) -> frozenset[str]:
    """Return the names that a statement reads and that are not local to its functions."""
    tables = [symtable.symtable(ast.unparse(node), "statement", "exec")]
    found: set[str] = set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        is_top = table.get_type() == "module"
        found |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and (is_top or s.is_global())}
    own = {node.name} if isinstance(node, _FUNCTIONS) else set()
    return frozenset(found - own)


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return set()


def _workflow_name(node: ast.stmt) -> tuple[str, ...]:
    """Return the names of a workflow, that of its function and the given one; nothing for any other function."""
    for decorator in getattr(node, "decorator_list", []):
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) == "workflow":
            given = [k.value for k in getattr(decorator, "keywords", []) if k.arg == "name"]
            return (_name(node), *(str(value.value) for value in given if isinstance(value, ast.Constant)))
    return ()


def _decorated_by(node: ast.stmt) -> set[str]:
    """Return the steps whose decorators a function uses, such as ``@create.on_rollback``."""
    found = set()
    for decorator in getattr(node, "decorator_list", []):
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.attr == "on_rollback":
            found.add(called.value.id)
    return found


def _name(node: ast.stmt) -> str:
    return getattr(node, "name", None) or ", ".join(sorted(bound(node))) or "an import"


def _magics(statement: _Statement) -> Iterator[str]:
    for call in ast.walk(statement.node):
        if isinstance(call, ast.Call) and ast.unparse(call).startswith("get_ipython()."):
            yield (
                f"'{_name(statement.node)}' (code cell {statement.cell}) runs a magic or a shell line, "
                f"{ast.unparse(call)}: call subprocess.run or a function instead"
            )


def _secrets(statement: _Statement) -> Iterator[str]:
    """List the texts that look like a secret, by themselves or by the name to which they are assigned."""
    for node in ast.walk(statement.node):
        pairs: list[tuple[str, ast.expr | None]] = []
        if isinstance(node, ast.Assign):
            pairs = [(ast.unparse(target), node.value) for target in node.targets]
        elif isinstance(node, ast.keyword):
            pairs = [(node.arg or "", node.value)]
        elif isinstance(node, ast.Dict):
            pairs = [
                (str(k.value), v) for k, v in zip(node.keys, node.values, strict=True) if isinstance(k, ast.Constant)
            ]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _TOKEN.search(node.value):
            pairs = [("token", node)]
        for name, value in pairs:
            if (
                isinstance(value, ast.Constant)
                and isinstance(value.value, str)
                and value.value
                and _SECRET.search(name)
            ):
                yield (
                    f"code cell {statement.cell}, '{_name(statement.node)}': what is given to '{name}' looks like a "
                    f"secret. Take it as an input, Secret(os.environ[...]), or read it from the environment"
                )


def _no_workflow(notebook: Path, workflow: str | None, statements: Sequence[_Statement]) -> str:
    names = [_workflow_name(s.node)[-1] for s in statements if s.is_function and _workflow_name(s.node)]
    if names:
        return f"{notebook} defines no workflow '{workflow}'. It defines: {', '.join(dict.fromkeys(names))}"
    if any("run_cell_magic('step'" in s.text for s in statements):
        return (
            f"{notebook} defines no workflow: its steps are cells that begin with %%step. Write each as a function "
            f"under @step, and one under @workflow that puts them on a timeline, then promote"
        )
    written = [match["file"] for s in statements if "@workflow" in s.text and (match := _WRITTEN.match(s.text))]
    if written:
        return (
            f"{notebook} defines no workflow: its cells write one into {', '.join(written)}, which is a module already"
        )
    return f"{notebook} defines no workflow: there is no function under @workflow in its cells"
