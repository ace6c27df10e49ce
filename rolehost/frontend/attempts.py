"""How often a client may be wrong about who he is, in bounded memory.

A good key is never held up, whoever else is wrong from the same address: behind a load balancer all clients have one.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address, ip_network

from rolehost import clock

ALLOWED = 20
"""Failures at once."""
SECONDS_EACH = 3.0
"""After so many seconds one more is allowed."""
MOST_CLIENTS = 4096


class Attempts:
    """Failed attempts by address; an IPv6 client has its whole /64.

    Args:
        allowed: failures at once.
        seconds_each: after so many seconds one more is allowed.
        most: addresses that are kept; the one that was quiet for longest is forgotten.
    """

    def __init__(self, *, allowed: int = ALLOWED, seconds_each: float = SECONDS_EACH, most: int = MOST_CLIENTS) -> None:
        self._allowed = allowed
        self._seconds_each = seconds_each
        self._most = most
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def failed(self, address: str) -> float:
        """Count a failure.

        Returns:
            0 while the client may go on; else the seconds until he may.
        """
        client, now = _client(address), clock.monotonic()
        used, at = self._used.pop(client, (0.0, now))
        used = max(0.0, used - (now - at) / self._seconds_each)
        over = used + 1 > self._allowed
        self._used[client] = (used if over else used + 1, now)
        if len(self._used) > self._most:
            self._used.popitem(last=False)
        return (used + 1 - self._allowed) * self._seconds_each if over else 0.0


def _client(address: str) -> str:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(ip_network((parsed, 64), strict=False))
    return str(parsed)
