"""What it costs to be seen: an observer and traces, per event and step; a scrape of a log of a million executions."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from cerebelum_nb import observe
from cerebelum_nb._core.events import Event
from cerebelum_nb._engine import observers
from cerebelum_nb._engine.ports import Host
from cerebelum_nb._store.event_key import event_key
from cerebelum_nb._store.sqlite import SqliteStore

from .measure import Figure, Settings, interleave, value_of
from .workloads import chain

__all__ = ["run"]

NAME = "observing"
STEPS = 1_000
EXECUTIONS = 1_000_000


def run(settings: Settings) -> list[Figure]:
    return [*_observers(settings), *_scrapes(settings)]


def _observers(settings: Settings) -> list[Figure]:
    """Tell observers the events of a real run once more: a difference of whole runs would drown in their noise."""
    from opentelemetry.sdk.trace import SpanProcessor

    settings.progress("observers")
    steps = settings.size(STEPS)
    told: list[tuple[Host, Event]] = []
    recorder = observers.Observer(lambda execution, version, event: told.append((execution, event)))
    with SqliteStore(settings.file("observed.db"), durability="normal") as store:
        observers.add(recorder)
        asyncio.run(chain(steps).execute(store=store))
        observers.remove(recorder)
    execution, events = told[0][0], [event for _, event in told]

    def side(enter: Callable[[], AbstractContextManager[object]]) -> Callable[[], float]:
        def measure() -> float:
            with enter():
                began = time.process_time()
                for version, event in enumerate(events, start=1):
                    observers.notify(execution, version, (event,))
                return (time.process_time() - began) * 1e6

        return measure

    taken = interleave(
        {
            "nobody": side(nullcontext),
            "observer": side(lambda: observe.add(lambda recorded: None)),
            "metrics": side(lambda: closing(observe.ProcessMetrics())),
            "traces": side(lambda: observe.Traces(processor=SpanProcessor())),  # without what a collector costs
        },
        settings.repeat,
    )

    def more(name: str, per: int) -> list[float]:
        return [max(0.0, mine - plain) / per for mine, plain in zip(taken[name], taken["nobody"], strict=True)]

    about = f"CPU; a run of {steps:,} no-op steps"
    count = len(events)
    return [
        value_of(
            NAME, "an observer that does nothing, an event", more("observer", count), "us", target=2, detail=about
        ),
        value_of(NAME, "the metrics of the process, an event", more("metrics", count), "us", target=None, detail=about),
        value_of(NAME, "traces, a step", more("traces", steps), "us", target=40, detail=f"{about}; nothing is sent"),
    ]


def _scrapes(settings: Settings) -> list[Figure]:
    settings.progress("scrapes")
    path, count = settings.file("scraped.db"), settings.size(EXECUTIONS)
    _fill(path, count)
    began = time.process_time()
    with closing(observe.LogMetrics(path)) as metrics, closing(sqlite3.connect(path)) as db:
        start = (time.process_time() - began) * 1e3
        registry = CollectorRegistry()
        registry.register(metrics)

        def scrape() -> float:
            began = time.process_time()
            generate_latest(registry)
            return (time.process_time() - began) * 1e3

        def unchanged() -> float:
            for _ in range(200):  # what was committed before is compared to its end
                if not metrics._follower._unchecked:
                    break
                scrape()
            return scrape()

        def changed() -> float:
            _add(db, 10)
            return scrape()

        scrape()
        taken = interleave({"unchanged": unchanged, "changed": changed}, settings.repeat)
    about = f"CPU; {count:,} executions in the log"
    return [
        value_of(NAME, "a scrape when nothing was recorded", taken["unchanged"], "ms", target=50, detail=about),
        value_of(NAME, "a scrape after ten new executions", taken["changed"], "ms", target=50, detail=about),
        value_of(NAME, "the start of the exporter", [start], "ms", target=None, detail=about),
    ]


def _fill(path: Path, count: int) -> None:
    """Write executions of one event each."""
    SqliteStore(path, durability="normal").close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA synchronous = off")
        _add(db, count)


def _add(db: sqlite3.Connection, count: int) -> None:
    (first,) = db.execute("SELECT coalesce(max(key), 0) + 1 FROM execution").fetchone()
    states = ("COMPLETED",) * 98 + ("FAILED", "CANCELLED")
    db.executemany(
        """INSERT INTO execution (execution_id, version, workflow, state, started_at, updated_at, completed_at,
            total_steps, done_steps) VALUES (?, 1, ?, ?, ?, ?, ?, 1, 1)""",
        (
            (f"x{key:09d}", f"flow{key % 20}", states[key % 100], key * 10**6, key * 10**6 + 9, key * 10**6 + 9)
            for key in range(first, first + count)
        ),
    )
    db.executemany(
        "INSERT INTO event (key, kind, at) VALUES (?, 'WorkflowStarted', ?)",
        ((event_key(key, 1), key * 10**6) for key in range(first, first + count)),
    )
    db.commit()
