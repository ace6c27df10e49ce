"""The guarded fetch against a canary: a server that must not be asked, and that an allowed fetch was seen to reach."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from rolehost.errors import AddressRefusedError, AnswerCodedError, AnswerTooLargeError, OutboundError
from rolehost.outbound import Found, Outbound, Rules, checked_url, is_public
from support.canary import INNER, NOT_PUBLIC, OUTER, Net, guarded_net


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    async with guarded_net() as net:
        yield net


async def test_an_allowed_fetch_carries_nothing_of_ours(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", net.url(INNER))
    monkeypatch.setenv("http_proxy", net.url(INNER))
    assert await net.fetch(net.url("outer.example", "/a%2Fb?c=d")) == (200, b"hello")
    (request,) = net.outer.requests
    assert request.startswith("GET /a%2Fb?c=d HTTP/1.1\r\n")
    names = {line.split(":")[0].lower() for line in request.splitlines()[1:] if line}
    assert names - {"connection"} == {"host", "accept", "accept-encoding", "user-agent"}


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_an_address_that_is_not_public_is_refused(net: Net, address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(AddressRefusedError):
        await net.fetch(net.url(host))
    net.names["name.example"] = lambda: [address]
    with pytest.raises(AddressRefusedError, match="leads to no address that may be asked"):
        await net.fetch(net.url("name.example"))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "172.15.0.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a01:111::1"]
)
def test_an_address_of_the_public_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        *("http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/", "http://0x7f000001/"),
        *(
            "http://\uff11\uff12\uff17.0.0.1/",
            "http://127.0.0.1./",
            "http://example.com./",
            "http://exämple.com/",
            "http://ⓔxample.com/",
        ),
        *("http://user@example.com/", "http://user:word@example.com/", "http://example.com\\@127.0.0.1/", "http://@/"),
        *(
            "http://example.com#@127.0.0.1/ ",
            "http://exam\tple.com/",
            "http://example.com/\r\nX: y",
            "http:///path",
            "http://",
        ),
        *(
            "http:example.com",
            "http:/example.com",
            "//example.com/",
            "example.com",
            "",
            "http://[::1",
            "http://a_b.com/",
        ),
        *("file:///etc/passwd", "gopher://example.com/", "ftp://example.com/", "data:,x", "HTTPS+x://example.com/"),
        *("http://example.com:22/", "http://example.com:25/", "http://example.com:6379/", "http://example.com:10000/"),
        *("http://example.com:99999/", "http://example.com:x/", "http://example.com:-1/", "http://" + "a" * 3000),
        *(
            "http://%31%32%37.0.0.1/",
            "http://-example.com/",
            "http://a..b/",
            "http://[::ffff:127.0.0.1]/",
            "http://1.2.3/",
        ),
    ],
)
def test_a_url_that_could_mean_something_else_is_refused(url: str) -> None:
    with pytest.raises(AddressRefusedError):
        checked_url(url, Rules())


@pytest.mark.parametrize(
    "url", ["http://example.com", "https://a.b-c.example:443/x?y=z#w", "HTTP://EXAMPLE.com/", "http://8.8.8.8/"]
)
def test_an_ordinary_url_is_accepted(url: str) -> None:
    assert checked_url(url, Rules()).scheme in {"http", "https"}


async def test_one_forbidden_address_spoils_the_name(net: Net) -> None:
    net.names["both.example"] = lambda: [OUTER, INNER]
    with pytest.raises(AddressRefusedError):
        await net.fetch(net.url("both.example"))
    assert net.outer.requests == []


async def test_a_name_that_changes_its_mind_gains_nothing(net: Net) -> None:
    answers = iter([[OUTER], [INNER], [INNER]])
    net.names["rebinding.example"] = lambda: next(answers)
    assert (await net.fetch(net.url("rebinding.example")))[1] == b"hello"
    with pytest.raises(AddressRefusedError):
        await net.fetch(net.url("rebinding.example"))
    with pytest.raises(AddressRefusedError):
        await net.fetch(net.url("rebinding.example"))


def test_the_connection_itself_is_judged(net: Net) -> None:
    """The last word is said where the socket is made: no way of looking names up comes around it."""
    with pytest.raises(AddressRefusedError):
        net.outbound._socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", (INNER, 80)))


async def test_a_name_is_judged_again_after_a_redirect(net: Net) -> None:
    answers = iter([[OUTER], [INNER]])
    net.names["rebinding.example"] = lambda: next(answers)
    net.outer.redirect("/", net.url("rebinding.example", "/again"))
    with pytest.raises(AddressRefusedError):
        await net.fetch(net.url("rebinding.example"))
    assert len(net.outer.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        *("http://127.0.0.1:{port}/", "//127.0.0.1:{port}/", "http://inner.example:{port}/", "http://[::1]:{port}/"),
        *(
            "file:///etc/passwd",
            "gopher://outer.example:{port}/",
            "ftp://outer.example/",
            "http://2130706433:{port}/",
            "",
        ),
        *("http://outer.example:22/", "http://u:p@outer.example:{port}/", "http://outer.example:{port}\\@127.0.0.1/"),
    ],
)
async def test_a_redirect_is_judged_like_the_first_url(net: Net, location: str, status: int) -> None:
    net.names["inner.example"] = lambda: [INNER]
    net.outer.redirect("/", location.format(port=net.outer.port), status)
    with pytest.raises(AddressRefusedError):
        await net.fetch(net.url("outer.example"))
    assert len(net.outer.requests) == 1


async def test_redirects_are_followed_up_to_the_fifth(net: Net) -> None:
    for number in range(1, 6):
        net.outer.redirect(f"/{number}", f"/{number + 1}")
    assert await net.fetch(net.url("outer.example", "/1")) == (200, b"hello")
    net.outer.redirect("/6", "/7")
    with pytest.raises(AddressRefusedError, match="more than 5 redirects"):
        await net.fetch(net.url("outer.example", "/1"))


def test_from_https_to_http_is_no_way() -> None:
    from rolehost.outbound import _next  # noqa: PLC0415 - a server with a certificate would show no more

    assert _next("https://a.example/", "/x") == "https://a.example/x"
    with pytest.raises(AddressRefusedError, match="from https"):
        _next("https://a.example/", "http://a.example/")


async def test_hosts_outside_the_list_are_refused(net: Net) -> None:
    net.rules = replace(net.rules, hosts=("*.outer.example", "exact.example"))
    for name in ("outer.example", "a.outer.example", "exact.example", "b.exact.example", "notouter.example"):
        net.names[name] = lambda: [OUTER]
    assert (await net.fetch(net.url("a.outer.example")))[0] == 200
    assert (await net.fetch(net.url("exact.example")))[0] == 200
    for name in ("outer.example", "b.exact.example", "notouter.example"):
        with pytest.raises(AddressRefusedError, match="none of those"):
            await net.fetch(net.url(name))


async def test_names_of_our_own_are_refused(net: Net) -> None:
    net.rules = replace(net.rules, refused_hosts=("outer.example",))
    with pytest.raises(AddressRefusedError):
        await net.fetch(net.url("outer.example"))


async def test_content_is_held_to_the_cap(net: Net) -> None:
    net.rules = replace(net.rules, most_bytes=100_000)
    net.outer.answers["/lies"] = b"HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n"
    with pytest.raises(AnswerTooLargeError, match="announces"):
        await net.fetch(net.url("outer.example", "/lies"))
    net.outer.endless = True
    net.outer.answers["/endless"] = b"HTTP/1.1 200 OK\r\n\r\n"
    with pytest.raises(AnswerTooLargeError, match="larger than"):
        await net.fetch(net.url("outer.example", "/endless"))


async def test_compressed_content_that_nobody_asked_for_is_refused(net: Net) -> None:
    net.outer.answers["/"] = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
    with pytest.raises(AnswerCodedError, match="compressed"):
        await net.fetch(net.url("outer.example"))


async def test_a_deadline_ends_what_drips(net: Net) -> None:
    net.rules = replace(net.rules, deadline=0.3)
    net.outer.answers["/"] = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab"
    holding = asyncio.Event()
    whole = net.outer.serve

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(net.outer.answers["/"])
        await holding.wait()
        await whole(reader, writer)

    async with await asyncio.start_server(hold, OUTER, 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        net.rules = replace(net.rules, ports=frozenset({port}))
        with pytest.raises(OutboundError, match="no answer that can be used"):
            await net.fetch(f"http://outer.example:{port}/")
        holding.set()


async def test_open_and_closed_look_the_same(net: Net) -> None:
    with socket.create_server((OUTER, 0)) as closed:
        port = closed.getsockname()[1]
    net.outer.answers["/"] = b"no HTTP at all\r\n\r\n"
    net.rules = replace(net.rules, ports=frozenset({net.outer.port, port}))
    told = set()
    for url in (f"http://outer.example:{port}/", net.url("outer.example")):
        with pytest.raises(OutboundError) as raised:
            await net.fetch(url)
        told.add((type(raised.value), str(raised.value)))
    assert len(told) == 1


async def test_a_name_that_is_not_there_and_one_that_leads_inwards_look_the_same(net: Net) -> None:
    """Else whoever submits URLs learns the names of an inner network; a resolver that fails is another thing."""

    async def look_up(host: str, port: int, family: int) -> Sequence[Found]:
        if host == "failing.example":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return await net.look_up(host, port, family)

    net.names["inner.example"] = lambda: [INNER]
    told = set()
    for name in ("missing.example", "inner.example"):
        with pytest.raises(AddressRefusedError) as refused:
            async with Outbound(net.rules, look_up).get(net.url(name)):
                pass
        told.add(str(refused.value))
    assert len(told) == 1
    with pytest.raises(OutboundError) as failed:
        async with Outbound(net.rules, look_up).get(net.url("failing.example")):
            pass
    assert not isinstance(failed.value, AddressRefusedError)


async def test_a_name_server_that_keeps_silent_takes_no_thread_that_others_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering, asked = threading.Event(), []

    def silent(host: str, *_: object) -> Sequence[Found]:
        asked.append(host)
        answering.wait(20)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    fetches = [Outbound(Rules(deadline=0.2)).get(f"http://n{number}.example/") for number in range(40)]
    try:
        ended = await asyncio.gather(*(each.__aenter__() for each in fetches), return_exceptions=True)
        assert {type(each) for each in ended} == {OutboundError}
        assert len(asked) == 40
        async with asyncio.timeout(5):
            assert await asyncio.to_thread(lambda: "done") == "done"
    finally:
        answering.set()


async def test_a_callers_own_errors_stay_what_they_are(net: Net) -> None:
    for own in (ValueError("own"), OSError("own"), TimeoutError("own")):
        with pytest.raises(type(own), match="own"):
            async with net.outbound.get(net.url("outer.example")):
                raise own


async def test_a_post_follows_no_redirect_and_is_judged(net: Net) -> None:
    net.outer.redirect("/hook", net.url(INNER))
    assert await net.outbound.post(net.url("outer.example", "/hook"), b"{}", {"webhook-id": "1"}) == 302
    assert "webhook-id: 1" in net.outer.requests[0]
    with pytest.raises(AddressRefusedError):
        await net.outbound.post(net.url(INNER), b"{}", {})
