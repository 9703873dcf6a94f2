"""`run --name --tag`, `list --name --tag`, `tag`: names and tags in a terminal."""

from __future__ import annotations

import pytest


@pytest.fixture
def named(call):
    """An execution with a name and tags; return its id."""
    done = call("run", "shop:check", "--name", "release 4.2", "--tag", "prod", "--tag", "eu", "--id", "named-1")
    assert done.code == 0, done.err
    return "named-1"


def test_a_run_is_found_by_its_name_and_its_tags(call, named):
    for options in (["--name", "release 4.2"], ["--name", "rel*"], ["--tag", "eu", "--tag", "prod"]):
        done = call("list", *options)
        assert [line.split()[0] for line in done.out.splitlines()] == ["ID", named]
        assert "NAME AND TAGS" in done.out and "release 4.2 #eu #prod" in done.out
    assert call("list", "--tag", "eu", "--json").json["executions"][0]["tags"] == ["eu", "prod"]
    assert "no execution matches" in call("list", "--tag", "us").err


def test_lists_without_names_have_no_column_for_them(call):
    assert "NAME AND TAGS" not in call("list").out


def test_the_status_shows_name_and_tags(call, named):
    assert "release 4.2 #eu #prod" in call("status", named).out
    assert call("status", named, "--json").json["name"] == "release 4.2"


def test_tags_are_added_and_removed(call, named):
    assert call("tag", named, "+kept", "-eu", "-hotfix").out == f"{named}: kept prod\n"
    assert call("tag", named, "--json").json == {"execution_id": named, "tags": ["kept", "prod"]}
    assert call("tag", "done-1", "-never").out == "done-1: no tags\n"


def test_many_are_tagged_at_once_by_id_or_by_the_options_of_list(call, named):
    assert call("tag", "done-1", named, "+seen").out == f"done-1: seen\n{named}: eu prod seen\n"
    failed = [one["execution_id"] for one in call("list", "--status", "failed", "--json").json["executions"]]
    done = call("tag", "--status", "failed", "+look", "--json").json["executions"]
    assert sorted(one["execution_id"] for one in done) == sorted(failed) != []
    assert all(one["tags"] == ["look"] for one in done)
    assert call("tag", "--tag", "seen", "--name", "release*", "-eu").out == f"{named}: prod seen\n"
    assert "no execution matches" in call("tag", "--workflow", "none", "+x").err


def test_a_word_that_is_not_an_id_is_refused_before_anything_is_tagged(call):
    done = call("tag", "done-1", "+kept", "eu")
    assert done.code == 3 and "say +eu to add it, or -eu to remove it" in done.err
    assert call("tag", "done-1").out == "done-1: no tags\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tag", "+eu"], "name executions by their IDs, or say which"),
        (["tag", "done-1", "--workflow", "check", "+eu"], "name executions by their IDs, or say which"),
        (["tag", "done-1", "+a b"], "a tag must be one word"),
        (["tag", "done-1", "+x", "-x"], "'x' is both added and removed"),
        (["list", "--tag", "a,b"], "a tag must be one word"),
        (["run", "shop:check", "--name", ""], "the name of an execution must be one line"),
        (["run", "shop:check", "--tag", "+x"], "a tag must be one word"),
    ],
)
def test_an_invalid_name_or_tag_is_a_usage_error(call, words, told):
    done = call(*words)
    assert done.code == 2 and told in done.err.replace("\n", " ")


def test_the_help_of_tag_is_shown(call):
    assert "cerebelum tag" in call("tag", "-h").out
