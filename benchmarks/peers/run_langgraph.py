"""The shapes on LangGraph with ``SqliteSaver`` and ``durability="sync"``. Prints one JSON object.

The saver puts the file into WAL mode and leaves ``synchronous`` at SQLite's default, full: an fsync per
commit. It is synchronous, so its steps are plain functions and concurrent executions are threads. ``chain``
makes a graph of as many nodes as there are steps, which is our shape; ``loop`` one node that runs again and
again, which spares LangGraph the many channels that every checkpoint lists. ``items`` fans out a list with ``Send``.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver  # type: ignore[import-not-found]  # in an environment of its own
from langgraph.graph import END, START, StateGraph  # type: ignore[import-not-found]  # see above
from langgraph.types import Send  # type: ignore[import-not-found]  # see above

from benchmarks.peers.taken import size, taken


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


class Listed(TypedDict):
    items: list[int]
    results: Annotated[list[int], add]


def each(state: dict[str, int]) -> dict[str, Any]:
    return {"results": [state["item"]]}


def sends(state: Listed) -> list[Any]:
    return [Send("each", {"item": item}) for item in state["items"]]


def mapped(saver: Any) -> Any:
    graph = StateGraph(Listed)
    graph.add_node("each", each)
    graph.add_conditional_edges(START, sends, ["each"])
    graph.add_edge("each", END)
    return graph.compile(checkpointer=saver)


def invoke(graph: Any, thread: str, steps: int, given: dict[str, Any] | None = None) -> Any:
    config = {"configurable": {"thread_id": thread}, "recursion_limit": steps + 10}
    return graph.invoke(given or {"done": 0}, config, durability="sync")


def shapes(saver: Any, path: Path, sizes: list[int], mode: str) -> dict[str, float]:
    steps, siblings, executions = sizes
    found: dict[str, float] = {}
    short = chain(10, saver) if mode == "chain" else loop(10, saver)
    line = chain(steps, saver) if mode == "chain" else loop(steps, saver)
    invoke(short, "warm", 10)
    before = size(path)
    with taken(found, "sequential"):
        invoke(line, "line", steps)
    found["disk"] = (size(path) - before) / steps
    if mode == "chain":
        spread = fan(siblings, saver)
        invoke(spread, "fan-warm", 10)
        with taken(found, "fanout"):
            invoke(spread, "fan", 10)
    with ThreadPoolExecutor(executions) as pool, taken(found, "concurrency"):
        list(pool.map(lambda i: invoke(short, f"one-{i}", 10), range(executions)))
    return found


def items(saver: Any, count: int) -> dict[str, float]:
    found: dict[str, float] = {}
    graph = mapped(saver)
    invoke(graph, "warm", 10, {"items": list(range(10))})
    with taken(found, "items"):
        results = invoke(graph, "items", 10, {"items": list(range(count))})["results"]
    assert results == list(range(count))
    return found


def main(path: Path, sizes: list[int], mode: str) -> None:
    with SqliteSaver.from_conn_string(str(path)) as saver:
        saver.setup()
        print(json.dumps(items(saver, sizes[3]) if mode == "items" else shapes(saver, path, sizes[:3], mode)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2:6]], sys.argv[6])
