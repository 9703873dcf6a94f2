"""The shapes on LangGraph with ``SqliteSaver`` and ``durability="sync"``. Prints one JSON object.

The saver puts the file into WAL mode and leaves ``synchronous`` at SQLite's default, full: an fsync per
commit. It is synchronous, so its steps are plain functions and concurrent executions are threads. ``chain``
makes a graph of as many nodes as there are steps, which is our shape; ``loop`` one node that runs again and
again, which spares LangGraph the many channels that every checkpoint lists. ``items`` fans out a list with ``Send``.
``resume fail`` makes a run that fails after many steps, and ``resume`` resumes it, in another process.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from operator import add
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver  # type: ignore[import-not-found]  # in an environment of its own
from langgraph.graph import END, START, StateGraph  # type: ignore[import-not-found]  # see above
from langgraph.types import Send  # type: ignore[import-not-found]  # see above

from benchmarks.peers.taken import clock, since, size, taken


class Counted(TypedDict):
    done: Annotated[int, add]


def nothing(state: Counted) -> dict[str, Any]:
    return {}


def counting(state: Counted) -> dict[str, Any]:
    return {"done": 1}


def stop(state: Counted) -> dict[str, Any]:
    reached.append(clock())
    raise RuntimeError("so that it can be resumed")


reached: list[tuple[float, float]] = []


def chain(steps: int, saver: Any, last: Any = None) -> Any:
    graph = StateGraph(Counted)
    names = [f"step_{i}" for i in range(1, steps + 1)]
    for name, before in zip(names, [START, *names], strict=False):
        graph.add_node(name, nothing)
        graph.add_edge(before, name)
    graph.add_edge(names[-1], after(graph, last))
    return graph.compile(checkpointer=saver)


def loop(steps: int, saver: Any, last: Any = None) -> Any:
    graph = StateGraph(Counted)
    graph.add_node("step", counting)
    graph.add_edge(START, "step")
    then = after(graph, last)
    graph.add_conditional_edges("step", lambda state: "step" if state["done"] < steps else then, ["step", then])
    return graph.compile(checkpointer=saver)


def after(graph: Any, last: Any) -> str:
    """Add the node that follows the steps, if any, and return the name of what follows them."""
    if last is None:
        return str(END)
    graph.add_node("last", last)
    graph.add_edge("last", END)
    return "last"


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


def resume(saver: Any, steps: int, modes: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    graph = (chain if "chain" in modes else loop)(steps, saver, stop)
    config = {"configurable": {"thread_id": "line"}, "recursion_limit": steps + 10}
    for shape in "resume", "again":
        began = clock()
        with suppress(RuntimeError):
            graph.invoke({"done": 0} if "fail" in modes else None, config, durability="sync")
        found |= since(began, reached[-1], shape)
    return found


def items(saver: Any, count: int) -> dict[str, float]:
    found: dict[str, float] = {}
    graph = mapped(saver)
    invoke(graph, "warm", 10, {"items": list(range(10))})
    with taken(found, "items"):
        results = invoke(graph, "items", 10, {"items": list(range(count))})["results"]
    assert results == list(range(count))
    return found


def main(path: Path, sizes: list[int], modes: list[str]) -> None:
    with SqliteSaver.from_conn_string(str(path)) as saver:
        saver.setup()
        if "resume" in modes:
            found = resume(saver, sizes[0], modes)
        elif "items" in modes:
            found = items(saver, sizes[3])
        else:
            found = shapes(saver, path, sizes[:3], modes[0])
        print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2:6]], sys.argv[6:])
