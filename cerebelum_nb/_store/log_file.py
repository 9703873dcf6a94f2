"""A log's file: its absolute path, whether it is still the file that was opened, and what disk it is on.

There is no SQL here. Everything is derived from the given name and from what the operating system reports about it.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path

from .._core.record import frozen
from ..errors import StoreError

__all__ = [
    "MEMORY",
    "FileIdentity",
    "create_private",
    "free_bytes",
    "has_other_names",
    "here",
    "journal_of",
    "network_file_system",
    "path_of",
    "readable_as",
    "refuse_special",
]

MEMORY = ":memory:"
_MOUNTS = Path("/proc/self/mountinfo")

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/|file:")  # two letters at least: C:/ is a Windows drive
_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})|%\w+%" if os.name == "nt" else r"\$(\w+|\{[^}]*\})")
_NETWORK = {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
            "nfs4", "smb3", "smbfs", "vboxsf", "virtiofs"}  # fmt: skip


def path_of(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a log as a user wrote it; ``:memory:`` stays as it is.

    ``~`` and ``$VARIABLES`` are expanded. The working directory matters only now, when the log is opened.

    Raises:
        StoreError: it is the URL of another database, names no file, or uses a variable that is not set.

    Example:
        >>> path_of("/tmp/../srv/history.db")
        '/srv/history.db'
    """
    name = os.fspath(path)
    if name == MEMORY:
        return name
    if not isinstance(name, str):
        raise StoreError(f"The path of a log must be text, not bytes: {name!r}.")
    if name.startswith("temporal://"):
        core = name.removeprefix("temporal://")
        raise StoreError(
            f"{name!r} is a cluster, and a log is one SQLite file on this machine. Copy what runs there into a log "
            f"with\n\n    cerebelum follow --once --core {core}\n\n"
            f"or read them there: commands have --core, programs ExecutionClient({core!r})"
        )
    if url := _URL.match(name):
        raise StoreError(
            f"{name!r} is a URL, and a log is one SQLite file on this machine. "
            + (
                "Give its path alone, such as connect('history.db')."
                if url[0].startswith(("sqlite", "file"))
                else "Other databases are not supported. Give a path, such as connect('history.db')."
            )
        )
    if not name.strip() or "\0" in name:
        raise StoreError(f"{name!r} names no file. Give the path of a log, or of a new file.")
    full = os.path.expanduser(os.path.expandvars(name))  # noqa: PTH111  # Path.expanduser raises for an unknown user
    unset = _VARIABLE.search(full)
    if unset and (unset.start() == 0 or not Path(full).parent.exists()):  # a folder may have a $ in its name
        raise StoreError(
            f"The path {name!r} of the log uses {unset[0]}, which is not set. Set it, or give the path in full."
        )
    if full.startswith("~"):
        raise StoreError(f"The path {name!r} of the log begins with ~, and there is no such home. Give it in full.")
    if _is_on_the_drive(found := os.path.normpath(here() / full)):
        raise StoreError(
            f"A log cannot be in {_DRIVE}, where JupyterLite shows its files: SQLite cannot write there. Name one in "
            f"the memory of the page, such as connect('/tmp/history.db'), and copy it to {_DRIVE} once it is closed."
        )
    return found


def journal_of(path: str | os.PathLike[str]) -> str:
    """Return the -wal file of a log: SQLite puts it beside the file itself, not beside a symbolic link to it."""
    return f"{os.path.realpath(path)}-wal"


def refuse_special(path: str) -> None:
    """Raise StoreError if there is something at a path, and it is not a regular file."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (OSError, ValueError):  # SQLite reports what is wrong
        return
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a device or the like"
        raise StoreError(f"{path} is {kind}, and a log is a file. Give the path of a log, or of a new file.")


def has_other_names(path: str | os.PathLike[str]) -> bool:
    """Whether hard links give a file other names, so that each name has its own -wal file."""
    try:
        return os.stat(path).st_nlink > 1  # noqa: PTH116
    except OSError:
        return False


def here() -> Path:
    """Return the folder that the relative path of a log begins in: the working directory.

    In JupyterLite the working directory is on a drive that stores whole files and does not share a writer's changes; a
    database there is damaged at once (seen with JupyterLite 0.8). So there it is the home folder, in the page's memory.
    """
    return Path.home() if _is_on_the_drive(os.getcwd()) else Path.cwd()  # noqa: PTH109


_DRIVE = "/drive"


def _is_on_the_drive(path: str) -> bool:
    return sys.platform == "emscripten" and (path + "/").startswith(_DRIVE + "/")


@frozen
class FileIdentity:
    """Which file a path led to when it was opened: a device and an inode."""

    device: int
    inode: int

    @classmethod
    def of(cls, path: str) -> FileIdentity | None:
        """Return the file that a path leads to now; None if there is none.

        Raises:
            OSError: that cannot be determined now (permissions, a network file system that is down).
        """
        try:
            found = os.stat(path)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            return None
        return cls(found.st_dev, found.st_ino)


def create_private(path: str) -> None:
    """Create a file that only this user may read, unless it exists; SQLite gives its journals the same mode.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: it cannot be created.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, stat.S_IRUSR | stat.S_IWUSR))
    except FileExistsError:
        pass


def readable_as(log: Path | None, target: Path) -> int:
    """Return the mode for a file made from a log: that of the file it replaces, else that of the log."""
    for like in (target, log):
        if like is not None and like.exists():
            return stat.S_IMODE(like.stat().st_mode) & 0o666
    return stat.S_IRUSR | stat.S_IWUSR


def free_bytes(path: str | os.PathLike[str]) -> int | None:
    """Return the free space for this user on a file's disk; None if that is unknown."""
    from shutil import disk_usage  # slow to import, and rarely needed

    try:
        return disk_usage(Path(path).absolute().parent).free
    except OSError:
        return None


def network_file_system(path: str | os.PathLike[str]) -> str:
    """Name the network or FUSE file system that a file is on; "" for a local disk, or if that is unknown."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        place = os.path.realpath(path)
    except OSError:
        return ""
    best, kind = "", ""
    for line in mounts:  # proc(5): "36 35 98:0 /root /mount/point options [tags] - type source options"
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        where = re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), fields[4])
        inside = place == where or place.startswith(where.rstrip("/") + "/")
        if inside and len(where) >= len(best):  # of two mounts at one place the later one counts
            best, kind = where, after.split(" ")[0]
    return kind if kind in _NETWORK or (kind.startswith("fuse") and kind != "fuseblk") else ""
