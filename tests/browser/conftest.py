"""One JupyterLab and one browser a module: opening the first page takes most of the time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext

from .lab import Lab, running_browser, running_lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    with running_browser(tmp_path_factory.mktemp("browser")) as context:
        yield context


@pytest.fixture
def browser(chromium: BrowserContext) -> Iterator[BrowserContext]:
    yield chromium
    for page in chromium.pages[1:]:  # without its last page the browser ends
        page.close()
