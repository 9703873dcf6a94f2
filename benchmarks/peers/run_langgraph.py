"""The shapes on LangGraph with ``SqliteSaver`` and ``durability="sync"``. Prints one JSON object.

The saver puts the file into WAL mode and leaves ``synchronous`` at SQLite's default, full: an fsync per
commit. It is synchronous, so its steps are plain functions and concurrent executions are threads. ``chain``
makes a graph of as many nodes as there are steps, which is our shape; ``loop`` one node that runs again and
again, which spares LangGraph the many channels that every checkpoint lists.
"""

import json
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver  # type: ignore[import-not-found]  # in an environment of its own
from langgraph.graph import END, START, StateGraph  # type: ignore[import-not-found]  # see above


class Counted(TypedDict):
    done: Annotated[int, add]


def nothing(state: Counted) -> dict[str, Any]:
    return {}


def counting(state: Counted) -> dict[str, Any]:
    return {"done": 1}


def chain(steps: int, saver: Any) -> Any:
    graph = StateGraph(Counted)
    names = [f"step_{i}" for i in range(1, steps + 1)]
    for name, before in zip(names, [START, *names], strict=False):
        graph.add_node(name, nothing)
        graph.add_edge(before, name)
    graph.add_edge(names[-1], END)
    return graph.compile(checkpointer=saver)


def loop(steps: int, saver: Any) -> Any:
    graph = StateGraph(Counted)
    graph.add_node("step", counting)
    graph.add_edge(START, "step")
    graph.add_conditional_edges("step", lambda state: "step" if state["done"] < steps else END, ["step", END])
    return graph.compile(checkpointer=saver)


def fan(siblings: int, saver: Any) -> Any:
    graph = StateGraph(Counted)
    graph.add_node("first", nothing)
    graph.add_node("last", nothing)
    graph.add_edge(START, "first")
    names = [f"sibling_{i}" for i in range(1, siblings + 1)]
    for name in names:
        graph.add_node(name, nothing)
        graph.add_edge("first", name)
    graph.add_edge(names, "last")
    graph.add_edge("last", END)
    return graph.compile(checkpointer=saver)


def invoke(graph: Any, thread: str, steps: int) -> float:
    config = {"configurable": {"thread_id": thread}, "recursion_limit": steps + 10}
    began = time.perf_counter()
    graph.invoke({"done": 0}, config, durability="sync")
    return time.perf_counter() - began


def size(path: Path) -> int:
    """Move everything into the database file and return its size."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return path.stat().st_size


def main(path: Path, sizes: list[int], mode: str) -> None:
    steps, siblings, executions = sizes
    with SqliteSaver.from_conn_string(str(path)) as saver:
        saver.setup()
        short = chain(10, saver) if mode == "chain" else loop(10, saver)
        line = chain(steps, saver) if mode == "chain" else loop(steps, saver)
        invoke(short, "warm", 10)
        before = size(path)
        found = {"sequential": invoke(line, "line", steps)}
        found["disk"] = (size(path) - before) / steps
        if mode == "chain":
            spread = fan(siblings, saver)
            invoke(spread, "fan-warm", 10)
            found["fanout"] = invoke(spread, "fan", 10)
        with ThreadPoolExecutor(executions) as pool:
            began = time.perf_counter()
            list(pool.map(lambda i: invoke(short, f"one-{i}", 10), range(executions)))
            found["concurrency"] = time.perf_counter() - began
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2:5]], sys.argv[5])
