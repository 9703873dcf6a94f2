"""Names and settings on which callers, drivers and workers must agree, and the address of the cluster."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from datetime import timedelta

from ..errors import CerebelumError

__all__ = [
    "ATTEMPT",
    "CHILD_DRIVER",
    "DEFAULT_URL",
    "DRIVER",
    "DRIVER_VERSION",
    "FOREVER",
    "JOIN",
    "LIST",
    "ROUTE",
    "SEARCH_STATE",
    "SEARCH_WORKFLOW",
    "Terms",
    "activity_id",
    "core_url_of",
    "queue_of",
]

DRIVER, CHILD_DRIVER = "cerebelum", "cerebelum.child"
"""The workflow types: of an execution, and of a child."""
ATTEMPT, ROUTE, LIST, JOIN = "cerebelum.attempt", "cerebelum.route", "cerebelum.list", "cerebelum.join"
"""The activities: run a step, choose its route, list the items of a foreach, join the items' results."""
SEARCH_STATE, SEARCH_WORKFLOW = "CerebelumState", "CerebelumWorkflow"
"""Search attributes, both of type Keyword."""
DRIVER_VERSION = 1
"""1: lists are updated during a long step, and a child whose run was terminated is noticed."""
FOREVER = timedelta(days=3650)
DEFAULT_URL = "localhost:7233"
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings of an execution on a cluster; they travel with it. Times are in seconds.

    Attributes:
        heartbeat: how long a worker may be silent before it counts as dead; also how long the only worker that can run
            an attempt may take to accept it.
        release_after: how long a step may wait in its worker; a longer wait leaves it.
        queues: the group of workers that runs a step, by the step's name.
        before: the step before which the execution pauses.
        most_at_work: how many attempts of an execution are scheduled at a time; the server takes 2,000.
        driver: the version of the driver that the execution began with. The history of an open run must replay, so what
            a later version adds depends on it.
    """

    heartbeat: float = 10.0
    release_after: float = 2.0
    queues: dict[str, str] | None = None
    most_at_work: int = 1000
    before: str = ""
    driver: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return the settings as plain data."""
        return {
            "heartbeat": self.heartbeat,
            "release_after": self.release_after,
            "queues": self.queues or {},
            "most_at_work": self.most_at_work,
            "before": self.before,
            "driver": self.driver,
        }

    @classmethod
    def of(cls, data: dict[str, object]) -> Terms:
        """Read settings; those that a newer release added are left out."""
        return replace(cls(), **{name: data[name] for name in cls.__slots__ if name in data})  # type: ignore[arg-type]


def queue_of(workflow: str, group: str = "") -> str:
    """Return the task queue of a workflow, or of a group of its workers.

    Example:
        >>> queue_of("deploy"), queue_of("deploy", "gpu")
        ('cerebelum:deploy', 'cerebelum:deploy:gpu')
    """
    return f"cerebelum:{workflow}:{group}" if group else f"cerebelum:{workflow}"


def activity_id(step: str, visit: int, attempt: int) -> str:
    """Return the id of an attempt, which Temporal's pages show; the server takes 1,000 bytes.

    Example:
        >>> activity_id("deploy[ams3]", 1, 2)
        'deploy[ams3]:1:2'
    """
    if len(step) > _LONGEST_NAME:
        digest = hashlib.blake2b(step.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
        step = f"{step[:_LONGEST_NAME]}~{digest}"
    return f"{step}:{visit}:{attempt}"


def core_url_of(url: str | None) -> str:
    """Return HOST:PORT of the cluster: as given, else ``$CEREBELUM_CORE_URL``, else the local one.

    Raises:
        CerebelumError: it is not HOST:PORT.

    Example:
        >>> core_url_of("temporal://10.0.0.5:7233")
        '10.0.0.5:7233'
    """
    given = url or os.environ.get("CEREBELUM_CORE_URL") or DEFAULT_URL
    bare = given.removeprefix("temporal://").rstrip("/")
    host, colon, port = bare.rpartition(":")
    if not colon:
        host, port = bare, "7233"
    if "://" in bare or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise CerebelumError(
            f"a core url is HOST:PORT, such as {DEFAULT_URL}, not {given!r}. It is where the Temporal server listens "
            f"(gRPC), not its web page"
        )
    return f"{host}:{port}"
