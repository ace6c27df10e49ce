"""What every engine's table does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rolehost.errors import AlreadyExistsError, InvalidParameterError, LimitExceededError, VersionMismatchError
from rolehost.stores import Note, Row, Scalar, Stores, Table
from support.stores import Engine, unused


async def test_a_row_is_read_as_it_was_inserted(table: Table) -> None:
    fields: dict[str, Scalar] = {
        "text": "grün 🌍 'quoted' \"twice\" \n\t",
        "empty": "",
        "number": 3,
        "negative": -(2**53),
        "real": 0.1,
        "whole": 2.0,
        "yes": True,
        "no": False,
        "Field_2": "x",
    }
    version = await table.insert("k-1", fields, tag="queued")
    row = await table.read("k-1")
    assert row == Row(key="k-1", version=version, tag="queued", fields=fields)
    assert row is not None
    assert {name: type(value) for name, value in row.fields.items()} == {
        name: type(value) for name, value in fields.items()
    }


async def test_there_is_no_row_that_was_not_inserted(table: Table) -> None:
    assert await table.read("nothing") is None


async def test_tables_have_rows_of_their_own(stores: Stores, table: Table) -> None:
    await table.insert("k", {"n": 1})
    other = stores.table(unused("table"))
    assert await other.read("k") is None
    await other.insert("k", {"n": 2})
    assert (await other.list()).rows != (await table.list()).rows


async def test_a_taken_key_is_refused_and_nothing_changes(table: Table) -> None:
    version = await table.insert("k", {"n": 1}, tag="a")
    with pytest.raises(AlreadyExistsError):
        await table.insert("k", {"n": 2}, tag="b", notes=["outbox"])
    assert await table.read("k") == Row(key="k", version=version, tag="a", fields={"n": 1})
    assert not await table.notes("outbox")
    assert (await table.counts()).by_tag == {"a": 1}


async def test_a_write_merges_and_none_takes_away(table: Table) -> None:
    version = await table.insert("k", {"stays": 1, "changes": "a", "goes": "x", "never": None}, tag="queued")
    written = await table.write("k", version, {"changes": "b", "goes": None, "comes": 2.5, "unknown": None})
    assert written != version
    assert await table.read("k") == Row(
        key="k", version=written, tag="queued", fields={"stays": 1, "changes": "b", "comes": 2.5}
    )
    again = await table.write("k", written, {}, tag="running")
    assert await table.read("k") == Row(
        key="k", version=again, tag="running", fields={"stays": 1, "changes": "b", "comes": 2.5}
    )


async def test_a_stale_version_writes_nothing(table: Table) -> None:
    stale = await table.insert("k", {"n": 1}, tag="a")
    version = await table.write("k", stale, {"n": 2})
    with pytest.raises(VersionMismatchError):
        await table.write("k", stale, {"n": 3}, tag="b", notes=["debt"])
    with pytest.raises(VersionMismatchError):
        await table.delete("k", stale)
    with pytest.raises(VersionMismatchError):
        await table.write("k", "no version", {})
    with pytest.raises(VersionMismatchError):
        await table.write("gone", version, {})
    with pytest.raises(VersionMismatchError):
        await table.delete("gone", version)
    assert await table.read("k") == Row(key="k", version=version, tag="a", fields={"n": 2})
    assert not await table.notes("debt")


async def test_of_many_writers_on_one_version_one_wins(table: Table) -> None:
    for turn in range(5):
        version = await table.insert(f"k-{turn}", {})
        outcomes = await asyncio.gather(
            *(table.write(f"k-{turn}", version, {"winner": number}) for number in range(16)), return_exceptions=True
        )
        won = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, str)]
        assert len(won) == 1
        assert all(isinstance(outcome, str | VersionMismatchError) for outcome in outcomes)
        row = await table.read(f"k-{turn}")
        assert row is not None
        assert row.fields == {"winner": won[0]}
        assert row.version == outcomes[won[0]]


async def test_of_many_inserts_of_one_key_one_wins(table: Table) -> None:
    outcomes = await asyncio.gather(*(table.insert("k", {"n": n}) for n in range(16)), return_exceptions=True)
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1


async def test_no_version_is_used_again(engine: Engine, tmp_path: Path) -> None:
    name = unused("table")
    seen: list[str] = []
    for _ in range(3):
        async with engine.open(tmp_path) as stores:
            table = stores.table(name)
            for _ in range(3):
                version = await table.insert("k", {})
                seen.append(version)
                seen.append(version := await table.write("k", version, {"n": 1}))
                await table.delete("k", version)
                with pytest.raises(VersionMismatchError):
                    await table.write("k", version, {"n": 2})
    assert len(set(seen)) == len(seen)


async def test_a_stale_version_does_not_fit_a_row_that_was_made_anew(table: Table) -> None:
    version = await table.insert("k", {"life": 1})
    await table.delete("k", version)
    await table.insert("k", {"life": 2})
    with pytest.raises(VersionMismatchError):
        await table.write("k", version, {"life": 1})


async def test_what_was_acknowledged_is_there_after_reopening(engine: Engine, tmp_path: Path) -> None:
    name = unused("table")
    async with engine.open(tmp_path) as stores:
        version = await stores.table(name).insert("k", {"n": 1}, tag="a", notes=["outbox"])
    async with engine.open(tmp_path) as stores:
        table = stores.table(name)
        assert await table.read("k") == Row(key="k", version=version, tag="a", fields={"n": 1})
        assert await table.notes("outbox") == [Note("outbox", "k")]
        assert (await table.counts()).by_tag == {"a": 1}


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("tag", [None, "even"])
async def test_a_list_goes_through_everything_once(table: Table, *, newest_first: bool, tag: str | None) -> None:
    for number in range(11):
        await table.insert(f"k-{number:02}", {}, tag="odd" if number % 2 else "even")
    keys: list[str] = []
    cursor = None
    while True:
        page = await table.list(tag=tag, limit=3, cursor=cursor, newest_first=newest_first)
        assert len(page.rows) <= 3
        keys += [row.key for row in page.rows]
        if (cursor := page.cursor) is None:
            break
    expected = [f"k-{number:02}" for number in range(11) if tag is None or number % 2 == 0]
    assert keys == (expected[::-1] if newest_first else expected)


async def test_a_cursor_stays_good_while_rows_come_and_go(table: Table) -> None:
    versions = {f"k-{number}": await table.insert(f"k-{number}", {}) for number in range(1, 7)}
    page = await table.list(limit=2)
    assert [row.key for row in page.rows] == ["k-6", "k-5"]
    await table.delete("k-5", versions["k-5"])
    await table.delete("k-4", versions["k-4"])
    await table.insert("k-7", {})
    rest = await table.list(limit=10, cursor=page.cursor)
    assert [row.key for row in rest.rows] == ["k-3", "k-2", "k-1"]
    assert rest.cursor is None


async def test_a_row_moves_between_tags(table: Table) -> None:
    version = await table.insert("k", {}, tag="queued")
    await table.write("k", version, {}, tag="running")
    assert not (await table.list(tag="queued")).rows
    assert [row.key for row in (await table.list(tag="running")).rows] == ["k"]


@pytest.mark.parametrize("cursor", ["", "x", "!!", "AAAA", "MQ", "ÿ", "1" * 5000, "\ud83d", "MWEvYg", "MWEA"])
async def test_a_made_up_cursor_is_refused(table: Table, cursor: str) -> None:
    with pytest.raises(InvalidParameterError):
        await table.list(cursor=cursor)


async def test_counts_follow_every_write(table: Table) -> None:
    before = datetime.now(UTC)
    versions = [await table.insert(f"k-{number}", {}, tag="queued") for number in range(5)]
    await table.write("k-0", versions[0], {}, tag="running")
    await table.write("k-1", versions[1], {"n": 1})
    await table.delete("k-2", versions[2])
    counts = await table.counts()
    assert counts.by_tag == {"queued": 3, "running": 1}
    assert before - timedelta(seconds=1) <= counts.as_of <= datetime.now(UTC) + timedelta(seconds=1)


async def test_notes_come_with_the_row_and_go_alone(table: Table) -> None:
    version = await table.insert("k-2", {}, notes=["outbox"])
    await table.insert("k-1", {}, notes=["outbox", "debt"])
    version = await table.write("k-2", version, {}, notes=["debt", "outbox"])
    assert await table.notes("outbox") == [Note("outbox", "k-1"), Note("outbox", "k-2")]
    assert await table.notes("outbox", limit=1) == [Note("outbox", "k-1")]
    assert await table.notes("outbox", limit=1, after="k-1") == [Note("outbox", "k-2")]
    assert await table.notes("outbox", after="k-2") == []
    await table.delete("k-2", version)
    assert await table.notes("debt") == [Note("debt", "k-1"), Note("debt", "k-2")]
    await table.drop_note(Note("debt", "k-2"))
    await table.drop_note(Note("debt", "k-2"))
    assert await table.notes("debt") == [Note("debt", "k-1")]
    assert await table.notes("unknown") == []


async def test_limits_are_kept(table: Table) -> None:
    limits = table.limits
    largest = "é" * (limits.largest_field // 2)
    version = await table.insert("large", {"text": largest})
    row = await table.read("large")
    assert row is not None
    assert row.fields["text"] == largest
    with pytest.raises(LimitExceededError):
        await table.insert("larger", {"text": largest + "xx"})
    with pytest.raises(LimitExceededError):
        await table.write("large", version, {"text": largest + "xx"})
    pieces = limits.largest_row // limits.largest_field + 1
    with pytest.raises(LimitExceededError):
        await table.insert("heavy", {f"f{number}": largest for number in range(pieces)})
    with pytest.raises(LimitExceededError):
        await table.insert("wide", {f"f{number}": number for number in range(limits.fields_per_row + 1)})
    await table.insert("widest", {f"f{number}": number for number in range(limits.fields_per_row)})
    assert {row.key for row in (await table.list()).rows} == {"large", "widest"}
    assert await table.read("large") == row


@pytest.mark.parametrize("key", ["", "a/b", "a\\b", "a#b", "a?b", "a\nb", "\x00", "x" * 513, "\ud83d"])
async def test_keys_that_no_row_has(table: Table, key: str) -> None:
    with pytest.raises(InvalidParameterError):
        await table.insert(key, {})


@pytest.mark.parametrize("name", ["", "ab", "1abc", "a-bc", "x" * 64, "tablé"])
async def test_names_that_no_table_has(stores: Stores, name: str) -> None:
    with pytest.raises(InvalidParameterError):
        stores.table(name)


@pytest.mark.parametrize("value", ["\ud83d", float("nan"), float("inf")])
async def test_values_that_no_field_has(table: Table, value: Scalar) -> None:
    version = await table.insert("k", {})
    with pytest.raises(InvalidParameterError):
        await table.insert("other", {"f": value})
    with pytest.raises(InvalidParameterError):
        await table.write("k", version, {"f": value})
    assert [row.key for row in (await table.list()).rows] == ["k"]


async def test_keys_of_other_scripts_sort_as_text(table: Table) -> None:
    keys = ["a", "z", "é", "я", "日本", "🌍"]
    for key in keys[::-1]:
        await table.insert(key, {})
    assert [row.key for row in (await table.list(newest_first=False)).rows] == keys
