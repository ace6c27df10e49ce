"""A metadata server on the loopback address, as virtual machines have one: it gives out an identity's tokens.

It speaks the instance metadata service's token protocol (api-version 2018-02-01), and knows its own tokens again.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

import jwt

AUDIENCE = "https://servicebus.azure.net/"
_PATH = "/metadata/identity/oauth2/token"


class MetadataServer:
    """Serves while the block lasts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.given: list[str] = []
        self._key = secrets.token_hex(32)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def accepts(self, token: str) -> bool:
        """Whether a token is one of ours, for Service Bus, and in time."""
        try:
            jwt.decode(token, self._key, algorithms=["HS256"], audience=AUDIENCE)
        except jwt.InvalidTokenError:
            return False
        return True

    def _answer(self, path: str, *, marked: bool) -> tuple[int, dict[str, str]]:
        parts = urlsplit(path)
        (resource,) = parse_qs(parts.query).get("resource", [""])
        if parts.path != _PATH or not marked or not resource:
            return 400, {"error": "invalid_request"}
        self.asked.append(resource)
        ends = int(time.time()) + 3600
        audience = resource.rstrip("/") + "/"
        self.given.append(
            jwt.encode({"aud": audience, "exp": ends, "oid": "this machine"}, self._key, algorithm="HS256")
        )
        return 200, {
            "access_token": self.given[-1],
            "expires_on": str(ends),
            "expires_in": "3600",
            "resource": resource,
            "token_type": "Bearer",
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, answer = outer._answer(self.path, marked=self.headers.get("Metadata") == "true")
                raw = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                del format, args

        return Handler
