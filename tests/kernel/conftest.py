"""One kernel per module; each test uses it in its own folder with its own log, after the module's ``SETUP`` cell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .live import LiveKernel, live_kernel

FRESH = """
%reset -f
import cerebelum_nb, os, uuid
os.chdir(os.environ["BASE"])
os.mkdir(n := uuid.uuid4().hex)
os.chdir(n)
cerebelum_nb.connect("log.db");
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveKernel]:
    with live_kernel(tmp_path_factory.mktemp("kernel")) as kernel:
        assert kernel.run("import os; os.environ['BASE'] = os.getcwd()").ok
        yield kernel


@pytest.fixture
def kernel(shared: LiveKernel, request: pytest.FixtureRequest) -> LiveKernel:
    for cell in (FRESH, request.module.SETUP):
        assert shared.run(cell).ok
    return shared
