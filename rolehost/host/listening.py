"""Listening sockets that outlive the processes which accept from them."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping

from rolehost.errors import RoleHostError

VARIABLE = "ROLEHOST_LISTEN"
_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Args:
        host: the address.
        port: the port; 0: a free one.

    Raises:
        RoleHostError: the port is in use, or may not be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise RoleHostError(f"can't listen on {host} port {port}: {error.strerror}") from error
    listening.setblocking(False)  # noqa: FBT003 - the standard library's positional flag
    return listening


def inherited(environ: Mapping[str, str]) -> dict[str, socket.socket]:
    """The sockets by endpoint name that our parent passed on."""
    try:
        descriptors = json.loads(environ.get(VARIABLE) or "{}")
        return {str(name): socket.socket(fileno=int(descriptor)) for name, descriptor in descriptors.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise RoleHostError(f"{VARIABLE} names no listening sockets: {error}") from error


def described(sockets: Mapping[str, socket.socket]) -> str:
    """The variable's value for these sockets."""
    return json.dumps({name: listening.fileno() for name, listening in sockets.items()})


def shown_address(listening: socket.socket) -> str:
    """`host:port` where a client on this machine reaches it."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
