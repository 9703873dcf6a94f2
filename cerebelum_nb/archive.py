"""Keeping a log and carrying runs elsewhere: export, pack and unpack, prune, verify, repair.

    from cerebelum_nb import archive
    archive.export("k3v9")
    archive.verify()

Every function works on the session's log, or on the one given as ``store=`` (a log, or the path of one). An id may be
shortened as long as it is unambiguous. Only public functions live here.
"""

from __future__ import annotations

from ._archive.export import export
from ._archive.pack import Pack, Unpacked, pack, unpack
from ._archive.prune import Pruned, prune
from ._archive.repair import repair
from ._archive.verify import Finding, Verification, verify

__all__ = [
    "Finding",
    "Pack",
    "Pruned",
    "Unpacked",
    "Verification",
    "export",
    "pack",
    "prune",
    "repair",
    "unpack",
    "verify",
]
