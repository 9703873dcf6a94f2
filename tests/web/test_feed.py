"""What is sent to viewers: only the parts that changed, from one drawing for all of them."""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest

from cerebelum_nb._engine.approvals import decide_approval
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._web import feed as feeds
from cerebelum_nb._web.feed import Feed
from cerebelum_nb._web.parts import Document


def of(*rows: str, head: str = "head") -> Document:
    return Document(parts={"head": head, **{row: f"<p>{row}</p>" for row in rows}}, lists={"rows": rows})


def test_only_what_differs_is_sent():
    before, after = of("a", "b"), of("c", "a", "b")
    assert after.since(before.hashes) == {"parts": {"c": "<p>c</p>"}, "lists": {"rows": ("c", "a", "b")}}
    assert after.since(after.hashes) == {}


def test_a_running_time_that_the_page_updates_is_not_a_change():
    html = '<b><time data-since="5">{}</time></b>'
    assert of(head=html.format("1s")).digest == of(head=html.format("2s")).digest
    assert of(head=html.format("1s")).digest != of(head=html.replace("5", "6").format("1s")).digest


def test_a_page_of_an_earlier_moment_gets_what_has_changed_since(dashboard):
    page = dashboard.get("/shop/e/asking-1")
    digest = page.partition('data-digest="')[2].partition('"')[0]
    assert dashboard("GET", f"/shop/e/asking-1/feed?once=1&seen={digest}").status_code == 204
    dashboard.post("/shop/e/asking-1/approve", by="ana")
    told = dashboard("GET", f"/shop/e/asking-1/feed?once=1&seen={digest}").json()
    assert "p-head" in told["parts"] and "p-values" not in told["parts"]
    assert told["lists"]["asks"] == []
    everything = dashboard("GET", "/shop/e/asking-1/feed?once=1&seen=unknown").json()
    assert "p-values" in everything["parts"]


def test_a_head_request_for_a_stream_is_not_a_viewer(dashboard):
    answer = dashboard("HEAD", "/shop/e/asking-1/feed")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")


async def messages(stream, count):
    """Read this many messages of a stream."""
    found = []
    async for text in stream:
        data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        if data:
            found.append(json.loads(data[0]))
            if len(found) == count:
                await stream.aclose()
                break
    return found


def test_a_commit_reaches_every_viewer_and_is_drawn_once(log):
    drawn = []

    async def main():
        feed = Feed(str(log), [0])

        def draw():
            with SqliteStore(log, read_only=True) as store:
                drawn.append(store.execution("asking-1").version)
                return of(head=str(drawn[-1]))

        viewers = [asyncio.ensure_future(messages(feed.follow("k", draw, "", 0.01), 2)) for _ in range(5)]
        while len(drawn) < 1:
            await asyncio.sleep(0.01)
        with SqliteStore(log) as store:
            decide_approval(store, "asking-1", approve=True)
        found = await asyncio.wait_for(asyncio.gather(*viewers), 20)
        feed.close()
        return found

    found = asyncio.run(main())
    assert all([one["parts"]["head"] for one in two] == [str(drawn[0]), str(drawn[0] + 1)] for two in found)
    assert drawn == sorted(set(drawn))


def test_viewers_who_came_at_different_times_get_changes_at_the_same_time_from_one_drawing():
    drawn = []

    async def main():
        feed = Feed("none.db", [0])

        def draw():
            drawn.append(1)
            return of(head=str(len(drawn)))

        async def view(after):
            await asyncio.sleep(after)
            return await messages(feed.follow("k", draw, "", 0.2), 6)

        viewers = [asyncio.ensure_future(view(0.037 * number)) for number in range(8)]
        while not all(viewer.done() for viewer in viewers):
            await asyncio.sleep(0.02)
            feed.refresh()
        feed.close()

    asyncio.run(main())
    assert len(drawn) < 30  # one for who comes, and then one for all: not one for each of the 48 messages


def test_viewers_who_come_at_any_moment_of_a_drawing_get_it(log):
    async def main():
        feed, drawn = Feed(str(log), [0]), 0

        def draw():
            nonlocal drawn
            drawn += 1
            return of(head=str(drawn))

        async def waits_for_the_end_of_a_drawing():
            while not any(task.done() for task in feed._drawing.values()) and drawn < 20:
                await asyncio.sleep(0)
            await feed.document("k", draw)

        late = [asyncio.ensure_future(waits_for_the_end_of_a_drawing()) for _ in range(3)]
        while drawn < 20:
            feed.refresh()
            await feed.document("k", draw)
        await asyncio.gather(*late)
        feed.close()
        return drawn

    assert asyncio.run(main()) == 20


def test_without_viewers_nothing_is_polled(log):
    async def main():
        feed = Feed(str(log), count := [0])
        (message,) = await messages(feed.follow("k", lambda: of("a"), "", 0.01), 1)
        await asyncio.sleep(0)
        polls = [task for task in asyncio.all_tasks() if "_watch" in repr(task)]
        feed.close()
        return message, count, polls

    message, count, polls = asyncio.run(main())
    assert message["lists"] == {"rows": ["a"]}
    assert count == [0] and polls == []


def test_viewers_beyond_the_limit_are_refused(dashboard, monkeypatch):
    monkeypatch.setattr(feeds, "MOST_VIEWERS", 0)
    assert dashboard("GET", "/shop/feed").status_code == 503


def test_a_feed_ends_when_nothing_more_can_come(dashboard):
    answer = dashboard("GET", "/shop/e/done-1/feed")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("event: over\ndata:\n\n")


def test_a_log_that_disappears_is_reported_and_found_again(dashboard, log, tmp_path):
    kept = shutil.copy(log, tmp_path / "kept.db")
    dashboard.get("/shop/")
    log.unlink()
    assert "p-trouble" in dashboard("GET", "/shop/feed?once=1").json()["parts"]
    assert dashboard("GET", "/shop/").status_code == 503
    shutil.copy(kept, log)
    assert "x-done-1" in dashboard("GET", "/shop/feed?once=1").json()["parts"]


@pytest.mark.parametrize("query", ["", "show=retrying", "show=interrupted", "q=done", "state=failed"])
def test_every_list_has_a_feed(dashboard, query):
    assert "lists" in dashboard("GET", f"/shop/feed?once=1&{query}").json()
