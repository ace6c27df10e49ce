"""The controls of a form, made from the declaration of a kind's parameters and of the fields that all kinds share."""

from __future__ import annotations

import math
import mimetypes
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rolehost.frontend.common_fields import COMMON
from rolehost.jobs.parameters import ParameterType, text_of
from rolehost.jobs.sources import URL_FIELD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolehost.frontend.common_fields import CommonField
    from rolehost.frontend.services import Services
    from rolehost.jobs.kinds import JobKind
    from rolehost.jobs.parameters import Parameter, Value

ON = "true"
_SORTS = {"image": "pictures", "audio": "sound", "video": "films", "text": "text", "font": "fonts"}
_NAMES = {
    "image/jpeg": "JPEG",
    "image/tiff": "TIFF",
    "image/webp": "WebP",
    "text/markdown": "Markdown",
    "text/plain": "text",
    "video/mp2t": "MPEG-TS",
    "video/ogg": "Ogg",
    "video/webm": "WebM",
    "video/x-matroska": "Matroska",
    "audio/mp4": "M4A",
    "audio/ogg": "Ogg",
}
_MANY = 8
AS_USUAL = "As usual"
_TYPES = mimetypes.MimeTypes()  # the module's own table: what is installed on this machine changes no page


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A control of a form.

    Args:
        name: of the field.
        label: its label.
        type: `select`, `checkbox`, or the type of an input.
        value: what is in it, or the choice that is taken; of a checkbox, `true` where it is ticked.
        hint: what is said below it.
        choices: value and name of each.
        attributes: of the element.
    """

    name: str
    label: str
    type: str
    value: str = ""
    hint: str = ""
    choices: Sequence[tuple[str, str]] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


def parameter_controls(kind: JobKind, fields: Mapping[str, str]) -> list[Control]:
    """The controls of a kind's parameters.

    Args:
        kind: the kind.
        fields: what was typed before; empty for a fresh form.
    """
    return [_control(each, fields) for each in kind.parameters or ()]


def common_controls(services: Services, fields: Mapping[str, str], wrong: Mapping[str, str]) -> list[Control]:
    """The controls of the fields that all kinds share; one that is not offered here is shown where it is wrong."""
    shown = [each for each in COMMON if each.offered(services) or each.name in wrong]
    return [_common(each, fields.get(each.name, "")) for each in shown]


def elsewhere_control(services: Services, fields: Mapping[str, str], wrong: Mapping[str, str]) -> Control | None:
    """The control for a source that a worker fetches; None where none may be, and nobody tried."""
    if not services.settings.sources.urls and URL_FIELD not in wrong:
        return None
    return Control(
        name=URL_FIELD,
        label="Or from an address",
        type="url",
        value=fields.get(URL_FIELD, ""),
        hint="The worker fetches it when the job begins.",
        attributes={"autocomplete": "off", "placeholder": "https://", "maxlength": "2048"},
    )


def with_unticked(kind: JobKind, fields: Mapping[str, str]) -> dict[str, str]:
    """The fields of a page's form; a checkbox that is not ticked is not sent, and means no."""
    unticked = {each.name: "false" for each in kind.parameters or () if each.type is ParameterType.BOOLEAN}
    return unticked | dict(fields)


def accepted_sorts(kind: JobKind) -> str:
    """`BMP, PPM or .tga files`: what the kind takes, in words of people; empty for any file.

    Where that would be a long list, it is `pictures, films or sound`.
    """
    words = list(dict.fromkeys(_word(each) for each in kind.accepts))
    if len(words) > _MANY:
        words = list(dict.fromkeys(_SORTS.get(each.partition("/")[0]) or _word(each) for each in kind.accepts))
    *others, last = words or [""]
    told = f"{', '.join(others)} or {last}" if others else last
    return told[:1].upper() + told[1:]


def _control(parameter: Parameter, fields: Mapping[str, str]) -> Control:
    value = fields.get(parameter.name, shown(parameter.default))
    common: dict[str, Any] = {"name": parameter.name, "label": parameter.label or parameter.name, "value": value}
    must = {"required": ""} if parameter.required else {"placeholder": AS_USUAL} if parameter.optional else {}
    match parameter.type:
        case ParameterType.BOOLEAN:
            ticked = value.strip().lower() in {ON, "on", "yes", "1"}
            return Control(**common | {"value": ON if ticked else ""}, type="checkbox", hint=parameter.help)
        case ParameterType.TEXT if parameter.choices:
            choices = [(each, each) for each in parameter.choices]
            return Control(
                **common,
                type="select",
                hint=parameter.help,
                choices=[*_no_choice(parameter), *choices],
                attributes={"required": ""} if parameter.required else {},
            )
        case ParameterType.TEXT:
            limits = {"maxlength": str(parameter.longest)}
            return Control(**common, type="text", hint=parameter.help, attributes=must | limits)
        case ParameterType.INTEGER | ParameterType.NUMBER:
            return _number(parameter, common, must)


def _no_choice(parameter: Parameter) -> list[tuple[str, str]]:
    if parameter.default is not None:
        return []
    return [("", "Choose one" if parameter.required else AS_USUAL)]


def _number(parameter: Parameter, common: Mapping[str, Any], must: Mapping[str, str]) -> Control:
    whole = parameter.type is ParameterType.INTEGER
    limits = {"step": "1" if whole else "any", "inputmode": "numeric" if whole else "decimal"}
    limits |= {"min": shown(parameter.least)} if parameter.least is not None else {}
    limits |= {"max": shown(parameter.most)} if parameter.most is not None else {}
    hint = " ".join(part for part in (parameter.help, _bounds(parameter)) if part)
    if not common["value"].strip() or _is_number(common["value"]):
        return Control(**common, type="number", hint=hint, attributes={**must, **limits})
    # An input for numbers would swallow what was typed: it is shown as it is, to be mended.
    return Control(**common, type="text", hint=hint, attributes={**must, "inputmode": limits["inputmode"]})


def _bounds(parameter: Parameter) -> str:
    least, most = shown(parameter.least), shown(parameter.most)
    if least and most:
        return f"From {least} to {most}."
    return f"At least {least}." if least else f"At most {most}." if most else ""


def _common(each: CommonField, value: str) -> Control:
    attributes = {"autocomplete": "off"}
    attributes |= {"placeholder": each.placeholder} if each.placeholder else {}
    attributes |= {"maxlength": str(each.schema["maxLength"])} if "maxLength" in each.schema else {}
    return Control(
        name=each.name,
        label=each.label,
        type="select" if each.choices else each.type,
        value=value,
        hint=each.hint,
        choices=each.choices,
        attributes={} if each.choices else attributes,
    )


def shown(value: Value | None) -> str:
    """A value as it stands in a field."""
    return "" if value is None else text_of(value)


def _is_number(text: str) -> bool:
    try:
        finite = math.isfinite(float(text))
    except ValueError:
        return False
    return finite and "_" not in text and text.strip().isascii()


def _word(accepted: str) -> str:
    if accepted.startswith("."):
        return f"{accepted} files"
    sort, _, rest = accepted.partition("/")
    if rest == "*":
        return _SORTS.get(sort, accepted)
    ending = _TYPES.guess_extension(accepted) or rest.removeprefix("x-").partition("+")[0]
    return _NAMES.get(accepted) or ending.removeprefix(".").upper()
