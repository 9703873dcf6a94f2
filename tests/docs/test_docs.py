"""README and docs are executed, page by page, each in its own process and folder."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from ..programs import FRAMES, run

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_the_page_shows_runs(page: Path, tmp_path: Path) -> None:
    runner = Path(__file__).with_name("run_page.py")
    command = [sys.executable, "-W", "error", runner, page]
    done = run(command, cwd=tmp_path, capture_output=True, text=True, imports=FRAMES)
    if done.returncode:
        pytest.fail(f"{name(page)}\n{done.stdout}{done.stderr}", pytrace=False)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name)
def test_its_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
