"""The stand-in as tests use it: a broker on a thread of its own, and what goes wrong with it on purpose."""

from __future__ import annotations

import asyncio
import base64
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

from support.service_bus.administration import Administration
from support.service_bus.amqp_errors import SERVER_BUSY, UNAUTHORIZED, AmqpError
from support.service_bus.broker import Broker
from support.service_bus.certificates import Certificate
from support.service_bus.queue_entity import QueueOptions

POLICY = "stand-in"
_LIMIT = 10.0


class StandIn:
    """A namespace on the loopback address.

    Args:
        queues: the queues that there are.
        certificate: serve over TLS, as Azure does; without one it is plain, as the emulator is.
        accepts: judges the tokens of identities.
        makes_queues: make a queue when a link to an unknown one is opened; Service Bus never does.
        key: the shared access key; a new one if none is given.
        port: where; 0: wherever there is room.
    """

    def __init__(
        self,
        queues: Mapping[str, QueueOptions] | None = None,
        *,
        certificate: Certificate | None = None,
        accepts: Callable[[str], bool] | None = None,
        makes_queues: QueueOptions | None = None,
        key: str = "",
        port: int = 0,
    ) -> None:
        self.key = key or base64.b64encode(secrets.token_bytes(32)).decode()
        self.port = port
        self.administration: Administration | None = None
        self._certificate = certificate
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="service bus stand-in", daemon=True)
        self.broker = Broker(queues or {}, keys={POLICY: self.key}, accepts=accepts, makes_queues=makes_queues)

    @property
    def connection_string(self) -> str:
        """For a client without TLS."""
        return (
            f"Endpoint=sb://localhost:{self.port};SharedAccessKeyName={POLICY};SharedAccessKey={self.key};"
            "UseDevelopmentEmulator=true"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.administration is not None:
            self.administration.close()
        self.resume()
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_LIMIT)
        self._loop.close()

    def start(self) -> None:
        """Serve, on the same port as before; what was in the queues is there."""
        context = self._certificate.server_context() if self._certificate else None
        serving = self.broker.serve("127.0.0.1", self.port, context)
        self.port = asyncio.run_coroutine_threadsafe(serving, self._loop).result(_LIMIT)

    def stop(self) -> None:
        """Go away, and tell the clients so."""
        asyncio.run_coroutine_threadsafe(self.broker.close(), self._loop).result(_LIMIT)

    def administer(self, certificate: Certificate) -> str:
        """Serve the management interface too; the answer is its address."""
        self.administration = Administration(self.broker.queues, self.broker.tokens.proves, certificate, self.call)
        return self.administration.address

    def call(self, function: Callable[[], Any]) -> Any:
        """Do something where the broker runs."""

        async def done() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(_LIMIT)

    def counts(self, queue: str) -> Mapping[str, int]:
        """How many messages a queue holds, by state."""
        found: Mapping[str, int] = self.call(lambda: self.broker.entity(queue).counts())
        return found

    def forget(self) -> None:
        """Empty all queues."""
        self.call(self.broker.forget)

    def drop_connections(self, *, abort: bool = False) -> None:
        """End every connection: with an error, or as if the network had failed."""
        self.call(lambda: self.broker.drop_connections(abort=abort))

    def detach_links(self) -> None:
        """End every link to a queue, as Service Bus does with idle ones."""
        self.call(self.broker.detach_links)

    def hang(self) -> None:
        """Keep the connections, and answer nothing."""
        self.call(lambda: self.broker.play_dead(hung=True))

    def resume(self) -> None:
        """Answer again, first what came in meanwhile."""
        self.call(lambda: self.broker.play_dead(hung=False))

    def slow_down(self, seconds: float) -> None:
        """Take so much longer for everything."""
        self.broker.faults.latency = seconds

    def forbid(self) -> None:
        """Take every token, and let nobody do anything: a role is missing."""
        self.broker.faults.refuse_links = AmqpError(UNAUTHORIZED, "Unauthorized access. 'Send' claims required.", 401)

    def be_busy(self, *, busy: bool = True) -> None:
        """Refuse links, messages and requests as a namespace does that throttles."""
        refusal = AmqpError(SERVER_BUSY, "The request was terminated because the entity is being throttled.", 503)
        faults = self.broker.faults
        faults.refuse_links = faults.refuse_sends = faults.refuse_requests = refusal if busy else None
