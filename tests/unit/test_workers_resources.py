"""Resource files of a job, from its submission through a real worker: what lies there, and what is never asked for."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rolehost.jobs.garbage import GarbageCollection
from rolehost.jobs.job import End, Job, JobSpec, JobState, Resource
from rolehost.jobs.poison import PoisonDesk
from rolehost.jobs.poison.entries import Letter
from rolehost.jobs.removal import remove_job
from rolehost.processes import ChildIdentity
from rolehost.service_model.worker_reading import read_worker
from rolehost.testing import run_once
from rolehost.workers.configured import ConfiguredWorker
from rolehost.workers.outcome import Outcome
from rolehost.workers.processing import process_message
from rolehost.workers.scratch import Scratch
from support.canary import INNER, guarded_net
from support.jobs import open_bench, succeed
from support.sites import Site

SECRET = "sig=swordfish"  # noqa: S105 - what must not be shown
LOGO = Resource(name="logo.png", blob="assets/logo.png")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with guarded_net() as net, open_bench(tmp_path, lease=20.0) as bench:
        await bench.inner.blobs.put("assets/logo.png", b"a logo")
        yield Site(bench, net)


class Seen:
    """An attempt that looks at what lies there."""

    def __init__(self) -> None:
        self.files: list[dict[str, bytes]] = []
        self.modes: set[int] = set()

    async def attempt(self, job: JobSpec, scratch: Scratch) -> Outcome:
        paths = sorted(scratch.resources.iterdir()) if scratch.resources.exists() else []
        self.files.append({path.name: path.read_bytes() for path in paths})
        self.modes |= {path.stat().st_mode & 0o777 for path in paths}
        return await succeed(job, scratch)


async def ended(site: Site, *resources: Resource, **more: Any) -> tuple[Job, Seen]:
    """A job after one attempt, and what was seen in it. Nothing was checked before but that blobs are there."""
    job, seen = await site.bench.submit(resources=resources, **more), Seen()
    await site.bench.process(seen.attempt)
    return await site.bench.row(job.id), seen


async def refused(site: Site, *resources: Resource) -> str:
    """Why a job fails at once, without an attempt's start."""
    job, seen = await ended(site, *resources)
    assert (job.state, job.attempts[-1].end, seen.files) == (JobState.FAILED, End.BAD_INPUT, []), job.reason
    assert not list(site.bench.root.iterdir())
    return job.reason


def at(site: Site, path: str, name: str = "words.srt", host: str = "outer.example") -> Resource:
    return Resource(name=name, url=site.net.url(host, path))


async def test_blobs_and_urls_lie_beside_the_source(site: Site) -> None:
    site.net.outer.content("/words", b"some words")
    words = at(site, f"/words?{SECRET}")
    job, seen = await ended(site, LOGO, words)
    assert job.state is JobState.COMPLETED
    assert seen.files == [{"logo.png": b"a logo", "words.srt": b"some words"}]
    assert seen.modes == {0o600}
    assert job.to_json()["resources"] == [
        {"name": "logo.png", "blob": "assets/logo.png"},
        {"name": "words.srt", "url": site.net.url("outer.example", "/words")},
    ]
    assert job.spec.resources == (LOGO, words), "the secret part is kept for the next fetch, and shown nowhere"
    assert SECRET not in str(job.to_json()) + str(site.bench.facts)
    await GarbageCollection(site.bench.inner).collect()
    await remove_job(site.bench.inner, job)
    assert await site.bench.blobs("") == ["assets/logo.png"]


