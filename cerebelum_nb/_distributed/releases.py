"""Releases of code on a cluster: an execution stays with workers of the release with which it began.

It is Temporal's worker versioning, with one deployment for each workflow: what begins goes to the current version, and
is pinned to it. A resume is a new run there, so it goes to the version that is current then.
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
    """Return a release as it was given.

    Raises:
        CerebelumError: it is no short text of letters, digits, ``.``, ``_``, ``+`` and ``-``.

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
    """Say which version of a workflow's deployment a worker is."""
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=_name(workflow), build_id=release),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


async def make_current(client: Client, workflow: str, release: str) -> None:
    """Have what begins from now on go to a release; its first worker has begun to poll.

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
            # The server learns of a version by its first polls.
            unknown = error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION)
            if not unknown or time.monotonic() > until:
                raise StoreError(
                    f"release {release} of workflow '{workflow}' cannot be made the current one: {error.message}. "
                    f"Temporal's worker versioning needs a server of 1.28 or later; without --release (release=) any "
                    f"worker takes up anything"
                ) from error
            await asyncio.sleep(_AGAIN_SECONDS)
        else:
            return


def _name(workflow: str) -> str:
    return f"cerebelum-{workflow}"
