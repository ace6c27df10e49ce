"""Microsoft's JavaScript client, which shares no code with the Python one, sees the same."""

from __future__ import annotations

from support.service_bus import QueueOptions, StandIn
from support.service_bus.node_client import seen_by_javascript


def test_the_javascript_client_agrees() -> None:
    queues = {"plain": QueueOptions(), "sessions": QueueOptions(requires_session=True)}
    with StandIn(queues) as stand_in:
        seen = seen_by_javascript(stand_in.connection_string, "plain", "sessions")
        assert stand_in.broker.errors == []
        left = stand_in.counts("plain")
    assert seen == {
        "peeked": [["m-1", "active"], ["m-2", "active"], ["m-3", "active"]],
        "received": [["one", "m-1", 0], [{"list": [1, 2]}, "m-2", 0], ["three", "m-3", 0]],
        "properties": {"a": 1},
        "locked": True,
        "again": ["m-2", 1],
        "renewed": True,
        "deferred": "m-2",
        "dead": ["m-3", "why", "the story"],
        "settledTwice": "Error",
        "later": ["later", True],
        "session": ["group", "x", "half done"],
        "missing": "MessagingEntityNotFound",
    }
    assert left == {"active": 0, "scheduled": 0, "deferred": 0, "locked": 0, "dead": 0}
