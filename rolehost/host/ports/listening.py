"""Listening sockets."""

from __future__ import annotations

import socket

from rolehost.errors import RoleHostError

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
    # By its name the loop knows that the protocol is TCP, and lets small answers go at once: else each request after a
    # connection's first waits 40 ms for an acknowledgement that the client delays.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise RoleHostError(f"can't listen on {host} port {port}: {error.strerror}") from error
    listening.setblocking(False)  # noqa: FBT003 - the standard library's positional flag
    return listening


def bound_address(bound: socket.socket) -> str:
    """`host:port` that it is bound to."""
    return _joined(*bound.getsockname()[:2])


def shown_address(bound: socket.socket) -> str:
    """`host:port` where a client on this machine reaches it."""
    host, port = bound.getsockname()[:2]
    return _joined({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104 - compared, not bound


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
