"""The form to decide an approval in a notebook; a text where there are no widgets."""

from __future__ import annotations

import asyncio
import shlex
from typing import Any

from .._core.fold import fold
from .._engine.approvals import OpenApproval, decide, open_approvals, wait_for_validation
from .._engine.hints import called, resume_call
from .._host.caller import shell
from .._host.frontend import Audience, audience
from .._store.base import Store
from .._store.connect import resolve_store
from .._text.html import Html, escape
from .._text.json_text import indented, parse
from .._text.times import utc
from ..errors import ApprovalError, CerebelumError

__all__ = ["approval_form"]


def approval_form(execution_id: str, *, store: Store | None = None, step: str | None = None) -> Any:
    """Show the approval that an execution waits for, with buttons to approve and reject it.

    Args:
        execution_id: its id or an unambiguous prefix.
        store: the log; by default the session's.
        step: the step to decide for, if several are waiting.

    Returns:
        A widget in a notebook; elsewhere, or where nobody can press a button, an object whose repr says what to decide
        and how.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        ApprovalError: it is not waiting for an approval.

    Example:
        >>> import asyncio
        >>> from cerebelum_nb import wait_for_approval, step, workflow
        >>> from cerebelum_nb.testing import MemoryStore
        >>> @step
        ... async def wait():
        ...     await wait_for_approval("budget", data={"price": 5})
        >>> @workflow
        ... def slow(wf):
        ...     wf.timeline(wait)
        >>> async def main():
        ...     run = slow.start(store=(log := MemoryStore()), execution_id="k1")
        ...     while run.status != "WAITING_FOR_APPROVAL":
        ...         await asyncio.sleep(0)
        ...     form = approval_form("k1", store=log)
        ...     run.cancel()
        ...     return form
        >>> asyncio.run(main())
        wait asks for approval (budget)
        {
          "price": 5
        }
        cerebelum approve k1, or cerebelum reject k1
    """
    log = resolve_store(store)
    found = log.execution(execution_id).execution_id
    waiting = [a for a in open_approvals(fold(log.events(found))) if step in (None, a.step)]
    if not waiting:
        raise ApprovalError(f"execution {found} is not waiting for an approval")
    if audience() is not Audience.NOTEBOOK:
        return Question(found, waiting[0])
    return _widget(log, found, waiting[0])


class Question:
    """The request and how to decide it, as text and HTML."""

    def __init__(self, execution_id: str, approval: OpenApproval) -> None:
        self._execution_id, self._approval = execution_id, approval

    def __repr__(self) -> str:
        approval = self._approval
        lines = [f"{approval.step} asks for approval ({approval.approval_type})"]
        if shown := _data_text(approval):
            lines.append(shown)
        if approval.due_at is not None:
            lines.append(f"until {utc(approval.due_at)}")
        quoted = shlex.quote(self._execution_id)
        return "\n".join([*lines, f"cerebelum approve {quoted}, or cerebelum reject {quoted}"])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": Html("<pre>{}</pre>").format(repr(self))}


def _widget(store: Store, execution_id: str, approval: OpenApproval) -> Any:
    import ipywidgets

    head = ipywidgets.HTML(
        Html("<b>{}</b> asks for approval: <b>{}</b><pre>{}</pre>").format(
            approval.step, approval.approval_type, _data_text(approval)
        )
    )
    wide = {"width": "32em", "max_width": "100%"}
    hint = 'a response as JSON, such as {"size": "small"}'
    # A value is sent when its field loses the focus, before a button is pressed. If every key were sent, the last ones
    # could arrive after the click.
    whole: dict[str, Any] = {"continuous_update": False, "layout": wide}
    response = ipywidgets.Text(placeholder=hint, description="Response", **whole)
    comment = ipywidgets.Text(placeholder="why", description="Comment", **whole)
    approve = ipywidgets.Button(description="Approve", button_style="success")
    reject = ipywidgets.Button(description="Reject", button_style="danger")
    message = ipywidgets.HTML()
    inputs = (response, comment, approve, reject)
    box = ipywidgets.VBox([head, response, comment, ipywidgets.HBox([approve, reject]), message])
    tasks: set[asyncio.Task[None]] = set()
    for field in (response, comment):
        _acknowledge(field)

    def say(text: str) -> None:
        message.value = escape(text)

    def enable(enabled: bool) -> None:
        for widget in inputs:
            widget.disabled = not enabled

    async def answer_with(approved: bool) -> None:
        enable(False)
        try:
            answer = _answer(response.value, comment.value)
            decision = await decide(
                store,
                execution_id,
                approve=approved,
                response=answer if approved else None,
                reason=comment.value or None,
                step=approval.step,
            )
            say("Approved ..." if approved else "Rejected.")
            decision = await wait_for_validation(store, decision)
        except ValueError as error:
            say(f"The response is not JSON: {error}")
            enable(True)
        except CerebelumError as error:
            say(str(error))
            enable("still open" in str(error))
        else:
            did = f"{'Approved' if approved else 'Rejected'} by {decision.by or 'you'}."
            later = " It is checked when the execution is resumed." if decision.pending else ""
            say(did + later + _next(store, execution_id))

    def press(approved: bool) -> None:
        task = asyncio.get_running_loop().create_task(answer_with(approved))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    approve.on_click(lambda _: press(True))
    reject.on_click(lambda _: press(False))
    return box


def _next(store: Store, execution_id: str) -> str:
    """Say how to resume an execution that no process is running."""
    if store.execution(execution_id).holder is not None:
        return ""
    state = fold(store.events(execution_id))
    if state.lifecycle.is_final:
        return ""
    call = resume_call(called(state), execution_id)
    return f" A scheduler resumes it, or {call}"


def _acknowledge(field: Any) -> None:
    """Tell the front end that its message has arrived: until then it holds back the next one.

    ipykernel 7.4 does not do so for a message that it handles while a cell runs.
    """
    kernel = getattr(shell(), "kernel", None)
    if kernel is None:
        return

    def receive(message: dict[str, Any]) -> None:
        field._handle_msg(message)
        kernel.session.send(kernel.iopub_socket, "status", {"execution_state": "idle"}, parent=message)

    field.comm.on_msg(receive)


def _answer(response: str, comment: str) -> Any:
    if response.strip():
        return parse(response)
    return {"comment": comment} if comment.strip() else None


def _data_text(approval: OpenApproval) -> str:
    if approval.data is None:
        return ""
    if not approval.data.is_json:
        return approval.data.preview
    return indented(approval.data.json)
