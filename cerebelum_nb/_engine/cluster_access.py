"""Access to the cluster from the layers below its package: the store of an execution that runs there, its modules."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .._store.base import ExecutionRow, Store
from ..errors import CerebelumError

__all__ = ["authoritative_store", "load_cluster_module"]


def authoritative_store(store: Store, row: ExecutionRow) -> Store:
    """Return the store to which signals and decisions for an execution are appended: its log, or its cluster.

    Args:
        store: the log.
        row: the execution's row in it.
    """
    if row.holder is None or not row.holder.is_cluster or store.location == row.holder.host:
        return store
    remote: Store = load_cluster_module("remote").open_remote(row.holder.host)
    return remote


def load_cluster_module(module: str) -> Any:
    """Import a module of ``_distributed``, which is a layer above this one and needs the extra ``temporal``.

    Raises:
        CerebelumError: the extra is not installed.
    """
    try:
        return import_module(f"cerebelum_nb._distributed.{module}")
    except ImportError as error:
        if error.name != "temporalio":
            raise
        raise CerebelumError(str(error)) from None
