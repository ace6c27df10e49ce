"""The broker between wire and queues: who may open which link, and what becomes of what is sent over it."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rolehost.stores.queues import ORDERED
from support.service_bus.amqp_errors import FORCED, NOT_ALLOWED, NOT_FOUND, UNAUTHORIZED, VENDOR, AmqpError
from support.service_bus.amqp_types import Described, Int, Symbol, section, sections
from support.service_bus.management import manage
from support.service_bus.queue_entity import DEAD_LETTERS, QueueEntity, QueueOptions
from support.service_bus.stored_message import APPLICATION, DATA, PROPERTIES, VALUE, StoredMessage
from support.service_bus.tokens import TokenDesk
from support.service_bus.wire import (
    ACCEPTED,
    CBS,
    ENTITY,
    MANAGEMENT,
    MODIFIED,
    REJECTED,
    RELEASED,
    Connection,
    Link,
    Session,
    Transfer,
)

_BATCH = 0x80013700
_TICK = 0.02
_MANAGEMENT_SUFFIX = "/$management"
_SESSION_FILTER = VENDOR + "session-filter"


@dataclass(slots=True)
class BrokerFaults:
    """What goes wrong on purpose.

    Args:
        refuse_links: every new link to a queue is refused so.
        refuse_sends: every message that is sent is refused so.
        refuse_requests: every management request is refused so.
        hung: connections stay up, and nobody answers.
        latency: seconds that everything from a client takes longer.
    """

    refuse_links: AmqpError | None = None
    refuse_sends: AmqpError | None = None
    refuse_requests: AmqpError | None = None
    hung: bool = False
    latency: float = 0.0


class Broker:
    """Queues in memory, served over AMQP.

    Args:
        queues: the queues that there are.
        keys: names and keys of the shared access policies.
        accepts: judges a token of an identity.
        makes_queues: make a queue when a link to an unknown one is opened; Service Bus never does.
    """

    def __init__(
        self,
        queues: Mapping[str, QueueOptions],
        *,
        keys: Mapping[str, str],
        accepts: Callable[[str], bool] | None = None,
        makes_queues: QueueOptions | None = None,
    ) -> None:
        self.queues = {name.lower(): QueueEntity(name, options) for name, options in queues.items()}
        self.tokens = TokenDesk(keys, accepts)
        self.faults = BrokerFaults()
        self.connections: set[Connection] = set()
        self.errors: list[Exception] = []
        self.requests: list[tuple[str, str]] = []
        self.attached: list[str] = []
        self.waiting: list[Callable[[], None]] = []
        self._makes_queues = makes_queues
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def serve(self, host: str, port: int, context: ssl.SSLContext | None = None) -> int:
        """Listen; the answer is the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), host, port, ssl=context)
        self._ticking = loop.create_task(self._tick())
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Go away, and tell the clients so."""
        assert self._server is not None
        assert self._ticking is not None
        self._ticking.cancel()
        await asyncio.wait([self._ticking])
        self._server.close()
        for connection in list(self.connections):
            connection.close(AmqpError(FORCED, "The broker goes away."))
        await asyncio.sleep(_TICK)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            if not self.faults.hung:
                for entity in list(self.queues.values()):
                    entity.tick()
                    self.pump(entity)
                    self.pump(entity.dead)
                waiting, self.waiting = self.waiting, []
                for try_again in waiting:
                    try_again()

    def play_dead(self, *, hung: bool) -> None:
        """Stop answering, or go on with what came in meanwhile."""
        self.faults.hung = hung
        for connection in list(self.connections):
            connection.work()

    def drop_connections(self, *, abort: bool = False) -> None:
        """End every connection: with an error, or as if the network had failed."""
        for connection in list(self.connections):
            if abort:
                connection.abort()
            else:
                connection.close(AmqpError(FORCED, "The test ends the connection."))

    def detach_links(self) -> None:
        """End every link to a queue, as Service Bus does with idle ones; the connections stay."""
        for connection in list(self.connections):
            for session, link in connection.entity_links():
                session.detach(link, AmqpError("amqp:link:detach-forced", "The link is idle."))

    def forget(self) -> None:
        """Be as if nothing had ever been sent or asked."""
        self.requests.clear()
        self.attached.clear()
        for entity in self.queues.values():
            entity.forget()

    def entity(self, path: str) -> QueueEntity:
        """The queue, or dead-letter queue, with this path.

        Raises:
            AmqpError: there is none.
        """
        name, _, sub = path.partition("/")
        queue = self.queues.get(name.lower())
        if queue is None and self._makes_queues is not None:
            options = replace(self._makes_queues, requires_session=name.endswith(ORDERED))
            queue = self.queues[name.lower()] = QueueEntity(name, options)
        if queue is None:
            raise AmqpError(NOT_FOUND, f"The messaging entity '{path}' could not be found.", 404)
        return queue.dead if queue.dead is not None and sub.lower() == DEAD_LETTERS.lower() else queue

    def open_link(self, link: Link) -> None:
        """Give a link what it leads to.

        Raises:
            AmqpError: there is nothing, or not for this client.
        """
        if link.address == "$cbs":
            link.kind = CBS
            return
        if not self.tokens.may_open(link.connection, link.address):
            raise AmqpError(UNAUTHORIZED, f"Unauthorized access to '{link.address}'.", 401)
        if link.address.endswith(_MANAGEMENT_SUFFIX):
            link.kind = MANAGEMENT
            link.entity = self.entity(link.address.removesuffix(_MANAGEMENT_SUFFIX))
            return
        if self.faults.refuse_links is not None:
            raise self.faults.refuse_links
        link.entity = self.entity(link.address)
        if link.outgoing:
            self._accept_session(link, link.entity)
            link.entity.consumers.append(link)

    @staticmethod
    def _accept_session(link: Link, entity: QueueEntity) -> None:
        source = link.terminus.value
        filters = (source[7] if len(source) > 7 else None) or {}
        asked = _SESSION_FILTER in filters
        if asked != entity.options.requires_session:
            raise AmqpError(NOT_ALLOWED, "The entity has no sessions." if asked else "This entity requires sessions.")
        if not asked:
            return
        wanted = filters[_SESSION_FILTER]
        link.session = entity.accept_session(wanted.value if isinstance(wanted, Described) else wanted)
        link.session_until = entity.sessions[link.session]

    def close_link(self, link: Link) -> None:
        """Forget a link; what it locked stays locked until the lock ends, but for a session's."""
        if link.entity is not None and link in link.entity.consumers:
            link.entity.consumers.remove(link)
        if link.entity is not None and link.session is not None:
            link.entity.drop_session(link.session)

    def publish(self, link: Link, transfer: Transfer) -> None:
        """Take a message, or a batch of messages.

        Raises:
            AmqpError: it is refused.
        """
        if self.faults.refuse_sends is not None:
            raise self.faults.refuse_sends
        assert link.entity is not None
        raw = transfer.payload
        batch = [value for code, value, _ in sections(raw) if code == DATA] if transfer.format == _BATCH else [raw]
        for message in batch:
            link.entity.enqueue(StoredMessage(message))

    def pump(self, entity: QueueEntity | None) -> None:
        """Push what is ready to who has credit, in turns."""
        idle = 0
        while entity is not None and idle < len(entity.consumers):
            link = entity.consumers[0]
            entity.consumers.rotate(-1)
            assert isinstance(link, Link)
            message = entity.next_ready(link.session) if link.credit > 0 and not link.connection.closed else None
            if message is None:
                idle += 1
                continue
            idle = 0
            if link.presettled:
                link.amqp_session.deliver(link, uuid.uuid4().bytes_le, message.encode())
                del entity.messages[message.sequence]
            else:
                token = entity.lock(message)
                link.amqp_session.deliver(link, token.bytes_le, message.encode(), token)

    def settle(self, session: Session, delivery: int, state: Described | None, *, settled: bool) -> None:
        """Do with a delivery what the client says."""
        if state is None and not settled:
            return
        link, token = session.unsettled.pop(delivery)
        assert link.entity is not None
        outcome = state or Described(RELEASED, [])
        answer = outcome if outcome.descriptor == MODIFIED else Described(outcome.descriptor, [])
        try:
            _settle(link.entity, token, outcome)
        except AmqpError as refusal:
            answer = Described(REJECTED, [refusal.described()])
        if not settled:
            session.answer_settlement(delivery, answer)
        self.pump(link.entity)
        self.pump(link.entity.dead)

    def request(self, link: Link, raw: bytes) -> None:
        """Answer a request on the link that the client opened for the answers."""
        found = {code: value for code, value, _ in sections(raw)}
        application = found.get(APPLICATION, {})
        status, body, refusal = 200, None, None
        try:
            status, body = self._carry_out(link, application, found.get(VALUE))
        except AmqpError as error:
            status, refusal = error.status, error
        replies = [
            reply for reply in link.amqp_session.links.values() if reply.outgoing and reply.address == link.address
        ]
        if replies:
            said = _reply(link.kind, found[PROPERTIES][0], status, refusal) + section(VALUE, body)
            link.amqp_session.deliver(replies[0], uuid.uuid4().bytes, said)
        self.pump(link.entity)

    def _carry_out(self, link: Link, application: Mapping[Any, Any], body: Any) -> tuple[int, Any]:
        if link.kind == CBS:
            self.tokens.put(link.connection, application, body)
            return 202, None
        if self.faults.refuse_requests is not None:
            raise self.faults.refuse_requests
        assert link.entity is not None
        operation = str(application.get("operation"))
        self.requests.append((link.entity.name, operation.removeprefix(VENDOR)))
        return manage(link.entity, operation, body or {})


def _settle(entity: QueueEntity, token: uuid.UUID, outcome: Described) -> None:
    fields = outcome.value
    if outcome.descriptor == ACCEPTED:
        entity.complete(token)
    elif outcome.descriptor == RELEASED:
        entity.release(token)
    elif outcome.descriptor == MODIFIED:
        undeliverable_here = len(fields) > 1 and fields[1]
        (entity.defer if undeliverable_here else entity.abandon)(token)
    else:
        info = (list(fields[0].value) + [None] * 3)[2] if fields and fields[0] is not None else None
        said = info or {}
        entity.dead_letter(token, said.get("DeadLetterReason"), said.get("DeadLetterErrorDescription"))


def _reply(kind: str, correlation: Any, status: int, refusal: AmqpError | None) -> bytes:
    code, text = ("status-code", "status-description") if kind == CBS else ("statusCode", "statusDescription")
    facts: dict[str, Any] = {code: Int(status), text: refusal.description if refusal else "OK"}
    if refusal is not None:
        facts["errorCondition"] = Symbol(refusal.condition)
    return section(PROPERTIES, [None] * 5 + [correlation]) + section(APPLICATION, facts)


__all__ = ["ENTITY", "Broker", "BrokerFaults"]
