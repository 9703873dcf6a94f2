"""Finds in the bytecode which local variables may still be read from a statement on."""

from __future__ import annotations

import ast
import dis
from types import CodeType

__all__ = ["Liveness"]

_ENDS = {"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE"}
_JUMPS_ALWAYS = ("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_ABSOLUTE")


class Liveness:
    """The variables that some path from an instruction reads before it writes them. Solved once per code object.

    Args:
        code: the function's code.
    """

    def __init__(self, code: CodeType) -> None:
        self._code = code
        self._instructions = list(dis.get_instructions(code))
        self._live = self._solved()

    def at(self, statement: ast.stmt) -> frozenset[str]:
        """Return the locals that may be read from a statement on; all of them if its instructions are not found.

        Cells are not included: the caller must treat all of them as live.
        """
        found = (live for one, live in zip(self._instructions, self._live, strict=True) if _belongs_to(one, statement))
        return next(found, frozenset(self._code.co_varnames))

    def _solved(self) -> list[frozenset[str]]:
        instructions = self._instructions
        index = {one.offset: i for i, one in enumerate(instructions)}
        handlers = [(h.start, h.end, index[h.target]) for h in dis.Bytecode(self._code).exception_entries]  # type: ignore[attr-defined]
        caught: list[list[int]] = []
        follow: list[list[int]] = []
        reads: list[frozenset[str]] = []
        writes: list[frozenset[str]] = []
        for i, one in enumerate(instructions):
            caught.append([target for start, end, target in handlers if start <= one.offset < end])
            after = [*caught[-1]]
            jumps = one.opcode in dis.hasjrel or one.opcode in dis.hasjabs
            if jumps:
                after.append(index[one.argval])
            jumps_away = jumps and one.opname.startswith(_JUMPS_ALWAYS)
            if one.opname not in _ENDS and not jumps_away and i + 1 < len(instructions):
                after.append(i + 1)
            follow.append(after)
            read, written = _uses(one)
            reads.append(read)
            writes.append(written)
        # Backward to the fixed point: live before an instruction is what it reads, plus what is live after it and not
        # written by it. A forward search over all paths takes 0.4 s for a step of 300 lines.
        live: list[frozenset[str]] = [frozenset()] * len(instructions)
        comes_from: list[list[int]] = [[] for _ in instructions]
        for i, after in enumerate(follow):
            for j in after:
                comes_from[j].append(i)
        todo = list(range(len(instructions)))
        while todo:
            i = todo.pop()
            found = frozenset().union(*(live[j] for j in follow[i])) - writes[i] | reads[i]
            found = found.union(*(live[j] for j in caught[i]))  # an instruction that raised did not write
            if found != live[i]:
                live[i] = found
                todo += comes_from[i]
        return live


def _belongs_to(instruction: dis.Instruction, statement: ast.stmt) -> bool:
    at = instruction.positions
    if at is None or None in (at.lineno, at.end_lineno, at.col_offset, at.end_col_offset):
        return False
    start, stop = (at.lineno, at.col_offset), (at.end_lineno, at.end_col_offset)
    begin, end = (statement.lineno, statement.col_offset), (statement.end_lineno, statement.end_col_offset)
    return begin <= start and stop <= end


def _uses(instruction: dis.Instruction) -> tuple[frozenset[str], frozenset[str]]:
    """Return the locals that an instruction reads, and those that it writes."""
    op, name = instruction.opname, instruction.argval
    none: frozenset[str] = frozenset()
    if "FAST" not in op:
        return none, none
    names = tuple(name) if isinstance(name, tuple) else (str(name),)
    if op.startswith("STORE_FAST_LOAD_FAST"):
        return frozenset(names[1:]) - {names[0]}, frozenset(names[:1])
    if op.startswith(("STORE_FAST", "STORE_FAST_STORE_FAST")):
        return none, frozenset(names)
    return frozenset(names), none  # loads; a delete, which needs the variable to be there
