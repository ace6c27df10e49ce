"""`rolehost submit --batch` and `rolehost batch` against real stores, without a service."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from rolehost.jobs.batches import Batch, BatchTable
from rolehost.stores import Stores
from support.batches import Mill, driver, work_off
from support.commands import invoke, picture, with_stores


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("ROLEHOST_DATA", str(tmp_path / "data"))
    return tmp_path / "work"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def submitted(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    told = invoke("submit", *arguments, "--json")
    assert told.exit_code == code, told.stderr
    document: dict[str, Any] = json.loads(told.stdout)
    return document


def finish(data: Path, batch: str, *bad: str) -> Batch:
    """Do what a service would."""

    async def act(stores: Stores) -> Batch:
        mill = Mill(stores, kind="thumbnail", bad=frozenset(bad))
        driving = driver(stores)
        try:
            return await work_off(stores, batch, driving, mill)
        finally:
            await driving._lease.release()

    return with_stores(data, act)


def items(data: Path, batch: str) -> list[tuple[str, str]]:
    async def act(stores: Stores) -> list[tuple[str, str]]:
        return [(item.folder, item.name) for item in await BatchTable(stores).manifest(batch).page(0)]

    return with_stores(data, act)


def test_a_folder_becomes_a_batch_that_begins_although_no_service_runs(data: Path) -> None:
    for path in ("in/b.png", "in/deep/er/a.png", "in/.hidden.png"):
        picture(Path(path))
    told = submitted("in", "--batch", "two", "--size", "Small")
    assert (told["name"], told["state"], told["items"], told["parameters"]) == ("two", "running", 2, {"size": "Small"})
    assert items(data, told["id"]) == [("", "b.png"), ("deep/er", "a.png")]


def test_what_was_added_is_not_added_again_and_what_is_new_is(data: Path) -> None:
    picture(Path("in/a.png"))
    first = submitted("in", "--batch", "one")
    assert submitted("in", "--batch", "one")["id"] == first["id"], "it goes on with the batch that is on its way"
    picture(Path("in/b.png"), (9, 9))
    for arguments, words in (
        (["in"], "is on its way, without in/b.png"),
        (["in/a.png", "--size", "Small"], "on its way"),
    ):
        told = invoke("submit", *arguments, "--batch", "one")
        assert (told.exit_code, told.stdout) == (1, "")
        assert words in told.stderr
    assert finish(data, first["id"]).all_completed
    assert submitted("in", "--batch", "one")["items"] == 2, "the first is over: this is another"


def test_a_refused_file_is_told_and_the_others_go_on() -> None:
    picture(Path("in/a.png"))
    Path("in/note.txt").write_text("no picture")
    told = submitted("in", "--batch", "some", code=1)
    assert (told["items"], [each["file"] for each in told["refused"]]) == (1, ["in/note.txt"])
    told_none = invoke("submit", "in/note.txt", "--batch", "none")
    assert told_none.exit_code == 1
    assert "no file was accepted" in told_none.stderr
    assert json.loads(invoke("batch", "none", "--json").stdout)["state"] in {"cancelling", "cancelled"}


def test_how_a_batch_stands_and_its_results(data: Path) -> None:
    picture(Path("in/a.png"))
    picture(Path("in/b.png"), (9, 9))
    batch = submitted("in", "--batch", "both")["id"]
    finish(data, batch, "b.png")
    told = invoke("batch", "both", "--results", "out.zip")
    assert told.exit_code == 0
    assert "items       2: 1 completed, 1 failed" in told.stdout
    assert "it is bad" in told.stdout
    with zipfile.ZipFile("out.zip") as archive:
        assert archive.namelist() == ["a.png.out", "errors.txt"]
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["in", "out.zip"]
    waited = invoke("batch", "both", "--wait", "--json")
    assert (waited.exit_code, json.loads(waited.stdout)["counts"]["failed"]) == (1, 1)
    listed = json.loads(invoke("batch", "--json").stdout)
    assert [each["id"] for each in listed["batches"]] == [batch]
    assert invoke("batch").stdout.splitlines()[1].split()[:3] == ["both", "done", "thumbnail"]


def test_results_that_have_no_place_are_refused_before_anybody_waits() -> None:
    picture(Path("a.png"))
    told = invoke("submit", "a.png", "--batch", "one", "--results", "nowhere/out.zip", "--timeout", "0")
    assert told.exit_code == 2
    assert "there is no folder nowhere" in " ".join(told.stderr.replace("│", " ").split())
    submitted("a.png", "--batch", "one")
    assert invoke("batch", "one", "--results", "nowhere/out.zip").exit_code == 2
    os.mkfifo("pipe")
    told = invoke("batch", "one", "--results", "pipe")
    assert (told.exit_code, Path("pipe").is_fifo()) == (2, True)


def test_cancel_needs_no_service(data: Path) -> None:
    picture(Path("in/a.png"))
    submitted("in", "--batch", "one")
    told = invoke("batch", "one", "--cancel", "--json")
    assert (told.exit_code, json.loads(told.stdout)["state"]) == (0, "cancelled")
    assert json.loads(told.stdout)["counts"]["cancelled"] == 1
    again = invoke("batch", "one", "--cancel")
    assert again.exit_code == 0
    assert finish(data, json.loads(told.stdout)["id"]).tally["cancelled"] == 1


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--results", "out.zip"], "--results goes with --batch"),
        (["--then", "contact-sheet"], "--then goes with --batch"),
        (["--then-set", "columns=2"], "--then-set goes with --batch"),
        (["--batch", "b", "--then-set", "columns=2"], "--then-set goes with --then"),
        (["--batch", "b", "--then", "thumbnail"], "don't take a ZIP"),
        (["--batch", "b", "--then", "contact-sheet", "--then-set", "columns=x"], "columns"),
        (["--batch", "b", "--output", "out"], "--output does not go with --batch"),
        (["--batch", "b", "--idempotency-key", "k"], "--idempotency-key does not go with --batch"),
        (["--batch", "b", "--set", "colour=red"], "colour"),
        (["--batch", "b", "--set", "colour"], "NAME=VALUE"),
        (["--batch", ""], "a batch's name has"),
        (["--batch", "a\nb"], "a batch's name has"),
    ],
)
def test_a_wrong_request_makes_no_batch(asked: list[str], words: str, data: Path) -> None:
    picture(Path("a.png"))
    told = invoke("submit", "a.png", *asked)
    assert (told.exit_code, told.stdout) == (2, "")
    assert words in " ".join(told.stderr.replace("│", " ").split())
    assert not data.exists() or json.loads(invoke("batch", "--json").stdout)["batches"] == []


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (["--cancel"], 2, "need the name of a batch"),
        (["one", "--cancel", "--wait"], 2, "--cancel waits by itself"),
        (["nobody"], 1, "there is no batch nobody"),
    ],
)
def test_a_wrong_question_is_told(asked: list[str], code: int, words: str) -> None:
    picture(Path("a.png"))
    submitted("a.png", "--batch", "one")
    told = invoke("batch", *asked)
    assert told.exit_code == code
    assert words in " ".join(told.stderr.replace("│", " ").split())
