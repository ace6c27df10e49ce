"""The parts of a worker, each by itself: scratch, slots, settings, the idle delay, user code off the loop."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from rolehost import clock
from rolehost.environment import RoleEnvironment
from rolehost.jobs.job import Attempt, Charges
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.table import Claim
from rolehost.stores import QueueMessage
from rolehost.workers.outcome import plain_suffix
from rolehost.workers.output import head_and_tail
from rolehost.workers.polling import IdleDelay
from rolehost.workers.scratch import make, scratch, scratch_root
from rolehost.workers.settings import WorkerSettings
from rolehost.workers.slots import Slots
from rolehost.workers.thumbnail import ThumbnailWorker
from support.jobs import a_spec, recorded


def a_claim(media_type: str = "image/png") -> Claim:
    spec = a_spec()
    spec = replace(spec, source=replace(spec.source, type=media_type))
    attempt = Attempt(number=1, started_at=clock.now())
    return Claim(spec=spec, attempt=attempt, token="t", version="1", charges=Charges(), sent=0.0)  # noqa: S106 - no password


async def test_a_scratch_directory_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    facts: list[tuple[str, dict[str, object]]] = []
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    with recorded(facts):
        async with scratch(tmp_path / "root", a_claim()) as place:
            (tmp_path / "root").mkdir()
            make(place, None)
            assert place.source == place.folder / "source.png"
            (place.folder / "link").symlink_to(outside)
            deep = place.folder / "a" / "b"
            deep.mkdir(parents=True)
            (deep / "file").touch()
            deep.chmod(0)
            (place.folder / "a").chmod(0o500)
    assert facts == []
    assert list((tmp_path / "root").iterdir()) == []
    assert (outside / "kept").exists()
    assert outside.stat().st_mode & 0o777 == 0o755 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


async def test_a_scratch_directory_that_was_never_made_is_no_problem(tmp_path: Path) -> None:
    facts: list[tuple[str, dict[str, object]]] = []
    with recorded(facts):
        async with scratch(tmp_path, a_claim("text/plain")) as place:
            assert place.source.name == "source"
    assert facts == []


async def test_a_scratch_directory_that_can_not_be_removed_is_told(tmp_path: Path) -> None:
    """A mount, an immutable file: nothing that a worker can do about."""
    facts: list[tuple[str, dict[str, object]]] = []
    with recorded(facts):
        async with scratch(tmp_path, a_claim()) as place:
            place.folder.write_text("a file in place of the directory")
    assert [name for name, _ in facts] == ["scratch.kept"]


def test_the_local_resource_is_where_scratch_directories_are(tmp_path: Path) -> None:
    environment = RoleEnvironment.for_testing(local_resources={"Scratch": tmp_path / "s"})
    assert scratch_root(environment) == tmp_path / "s"
    assert scratch_root(RoleEnvironment.for_testing()).is_dir()


def messages(count: int) -> list[QueueMessage]:
    return [QueueMessage(id=str(number), body="") for number in range(count)]


async def test_slots_are_taken_and_given_back_once() -> None:
    slots = Slots(2, lease=60)
    first, second = slots.take(), slots.take()
    waiting = asyncio.create_task(slots.wait_for_free())
    await asyncio.sleep(0)
    assert not waiting.done()
    first()
    first()
    await waiting
    slots.take()
    waiting = asyncio.create_task(slots.wait_for_free())
    await asyncio.sleep(0)
    assert not waiting.done()  # giving back twice gave one slot
    second()
    await waiting


async def test_messages_are_received_for_free_slots_and_a_quarter_of_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    time = 0.0
    monkeypatch.setattr(clock, "monotonic", lambda: time)
    slots = Slots(3, lease=60)
    assert slots.wanted() == 3  # nothing is known yet
    give_back = slots.take()
    assert slots.wanted() == 2
    time = 5.0
    give_back()
    assert slots.wanted() == 3 + 9  # in 15 seconds three slots do nine of five seconds
    give_back = slots.take()
    time = 5.0 + 600
    give_back()
    assert slots.wanted() == 3  # they became slow: nothing is fetched ahead


async def test_a_line_keeps_its_order_and_drops_what_waited_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    time = 0.0
    monkeypatch.setattr(clock, "monotonic", lambda: time)
    slots = Slots(1, lease=60)
    old, young = messages(2), messages(5)[2:]
    slots.line_up(old)
    time = 10.0
    slots.line_up(young)
    assert slots.next_message() == old[0]
    time = 16.0
    assert slots.next_message() == young[0]
    assert list(slots.rest()) == young[1:]
    assert slots.next_message() is None


def test_settings_have_the_designs_defaults() -> None:
    settings = WorkerSettings()
    assert (settings.lease, settings.renew_after, settings.margin) == (60, 20, 10)
    assert (settings.timeout, settings.term_grace, settings.kill_grace, settings.drain) == (1800, 10, 10, 25)
    assert (settings.retry_base, settings.retry_max, settings.deadline) == (15, 3600, 7 * 86400)


def test_settings_are_read_from_the_role() -> None:
    told = {"Worker.Slots": "3", "worker.leaseseconds": "30", "Worker.TimeoutSeconds": "1.5"}
    settings = WorkerSettings.of(RoleEnvironment.for_testing(settings=told), {"ROLEHOST_DRAIN_SECONDS": "7.5"})
    assert (settings.slots, settings.lease, settings.timeout, settings.drain) == (3, 30, 1.5, 7.5)
    assert settings.margin == 5
    assert WorkerSettings.of(RoleEnvironment.for_testing(), {}).slots == os.cpu_count()


def test_killing_never_outlasts_the_leases_margin() -> None:
    assert WorkerSettings(lease=6, term_grace=10).kill_grace == 1


def test_the_idle_delay_grows_from_a_tenth_of_a_second_to_thirty_and_starts_again() -> None:
    delay = IdleDelay()
    waits = [delay.after_nothing() for _ in range(60)]
    assert waits[0] == 0.1
    assert all(earlier <= later <= 30 for earlier, later in pairwise(waits))
    assert waits[-1] == 30
    delay.reset()
    assert delay.after_nothing() == 0.1
    delay.reset()
    waits = [delay.after_error() for _ in range(20)]
    assert all(1 <= wait <= 30 for wait in waits)
    assert 2 <= waits[1] <= 3
    assert waits[-1] == 30
    delay.answered()
    assert delay.after_error() <= 1.5


def test_head_and_tail_say_how_much_is_missing() -> None:
    assert head_and_tail("x" * 10, 10) == "x" * 10
    assert head_and_tail("a" * 10 + "b" * 10, 10) == "aaaaa\n[... 10 characters left out ...]\nbbbbb"


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.jpg", ".jpg"),
        ("a.tar.gz", ".gz"),
        ("a", ""),
        (".jpg", ""),
        ("a.j g", ""),
        ("a.ü", ""),
        ("a." + "x" * 17, ""),
    ],
)
def test_only_a_plain_suffix_becomes_part_of_a_path(name: str, suffix: str) -> None:
    assert plain_suffix(name) == suffix


def test_a_thumbnail_is_named_after_its_source_and_size() -> None:
    worker, kind = ThumbnailWorker(), kind_named("thumbnail")
    spec = replace(a_spec(), parameters=kind.parse({"format": "jpeg"}, "image/png"))
    spec = replace(spec, source=replace(spec.source, name="my photo.png"))
    assert (worker.result_name(spec), worker.result_type(spec)) == ("my photo-medium.jpg", "image/jpeg")
    assert list(worker.command(spec))[2:] == ["{source}", "{target}", "{size}"]
    custom = replace(spec, parameters=kind.parse({"size": "Custom", "width": "5", "height": "6"}, "image/png"))
    assert worker.result_name(custom) == "my photo-5x6.png"
    assert list(worker.command(custom))[2:] == ["{source}", "{target}", "{size}", "{width}", "{height}"]
