"""Templates and the words in them: times, sizes and states as a person reads them."""

from __future__ import annotations

import math
from datetime import timedelta
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from rolehost import clock
from rolehost.errors import InvalidParameterError
from rolehost.frontend.authentication.identity import identity, may
from rolehost.frontend.headers import policy_with
from rolehost.frontend.media import DISPLAYABLE, FILMS, SOUNDS
from rolehost.frontend.services import KIND
from rolehost.jobs.job import CAPS, JobState
from rolehost.jobs.kinds import CUSTOM, JobKind, kind_named, offered_kinds
from rolehost.jobs.parameters import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from rolehost.jobs.job import Attempt, Job, Result, Source

STATES = tuple(JobState)
FORMAT_NAMES = {"jpeg": "JPEG", "png": "PNG", "webp": "WebP"}
KIBI = 1024
ENDS = {
    "ok": "completed",
    "bad_input": "the input is at fault",
    "app_error": "the application failed",
    "timeout": "it took too long",
    "stalled": "it made no progress",
    "oom": "it ran out of memory",
    "killed": "it was killed",
    "worker_lost": "the worker was lost",
    "bad_output": "the output is not as agreed",
    "source_error": "the source gave no answer",
    "drained": "interrupted by a shutdown",
    "lease_lost": "the lease was lost",
    "disk_full": "the disk was full",
    "store_error": "the store did not answer",
    "put_back": "put back",
    "poison_now": "set aside at once",
    "cancelled": "cancelled",
}
WEBHOOK_STATES = {
    "waiting": "told once the job is over",
    "owed": "not told yet",
    "delivered": "told",
    "gone": "wants to be told no more",
    "given_up": "given up",
}
LOOKS = {
    "Starting": "running",
    "Busy": "running",
    "Ready": "completed",
    "Stopping": "cancelled",
    "Recycling": "failed",
    "Stopped": "cancelled",
    "Unknown": "poisoned",
}
"""How the states of instances look: as those of jobs do."""
CONTROLS = (
    {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"}
    | {0x7F: 0x2421}
    | dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD)
)


def plain(text: str) -> str:
    """Text of unknown origin without control characters, so that it moves no terminal and turns no line around."""
    return text.replace("\r\n", "\n").translate(CONTROLS)


def human_size(size: int) -> str:
    """`3.4 MiB`."""
    number = float(size)
    for unit in ("bytes", "KiB", "MiB"):
        if number < KIBI:
            return f"{number:.0f} {unit}" if number == round(number) else f"{number:.1f} {unit}"
        number /= KIBI
    return f"{number:.1f} GiB"


def human_duration(duration: timedelta) -> str:
    """`0.8 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d`."""
    seconds = max(0.0, duration.total_seconds())
    if seconds < 10:  # noqa: PLR2004 - below it tenths are of interest
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    while not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{number} {unit}" for number, unit in parts[:2] if number)


def moment(when: datetime) -> Markup:
    """A moment in UTC, for people and machines."""
    return Markup('<time datetime="{}">{}</time>').format(clock.iso(when), f"{when:%Y-%m-%d %H:%M:%S} UTC")


def ago(when: datetime) -> Markup:
    """A moment as seen from now, rounded to one unit."""
    seconds = (clock.now() - when).total_seconds()
    text = "now"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if abs(seconds) >= size:
            number = round(abs(seconds) / size)
            text = f"{number} {unit} ago" if seconds > 0 else f"in {number} {unit}"
            break
    return Markup('<time datetime="{}" title="{}">{}</time>').format(clock.iso(when), f"{when:%F %T} UTC", text)


def time(text: str) -> datetime:
    """A time as rows and JSON have it."""
    return clock.from_iso(text)


def human_seconds(seconds: float) -> str:
    """The same as `human_duration`."""
    return human_duration(timedelta(seconds=seconds))


def took(attempt: Attempt) -> str:
    """How long an attempt took, or has taken so far."""
    return human_duration((attempt.ended_at or clock.now()) - attempt.started_at)


def wanted(job: Job) -> str:
    """What was asked for, in few words: `Medium, JPEG`, or the kind and parameters of a job of another kind."""
    facts = job.spec.parameters
    if not is_thumbnail(job):
        told = ", ".join(f"{label} {value}" for label, value in labelled(job))
        return f"{titled(job.spec.kind)}: {told}" if told else titled(job.spec.kind)
    size = _box(facts) if facts["size"] == CUSTOM else facts["size"]
    return f"{size}, {FORMAT_NAMES.get(facts['format'], facts['format'])}"