async def test_they_are_handed_to_the_user_that_the_application_runs_as(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source, their directory and each of them alike."""
    given: list[str] = []
    monkeypatch.setattr(os, "chown", lambda path, *_: given.append(Path(path).name))

    await site.bench.submit(resources=(LOGO,))
    identity = ChildIdentity(uid=os.getuid(), gid=os.getgid())
    await process_message(site.bench.desk, await site.bench.receive(), succeed, root=site.bench.root, identity=identity)
    assert given[1:] == ["resources", "source", "logo.png"]


async def test_a_job_without_any_has_no_directory_of_them(site: Site) -> None:
    job, seen = await ended(site)
    assert (job.state, seen.files, "resources" in job.to_json()) == (JobState.COMPLETED, [{}], False)


async def test_each_attempt_fetches_them_anew(site: Site) -> None:
    site.net.outer.content("/words", b"first")
    job = await site.bench.submit(resources=(at(site, "/words"), LOGO))
    await site.bench.end_once(End.APP_ERROR)
    site.net.outer.content("/words", b"the second")
    seen = Seen()
    await site.bench.process(seen.attempt)
    assert seen.files == [{"words.srt": b"the second", "logo.png": b"a logo"}]
    assert (await site.bench.row(job.id)).state is JobState.COMPLETED


async def test_an_inner_address_among_them_gets_no_connection(site: Site) -> None:
    """By number, by name, by a redirect; and nothing at all is asked where one URL's text is refused."""
    site.net.names["inner.example"] = lambda: [INNER]
    site.net.outer.redirect("/inwards", site.net.url(INNER, "/"))
    before = len(site.net.outer.requests)
    good = at(site, "/good", "good.txt")
    assert "(/resources/1/url)" in await refused(site, good, at(site, "/", host=INNER))
    assert len(site.net.outer.requests) == before
    for bad in (at(site, "/", host="inner.example"), at(site, "/inwards")):
        assert "the resource words.srt: " in await refused(site, good, bad)
    assert site.net.canary.connections == 1


async def test_what_the_workers_own_settings_do_not_allow_is_not_lent(site: Site) -> None:
    await site.bench.inner.blobs.put("elsewhere/a", b"content")
    other = await site.bench.submit()
    await site.bench.process(succeed)
    result = (await site.bench.row(other.id)).result
    assert result is not None
    for blob in ("elsewhere/a", result.blob):
        assert "Sources.Blobs does not allow it" in await refused(site, Resource(name="a", blob=blob))
    site.allow(hosts=())
    assert "Sources.AllowedHosts allows none" in await refused(site, at(site, "/"))


@pytest.mark.parametrize("name", ["../source", "a/b", "/etc/x", "..", ".", "", ".hidden", "source.bin", "a\n"])
async def test_a_row_with_a_name_that_leads_elsewhere_is_refused(site: Site, name: str) -> None:
    assert "(/resources/0/name)" in await refused(site, replace(LOGO, name=name))


async def test_a_blob_that_went_is_the_inputs_fault(site: Site) -> None:
    job = await site.bench.submit(resources=(LOGO,))
    await site.bench.inner.blobs.delete("assets/logo.png")
    await site.bench.process(succeed)
    job = await site.bench.row(job.id)
    assert (job.attempts[-1].end, job.reason) == (End.BAD_INPUT, "the resource logo.png is not in the store any more")


@pytest.mark.parametrize(("status", "end"), [(404, End.BAD_INPUT), (503, End.SOURCE_ERROR)])
async def test_answers_mean_what_they_mean_for_a_source(site: Site, status: int, end: End) -> None:
    deadline = 0.2
    site.allow(networks=site.net.rules.networks, deadline=deadline)
    site.net.outer.status("/x", status)
    job, _ = await ended(site, at(site, "/x"))
    attempt = job.attempts[-1]
    assert attempt.end is end
    took = (attempt.ended_at - attempt.started_at).total_seconds() if attempt.ended_at else 0.0
    assert end is End.BAD_INPUT or took >= deadline, "no answer takes as long as silence, where it may be an inner host"
    told = "the resource words.srt can't be had" if status == 404 else "the resource words.srt could not be fetched"
    assert told in attempt.detail


async def test_a_store_that_is_away_costs_the_job_nothing(site: Site) -> None:
    await site.bench.submit(resources=(LOGO,))
    site.bench.faults.refuse("blobs.facts")
    await site.bench.process(succeed)
    (job,) = (await site.bench.desk.jobs.list()).jobs
    assert (job.attempts[-1].end, job.charges.app, job.charges.lost) == (End.STORE_ERROR, 0, 0)


async def test_the_cap_holds_for_all_files_together(site: Site) -> None:
    """And for a source that is fetched, with them; an uploaded one has a cap of its own."""
    blobs, outer = site.bench.inner.blobs, site.net.outer
    await blobs.put("assets/half", bytes(50_000))
    await blobs.put("assets/none", b"x")
    outer.content("/half", bytes(50_000))
    outer.answers["/quiet"] = b"HTTP/1.1 200 OK\r\n\r\n" + bytes(50_001)
    half = Resource(name="half", blob="assets/half")
    job, seen = await ended(site, half, at(site, "/half"))
    assert (job.state, [len(each) for each in seen.files[0].values()]) == (JobState.COMPLETED, [50_000, 50_000])
    assert "the resource words.srt: the answer is larger than 50000" in await refused(site, half, at(site, "/quiet"))
    assert "words.srt: the answer announces more" in await refused(site, half, LOGO, at(site, "/half"))
    assert "the resource logo.png is larger than the 0 bytes" in await refused(site, half, at(site, "/half"), LOGO)
    fetched = await site.submitted(url=site.net.url("outer.example", "/half"), resources=(half, LOGO))
    await site.bench.process(succeed)
    assert "the resource logo.png is larger than the 0 bytes" in (await site.bench.row(fetched.id)).reason


async def test_an_empty_one_is_refused(site: Site) -> None:
    site.net.outer.content("/empty", b"")
    assert "the resource words.srt is empty" in await refused(site, at(site, "/empty"))


async def test_a_replay_has_the_same_and_a_letter_shows_no_secret(site: Site) -> None:
    site.net.outer.status("/words", 404)
    words = at(site, f"/words?{SECRET}")
    job, _ = await ended(site, LOGO, words)
    desk = PoisonDesk(site.bench.inner, site.bench.submitter)
    again = await desk.replay(job.id)
    assert (again.spec.origin, again.spec.resources) == (job.id, (LOGO, words))
    message = await site.bench.receive()
    assert SECRET in message.body
    shown = Letter(queue="work-jobs", message=message).body
    assert SECRET not in shown
    assert "/words" in shown


def test_a_programs_arguments_name_their_directory(tmp_path: Path) -> None:
    listing = "import os, sys; open(sys.argv[1], 'w').write(' '.join(sorted(os.listdir(sys.argv[2]))) + '.')"
    program = ["{python}", "-c", listing, "{target}", "{resources}", "{source}"]
    worker = ConfiguredWorker(read_worker({"kind": "told", "result_name": "told.txt", "program": program}))
    source = tmp_path / "letter.md"
    source.write_text("# One")
    assert run_once(worker, source).result_text == "."
    ran = run_once(worker, source, resources={"logo.png": source, "words.srt": source})
    assert ran.result_text == "logo.png words.srt.", ran
