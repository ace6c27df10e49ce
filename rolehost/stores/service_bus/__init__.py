"""The Service Bus engine: Azure's broker for the queue; tables and blobs are another engine's."""

from __future__ import annotations

from rolehost.stores.service_bus.administration import QueueFacts
from rolehost.stores.service_bus.engine import ServiceBusQueues
from rolehost.stores.service_bus.namespace import Bounds, Reach

__all__ = ["Bounds", "QueueFacts", "Reach", "ServiceBusQueues"]
