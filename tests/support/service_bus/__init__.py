"""A stand-in for Azure Service Bus on the loopback address: it is ours, and it is not Service Bus.

The official Python and JavaScript clients run against it unchanged, over AMQP 1.0. It has queues with peek-lock, lock
renewal, dead letters, schedule, deferral, sessions with state, time to live, peeking, duplicate detection;
claims-based security with shared keys or a judge for an identity's tokens; TLS; a slice of the management interface;
faults on demand.

It has not: topics and subscriptions, transactions, auto-forwarding, WebSockets, partitions, waiting for a session to
come, quotas, real throttling, storage that outlives its process, and the exact texts of Azure's errors. What matters is
therefore also run against a real namespace when `ROLEHOST_TEST_SERVICE_BUS` holds its connection string.
"""

from __future__ import annotations

from support.service_bus.certificates import Certificate, make_certificate
from support.service_bus.queue_entity import QueueOptions
from support.service_bus.stand_in import StandIn

__all__ = ["Certificate", "QueueOptions", "StandIn", "make_certificate"]
