"""A log that is observed from outside."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def log(tmp_path):
    from observed import Log

    opened = Log(tmp_path / "log.db")
    yield opened
    opened.store.close()


@pytest.fixture
def receiver():
    from receiver import Receiver

    opened = Receiver()
    yield opened
    opened.close()
