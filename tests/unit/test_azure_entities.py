"""Rows as entities: what the service limits and the emulator does not check, and keys that sort both ways."""

from __future__ import annotations

from typing import Any

import pytest
from azure.data.tables import EntityProperty
from hypothesis import given
from hypothesis import strategies as st

from rolehost.errors import InvalidParameterError, LimitExceededError, VersionMismatchError
from rolehost.stores import Fields
from rolehost.stores.azure_storage import entities, keys

KEYS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="/\\#?"), min_size=1, max_size=40
)
ETAG = "W/\"datetime'2026-11-21T06%3A42%3A49.9085652Z'\""


def came_back(fields: Fields, before: Fields | None = None) -> dict[str, Any]:
    """What is read after an insert of `before` and a merge of `fields`."""
    entity = {"PartitionKey": "0", "RowKey": "ak", **entities.properties(before or {}), **entities.changed(fields)}
    return dict(entities.row(entity, ETAG).fields)


@given(KEYS)
def test_a_reversed_key_is_read_back(key: str) -> None:
    assert keys.forwards(keys.backwards(key)) == key


@given(KEYS, KEYS)
def test_reversed_keys_sort_the_other_way(one: str, other: str) -> None:
    assert (keys.units(one) < keys.units(other)) == (keys.backwards(one) > keys.backwards(other))


@given(st.text(max_size=10), st.text(max_size=10), KEYS, KEYS)
def test_no_two_tags_share_a_list(tag: str, other: str, key: str, other_key: str) -> None:
    if tag != other:
        assert not set(keys.of_tag(tag, key)) & set(keys.of_tag(other, other_key))
        assert not keys.of_tag(tag, key)[0].startswith(keys.in_tag(other, newest_first=False))


def test_the_partitions_of_keys_never_change() -> None:
    some = ("a", "b", "job", "é", "01a1fcec-c8f2-75f3-a467-e063dd03150f")
    assert [keys.partition(key) for key in some] == ["3", "9", "8", "e", "8"]


def test_a_key_that_no_entity_can_have_is_refused_here() -> None:
    keys.of_tag("poisoned", "k" * 240)
    with pytest.raises(LimitExceededError):
        keys.of_newest("k" * 300)
    with pytest.raises(LimitExceededError):
        keys.of_row("🌍" * 300)


def test_a_version_holds_the_time_stamp_and_the_tag() -> None:
    version = entities.version(ETAG, "run|ning")
    assert version == "2026-11-21T06:42:49.9085652Z|run|ning"
    assert entities.etag_and_tag(version) == (ETAG, "run|ning")
    foreign = 'W/"0x8D1"'
    assert entities.etag_and_tag(entities.version(foreign, "")) == (foreign, "")
    for nothing in ("", "no version", "|queued"):
        with pytest.raises(VersionMismatchError):
            entities.etag_and_tag(nothing)


@pytest.mark.parametrize("length", [0, 1, 1024, 1025, 65_535, 65_536, 131_072, 256 * 1024])
@pytest.mark.parametrize("character", ["x", "é"])
def test_a_text_of_any_length_comes_back(length: int, character: str) -> None:
    text = character * (length // len(character.encode()))
    made = entities.properties({"text": text})
    assert all(len(value) <= 64 * 1024 for value in made.values() if isinstance(value, bytes))
    assert all(len(value) <= 32 * 1024 for value in made.values() if isinstance(value, str))
    assert came_back({"text": text}) == {"text": text}


def test_a_shorter_text_leaves_nothing_of_a_longer_one() -> None:
    longer = {"text": "x" * 200_000, "other": "y"}
    assert came_back({"text": "z" * 70_000}, longer) == {"text": "z" * 70_000, "other": "y"}
    assert came_back({"text": "z"}, longer) == {"text": "z", "other": "y"}
    assert came_back({"text": None}, longer) == {"other": "y"}


def test_numbers_keep_their_kind() -> None:
    fields = {"small": -(2**31), "large": 2**31, "largest": 2**63 - 1, "real": 2.0, "yes": True}
    made = entities.properties(fields)
    assert isinstance(made["large"], EntityProperty)
    assert isinstance(made["small"], int)
    read = came_back(fields)
    assert read == fields
    assert {name: type(value) for name, value in read.items()} == {name: type(value) for name, value in fields.items()}
    with pytest.raises(InvalidParameterError):
        entities.properties({"n": 2**63})


@pytest.mark.parametrize(
    "name", ["", "PartitionKey", "RowKey", "Timestamp", "rh_tag", "rh_more_0_x", "a-b", "1a", "é", "a" * 202]
)
def test_names_that_no_property_has(name: str) -> None:
    with pytest.raises(InvalidParameterError):
        entities.properties({name: 1})


def test_an_entity_has_up_to_252_properties() -> None:
    assert len(entities.properties({f"f{number}": number for number in range(entities.LIMITS.fields_per_row)})) <= 250
    with pytest.raises(LimitExceededError):
        entities.properties({f"f{number}": number for number in range(entities.LIMITS.fields_per_row + 1)})
    # Long texts take several each: the fields are few enough, and their properties are not.
    with pytest.raises(LimitExceededError):
        entities.properties({f"f{number}": "x" if number > 12 else "x" * 65_600 for number in range(239)})


def test_an_entity_has_up_to_a_mebibyte() -> None:
    quarter = "x" * (256 * 1024)
    entities.properties({"a": quarter, "b": quarter, "c": quarter})
    with pytest.raises(LimitExceededError):
        entities.properties({"a": quarter, "b": quarter, "c": quarter, "d": quarter})
    with pytest.raises(LimitExceededError):  # short texts count double: the service stores UTF-16
        entities.properties(
            {f"f{number}": "x" * 1024 for number in range(239)} | {"a": quarter, "b": quarter, "c": quarter}
        )
