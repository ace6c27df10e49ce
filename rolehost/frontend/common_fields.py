"""Optional fields that a job of any kind may have beside its parameters: one entry of `COMMON` each.

An entry is all that is needed: the API and the form accept the field, check it, describe and show it, and hand it to
the submission.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rolehost.errors import InvalidParameterError
from rolehost.jobs.job import Priority
from rolehost.jobs.kinds import offered_kinds
from rolehost.jobs.levels import LONGEST_GROUP, parse_group, parse_priority
from rolehost.jobs.webhook_settings import FIELD as WEBHOOK

if TYPE_CHECKING:
    from rolehost.frontend.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonField:
    """A field.

    Args:
        name: in forms, and of `Submission`, which has a usual value for it.
        schema: for the document of the API.
        read: what the submission gets, from a text that is not empty; `InvalidParameterError` where it can't be.
        label: what a form calls it.
        hint: a sentence below it.
        type: of the form's input, `text`, `url` or `number`; of no interest where there are choices.
        placeholder: an example in the empty input.
        choices: value and name of each; the first is the usual one.
        offered: whether a form shows it here.
    """

    name: str
    schema: Mapping[str, Any]
    read: Callable[[Services, str], Any]
    label: str
    hint: str = ""
    type: str = "text"
    placeholder: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    offered: Callable[[Services], bool] = field(default=lambda _: True)


def _has_sessions(services: Services) -> bool:
    return any(services.stores.queue(kind.queue).capabilities.sessions for kind in offered_kinds()[:1])


COMMON = (
    CommonField(
        name=WEBHOOK,
        schema={
            "type": "string",
            "format": "uri",
            "maxLength": 2048,
            "description": "A URL that is told of the job's end, where the service is set up for that.",
        },
        read=lambda services, text: services.settings.webhooks.check(text),
        label="Webhook",
        hint="Optional: the address that is told when a job has ended.",
        type="url",
        placeholder="https://",
        offered=lambda services: services.settings.webhooks.configured,
    ),
    CommonField(
        name="priority",
        schema={
            "type": "string",
            "enum": [*Priority],
            "default": Priority.NORMAL,
            "description": "Which jobs of a kind begin first.",
        },
        read=lambda _, text: parse_priority(text),
        label="Priority",
        choices=((Priority.NORMAL, "Normal"), (Priority.HIGH, "High"), (Priority.LOW, "Low")),
    ),
    CommonField(
        name="group",
        schema={
            "type": "string",
            "maxLength": LONGEST_GROUP,
            "description": "Jobs of a kind that name the same group run one after the other, in the order of their "
            "submission. Only where the queues are on Azure Service Bus.",
        },
        read=lambda _, text: parse_group(text),
        label="Group",
        hint="Optional: jobs of one group run one after the other.",
        offered=_has_sessions,
    ),
)
NAMES = frozenset(each.name for each in COMMON)


def common_values(services: Services, fields: Mapping[str, str]) -> dict[str, Any]:
    """What was sent of them, checked: named values for a `Submission`. An empty text is as none.

    Raises:
        InvalidParameterError: one is wrong, or can't be used here.
    """
    sent = [(each, fields.get(each.name, "").strip()) for each in COMMON]
    return {each.name: each.read(services, text) for each, text in sent if text}


def common_faults(services: Services, fields: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with which of them."""
    wrong: dict[str, str] = {}
    for each in COMMON:
        try:
            common_values(services, {each.name: fields.get(each.name, "")})
        except InvalidParameterError as error:
            wrong[each.name] = str(error)
    return wrong