def wanted_exactly(job: Job) -> str:
    """What was asked for of a thumbnail, with the sides of a preset."""
    facts = job.spec.parameters
    return wanted(job) if facts["size"] == CUSTOM else f"{wanted(job)}, inside {_box(facts)}"


def is_thumbnail(job: Job) -> bool:
    """Whether it is one of our own; what other kinds take and make is not known here."""
    return job.spec.kind == KIND and {"size", "width", "height", "format"} <= job.spec.parameters.keys()


def titled(name: str) -> str:
    """What people call a kind of job."""
    return _kind(name).title or name


def submitting() -> str:
    """What a button says that leads to the form."""
    return "Submit pictures" if [kind.name for kind in offered_kinds()] == [KIND] else "Submit files"


def _kind(name: str) -> JobKind:
    try:
        return kind_named(name)
    except InvalidParameterError:  # a row of an earlier version
        return JobKind(name=name)


def labelled(job: Job) -> list[tuple[str, str]]:
    """A job's parameters: each one's label, or its name where it has none, and its value."""
    labels = {each.name: each.label or each.name for each in _kind(job.spec.kind).parameters or ()}
    facts = job.spec.parameters
    return [(labels.get(name, name), _in_words(value)) for name, value in facts.items()]


def _in_words(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else text_of(value)


def percent(job: Job) -> float | None:
    """How far a running job is, in percent; None where nobody knows."""
    return _figure(job, "percent", 100.0)


def left(job: Job) -> str:
    """`about 12 s left`, by the worker's estimate; empty where there is none."""
    seconds = _figure(job, "eta_seconds", math.inf)
    if seconds is None:
        return ""
    whole = max(1, round(seconds))
    return f"about {f'{whole} s' if whole < 60 else human_seconds(whole)} left"  # noqa: PLR2004 - a minute


def _figure(job: Job, name: str, most: float) -> float | None:
    value = (job.progress or {}).get(name) if job.state is JobState.RUNNING else None
    return min(max(0.0, float(value)), most) if isinstance(value, int | float) and math.isfinite(value) else None


def shown(facts: Source | Result | None) -> bool:
    """Whether browsers can show an asset."""
    return facts is not None and facts.type in DISPLAYABLE


def is_film(facts: Source | Result | None) -> bool:
    """Whether browsers can play an asset as a film."""
    return facts is not None and facts.type in FILMS


def is_sound(facts: Source | Result | None) -> bool:
    """Whether browsers can play an asset as sound."""
    return facts is not None and facts.type in SOUNDS


def _box(facts: Mapping[str, Any]) -> str:
    return f"{facts['width']} \N{MULTIPLICATION SIGN} {facts['height']} px"


def asset(name: str) -> str:
    """The address of a static file; it changes with the content, so that browsers may keep the file for ever."""
    if name not in _hashes:
        _hashes[name] = sha256((files("rolehost.frontend") / "static" / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={_hashes[name]}"


# The page names it by its hash, and holds it: no file that anybody could put on this server is ever run.
_LIVE = (files("rolehost.frontend") / "static" / "live.js").read_text()
_POLICY = policy_with(_LIVE)


def page(template: str, status: int = 200, *, headers: Mapping[str, str] | None = None, **context: Any) -> HTMLResponse:
    """A page."""
    text = _templates.get_template(template).render(context)
    usual = {"Cache-Control": "no-store"} | ({"Content-Security-Policy": _POLICY} if context.get("refresh") else {})
    return HTMLResponse(text, status, headers=usual | dict(headers or {}))


_hashes: dict[str, str] = {}
_templates = Environment(
    loader=PackageLoader("rolehost.frontend"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {
    "plain": plain,
    "size": human_size,
    "moment": moment,
    "ago": ago,
    "time": time,
    "seconds": human_seconds,
    "took": took,
    "wanted": wanted,
    "wanted_exactly": wanted_exactly,
    "titled": titled,
    "labelled": labelled,
    "percent": percent,
    "left": left,
}
_templates.tests |= {"thumbnail": is_thumbnail, "shown": shown, "film": is_film, "sound": is_sound}
_templates.globals |= {"asset": asset, "STATES": STATES, "ENDS": ENDS, "LOOKS": LOOKS, "FORMAT_NAMES": FORMAT_NAMES}
_templates.globals["CAPS"] = CAPS
_templates.globals["LIVE"] = Markup(_LIVE)  # noqa: S704 - a file of the package
_templates.globals["WEBHOOK_STATES"] = WEBHOOK_STATES
_templates.globals["submitting"] = submitting
_templates.globals |= {"may": may, "identity": identity}
