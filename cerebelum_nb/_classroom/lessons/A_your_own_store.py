# %% [markdown] intro
# # Lesson A: Your own store of events
#
# **Ten minutes, an elective.** You have done lesson 1, and know what a class and a `try` are. Afterwards you can
#
# - write an append-only store on SQLite in forty lines,
# - let it refuse the second of two writers, and
# - write an engine that resumes from it, and say what is still missing.

# %% setup
import json
import sqlite3

from cerebelum_nb.classroom import Lesson

lesson = Lesson("lesson-A")
lesson

# %% [markdown] append
# ## 1. Append and read
#
# A **stream** is the history of one thing, an order for example. Its events are numbered by their **version**: 1, 2, 3 and
# so on. The table has no other columns than these and what happened.
#
# **Your turn.** `append` does not insert anything yet. Insert the row: `self.db.execute("insert into event values (?, ?, ?,
# ?)", row)`.

# %% store
class EventStore:
    def __init__(self, path):
        self.db = sqlite3.connect(path)
        self.db.execute(
            "create table if not exists event (stream, version, type, data, primary key (stream, version))"
        )

    def append(self, stream, version, kind, data=None):
        row = (stream, version, kind, json.dumps(data))
        with self.db:  # a transaction: when this block ends, it is on disk
            ### BEGIN SOLUTION
            self.db.execute("insert into event values (?, ?, ?, ?)", row)
            ### END SOLUTION

    def read(self, stream):
        rows = self.db.execute("select type, data from event where stream = ? order by version", (stream,))
        return [(kind, json.loads(data)) for kind, data in rows]


store = EventStore(":memory:")
store.append("order-1", 1, "Started", {"item": "lamp"})
store.append("order-1", 2, "StepCompleted", {"step": "reserve", "result": "lamp"})
store.read("order-1")

# %% [markdown] the-check-of-append
# The check opens your store with a file, appends to two streams, and reads with a second store, as another process would.

# %% check-1
lesson.check(1, EventStore)

# %% [markdown] two-writers
# ## 2. Two writers
#
# Two processes read order-1 and see one event. Both decide what comes next, and both append version 2. One of them has to
# learn that its decision is out of date. The primary key takes care of that: SQLite raises `sqlite3.IntegrityError` for
# the second one.
#
# **Your turn.** Let `append` raise `Conflict` in its place, so that callers need not know about SQLite: `except
# sqlite3.IntegrityError`.

# %% conflict
class Conflict(Exception):
    """Somebody else has appended this version already: read again."""


class SafeStore(EventStore):
    def append(self, stream, version, kind, data=None):
        ### BEGIN SOLUTION
        try:
            super().append(stream, version, kind, data)
        except sqlite3.IntegrityError:
            raise Conflict(f"{stream} has a version {version} already") from None
        ### INSTEAD
        super().append(stream, version, kind, data)  # your turn: try this, and raise Conflict
        ### END SOLUTION

# %% check-2
lesson.check(2, SafeStore)

# %% [markdown] engine
# ## 3. An engine
#
# An engine is a loop around the store: **fold** the events to see what is finished, call what is not, append its result.
#
# **Your turn.** Write the fold: `results` is a dict with the result of each step that is finished. Each event is a pair
# such as `("StepCompleted", {"step": "reserve", "result": "lamp"})`.

# %% run
def run(store, stream, steps):
    events = store.read(stream)
    results = {}
    for kind, data in events:
        ### BEGIN SOLUTION
        if kind == "StepCompleted":
            results[data["step"]] = data["result"]
        ### END SOLUTION
    version = len(events)
    for step in steps:
        if step.__name__ not in results:
            results[step.__name__] = step(results)
            version += 1
            store.append(stream, version, "StepCompleted", {"step": step.__name__, "result": results[step.__name__]})
    return results

# %% [markdown] the-check-of-run
# The check runs three steps with your engine and your `SafeStore`. The second step fails at first, so the check runs them
# once more, in another store on the same file.

# %% check-3
lesson.check(3, lambda steps, path: run(SafeStore(path), "order-1", steps))

# %% [markdown] missing
# ## 4. What is missing?
#
# **Your turn.** Two processes call your `run` for order-1 at the same moment.

# %% answer
answer = "b"  ### SOLUTION
lesson.quiz(
    4,
    "Two processes run one order at the same moment. What happens?",
    {
        "a": "One waits until the other is done.",
        "b": "Both may call a step; only one of them can write down its result.",
        "c": "Every step is called once, because the store refuses the second call.",
        "d": "Both write down their results, and the later one wins.",
    },
    answer,
)

# %% check-4
lesson.check(4)

# %% [markdown] summary
# ## What you know now
#
# - A store of events appends and reads, and refuses a version that is there already.
# - An engine is a fold and a loop. A resume is a run whose history is not empty.
# - What cerebelum_nb adds: a **lease**, so that a second process does not even start a step; a hash over each event; retries,
#   waits and branches as events; and a fold that is one function, `cerebelum_nb/_core/fold.py`. Lesson D reads the engine.

# %% score
store.db.close()
lesson.score()
