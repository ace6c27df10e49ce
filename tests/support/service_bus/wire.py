"""The transport of AMQP 1.0: connections, sessions and links, as far as Service Bus clients use them.

What was learnt from clients: an error always carries its three fields, or a client fails in a callback and hangs. A
link is refused by an ATTACH without source or target and a DETACH with the error. A DETACH that answers ours gets no
answer. Transfers on a refused link are ignored. Dispositions are echoed as settled.
"""

from __future__ import annotations

import asyncio
import struct
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from support.service_bus.amqp_errors import INTERNAL, NO_SESSION, VENDOR, AmqpError
from support.service_bus.amqp_types import (
    Array,
    Described,
    Long,
    Symbol,
    Ubyte,
    Uint,
    Ulong,
    Ushort,
    decode,
    encode,
)
from support.service_bus.queue_entity import patience

if TYPE_CHECKING:
    from support.service_bus.broker import Broker
    from support.service_bus.queue_entity import QueueEntity

OPEN, BEGIN, ATTACH, FLOW, TRANSFER, DISPOSITION, DETACH, END, CLOSE = range(0x10, 0x19)
ACCEPTED, REJECTED, RELEASED, MODIFIED = 0x24, 0x25, 0x26, 0x27
ENTITY, CBS, MANAGEMENT = "entity", "cbs", "management"
_SASL = 1
_LARGEST_FRAME = 1 << 20
_SENDER_CREDIT = 1000
_TICKS_TO_1970 = 621_355_968_000_000_000


class Link:
    """One link, seen from the broker.

    Args:
        session: where it is.
        attach: the client's ATTACH.
    """

    def __init__(self, session: Session, attach: Fields) -> None:
        self.amqp_session = session
        self.name: str = attach[0]
        self.handle: int = attach[1]
        self.outgoing: bool = attach[2]
        self.presettled = attach[3] == 1
        self.terminus: Any = attach[5] if self.outgoing else attach[6]
        self.address = address_of(self.terminus.value[0])
        self.kind = ENTITY
        self.entity: QueueEntity | None = None
        self.session: str | None = None
        self.session_until = 0
        self.refused = False
        self.credit = 0
        self.count = 0
        self.transfer = Transfer()

    @property
    def connection(self) -> Connection:
        """The connection it is on."""
        return self.amqp_session.connection


class Transfer:
    """A message that is coming in, in one frame or several."""

    def __init__(self) -> None:
        self.delivery = 0
        self.format = 0
        self.settled = False
        self.payload = b""


class Fields(list[Any]):
    """A performative's fields; those that were left out at the end are None."""

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index) if index < len(self) else None


