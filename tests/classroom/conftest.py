"""A lesson in its own folder, and runs for its log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cerebelum_nb.classroom import Lesson


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Lesson]]:
    """Begin a lesson; its log is closed at the end."""
    begun: list[Lesson] = []

    def start(name: str, folder: Path = tmp_path) -> Lesson:
        begun.append(Lesson(name, folder))
        return begun[-1]

    yield start
    for lesson in begun:
        lesson.close()
