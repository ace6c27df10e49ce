"""What the stand-in refuses, in the form that a client understands."""

from __future__ import annotations

import uuid

from support.service_bus.amqp_types import Described, Symbol

VENDOR = "com.microsoft:"
SERVER_BUSY = VENDOR + "server-busy"
NO_SESSION = VENDOR + "timeout"
LOCK_LOST = VENDOR + "message-lock-lost"
NOT_FOUND = "amqp:not-found"
NOT_ALLOWED = "amqp:not-allowed"
UNAUTHORIZED = "amqp:unauthorized-access"
FORCED = "amqp:connection:forced"
INTERNAL = "amqp:internal-error"


class AmqpError(Exception):
    """A refusal.

    Args:
        condition: AMQP's or Service Bus's symbol for it.
        description: the same, for a person.
        status: the number that the request-response nodes answer with.
    """

    def __init__(self, condition: str, description: str = "", status: int = 400) -> None:
        super().__init__(description)
        self.condition = condition
        self.description = description
        self.status = status

    def described(self) -> Described:
        """The error on the wire; its info is never left out, for a client reads it without asking."""
        info = {Symbol(VENDOR + "tracking-id"): uuid.uuid4().hex}
        return Described(0x1D, [Symbol(self.condition), self.description, info])


def lock_lost() -> AmqpError:
    """The lock is not, or no longer, the caller's."""
    text = "The lock supplied is invalid. Either the lock expired, or the message has already been removed."
    return AmqpError(LOCK_LOST, text, 410)
