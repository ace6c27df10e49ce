"""HTTP to addresses that others chose: a guarded fetch, for the sources of jobs and for webhooks.

Whoever submits a job with a URL makes this machine ask. So a URL is read strictly (`checked_url`), every address of its
host is judged, the connection goes to an address that was judged and to no other (a name that means something else a
moment later gains nothing), each redirect begins again, and what comes back is held to a cap and a deadline. Proxies of
the environment, cookies and credentials are never used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, TypeAlias
from urllib.parse import SplitResult, urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from rolehost.errors import AddressRefusedError, AnswerCodedError, AnswerTooLargeError, OutboundError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Found: TypeAlias = "tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]"
LookUp: TypeAlias = "Callable[[str, int, int], Awaitable[Sequence[Found]]]"

PORTS: Mapping[str, int] = {"http": 80, "https": 443}
MOST_REDIRECTS = 5
LONGEST_URL = 2048
PIECE = 256 * 1024
_NO_ANSWER = "the address gave no answer that can be used"
_NOWHERE = "the host's name leads to no address that may be asked"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNKNOWN_NAMES = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
# A name as DNS has it: anything else (full-width digits, look-alikes, underscores, a trailing dot) is not guessed at.
_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
# Printable ASCII without what browsers and libraries read differently: spaces, backslashes, control characters.
_PLAIN = re.compile(r"[!-\[\]-~]+\Z")
# What some resolver takes for an IPv4 address: its last label begins with a digit. Only dotted quads are one here.
_NUMBER = re.compile(r"(?:.*\.)?[0-9][^.]*\Z")

_NOT_PUBLIC: Sequence[_Network] = tuple(
    ipaddress.ip_network(each)
    for each in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/3", "168.63.129.16/32"),  # the last one is Azure's own host, with a public number
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),  # Teredo and others, documentation, 6to4
    )
)
_UNICAST_6 = ipaddress.IPv6Network("2000::/3")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})


def is_public(address: _Address) -> bool:
    """Whether an address belongs to the public internet.

    Stricter than `ipaddress.is_global`, which calls forms global that carry a private address in them.
    """
    if isinstance(address, ipaddress.IPv6Address):
        isatap = (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
        if address.scope_id or address not in _UNICAST_6 or isatap:
            return False
    return not any(address in network for network in _NOT_PUBLIC if network.version == address.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Where a fetch may go.

    Args:
        hosts: names that alone are allowed, `*.example.org` for all below one; none: all.
        refused_hosts: names that are never asked: the service's own, its storage account's.
        networks: that are allowed although they are not public.
        ports: that are allowed.
        schemes: `https`, `http`.
        most_bytes: of what comes back.
        deadline: seconds for all of it: names, redirects, content.
    """

    hosts: Sequence[str] = ()
    refused_hosts: Sequence[str] = ()
    networks: Sequence[_Network] = ()
    ports: frozenset[int] = frozenset({80, 443})
    schemes: frozenset[str] = frozenset({"http", "https"})
    most_bytes: int = 64 * 2**20
    deadline: float = 60.0

    def allows_host(self, host: str) -> bool:
        """Whether the host's name is in the list, where there is one."""
        return not _is_among(host, self.refused_hosts) and (not self.hosts or _is_among(host, self.hosts))

    def allows_address(self, address: _Address) -> bool:
        """Whether a connection may be made to the address."""
        named = any(address in network for network in self.networks if network.version == address.version)
        return named or is_public(address)


def _is_among(host: str, names: Sequence[str]) -> bool:
    return any(host.endswith(each[1:]) if each.startswith("*.") else host == each for each in names)


