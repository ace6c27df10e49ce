"""The slice of Service Bus's ATOM interface that we use: make, describe, list, count and remove queues, over TLS."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from support.service_bus.certificates import Certificate
from support.service_bus.queue_entity import QueueEntity, QueueOptions

_ATOM = "http://www.w3.org/2005/Atom"
_QUEUES = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"
_COUNTS = "http://schemas.microsoft.com/netservices/2011/06/servicebus"
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?")
_LIST = "$Resources/queues"


class Administration:
    """Serves until closed.

    Args:
        queues: the broker's queues, by lower-case name.
        proves: judges an `Authorization` header's token.
        certificate: what it serves with.
        change: runs a function where the broker runs.
    """

    def __init__(
        self,
        queues: dict[str, QueueEntity],
        proves: Callable[[str], bool],
        certificate: Certificate,
        change: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self.may_manage = True
        self.seen: list[str] = []
        self._queues = queues
        self._proves = proves
        self._change = change
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.socket = certificate.server_context().wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"localhost:{self._server.server_port}"

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                status, answer = outer.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
                raw = answer.encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/atom+xml")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                del format, args

            do_GET = do_PUT = do_DELETE = _serve  # noqa: N815 - the base class's names

        return Handler

    def answer(self, method: str, path: str, authorization: str, body: str) -> tuple[int, str]:
        """One request; the answer is a status and a document."""
        name = urlsplit(path).path.strip("/")
        self.seen.append(f"{method} {name}")
        if not self._proves(authorization.removeprefix("Bearer ")):
            return 401, _error(401, "InvalidToken")
        if not self.may_manage:
            return 401, _error(401, "Manage,EntityRead claims required for this operation.")
        if method == "GET" and name == _LIST:
            return 200, _feed("".join(_entry(queue) for queue in list(self._queues.values())))
        queue = self._queues.get(name.lower())
        if method == "PUT":
            return self._make(name, body) if queue is None else (409, _error(409, "The queue exists already."))
        if queue is None:  # a feed without entries is how Service Bus says that there is no such entity
            return 200, _feed("")
        return 200, self._removed(name) if method == "DELETE" else _entry(queue)

    def _removed(self, name: str) -> str:
        self._change(lambda: self._queues.pop(name.lower(), None))
        return ""

    def _make(self, name: str, body: str) -> tuple[int, str]:
        queue = QueueEntity(name, _options(body))
        self._change(lambda: self._queues.setdefault(name.lower(), queue))
        return 201, _entry(queue)


def _options(body: str) -> QueueOptions:
    asked: Mapping[str, str] = {
        element.tag.partition("}")[2]: element.text or ""
        for element in ET.fromstring(body).iter()  # noqa: S314 - from the client under test
    }
    window = asked.get("DuplicateDetectionHistoryTimeWindow") or "PT10M"
    return QueueOptions(
        lock_seconds=_seconds(asked.get("LockDuration") or "PT1M"),
        max_delivery_count=int(asked.get("MaxDeliveryCount") or 10),
        requires_session=asked.get("RequiresSession") == "true",
        duplicate_window=_seconds(window) if asked.get("RequiresDuplicateDetection") == "true" else None,
    )


def _seconds(duration: str) -> float:
    parts = _DURATION.fullmatch(duration)
    assert parts, duration
    days, hours, minutes, seconds = (float(part or 0) for part in parts.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds


def _entry(queue: QueueEntity) -> str:
    counts, options = queue.counts(), queue.options
    detects = options.duplicate_window is not None
    everything = sum(counts[state] for state in ("active", "scheduled", "deferred", "dead"))
    return (
        f'<entry xmlns="{_ATOM}"><id>sb://stand-in/{escape(queue.name)}</id><title type="text">{escape(queue.name)}'
        f'</title><content type="application/xml"><QueueDescription xmlns="{_QUEUES}">'
        f"<LockDuration>PT{options.lock_seconds:g}S</LockDuration>"
        f"<RequiresDuplicateDetection>{str(detects).lower()}</RequiresDuplicateDetection>"
        f"<RequiresSession>{str(options.requires_session).lower()}</RequiresSession>"
        f"<DuplicateDetectionHistoryTimeWindow>PT{options.duplicate_window or 600:g}S"
        f"</DuplicateDetectionHistoryTimeWindow><MaxDeliveryCount>{options.max_delivery_count}</MaxDeliveryCount>"
        f"<MessageCount>{everything}</MessageCount><SizeInBytes>0</SizeInBytes>"
        f'<CountDetails xmlns:d="{_COUNTS}"><d:ActiveMessageCount>{counts["active"]}</d:ActiveMessageCount>'
        f"<d:DeadLetterMessageCount>{counts['dead']}</d:DeadLetterMessageCount>"
        f"<d:ScheduledMessageCount>{counts['scheduled']}</d:ScheduledMessageCount>"
        "<d:TransferMessageCount>0</d:TransferMessageCount>"
        "<d:TransferDeadLetterMessageCount>0</d:TransferDeadLetterMessageCount></CountDetails>"
        "</QueueDescription></content></entry>"
    )


def _feed(entries: str) -> str:
    return f'<feed xmlns="{_ATOM}"><title type="text">Queues</title>{entries}</feed>'


def _error(code: int, detail: str) -> str:
    return f"<Error><Code>{code}</Code><Detail>{escape(detail)}</Detail></Error>"
