"""`export`: an execution as a page, as lines and as tables."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from cerebelum_nb import archive, history
from cerebelum_nb._archive.export import exported
from cerebelum_nb._store.rows import decode
from cerebelum_nb.errors import StoreError

VOID = {"meta", "br", "path", "rect"}


class Page(HTMLParser):
    """A strict parser: every tag must be closed, and everything that the page loads is collected."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.text = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in ("src", "href", "action", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.text.append(data)


@pytest.mark.parametrize("name", ["done-1", "failed-1", "fat-1"])
def test_the_page_loads_nothing(store, tmp_path, name):
    text = archive.export(name, tmp_path / "run.html", store=store).read_text()
    page = Page(text)
    assert page.loads == []
    assert "url(" not in text
    assert "@import" not in text


def test_the_page_shows_what_happened(store, tmp_path):
    text = " ".join(Page(archive.export("failed-1", tmp_path / "run.html", store=store).read_text()).text)
    for told in (
        "failed-1",
        "It failed in",
        "RuntimeError: port 443 of <b>2026-11-20</b> is closed",  # as text, not as a tag
        "Traceback (most recent call last)",
        "Day(2026, 11, 20)",
        "building\nthe image",
        "def build(inputs):",
        "runs.deploy",
        f"All {len(store.events('failed-1'))} events",
        store.execution("failed-1").summary.workflow,
        archive.verify("failed-1", store=store).heads["failed-1"][1],
    ):
        assert told in text, told
    assert "s3cr3t-token" not in text


def test_the_page_says_what_to_do_next_until_there_is_nothing(store, tmp_path):
    failed = " ".join(Page(archive.export("failed-1", tmp_path / "failed.html", store=store).read_text()).text)
    assert "Fix 'verify' (it continues at line" in failed.partition("What to do next")[2]
    assert "cerebelum resume failed-1" in failed
    done = " ".join(Page(archive.export("done-1", tmp_path / "done.html", store=store).read_text()).text)
    assert "What to do next" not in done


def test_a_long_value_is_cut_in_the_middle(store, tmp_path):
    text = archive.export("fat-1", tmp_path / "run.html", store=store).read_text()
    assert "characters …" in text


def test_lines_lose_nothing(store, tmp_path):
    lines = archive.export("failed-1", tmp_path / "run.jsonl", store=store).read_text().splitlines()
    told = [json.loads(line) for line in lines]
    rows = [
        (
            line["type"],
            line["step"],
            line["visit"],
            line["attempt"],
            round(pd.Timestamp(line["at"]).value / 1000),
            json.dumps(line["data"], ensure_ascii=False, separators=(",", ":")) if line["data"] else None,
        )
        for line in told
    ]
    assert decode(rows) == store.events("failed-1")
    assert [line["version"] for line in told] == list(range(1, len(lines) + 1))
    assert told[-1]["hash"] == archive.verify("failed-1", store=store).heads["failed-1"][1]


@pytest.mark.parametrize(("table", "rows"), [("steps", 4), ("events", 14)])
def test_tables(store, tmp_path, table, rows):
    file = archive.export("done-1", tmp_path / "run.csv", table=table, store=store)
    with file.open(newline="") as lines:
        told = list(csv.DictReader(lines))
    assert len(told) == rows
    assert all(re.fullmatch(r"\d{4}-.*Z", row.get("started_at") or row["at"]) for row in told)
    frame = pd.read_parquet(archive.export("done-1", tmp_path / "run.parquet", table=table, store=store))
    read = getattr(history, table)("done-1", store=store)
    if table == "steps":  # Parquet turns a column of categories without values into a column of nulls
        assert frame.pop("worker").isna().all() and read.pop("worker").isna().all()
    pd.testing.assert_frame_equal(frame, read, check_categorical=False)


def test_parquet_without_pyarrow_names_the_extra(store, monkeypatch):
    monkeypatch.setattr("cerebelum_nb._archive.export.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'cerebelum_nb\[arrow\]'"):
        exported(store, "done-1", "parquet")


def test_the_file_is_named_after_the_execution(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert archive.export("done", store=store).name == "done-1.html"
    assert archive.export("done", format="csv", store=store).name == "done-1.csv"


@pytest.mark.parametrize(("wanted", "told"), [({"format": "pdf"}, "no format 'pdf'"), ({"table": "x"}, "no table 'x'")])
def test_an_unknown_format_table_or_execution_is_refused(store, tmp_path, wanted, told):
    with pytest.raises(ValueError, match=told):
        archive.export("done-1", tmp_path / "out", store=store, **wanted)


@pytest.mark.parametrize("call", [archive.export, archive.pack, archive.verify])
def test_a_path_without_a_log_is_refused_and_creates_none(tmp_path, call):
    with pytest.raises(StoreError, match=r"no log at|cannot be opened"):
        call("done-1", store=tmp_path / "typo.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["run.html", "run.jsonl", "run.csv", "run.parquet"])
def test_an_export_is_replaced_by_a_later_one(store, tmp_path, name):
    archive.export("done-1", tmp_path / name, store=store)
    before = (tmp_path / name).read_bytes()
    archive.export("fat-1", tmp_path / name, store=store)
    assert (tmp_path / name).read_bytes() != before


@pytest.mark.parametrize("call", [archive.export, archive.pack])
def test_a_log_is_never_overwritten(store, tmp_path, call):
    archive.pack("fat-1", tmp_path / "fat.cerebelum", store=store)
    for target in (store.path, tmp_path / "fat.cerebelum"):
        with pytest.raises(StoreError, match=r"(a log that holds other executions|no export): nothing was written"):
            call("done-1", target, store=store)
    assert archive.verify(store=store).executions == 3
