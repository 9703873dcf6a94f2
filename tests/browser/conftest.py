"""One JupyterLab a module, one browser a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from .lab import Lab, running_browser, running_lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[BrowserContext]:
    with running_browser(tmp_path) as context:
        yield context