def checked_url(text: str, rules: Rules) -> SplitResult:
    """A URL that may be fetched, as far as its text tells; names are judged when a connection is made.

    Raises:
        AddressRefusedError: it is none, or leads where the rules do not.
    """
    if len(text) > LONGEST_URL or not _PLAIN.match(text):
        raise AddressRefusedError(
            "the URL has to be plain ASCII without spaces and backslashes, 2048 characters at most"
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise AddressRefusedError("the URL can't be read") from error
    if parts.scheme not in rules.schemes or not text.lower().startswith(f"{parts.scheme}://"):
        raise AddressRefusedError(f"the URL has to begin with {' or '.join(f'{s}://' for s in sorted(rules.schemes))}")
    if "@" in parts.netloc:
        raise AddressRefusedError("the URL may not carry a user or a password")
    host = _host(parts, rules)
    if (port or PORTS[parts.scheme]) not in rules.ports:
        raise AddressRefusedError(f"the port is none of those that are allowed: {sorted(rules.ports)}")
    if not rules.allows_host(host):
        raise AddressRefusedError("the host is none of those that are allowed")
    return parts


def _host(parts: SplitResult, rules: Rules) -> str:
    """The host of a URL: a public address, or a name."""
    host = parts.hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if _NUMBER.match(host) or not _NAME.match(host):
            raise AddressRefusedError("the host is neither a name nor an address in its usual form") from None
        return host
    if not rules.allows_address(address):
        raise AddressRefusedError("the address is not a public one")
    return host


@dataclass(slots=True)
class _Resolver(AbstractResolver):
    """Names to addresses that may be connected to; one forbidden address among them spoils the name.

    A name that does not exist and one that leads inwards are refused alike: else the answer would tell inner names.
    """

    rules: Rules
    look_up: LookUp

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            found = await self.look_up(host, port, family)
        except socket.gaierror as error:
            if error.errno in _UNKNOWN_NAMES:
                raise AddressRefusedError(_NOWHERE) from error
            raise
        for _, _, _, _, place in found:
            _judge(str(place[0]), self.rules)
        return [
            ResolveResult(
                hostname=host, host=str(place[0]), port=port, family=kind, proto=protocol, flags=socket.AI_NUMERICHOST
            )
            for kind, _, protocol, _, place in found
        ]

    async def close(self) -> None:
        """Nothing is kept."""


def _judge(text: str, rules: Rules) -> None:
    if not rules.allows_address(ipaddress.ip_address(text)):
        raise AddressRefusedError(_NOWHERE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Args:
        status: of the last answer, after redirects.
        url: that was answered, after redirects.
        type: the media type that the answer claims, without parameters; empty if it claims none.
        headers: of the answer.
        pieces: the content, of up to 256 KiB each, held to the cap; raises `AnswerTooLargeError` beyond it.
    """

    status: int
    url: str
    type: str
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


async def _ask_the_system(host: str, port: int, family: int) -> Sequence[Found]:
    """In a thread of its own: a name server of somebody else's that keeps silent holds it for half a minute.

    Threads that all share would be gone with a few such names, and a stop would wait for them.
    """
    asked: Future[Sequence[Found]] = Future()

    def ask() -> None:
        if not asked.set_running_or_notify_cancel():  # nobody waits any more
            return
        try:
            asked.set_result(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            asked.set_exception(error)

    Thread(target=ask, name="rolehost-names", daemon=True).start()
    return await asyncio.wrap_future(asked)


@dataclass(frozen=True, slots=True)
class Outbound:
    """A guarded client.

    Args:
        rules: where it may go.
        look_up: a name's addresses, as `getaddrinfo` gives them for streams.
    """

    rules: Rules = field(default_factory=Rules)
    look_up: LookUp = _ask_the_system

    @asynccontextmanager
    async def get(self, url: str) -> AsyncIterator[Answer]:
        """Fetch a URL, for the length of a block; redirects are followed where the rules allow each of them.

        Raises:
            AddressRefusedError: it leads where the rules do not, at once or by a redirect.
            AnswerTooLargeError: more comes than the cap.
            AnswerCodedError: it comes compressed, which nobody asked for.
            OutboundError: no answer in time, or none that can be used. Open, closed and silent ports look the same.
        """
        limit = asyncio.timeout(self.rules.deadline)
        try:
            async with limit, self._session() as session, await self._follow(session, url) as answer:
                yield self._answer(answer)
        except TimeoutError as error:
            if not limit.expired():
                raise  # the caller's own
            raise OutboundError(_NO_ANSWER) from error

    async def post(self, url: str, content: bytes, headers: Mapping[str, str]) -> int:
        """Send content to a URL, following no redirect; the status of the answer, whose content nobody reads.

        Raises:
            AddressRefusedError: it leads where the rules do not.
            OutboundError: no answer in time.
        """
        checked_url(url, self.rules)
        with _failing_alike():
            async with asyncio.timeout(self.rules.deadline), self._session() as session:
                sent = session.post(URL(url, encoded=True), data=content, headers=headers, allow_redirects=False)
                async with sent as answer:
                    return answer.status

    async def _follow(self, session: aiohttp.ClientSession, url: str) -> aiohttp.ClientResponse:
        """The answer at the end of all redirects, each of them judged."""
        for _ in range(MOST_REDIRECTS + 1):
            checked_url(url, self.rules)
            with _failing_alike():
                answer = await session.get(URL(url, encoded=True), allow_redirects=False)
            if answer.status not in _REDIRECTS:
                return answer
            answer.close()
            url = _next(url, answer.headers.get("Location", ""))
        raise AddressRefusedError(f"there are more than {MOST_REDIRECTS} redirects")

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=_Resolver(self.rules, self.look_up),
            use_dns_cache=False,
            force_close=True,
            socket_factory=self._socket,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"User-Agent": "rolehost", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None),
        )

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        """The last word before a connection: whatever the name meant before, this is the address that it goes to."""
        family, kind, protocol, _, place = info
        _judge(str(place[0]), self.rules)
        made = socket.socket(family, kind, protocol)
        made.settimeout(0)  # the loop's: it never blocks
        return made

    def _answer(self, answer: aiohttp.ClientResponse) -> Answer:
        if answer.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
            raise AnswerCodedError("the answer is compressed although no compression was asked for")
        if (answer.content_length or 0) > self.rules.most_bytes:
            raise AnswerTooLargeError(f"the answer announces more than {self.rules.most_bytes} bytes")
        claimed = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Answer(answer.status, str(answer.url), claimed, answer.headers, self._pieces(answer))

    async def _pieces(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        size = 0
        while True:
            with _failing_alike():
                piece = await answer.content.read(PIECE)
            if not piece:
                return
            size += len(piece)
            if size > self.rules.most_bytes:
                raise AnswerTooLargeError(f"the answer is larger than {self.rules.most_bytes} bytes")
            yield piece


def _next(url: str, location: str) -> str:
    """Where a redirect leads.

    Raises:
        AddressRefusedError: nowhere, or from https to http.
    """
    if not location or not _PLAIN.match(location):
        raise AddressRefusedError("a redirect leads nowhere that could be asked")
    target = urljoin(url, location)
    if url.lower().startswith("https:") and not target.lower().startswith("https:"):
        raise AddressRefusedError("a redirect leads from https to something else")
    return target


@contextmanager
def _failing_alike() -> Iterator[None]:
    """Every way in which there is no answer becomes one error with one text: it tells nothing about inner networks."""
    try:
        yield
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        if (refused := _refused(error)) is not None:
            raise AddressRefusedError(str(refused)) from error
        raise OutboundError(_NO_ANSWER) from error


def _refused(error: BaseException | None) -> AddressRefusedError | None:
    """The refusal behind an error of the client, which wraps what its resolver and its sockets raise."""
    while error is not None:
        if isinstance(error, AddressRefusedError):
            return error
        error = error.__cause__ or error.__context__
    return None