class Session:
    """A session of a connection.

    Args:
        connection: where it is.
        channel: its number.
        begin: the client's BEGIN.
    """

    def __init__(self, connection: Connection, channel: int, begin: Fields) -> None:
        self.connection = connection
        self.channel = channel
        self.links: dict[int, Link] = {}
        self.unsettled: dict[int, tuple[Link, uuid.UUID]] = {}
        self._next_in: int = begin[1]
        self._next_out = 0
        self.send(BEGIN, [Ushort(channel), Uint(0), Uint(0x7FFFFFFF), Uint(0x7FFFFFFF), Uint(255)])

    def send(self, code: int, fields: list[Any], payload: bytes = b"") -> None:
        """Send a performative on this session's channel."""
        self.connection.send(self.channel, code, fields, payload)

    def deliver(self, link: Link, tag: bytes, payload: bytes, token: uuid.UUID | None = None) -> None:
        """Send a message; with a token it stays locked until the client settles it."""
        delivery, most = self._next_out, self.connection.peer_frame - 128
        link.count += 1
        link.credit -= 1
        if token is not None:
            self.unsettled[delivery] = (link, token)
        for start in range(0, len(payload), most):
            head = [Uint(delivery), tag, Uint(0)] if start == 0 else [None, None, None]
            more = start + most < len(payload)
            self.send(TRANSFER, [Uint(link.handle), *head, token is None, more], payload[start : start + most])
            self._next_out += 1

    def flow(self, link: Link | None = None) -> None:
        """Say how much may be sent."""
        fields = [Uint(self._next_in), Uint(0x7FFFFFFF), Uint(self._next_out), Uint(0x7FFFFFFF)]
        if link is not None:
            fields += [Uint(link.handle), Uint(link.count), Uint(link.credit)]
        self.send(FLOW, fields)

    def on_flow(self, fields: Fields) -> None:
        """The client gives credit, or asks how things stand."""
        link = self.links.get(fields[4])
        if link is None or not link.outgoing:
            return
        link.credit = (fields[5] or 0) + (fields[6] or 0) - link.count
        self.connection.broker.pump(link.entity)
        if fields[8] and link.credit > 0:
            link.count += link.credit
            link.credit = 0
            self.flow(link)
        elif fields[9]:
            self.flow(link)

    def on_attach(self, fields: Fields) -> None:
        """The client opens a link."""
        link = Link(self, fields)
        self.links[link.handle] = link
        self.connection.broker.attached.append(link.address)
        self._open(link, fields, asyncio.get_running_loop().time() + patience(fields[13] or {}))

    def _open(self, link: Link, fields: Fields, until: float) -> None:
        """Answer an ATTACH; who wants the next session that has a message waits for one, as long as it likes."""
        if self.links.get(link.handle) is not link or self.connection.closed:
            return
        error = None
        try:
            self.connection.broker.open_link(link)
        except AmqpError as refusal:
            if refusal.condition == NO_SESSION and asyncio.get_running_loop().time() < until:
                self.connection.broker.waiting.append(lambda: self._open(link, fields, until))
                return
            error, link.refused = refusal, True
        self.send(ATTACH, _answer(link, fields))
        if error is not None:
            self.send(DETACH, [Uint(link.handle), True, error.described()])
        elif not link.outgoing:
            link.credit = _SENDER_CREDIT
            self.flow(link)

    def on_detach(self, fields: Fields) -> None:
        """The client closes a link, or acknowledges that we did."""
        link = self.links.pop(fields[0], None)
        if link is not None and not link.refused:
            self.connection.broker.close_link(link)
            self.send(DETACH, [Uint(link.handle), True])

    def detach(self, link: Link, error: AmqpError) -> None:
        """Close a link from our side."""
        link.refused = True
        self.connection.broker.close_link(link)
        self.send(DETACH, [Uint(link.handle), True, error.described()])

    def on_transfer(self, fields: Fields, payload: bytes) -> None:
        """A frame of a message comes in."""
        self._next_in += 1
        link = self.links.get(fields[0])
        if link is None or link.refused:
            return
        transfer = link.transfer
        if fields[1] is not None:
            transfer.delivery, transfer.format, transfer.settled = fields[1], fields[3] or 0, bool(fields[4])
        transfer.payload += payload
        if fields[5]:
            return
        link.transfer = Transfer()
        link.count += 1
        link.credit -= 1
        self._take(link, transfer)
        if link.credit < _SENDER_CREDIT // 2:
            link.credit = _SENDER_CREDIT
            self.flow(link)

    def _take(self, link: Link, transfer: Transfer) -> None:
        broker = self.connection.broker
        state = Described(ACCEPTED, [])
        if link.kind == ENTITY:
            try:
                broker.publish(link, transfer)
            except AmqpError as refusal:
                state = Described(REJECTED, [refusal.described()])
        if not transfer.settled:
            self.send(DISPOSITION, [True, Uint(transfer.delivery), Uint(transfer.delivery), True, state])
        if link.kind == ENTITY:
            broker.pump(link.entity)
        else:
            broker.request(link, transfer.payload)

    def on_disposition(self, fields: Fields) -> None:
        """The client settles what it received."""
        if fields[0] is not True:
            return
        last = fields[1] if fields[2] is None else fields[2]
        for delivery in [number for number in self.unsettled if fields[1] <= number <= last]:
            self.connection.broker.settle(self, delivery, fields[4], settled=bool(fields[3]))

    def answer_settlement(self, delivery: int, state: Described) -> None:
        """Tell the client what became of its settlement."""
        self.send(DISPOSITION, [False, Uint(delivery), Uint(delivery), True, state])


