"""A log with executions in several states, and the dashboard's application called without a server."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from cerebelum_nb import Secret, WorkflowError, sleep, step, wait_for_approval, wait_for_signal, workflow
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._web.app import application
from cerebelum_nb._web.guard import Guard
from cerebelum_nb._web.logs import Logs
from cerebelum_nb._web.rendering import Settings

SAME = {"sec-fetch-site": "same-origin"}


@step
def build(inputs):
    print("layer 1: pulled")
    return {"image": "shop:1", "size": inputs.get("size")}


@step
def ship(build):
    raise RuntimeError("no <crane>")


@step
async def review(build):
    return await wait_for_approval("budget", data={"cost": 36}, timeout_ms=7_200_000)


@step
async def rest(build):
    await sleep("2h")


@step
async def pay(build):
    return await wait_for_signal("paid")


@step
def finish(build):
    return {"array": object, "n": 1}


@workflow
def deliver(wf):
    wf.timeline(build >> ship)


@workflow
def order(wf):
    wf.timeline(build >> review)


@workflow
def nap(wf):
    wf.timeline(build >> rest)


@workflow
def sell(wf):
    wf.timeline(build >> pay)


@workflow
def check(wf):
    wf.timeline(build >> finish)


async def _make(store: SqliteStore) -> None:
    store.hibernate_after = timedelta(milliseconds=1)
    await check.execute({"size": "small", "key": Secret("hush")}, execution_id="done-1", store=store)
    await check.execute({"size": "large"}, execution_id="done-2", store=store)
    with suppress(WorkflowError):
        await deliver.execute({"size": "small"}, execution_id="failed-1", store=store)
    await order.execute({"size": "small"}, execution_id="asking-1", store=store)
    await nap.execute({"size": "small"}, execution_id="asleep-1", store=store)
    await sell.execute({"size": "small"}, execution_id="paying-1", store=store)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log to which no test writes."""
    path = tmp_path_factory.mktemp("web") / "shop.db"
    with SqliteStore(path, durability="normal") as store:
        asyncio.run(_make(store))
    return path


@pytest.fixture
def log(made: Path, tmp_path: Path) -> Path:
    """A copy of that log."""
    return Path(shutil.copy(made, tmp_path / "shop.db"))


class Caller:
    """Calls a dashboard without a server, as one of its own pages does."""

    def __init__(self, path: Path, token: str | None = None, **settings: Any) -> None:
        self.logs = Logs.of([path])
        self._settings = Settings(**settings)
        self.app = application(self.logs, self._settings)
        self.guard = Guard(
            self.app,
            token=token,
            hosts={"127.0.0.1", "localhost", "[::1]"},
            read_only=self._settings.read_only,
        )

    def __call__(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        return asyncio.run(self._call(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()}))

    async def _call(self, method: str, path: str, body: object, headers: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.guard, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8799", trust_env=False) as client:
            data = urlencode(body) if isinstance(body, dict) else body
            if data is not None:
                headers.setdefault("content-type", "application/x-www-form-urlencoded")
            return await client.request(method, f"http://127.0.0.1:8799{path}", content=data, headers=headers)  # type: ignore[arg-type]

    def close(self) -> None:
        """Close the logs and everything that the application has open, as a server does at its end."""

        async def end() -> None:
            async with self.app.router.lifespan_context(self.app):
                pass

        asyncio.run(end())

    def get(self, path: str) -> str:
        """Return a page that must exist."""
        answer = self("GET", path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.text

    def post(self, path: str, **form: str) -> httpx.Response:
        """Send a form of one of our pages."""
        return self("POST", path, form, **SAME)


@pytest.fixture
def dashboard(log: Path) -> Iterator[Caller]:
    """The dashboard of the log, without a token."""
    caller = Caller(log)
    yield caller
    caller.close()


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every element of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]
