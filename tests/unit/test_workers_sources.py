"""A source that is a URL or a lent blob, from its submission through a real worker to its end.

Each vector of what must not be asked is a job: it ends, and a canary that an allowed fetch was just seen to reach stays
without a connection.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from rolehost.jobs.garbage import GarbageCollection
from rolehost.jobs.job import CAPS, End, JobSpec, JobState
from rolehost.jobs.poison import PoisonDesk
from rolehost.jobs.removal import remove_job
from rolehost.workers.outcome import Outcome
from rolehost.workers.scratch import Scratch
from support.canary import INNER, NOT_PUBLIC, OUTER, guarded_net
from support.front_end import picture
from support.jobs import open_bench, succeed
from support.sites import Site

SECRET = "sig=swordfish"  # noqa: S105 - what must not be shown
SPELLINGS = [
    *("2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.0.1.", "localhost", "localhost."),
    *("\uff11\uff12\uff17.0.0.1", "%31%32%37.0.0.1", "127。0。0。1", "①②⑦.0.0.1", "[::ffff:127.0.0.1]", "[::1]"),
    *("[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"),
    *("user@127.0.0.1", "user:word@127.0.0.1", "outer.example@127.0.0.1", "127.0.0.1#@outer.example"),
    *("127.0.0.1\\@outer.example", "outer.example\\@127.0.0.1", "127.0.0.1\t", "127.0.0.1\r\nX-A: b", "127.0.0.1 "),
]
OTHER_SCHEMES = [
    *("file:///etc/passwd", "FILE:///etc/passwd", "gopher://127.0.0.1:{port}/_x", "ftp://127.0.0.1:{port}/a"),
    *("dict://127.0.0.1:{port}/", "data:text/plain,x", "jar:http://127.0.0.1:{port}!/", "//127.0.0.1:{port}/"),
    *("http:127.0.0.1:{port}", "ldap://127.0.0.1:{port}/", "subfile,,start,0,end,0,,:/etc/passwd", "/etc/passwd"),
]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with guarded_net() as net, open_bench(tmp_path, lease=20.0) as bench:
        yield Site(bench, net)


async def test_what_is_at_a_url_becomes_a_result(site: Site) -> None:
    site.net.outer.content("/a/photo%20one.png", picture())
    url = site.net.url("outer.example", f"/a/photo%20one.png?{SECRET}#part")
    before = await site.submitted(url=url)
    told = before.to_json()["source"]
    assert told == {
        "name": "photo one.png",
        "size": None,
        "type": None,
        "url": site.net.url("outer.example", "/a/photo%20one.png"),
    }
    await site.bench.process(succeed)
    job = await site.bench.row(before.id)
    assert (job.state, job.result and job.result.size) == (JobState.COMPLETED, len(picture()))
    assert job.to_json()["source"] == told | {"size": len(picture()), "type": "image/png"}
    assert job.spec.source.url == url, "the secret part is kept for the next fetch, and shown nowhere"
    assert SECRET not in str(job.to_json()) + str(site.bench.facts)
    assert site.net.outer.requests[-1].startswith(f"GET /a/photo%20one.png?{SECRET} HTTP/1.1\r\n")
    assert await site.bench.blobs("inputs/") == []


async def test_the_worker_sees_the_file_as_if_it_had_been_uploaded(site: Site) -> None:
    site.net.outer.content("/photo", picture(kind="JPEG"))
    seen: list[tuple[str, str, int, int]] = []

    async def attempt(job: JobSpec, scratch: Scratch) -> Outcome:
        mode = scratch.source.stat().st_mode & 0o777
        seen.append((scratch.source.name, job.source.type, job.source.size, mode))
        return await succeed(job, scratch)

    await site.submitted(url=site.net.url("outer.example", "/photo"))
    await site.bench.process(attempt)
    assert seen == [("source.jpg", "image/jpeg", len(picture(kind="JPEG")), 0o600)]


async def test_no_spelling_of_an_inner_address_is_asked(site: Site) -> None:
    port = site.net.canary.port
    urls = [f"http://{host}:{port}/" for host in SPELLINGS]
    urls += [f"http://[{each}]:{port}/" if ":" in each else f"http://{each}:{port}/" for each in NOT_PUBLIC]
    urls += [each.format(port=port) for each in OTHER_SCHEMES]
    urls += [f"http://{INNER}:{port}@outer.example/", f"http://outer.example:{port}@{INNER}:{port}/"]
    site.net.names |= {"localhost": lambda: [INNER], "localhost.": lambda: [INNER]}
    site.refused(await site.run(*urls))


async def test_a_name_that_leads_inwards_is_not_asked(site: Site) -> None:
    """Alone, beside a good address, or as the only one of many; all refusals are the same words."""
    for number, address in enumerate(NOT_PUBLIC):
        site.net.names[f"n{number}.example"] = lambda address=address: [address]  # type: ignore[misc]
        site.net.names[f"b{number}.example"] = lambda address=address: [OUTER, address]  # type: ignore[misc]
    jobs = await site.run(*(site.net.url(name) for name in [*site.net.names] if name != "outer.example"))
    assert len(site.refused(jobs)) == 1
    assert site.net.outer.connections == 0


async def test_a_name_that_changes_its_meaning_is_judged_at_each_connection(site: Site) -> None:
    """Good when it is looked at, inner when it is asked: at once, at the redirect, at the retry."""
    answers = iter([[OUTER], [INNER], [INNER]])
    site.net.names["rebinding.example"] = lambda: next(answers)
    site.net.outer.redirect("/", site.net.url("rebinding.example", "/again"))
    site.refused([await site.one(site.net.url("rebinding.example"))])
    flapping = iter([[OUTER], [INNER]])
    site.net.names["flapping.example"] = lambda: next(flapping)
    site.net.outer.status("/busy", 503)
    job = await site.one(site.net.url("flapping.example", "/busy"))
    assert (job.state, job.attempts[-1].end) == (JobState.QUEUED, End.SOURCE_ERROR)
    await site.bench.process(succeed)
    site.refused([await site.bench.row(job.id)])


async def test_a_redirect_leads_nowhere_that_a_url_does_not(site: Site) -> None:
    port = site.net.outer.port
    site.net.names |= {"inner.example": lambda: [INNER], "localhost": lambda: [INNER]}
    places = [f"http://{INNER}:{port}/", f"//{INNER}:{port}/", site.net.url("inner.example"), "ftp://outer.example/"]
    places += [f"http://{host}:{port}/" for host in SPELLINGS if host.isprintable() and host.isascii()]
    places += [each.format(port=port) for each in OTHER_SCHEMES if "://" in each]
    places += ["http://outer.example:22/", f"http://u:p@outer.example:{port}/", ""]
    for number, place in enumerate(places):
        site.net.outer.redirect(f"/{number}", place, (301, 302, 303, 307, 308)[number % 5])
    site.net.outer.redirect("/loop", "/loop")
    urls = [site.net.url("outer.example", f"/{number}") for number in range(len(places))]
    site.refused(await site.run(*urls, site.net.url("outer.example", "/loop")))
    assert len(site.net.outer.requests) == len(places) + 6


async def test_other_ports_and_hosts_outside_the_list_are_refused(site: Site) -> None:
    site.allow(hosts=("*.outer.example",), refused_hosts=("own.outer.example",))
    for name in ("a.outer.example", "own.outer.example", "other.example"):
        site.net.names[name] = lambda: [OUTER]
    good = await site.one(site.net.url("a.outer.example"))
    assert good.state is JobState.COMPLETED
    urls = [site.net.url("own.outer.example"), site.net.url("other.example"), site.net.url("outer.example")]
    urls += [f"http://a.outer.example:{port}/" for port in (22, 25, 6379, 10000)]
    site.refused(await site.run(*urls))
    site.allow(hosts=())
    (reason,) = site.refused([await site.one(site.net.url("a.outer.example"))])
    assert "Sources.AllowedHosts allows none" in reason


async def test_too_much_or_compressed_content_is_the_inputs_fault(site: Site) -> None:
    bomb = gzip.compress(bytes(5_000_000))
    outer = site.net.outer
    outer.answers["/lies"] = b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n"
    outer.answers["/bomb"] = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + bomb
    outer.answers["/quiet"] = b"HTTP/1.1 200 OK\r\n\r\n" + bytes(100_001)
    outer.content("/empty", b"")
    paths = ("/lies", "/bomb", "/quiet", "/empty")
    jobs = await site.run(*(site.net.url("outer.example", path) for path in paths))
    site.refused(jobs)
    for word, job in zip(("announces", "compressed", "larger", "empty"), jobs, strict=True):
        assert word in job.reason
    outer.endless = True
    outer.answers["/endless"] = b"HTTP/1.1 200 OK\r\n\r\n"
    assert "larger" in (await site.one(site.net.url("outer.example", "/endless"))).reason
    assert not list(site.bench.root.iterdir())


async def test_a_lying_length_and_silence_are_tried_again(site: Site) -> None:
    site.allow(deadline=0.3)
    site.net.outer.answers["/short"] = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"
    job = await site.one(site.net.url("outer.example", "/short"))
    assert (job.state, job.attempts[0].end, job.charges.app) == (JobState.QUEUED, End.SOURCE_ERROR, 1)
    assert "no answer that can be used" in job.attempts[0].detail


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418, 204, 304])
async def test_an_answer_that_will_not_change_fails_the_job(site: Site, status: int) -> None:
    site.net.outer.status("/x", status)
    job = await site.one(site.net.url("outer.example", "/x"))
    assert str(status) in next(iter(site.refused([job])))
    assert (job.charges.app, job.charges.lost) == (0, 0)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_an_answer_that_may_change_is_asked_for_again(site: Site, status: int) -> None:
    site.allow(networks=site.net.rules.networks, deadline=0.2)
    site.net.outer.status("/x", status)
    job = await site.one(site.net.url("outer.example", "/x"))
    assert (job.state, job.attempts[0].end, job.charges.app) == (JobState.QUEUED, End.SOURCE_ERROR, 1)
    site.net.outer.content("/x", b"there now")
    await site.bench.process(succeed)
    job = await site.bench.row(job.id)
    assert (job.state, job.to_json()["source"]["size"]) == (JobState.COMPLETED, 9)


async def test_a_server_that_stays_away_poisons_the_job_in_the_end(site: Site) -> None:
    site.allow(deadline=0.1)
    site.net.outer.status("/x", 503)
    job = await site.submitted(url=site.net.url("outer.example", "/x"))
    for _ in range(CAPS["app"]):
        await site.bench.process(succeed)
    job = await site.bench.row(job.id)
    assert (job.state, len(job.attempts)) == (JobState.POISONED, CAPS["app"])
    assert "503" in job.reason
    site.net.outer.content("/x", b"back again")
    desk = PoisonDesk(site.bench.inner, site.bench.submitter)
    await desk.would_replay(job.id)
    again = await desk.replay(job.id)
    await site.bench.process(succeed)
    again = await site.bench.row(again.id)
    assert (again.state, again.spec.origin, again.spec.source) == (JobState.COMPLETED, job.id, job.spec.source)


async def test_a_retry_fetches_again_and_the_last_fetch_counts(site: Site) -> None:
    site.net.outer.content("/x", b"first")
    job = await site.submitted(url=site.net.url("outer.example", "/x"))
    await site.bench.end_once(End.APP_ERROR)
    assert (await site.bench.row(job.id)).source.size == len(b"first")
    site.net.outer.content("/x", b"the second")
    await site.bench.process(succeed)
    job = await site.bench.row(job.id)
    assert (job.source.size, [each.fetched and each.fetched.size for each in job.attempts]) == (10, [5, 10])


async def test_what_came_is_identified_by_its_content(site: Site) -> None:
    """Neither the name nor the type that the server claims makes a picture of a page."""
    claimed = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 6\r\n\r\n<html>"
    site.net.outer.answers["/photo.png"] = claimed
    bench = site.bench
    bench.desk = replace(bench.desk, queue=bench.inner.queue("thumbnail-jobs"))
    job = await site.one(site.net.url("outer.example", "/photo.png"), kind="thumbnail", given={"size": "Small"})
    assert "is not a picture of a known type" in next(iter(site.refused([job])))
    assert job.spec.parameters["format"] == "png", "the ending says what the default is, and no more"


async def test_open_closed_and_silent_ports_of_an_allowed_network_look_alike(site: Site) -> None:
    """The same words, and the same time: that of silence."""
    deadline = 0.6
    with socket.create_server((OUTER, 0)) as once:
        closed = once.getsockname()[1]
    site.net.outer.answers["/"] = b"SSH-2.0-OpenSSH_9.2\r\n"
    with socket.create_server((OUTER, 0)) as silence:  # it accepts, and says nothing
        ports = (site.net.outer.port, silence.getsockname()[1], closed)
        site.allow(ports=frozenset(ports), deadline=deadline)
        jobs = await site.run(*(f"http://outer.example:{port}/" for port in ports))
    attempts = [job.attempts[0] for job in jobs]
    assert {(each.end, each.detail) for each in attempts} == {(End.SOURCE_ERROR, attempts[0].detail)}
    took = [(each.ended_at - each.started_at).total_seconds() for each in attempts if each.ended_at]
    assert min(took) >= deadline, took


async def test_all_ports_of_an_inner_host_are_refused_alike_and_at_once(site: Site) -> None:
    ports = (site.net.canary.port, 1, 9)
    site.allow(networks=(), deadline=30.0, ports=frozenset(ports))
    site.net.names["inner.example"] = lambda: [INNER]
    async with asyncio.timeout(20):
        jobs = await site.run(*(f"http://inner.example:{port}/" for port in ports))
    assert len(site.refused(jobs)) == 1


async def test_a_lent_blob_is_worked_on_and_stays(site: Site) -> None:
    blobs = site.bench.inner.blobs
    await blobs.put("assets/in/photo.png", picture())
    job = await site.submitted(blob="assets/in/photo.png")
    assert (job.spec.source.name, job.spec.source.type, job.spec.source.size) == ("photo.png", "image/png", 0)
    await site.bench.process(succeed)
    job = await site.bench.row(job.id)
    assert job.state is JobState.COMPLETED
    assert job.to_json()["source"] == {
        "name": "photo.png",
        "size": len(picture()),
        "type": "image/png",
        "blob": "assets/in/photo.png",
    }
    await GarbageCollection(site.bench.inner).collect()
    await remove_job(site.bench.inner, job)
    assert await site.bench.blobs("") == ["assets/in/photo.png"]


async def test_a_replay_of_a_lent_blob_lends_it_again(site: Site) -> None:
    await site.bench.inner.blobs.put("assets/a.txt", b"content")
    job = await site.submitted(blob="assets/a.txt")
    await site.bench.end_once(End.BAD_INPUT)
    desk = PoisonDesk(site.bench.inner, site.bench.submitter)
    await desk.would_replay(job.id)
    again = await desk.replay(job.id)
    await site.bench.process(succeed)
    assert (await site.bench.row(again.id)).state is JobState.COMPLETED
    await desk.purge(job.id)
    assert (await site.bench.inner.blobs.facts("assets/a.txt")).size == len(b"content")


async def test_a_worker_lends_nothing_that_its_own_settings_do_not_allow(site: Site) -> None:
    """Whatever a row says: another front end may have other settings, or none."""
    other = await site.bench.submit()
    await site.bench.process(succeed)
    result = (await site.bench.row(other.id)).result
    assert result is not None
    await site.bench.inner.blobs.put("elsewhere/a", b"content")
    for name in ("elsewhere/a", result.blob):
        job = await site.submitted(blob=name)
        await site.bench.process(succeed)
        assert "Sources.Blobs does not allow it" in next(iter(site.refused([await site.bench.row(job.id)])))


async def test_a_lent_blob_that_went_is_the_inputs_fault(site: Site) -> None:
    await site.bench.inner.blobs.put("assets/a", b"content")
    job = await site.submitted(blob="assets/a")
    await site.bench.inner.blobs.delete("assets/a")
    await site.bench.process(succeed)
    assert "not in the store any more" in next(iter(site.refused([await site.bench.row(job.id)])))


async def test_nothing_of_one_hop_is_carried_to_the_next(site: Site) -> None:
    there = site.net.url("other.example", "/there").encode()
    site.net.names["other.example"] = lambda: [OUTER]
    site.net.outer.answers["/"] = (
        b"HTTP/1.1 302 Found\r\nSet-Cookie: a=b\r\nX-More: c\r\nContent-Length: 0\r\nLocation: " + there + b"\r\n\r\n"
    )
    job = await site.one(site.net.url("outer.example", f"/?{SECRET}"))
    assert job.state is JobState.COMPLETED
    _, second = site.net.outer.requests
    names = {line.split(":")[0].lower() for line in second.splitlines()[1:] if line}
    assert names - {"connection"} == {"host", "accept", "accept-encoding", "user-agent"}
    assert SECRET not in second