class Connection(asyncio.Protocol):
    """A client's connection.

    Args:
        broker: what it talks to.
    """

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.authorized: set[str] = set()
        self.peer_frame = 512
        self.closed = False
        self._buffer = bytearray()
        self._sessions: dict[int, Session] = {}
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.broker.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.closed = True
        self.broker.connections.discard(self)
        for session in self._sessions.values():
            self._drop_links(session)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self.broker.faults.latency:
            asyncio.get_running_loop().call_later(self.broker.faults.latency, self.work)
        else:
            self.work()

    def work(self) -> None:
        """Read what has come in, unless the broker plays dead."""
        try:
            while not self.broker.faults.hung and not self.closed and self._read_frame():
                pass
        except Exception as error:  # noqa: BLE001 - a test looks at the broker's errors
            self.broker.errors.append(error)
            self.close(AmqpError(INTERNAL, repr(error)))

    def _read_frame(self) -> bool:
        if len(self._buffer) < 8:
            return False
        if self._buffer[:4] == b"AMQP":
            self._read_header()
            return True
        size, offset, kind, channel = struct.unpack_from(">IBBH", self._buffer)
        if len(self._buffer) < size:
            return False
        frame = bytes(self._buffer[offset * 4 : size])
        del self._buffer[:size]
        if kind == _SASL:
            self.send(0, 0x44, [Ubyte(0)], kind=_SASL)
        elif frame:
            performative, end = decode(frame)
            self._on(channel, int(performative.descriptor), Fields(performative.value), frame[end:])
        return True

    def _read_header(self) -> None:
        header = bytes(self._buffer[:8])
        del self._buffer[:8]
        self._write(header)
        if header[4] == 3:
            mechanisms = Array(0xB3, [Symbol("ANONYMOUS"), Symbol("MSSBCBS"), Symbol("EXTERNAL")])
            self.send(0, 0x40, [mechanisms], kind=_SASL)

    def send(self, channel: int, code: int, fields: list[Any], payload: bytes = b"", kind: int = 0) -> None:
        """Send a frame."""
        body = encode(Described(code, fields)) + payload
        self._write(struct.pack(">IBBH", len(body) + 8, 2, kind, channel) + body)

    def _write(self, data: bytes) -> None:
        if not self.closed and self._transport is not None:
            self._transport.write(data)

    def close(self, error: AmqpError | None = None) -> None:
        """Close with an error, as a broker does that goes away."""
        if self.closed:
            return
        self.send(0, CLOSE, [error.described() if error else None])
        self.closed = True
        assert self._transport is not None
        self._transport.close()

    def abort(self) -> None:
        """Vanish, as a network does."""
        self.closed = True
        assert self._transport is not None
        self._transport.abort()

    def entity_links(self) -> list[tuple[Session, Link]]:
        """The links to queues."""
        found = [(session, link) for session in self._sessions.values() for link in session.links.values()]
        return [(session, link) for session, link in found if link.kind == ENTITY and not link.refused]

    def _on(self, channel: int, code: int, fields: Fields, payload: bytes) -> None:
        if code == OPEN:
            self.peer_frame = min(fields[2] or 65536, _LARGEST_FRAME)
            self.send(0, OPEN, ["service-bus-stand-in", None, Uint(_LARGEST_FRAME), Ushort(255), Uint(240_000)])
        elif code == BEGIN:
            self._sessions[channel] = Session(self, channel, fields)
        elif code == CLOSE:
            self.close()
        elif channel in self._sessions:  # a client that closes while it reads may still send into an ended session
            self._on_session(self._sessions[channel], code, fields, payload)

    def _on_session(self, session: Session, code: int, fields: Fields, payload: bytes) -> None:
        if code == END:
            del self._sessions[session.channel]
            self._drop_links(session)
            session.send(END, [None])
        elif code == TRANSFER:
            session.on_transfer(fields, payload)
        else:
            handlers: dict[int, Callable[[Fields], None]] = {
                ATTACH: session.on_attach,
                FLOW: session.on_flow,
                DISPOSITION: session.on_disposition,
                DETACH: session.on_detach,
            }
            handlers[code](fields)

    def _drop_links(self, session: Session) -> None:
        for link in list(session.links.values()):
            self.broker.close_link(link)
        session.links.clear()


def _answer(link: Link, fields: Fields) -> list[Any]:
    """Our ATTACH: a refused link has no source, or no target."""
    source, target = fields[5], fields[6]
    properties = None
    if link.refused:
        source, target = (None, target) if link.outgoing else (source, None)
    elif link.session is not None:
        filtered = (list(source.value) + [None] * 11)[:11]
        filtered[7] = {Symbol(VENDOR + "session-filter"): link.session}
        source = Described(source.descriptor, filtered)
        properties = {Symbol(VENDOR + "locked-until-utc"): Long(link.session_until * 10_000 + _TICKS_TO_1970)}
    largest = Ulong(link.entity.options.largest_message) if link.entity is not None and not link.refused else None
    return [
        link.name,
        Uint(link.handle),
        not link.outgoing,
        Ubyte(fields[3] or 0),
        Ubyte(fields[4] or 0),
        source,
        target,
        None,
        None,
        Uint(0) if link.outgoing else None,
        largest,
        None,
        None,
        properties,
    ]


def address_of(address: str | None) -> str:
    """An entity's path: clients may put scheme and host before it."""
    text = address or ""
    return text.partition("://")[2].partition("/")[2] if "://" in text else text
