"""The application: the page of each address, and the messages for what does not exist or is not allowed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from ..errors import (
    ApprovalError,
    CerebelumError,
    ExecutionBusyError,
    ExecutionNotFoundError,
    ResumeError,
    ScheduleNotFoundError,
    SignalError,
    StoreError,
)
from . import acting, scheduled
from .api import Api
from .metrics import Metrics
from .names import from_path, to_path
from .pages import Pages
from .rendering import STATIC, Settings
from .starting import Problems, find_startable, start_execution

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .logs import Logs

__all__ = ["application"]

_ACTIONS = ("approve", "reject", "signal", "tag", "cancel", "resume", "fork", "rollback")

_MAY_NOT_RUN = "Start the dashboard with --allow-resume to run workflows from here."

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (ExecutionNotFoundError, 404),
    (ScheduleNotFoundError, 404),
    (ApprovalError, 409),
    (ResumeError, 409),
    (SignalError, 409),
    (ExecutionBusyError, 409),
    (StoreError, 503),
    (ValueError, 400),
    (CerebelumError, 409),
)


def application(logs: Logs, settings: Settings) -> Starlette:
    """Make the application. It has no access control of its own: see ``guard``."""
    runs = acting.Runs()
    pages, api, metrics = Pages(logs, settings, runs), Api(logs), Metrics(logs)

    def who_asks(request: Request) -> str:
        return settings.who or (request.headers.get(settings.user_header, "") if settings.user_header else "")

    async def act(request: Request) -> dict[str, object]:
        """Act on an execution, and return what was done."""
        log, reader = await run_in_threadpool(pages.reader, request)
        what = request.path_params["what"]
        who = who_asks(request)
        if what not in _ACTIONS:
            raise HTTPException(404)
        fields = acting.read_fields(await request.body(), request.headers.get("content-type", ""))
        began = time.time_ns() // 1000
        done: dict[str, object] = {"execution_id": reader.id, "action": what}
        match what:
            case "approve" | "reject":
                await run_in_threadpool(acting.decide, log, reader.id, fields, who, approve=what == "approve")
            case "signal":
                done["sent"] = await run_in_threadpool(acting.signal, log, reader.id, fields, who)
            case "tag":
                done["tags"] = await run_in_threadpool(acting.tag, log, reader.id, fields, who)
            case "cancel":
                await acting.cancel(log, reader.id, fields, who)
            case _ if not settings.allow_resume:
                raise HTTPException(403, _MAY_NOT_RUN)
            case _:
                await run_in_threadpool(runs.start, log, reader.id, what, acting.command_options(what, fields))
                if what == "fork":
                    done["fork"] = await run_in_threadpool(acting.wait_for_fork, log, reader.id, began)
        log.feed.refresh()
        return done

    async def act_on_schedule(request: Request) -> dict[str, object]:
        """Pause or resume a schedule, and return what was done."""
        log, what = pages.log(request), request.path_params["what"]
        if what not in scheduled.ACTIONS:
            raise HTTPException(404)
        fields = acting.read_fields(await request.body(), request.headers.get("content-type", ""))
        name = from_path(request.path_params["id"])
        by = acting.actor_of(fields, who_asks(request))
        await run_in_threadpool(scheduled.change_schedule, log, name, what, fields, by)
        return {"schedule_id": name, "action": what}

    async def schedule_by_form(request: Request) -> Response:
        await act_on_schedule(request)
        return RedirectResponse("../../schedules", 303)

    async def schedule_by_program(request: Request) -> Response:
        return JSONResponse(await act_on_schedule(request))

    async def start(request: Request) -> tuple[str, Problems, acting.Fields]:
        """Start a workflow; return its id, the problems with the fields, and the fields."""
        if not settings.allow_resume:
            raise HTTPException(403, _MAY_NOT_RUN)
        given = acting.read_fields(await request.body(), request.headers.get("content-type", ""))
        log, name = pages.log(request), from_path(request.path_params["name"])
        asked = await run_in_threadpool(find_startable, log, name)
        try:
            execution_id, problems = await run_in_threadpool(start_execution, log, runs, asked, given)
        except ValueError as error:
            return "", {"": (str(error),)}, given
        log.feed.refresh()
        return execution_id, problems, given

    async def start_by_form(request: Request) -> Response:
        execution_id, problems, given = await start(request)
        if problems:
            return await run_in_threadpool(pages.start, request, given, problems)
        log = pages.log(request)
        if not runs.is_recorded(log, execution_id):
            state = runs.describe(log, execution_id)
            text = f"{state} It is still loading the code. Reload this page to see the outcome."
            return _message(pages, request, 202, text)
        return RedirectResponse(f"../../e/{to_path(execution_id)}", 303)

    async def start_by_program(request: Request) -> Response:
        execution_id, problems, _ = await start(request)
        if problems:
            listed = [problem for found in problems.values() for problem in found]
            return JSONResponse({"error": "\n".join(listed), "problems": listed}, 422)
        return JSONResponse({"execution_id": execution_id, "action": "start"})

    async def by_form(request: Request) -> Response:
        done = await act(request)
        return RedirectResponse(f"../{to_path(str(done.get('fork') or done['execution_id']))}", 303)

    async def by_program(request: Request) -> Response:
        return JSONResponse(await act(request))

    async def failed(request: Request, error: Exception) -> Response:
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        return _message(pages, request, status, str(error))

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = "There is no such page." if error.status_code == 404 else error.detail
        return _message(pages, request, error.status_code, message)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        metrics.close()
        logs.close()

    one = "/{log}/e/{id}"
    routes = [
        Route("/", pages.index),
        Route("/static/{name}", _static),
        Route("/metrics", metrics.of_only_log),
        Route("/{log}", pages.slash),
        Route("/{log}/", pages.executions),
        Route("/{log}/feed", pages.list_feed),
        Route(one, pages.execution),
        Route(f"{one}/feed", pages.execution_feed),
        Route(f"{one}/at", pages.travel),
        Route(f"{one}/at/{{version}}", pages.earlier),
        Route(f"{one}/step/{{name}}", pages.step),
        Route(f"{one}/output/{{which}}/{{name}}", pages.output),
        Route(f"{one}/value/{{version}}", pages.value),
        Route(f"{one}/runbook", pages.runbook),
        Route(f"{one}/export.{{ending}}", pages.export),
        Route("/{log}/diff", pages.diff),
        Route("/{log}/w/{name}", pages.workflow),
        Route("/{log}/w/{name}/start", pages.start),
        Route("/{log}/w/{name}/start", start_by_form, methods=["POST"]),
        Route("/{log}/api/workflows/{name}/start", start_by_program, methods=["POST"]),
        Route("/{log}/schedules", pages.schedules),
        Route("/{log}/s/{id}/{what}", schedule_by_form, methods=["POST"]),
        Route("/{log}/api/schedules", api.schedules),
        Route("/{log}/api/schedules/{id}/{what}", schedule_by_program, methods=["POST"]),
        Route("/{log}/api/executions", api.executions),
        Route("/{log}/api/executions/{id}", api.execution),
        Route("/{log}/api/executions/{id}/events", api.events),
        Route("/{log}/api/executions/{id}/{what}", by_program, methods=["POST"]),
        Route("/{log}/metrics", metrics.of_log),
        Route(f"{one}/{{what}}", by_form, methods=["POST"]),
    ]
    handlers: dict[type[Exception] | int, Callable[[Request, Exception], Awaitable[Response]]] = {
        HTTPException: refused,
        **{kind: failed for kind, _ in _STATUS},
    }
    made = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    made.router.redirect_slashes = False  # its redirects name a host and a path, which a proxy may have changed
    return made


def _message(pages: Pages, request: Request, status: int, message: str) -> Response:
    if "/api/" in request.url.path:
        return JSONResponse({"error": message}, status)
    heading = {202: "Started", 404: "Not found", 403: "Not allowed", 409: "Not possible", 503: "The log cannot be read"}
    back = "../" + request.path_params["id"] if request.method == "POST" and "id" in request.path_params else ""
    return pages.page(
        "message.html",
        request,
        status=status,
        heading=heading.get(status, "Invalid request"),
        message=message,
        back=back,
    )


async def _static(request: Request) -> Response:
    found = STATIC.get(request.path_params["name"])
    if found is None:
        raise HTTPException(404)
    body, kind = found
    return Response(body, media_type=kind, headers={"cache-control": "private, max-age=86400"})
