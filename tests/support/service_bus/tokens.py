"""Claims-based security: the tokens that clients put before they open a link."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from support.service_bus.amqp_errors import UNAUTHORIZED, AmqpError
from support.service_bus.wire import Connection, address_of

_SIGNED = "SharedAccessSignature "


class TokenDesk:
    """Checks tokens.

    Args:
        keys: names and keys of the shared access policies.
        accepts: judges a token of an identity.
    """

    def __init__(self, keys: Mapping[str, str], accepts: Callable[[str], bool] | None) -> None:
        self._keys = keys
        self._accepts = accepts
        self.broken = False

    def put(self, connection: Connection, application: Mapping[Any, Any], token: str) -> None:
        """Take a token for an audience; from then on its links may be opened on this connection.

        Raises:
            AmqpError: it proves nothing.
        """
        if self.broken or not self.proves(token):
            raise AmqpError(UNAUTHORIZED, "The token has an invalid signature, or is for somebody else.", 401)
        connection.authorized.add(address_of(application.get("name")).lower())

    def proves(self, token: str) -> bool:
        """Whether a token, signed or of an identity, is good."""
        if token.startswith(_SIGNED):
            return self._is_signed(token)
        return self._accepts is not None and self._accepts(token)

    def _is_signed(self, token: str) -> bool:
        fields = dict(part.split("=", 1) for part in token.removeprefix(_SIGNED).split("&"))
        key = self._keys.get(fields.get("skn", ""))
        if key is None:
            return False
        text = f"{fields['sr']}\n{fields['se']}".encode()
        wanted = base64.b64encode(hmac.new(key.encode(), text, hashlib.sha256).digest()).decode()
        return hmac.compare_digest(wanted, urllib.parse.unquote(fields["sig"])) and int(fields["se"]) > time.time()

    @staticmethod
    def may_open(connection: Connection, address: str) -> bool:
        """Whether a link to this address was authorized."""
        return any(address.lower().startswith(audience) for audience in connection.authorized)
