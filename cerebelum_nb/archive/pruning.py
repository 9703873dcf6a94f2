"""``prune``: delete finished executions, and give their room back.

They are deleted in small transactions, each of which leaves a whole log, so that other processes write on meanwhile
and a death in the middle costs nothing. Only executions at rest are touched, which each transaction checks again.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import batched
from typing import Any

from ..core.duration import seconds
from ..core.model import ExecutionState
from ..engine.clock import current_clock
from ..errors import StoreError
from ..history.arguments import count, names
from ..store.base import Store
from ..store.sqlite import SqliteStore
from .packing import file_log
from .record import is_here, read, snapshot, write

__all__ = ["Pruned", "prune"]
