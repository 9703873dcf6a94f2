"""Run workflows across machines, on a cluster of workers around a Temporal server.

Needs ``pip install 'cerebelum_nb[temporal]'``. A worker in a separate process is ``cerebelum worker MODULE``; behind
the cells of a notebook it is::

    from cerebelum_nb.distributed import Worker
    worker = Worker("localhost:7233").register_workflow(deploy).start()
    result = await deploy.execute(inputs, distributed=True)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ._client.client import ExecutionClient
from ._client.status import ExecutionStatus
from ._distributed.executor import DistributedExecutor
from ._distributed.remote import open_remote
from ._distributed.worker import Worker
from ._store.base import Store
from ._workflow.result import Result
from ._workflow.workflow import Workflow

__all__ = ["DistributedExecutor", "Worker", "WorkflowRegistry"]


class WorkflowRegistry(ExecutionClient):
    """Query and control the executions of a cluster: an ``ExecutionClient`` for it.

    Args:
        core_url: HOST:PORT of the Temporal server; by default ``$CEREBELUM_CORE_URL``, else ``localhost:7233``.

    Raises:
        StoreError: no Temporal server can be reached.
    """

    def __init__(self, core_url: str | None = None) -> None:
        remote: Store = open_remote(core_url)
        super().__init__(remote)
        self._core_url = remote.location

    async def get_active_workflows(self) -> list[ExecutionStatus]:
        """List every execution that runs, sleeps or waits for an approval, newest first."""
        return await self.list_active_workflows()

    async def resume(
        self,
        workflow: Workflow,
        execution_id: str,
        *,
        rerun: str | Collection[str] = (),
        repeat: Collection[str] = (),
        mark_done: Mapping[str, Any] | None = None,
    ) -> Result:
        """Resume an execution on the cluster, and wait until it is done.

        Args:
            workflow: the workflow of the execution.
            execution_id: its id.
            rerun: as for ``workflow.resume``, like the others.
            repeat: likewise.
            mark_done: likewise.

        Raises:
            As ``workflow.resume``.
        """
        executor = DistributedExecutor(self._core_url)
        return await executor.resume(workflow, execution_id, rerun=rerun, repeat=repeat, mark_done=mark_done)
