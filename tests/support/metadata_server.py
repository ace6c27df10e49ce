"""Azure's metadata service on loopback: gives a token for a managed identity to whoever asks as the SDK does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

_ISSUER = "https://sts.windows.net/00000000-0000-0000-0000-000000000001/"


class MetadataServer:
    """Listens on a free port, from `with` to its end.

    `environ` is what a process needs to use it, and `asked` has the resource of every token it gave. Set `refusing`,
    and it says that there is no identity.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refusing = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def environ(self) -> dict[str, str]:
        """Variables that lead the SDK here, and to nothing else."""
        return {
            "AZURE_POD_IDENTITY_AUTHORITY_HOST": f"http://127.0.0.1:{self._server.server_port}",
            "AZURE_TOKEN_CREDENTIALS": "managedidentitycredential",
        }

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = urlsplit(handler.path)
        resource = dict(parse_qsl(asked.query)).get("resource", "")
        if self.refusing or not resource or handler.headers.get("Metadata") != "true":
            self._send(handler, 400, {"error": "invalid_request", "error_description": "Identity not found"})
            return
        self.asked.append(resource)
        expires = int(time.time()) + 3600
        token = {"access_token": _token(resource, expires), "expires_on": str(expires), "expires_in": "3600"}
        self._send(handler, 200, token | {"resource": resource, "token_type": "Bearer"})

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, document: dict[str, str]) -> None:
        body = json.dumps(document).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def _token(audience: str, expires: int) -> str:
    """A token as the emulator checks it: issuer, audience and times, not the signature."""
    claims = {
        "aud": audience,
        "iss": _ISSUER,
        "iat": expires - 3600,
        "nbf": expires - 3660,
        "exp": expires,
        "oid": "me",
    }
    parts = [_encoded(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "HS256"}, claims)]
    signature = hmac.new(b"test", ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, _encoded(signature)])


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
