"""Releases of code on a cluster: an execution stays with workers of the release with which it began.

This is Temporal's worker versioning with one deployment per workflow: a run is pinned to the version that is current
when it starts. A resume is a new run, so it goes to the version that is current then.
"""

from __future__ import annotations

import asyncio
import re
import time

from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkerDeploymentConfig

from ..errors import CerebelumError, StoreError

__all__ = ["check_release", "deployment", "make_current"]

_SECONDS = 30.0
_AGAIN_SECONDS = 0.1


def check_release(release: str) -> str:
    """Check the name of a release and return it.

    Raises:
        CerebelumError: it is not a short text of letters, digits, ``.``, ``_``, ``+`` and ``-``.

    Example:
        >>> check_release("2026.11.29-1")
        '2026.11.29-1'
    """
    if release and re.fullmatch(r"[\w.+-]{1,100}", release, re.ASCII) is None:
        raise CerebelumError(
            f"a release is a short text of letters, digits, '.', '_', '+' and '-', such as '2026.11.29' or the hash "
            f"of a commit, not {release!r}"
        )
    return release


def deployment(workflow: str, release: str) -> WorkerDeploymentConfig:
    """Return the deployment of a worker: its workflow and its release."""
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=_name(workflow), build_id=release),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


async def make_current(client: Client, workflow: str, release: str) -> None:
    """Send new runs of a workflow to a release, one of whose workers is polling.

    Raises:
        StoreError: the server does not know the release, or has no worker versioning.
    """
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace,
        deployment_name=_name(workflow),
        build_id=release,
        identity=client.identity,
        ignore_missing_task_queues=True,
    )
    until = time.monotonic() + _SECONDS
    while True:
        try:
            await client.workflow_service.set_worker_deployment_current_version(request)
        except RPCError as error:
            # The server learns of a version from its first polls.
            unknown = error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION)
            if not unknown or time.monotonic() > until:
                raise StoreError(
                    f"release {release} of workflow '{workflow}' cannot be made the current one: {error.message}. "
                    f"Temporal's worker versioning needs server 1.28 or later. Without --release (release=), "
                    f"executions continue on any worker"
                ) from error
            await asyncio.sleep(_AGAIN_SECONDS)
        else:
            return


def _name(workflow: str) -> str:
    return f"cerebelum-{workflow}"
