"""The pages, and the feeds that keep them up to date."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from .._archive.export import exported
from .._core.events import EVENT_TYPES
from .._core.graph import owner_of
from .._workflow.execution_id import new_id
from ..errors import CerebelumError, StoreError
from .details import attempts_of, compare_states, items_of, runs_of, state_of, took_of, value_at
from .feed import Draw
from .listing import Wanted, counts, list_executions, workflows
from .names import from_path, to_path
from .parts import Document
from .reader import EVENTS
from .rendering import Settings, execution_document, list_document, render
from .scheduled import lines_of_schedules
from .starting import find_startable

if TYPE_CHECKING:
    from .acting import Fields, Runs
    from .logs import Logs, ShownLog
    from .reader import ExecutionReader, Picture
    from .starting import Problems

__all__ = ["Pages"]

_EVERY, _EVERY_SEARCH = 0.25, 2.0


class Pages:
    """The pages of a dashboard."""

    def __init__(self, logs: Logs, settings: Settings, runs: Runs) -> None:
        self._logs, self._settings, self._runs = logs, settings, runs

    # -- pages ----------------------------------------------------------------------------------------------

    def index(self, request: Request) -> Response:
        """Redirect to the only log, or list the logs with what happens in each."""
        self._logs.look_again()
        if len(self._logs) == 1:
            return RedirectResponse(f"./{next(iter(self._logs))}/")
        shown = []
        for log in self._logs.values():
            try:
                shown.append((log, counts(log), ""))
            except StoreError as error:
                shown.append((log, {}, str(error)))
        return self.page("logs.html", request, shown=shown)

    async def slash(self, request: Request) -> Response:
        """Redirect from the address of a log without the final slash."""
        return RedirectResponse(f"./{self.log(request).name}/")

    def executions(self, request: Request) -> Response:
        """Show the list."""
        log, wanted = self.log(request), Wanted.of(request.query_params)
        found = list_executions(log, wanted)
        document = list_document(log, found.entries, counts(log), root="./")
        with log.query() as db:
            names = workflows(db)
        return self.page(
            "list.html",
            request,
            log=log.name,
            wanted=wanted,
            document=document,
            older=wanted.but() + f"&before={found.before}" if found.before else "",
            workflows=names,
            schedules=len(log.store.schedules()),
            live=not wanted.before,
        )

    async def list_feed(self, request: Request) -> Response:
        """Send the changes of the list."""
        log, wanted = self.log(request), Wanted.of(request.query_params)

        def draw() -> Document:
            return list_document(log, list_executions(log, wanted).entries, counts(log), root="./")

        every = _EVERY_SEARCH if wanted.q or wanted.show in ("retrying", "interrupted") else _EVERY
        return await self._feed(request, log, f"list {wanted}", draw, every)

    def execution(self, request: Request) -> Response:
        """Show an execution."""
        log, reader = self.reader(request)
        document, picture = self._draw(log, reader)
        query = request.query_params
        type_, step, before = query.get("type", ""), query.get("step", ""), _number(query.get("before", ""))
        is_filtered = bool(type_ or step or before)
        found = reader.events(type_=type_, step=step, before=before, most=EVENTS + 1) if is_filtered else None
        last = found[EVENTS - 1].version if found is not None and len(found) > EVENTS else 0
        if found is None and picture.version > EVENTS:
            last = picture.version - EVENTS + 1
        asked = {"type": type_, "step": step, "before": str(last)}
        return self.page(
            "execution.html",
            request,
            log=log.name,
            id=reader.id,
            root="../",
            picture=picture,
            document=document,
            live=not document.over,
            feed=f"{to_path(reader.id)}/feed",
            found=None if found is None else found[:EVENTS],
            earlier=urlencode({k: v for k, v in asked.items() if v}, errors="surrogatepass") if last else "",
            wanted_type=type_,
            wanted_step=step,
        )

    async def execution_feed(self, request: Request) -> Response:
        """Send the changes of an execution."""
        log, reader = self.reader(request)

        def draw() -> Document:
            return self._draw(log, reader)[0]

        return await self._feed(request, log, f"one {reader.id}", draw, _EVERY)

    def earlier(self, request: Request) -> Response:
        """Show an execution as it was at an event; with ``?parts``, return its parts as JSON."""
        log, reader = self.reader(request)
        version = _number(request.path_params["version"])
        picture = reader.at(version)
        document = execution_document(picture, self._settings, root="../../../")
        if "parts" in request.query_params:
            return JSONResponse({"digest": document.digest, **document.since({})})
        return self.page(
            "execution.html",
            request,
            log=log.name,
            id=reader.id,
            root="../../../",
            picture=picture,
            document=document,
        )

    def travel(self, request: Request) -> Response:
        """Redirect to the page of the version in a form."""
        self.reader(request)
        return RedirectResponse(f"./at/{_number(request.query_params.get('version', ''))}", 303)

    def _draw(self, log: ShownLog, reader: ExecutionReader) -> tuple[Document, Picture]:
        picture = reader.now()
        process = self._runs.describe(log, reader.id)
        return execution_document(picture, self._settings, root="../", process=process), picture

    def step(self, request: Request) -> Response:
        """Show every attempt of a step, with everything it printed."""
        log, reader = self.reader(request)
        name = from_path(request.path_params["name"])
        found = attempts_of(log.store, reader.id, name)
        picture = reader.now()
        if not found and name not in {line.name for line in picture.lines}:
            raise HTTPException(404)
        return self.page(
            "step.html",
            request,
            log=log.name,
            id=reader.id,
            name=name,
            owner=owner_of(name),
            tries=[tried for tried in found if tried.attempt.step == name],
            items=items_of(found, name),
            workflow=picture.state.workflow,
            root="../../../",
        )

    def output(self, request: Request) -> Response:
        """Return what an attempt of a step printed, as a download."""
        log, reader = self.reader(request)
        name, which = from_path(request.path_params["name"]), request.path_params["which"]
        for one in attempts_of(log.store, reader.id, name):
            if one.attempt.step == name and which == f"{one.attempt.visit}.{one.attempt.attempt}":
                text = one.attempt.printed.encode("utf-8", "backslashreplace")
                return _file(text, "text/plain", f"{to_path(reader.id)}-{to_path(name)}.txt")
        raise HTTPException(404)

    def value(self, request: Request) -> Response:
        """Return a value as the log keeps it."""
        log, reader = self.reader(request)
        found = value_at(log.store, reader.id, _number(request.path_params["version"]))
        if found is None:
            raise HTTPException(404)
        body, ending, kind = found
        return _file(body, kind, f"{to_path(reader.id)}-{request.path_params['version']}.{ending}")

    def runbook(self, request: Request) -> Response:
        """Show the runbook, without its script."""
        log, reader = self.reader(request)
        headers = {"content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"}
        return Response(exported(log.store, reader.id, "html"), media_type="text/html", headers=headers)

    def export(self, request: Request) -> Response:
        """Return the events as JSON lines, or the steps as CSV."""
        log, reader = self.reader(request)
        ending = request.path_params["ending"]
        if ending not in ("jsonl", "csv"):
            raise HTTPException(404)
        kind = "text/csv" if ending == "csv" else "application/jsonl"
        return _file(exported(log.store, reader.id, ending), kind, f"{to_path(reader.id)}.{ending}")

    def diff(self, request: Request) -> Response:
        """Show two executions side by side."""
        log = self.log(request)
        wanted = [request.query_params.get(name, "").strip()[:300] for name in ("a", "b")]
        found = [state_of(log, id_) if id_ else None for id_ in wanted]
        rows = compare_states(found[0][1], found[1][1]) if found[0] and found[1] else []
        workflow = next((one[1].workflow for one in found if one), "")
        others = [entry.row for entry in list_executions(log, Wanted(workflow=workflow, limit=20)).entries]
        sides = [one and one[0] for one in found]
        return self.page("diff.html", request, log=log.name, sides=sides, rows=rows, others=others)

    def schedules(self, request: Request) -> Response:
        """Show the schedules of a log."""
        log = self.log(request)
        return self.page("schedules.html", request, log=log.name, lines=lines_of_schedules(log))

    def workflow(self, request: Request) -> Response:
        """Show the last runs of a workflow."""
        log, name = self.log(request), from_path(request.path_params["name"])
        runs = runs_of(log, name)
        if not runs.rows:
            raise HTTPException(404)
        return self.page("workflow.html", request, log=log.name, name=name, runs=runs, took=took_of, root="../")

    def start(self, request: Request, form: Fields | None = None, problems: Problems | None = None) -> Response:
        """Show the form that starts a workflow, with its problems if it was sent, or how to start it elsewhere."""
        log, name = self.log(request), from_path(request.path_params["name"])
        inputs = (form or {}).get("inputs")
        return self.page(
            "start.html",
            request,
            status=422 if problems else 200,
            log=log.name,
            asked=find_startable(log, name),
            form=form or {"id": new_id()},
            given=inputs if isinstance(inputs, str) else json.dumps(inputs) if inputs else "",
            problems=problems or {},
            root="../../",
        )

    # -- common parts ---------------------------------------------------------------------------------------

    def log(self, request: Request) -> ShownLog:
        """Return the log in an address."""
        return self._logs.named(request.path_params["log"])

    def reader(self, request: Request) -> tuple[ShownLog, ExecutionReader]:
        """Return the log, and a reader of the execution, in an address; the id may be a prefix."""
        log = self.log(request)
        row = log.store.execution(from_path(request.path_params["id"]))
        return log, log.readers[row.execution_id]

    def page(self, template: str, request: Request, *, status: int = 200, **given: Any) -> Response:
        """Render a page."""
        raw = request.scope.get("raw_path") or request.url.path.encode()
        path = raw.decode("latin-1").partition("?")[0].removeprefix(request.scope.get("root_path", ""))
        given.setdefault("log", "")
        given.setdefault("live", False)
        if "picture" in given:
            given.setdefault("span", f"{given['picture'].span:.3f}")
            given = {"found": None, "earlier": "", "wanted_type": "", "wanted_step": "", **given}
            given["types"] = list(EVENT_TYPES)
        body = render(
            template,
            up="../" * (path.count("/") - 1) or "./",
            logs=list(self._logs),
            settings=self._settings,
            now=time.time_ns() // 1000,
            **given,
        )
        return Response(body, status, media_type="text/html")

    async def _feed(self, request: Request, log: ShownLog, key: str, draw: Draw, every: float) -> Response:
        last = request.query_params.get("seen", "")[:40]
        if "once" in request.query_params:
            change = await log.feed.once(key, _with_trouble(draw), last)
            return Response(change, 200, media_type="application/json") if change else Response(status_code=204)
        if request.method == "HEAD":  # a stream would last until the viewer leaves
            return Response(media_type="text/event-stream")
        if log.feed.is_full:
            return Response("Too many pages are open.\n", 503, media_type="text/plain")
        last = request.headers.get("last-event-id", last)
        return StreamingResponse(
            log.feed.follow(key, _with_trouble(draw), last, every),
            media_type="text/event-stream",
            headers={"x-accel-buffering": "no"},
        )


def _with_trouble(draw: Draw) -> Draw:
    """Return a function that draws the error message if ``draw`` fails."""

    def drawn() -> Document:
        try:
            return draw()
        except CerebelumError as error:
            return Document(parts={"p-trouble": render("trouble.html", message=str(error)).decode()})

    return drawn


def _file(body: bytes, kind: str, name: str) -> Response:
    """Answer with a download, so that a browser does not open it as a page of this server."""
    headers = {
        "content-disposition": f'attachment; filename="{name}"',
        "content-security-policy": "sandbox; default-src 'none'",
    }
    return Response(body, media_type=kind, headers=headers)


def _number(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= 15):
        raise ValueError(f"a version must be the number of an event, not {text[:20]!r}")
    return int(text)
