"""The first half of a run: the asset, in the scratch directory, whether it was uploaded, is lent, or is at a URL.

What a fetch's end means for the job: where asking again can't help, the input is at fault (`bad_input`): an address
that may not be asked, a 4xx, too much, compressed, empty, of a type that the kind does not take. Where it may help
(no answer in time, 5xx, 408, 425, 429) the attempt is charged as the application's own errors are (`source_error`), so
that it is tried again with growing pauses, and not for ever.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from rolehost import clock
from rolehost.errors import (
    AddressRefusedError,
    AnswerCodedError,
    AnswerTooLargeError,
    BadInputError,
    InvalidParameterError,
    NotFoundError,
    OutboundError,
    RoleHostError,
    StoreFullError,
    SubmissionError,
)
from rolehost.jobs.job import End, Fetched, JobSpec, Resource
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.resources import check_resources
from rolehost.jobs.sniffing import sniff_file
from rolehost.jobs.sources import MOST_BYTES
from rolehost.stores import files
from rolehost.telemetry import emit
from rolehost.workers.outcome import Outcome
from rolehost.workers.reasons import shortened
from rolehost.workers.scratch import Scratch, hand_over, make, make_resources, named_for

if TYPE_CHECKING:
    from rolehost.outbound import Outbound
    from rolehost.processes import ChildIdentity
    from rolehost.workers.desk import Desk

_GOOD = frozenset({HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION})
_ASK_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_OWN_FAULT = 500


@dataclass(frozen=True, slots=True)
class Ready:
    """What an attempt works with.

    Args:
        spec: the job, with the source as it was found.
        place: the scratch directory, with the asset in it.
        fetched: what was found, where the source was not an upload.
    """

    spec: JobSpec
    place: Scratch
    fetched: Fetched | None = None


_FOR_GOOD = (
    *(BadInputError, SubmissionError, NotFoundError),
    *(AddressRefusedError, AnswerTooLargeError, AnswerCodedError),
)
_ENDS: Sequence[tuple[type[Exception] | tuple[type[Exception], ...], End]] = (
    (_FOR_GOOD, End.BAD_INPUT),
    (OutboundError, End.SOURCE_ERROR),
    (StoreFullError, End.DISK_FULL),
    (RoleHostError, End.STORE_ERROR),
)
"""The first that fits decides."""


async def bring(desk: Desk, spec: JobSpec, place: Scratch, identity: ChildIdentity | None) -> Ready | Outcome:
    """Make the scratch directory with the asset and the resource files in it; an outcome if that is not to be."""
    what = ""
    try:
        make(place, identity)
        if spec.resources:
            _check_resources(desk, spec)
            make_resources(place, identity)
        ready = await _brought(desk, spec, place)
        hand_over(ready.place.source, identity)
        left = desk.settings.sources.most_bytes - (ready.fetched.size if spec.source.url and ready.fetched else 0)
        for resource in spec.resources:
            what, target = f"the resource {resource.name}", place.resources / resource.name
            left -= await _bring_resource(desk, spec, resource, target, left)
            hand_over(target, identity)
    except OSError as error:
        return of_os_error(error)
    except RoleHostError as error:
        end = next(end for classes, end in _ENDS if isinstance(error, classes))
        if end is End.STORE_ERROR:
            desk.health.failed("download", error, job=spec.id)
        return Outcome(end=end, detail=shortened(_told(error, what)))
    return ready


def _told(error: RoleHostError, resource: str) -> str:
    if isinstance(error, NotFoundError):
        return f"{resource or 'the input'} is not in the store any more"
    if isinstance(error, OutboundError) and not isinstance(error, _FOR_GOOD):
        return f"{resource or 'the source'} could not be fetched: {error}"
    return f"{resource}: {error}" if resource and not isinstance(error, BadInputError) else str(error)


def of_os_error(error: OSError) -> Outcome:
    """An error of this machine's own: no fault of the job's."""
    return Outcome(end=End.DISK_FULL if is_disk_full(error) else End.STORE_ERROR, detail=shortened(str(error)))


def is_disk_full(error: Exception) -> bool:
    """Whether an error says that no space is left."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


async def _brought(desk: Desk, spec: JobSpec, place: Scratch) -> Ready:
    source, allowed = spec.source, desk.settings.sources
    if source.url:
        url = allowed.check_url(source.url)
        async with _no_sooner_than_silence(desk):
            size = await _fetch(_outbound(desk), url, place.source)
        emit("source.fetched", job=spec.id, bytes=size)
    elif source.lent:
        allowed.check_blob(source.blob)
        await desk.stores.blobs.download(source.blob, place.source)
    else:
        await desk.stores.blobs.download(source.blob, place.source)
        return Ready(spec, place)
    return await asyncio.to_thread(_identified, spec, place)


def _check_resources(desk: Desk, spec: JobSpec) -> None:
    """Whatever a row says, and before anything is asked: they become paths here, and what is asked is our asking."""
    allowed = desk.settings.sources
    try:
        check_resources(spec.resources, check_url=allowed.check_url, check_blob=allowed.check_blob)
    except InvalidParameterError as error:
        raise BadInputError(f"{error} ({error.field})") from error


async def _bring_resource(desk: Desk, spec: JobSpec, resource: Resource, target: Path, left: int) -> int:
    """A resource file, of `left` bytes at most; its size."""
    what, blobs = f"the resource {resource.name}", desk.stores.blobs
    if resource.url:
        async with _no_sooner_than_silence(desk):
            size = await _fetch(_outbound(desk, left), resource.url, target, what)
        emit("source.fetched", job=spec.id, bytes=size, resource=resource.name)
    else:
        size = (await blobs.facts(resource.blob)).size
        if size > left:
            raise BadInputError(f"{what} is larger than the {left} bytes that are left for it of {MOST_BYTES}")
        size = (await blobs.download(resource.blob, target)).size
    if not size:
        raise BadInputError(f"{what} is empty")
    return size


def _outbound(desk: Desk, most: int | None = None) -> Outbound:
    from rolehost.outbound import Outbound  # noqa: PLC0415 - an HTTP client: only where there is something to fetch

    outbound = desk.outbound or Outbound(desk.settings.sources.rules())
    return outbound if most is None else replace(outbound, rules=replace(outbound.rules, most_bytes=most))


@asynccontextmanager
async def _no_sooner_than_silence(desk: Desk) -> AsyncIterator[None]:
    """Where inner networks are allowed, no answer takes as long as silence does, whatever was the reason.

    Else the length of an attempt would tell whoever submits jobs which ports are open there. Elsewhere nothing inner is
    ever connected to, and all that is refused is refused at once.
    """
    settings = desk.settings.sources
    until = clock.monotonic() + settings.deadline
    try:
        yield
    except (AddressRefusedError, AnswerTooLargeError, AnswerCodedError):
        raise
    except OutboundError:
        if settings.networks:
            await clock.sleep(max(0.0, until - clock.monotonic()))
        raise


async def _fetch(outbound: Outbound, url: str, target: Path, what: str = "the source") -> int:
    """A URL's content, into a new file; its size."""
    size = 0
    async with outbound.get(url) as answer:
        if answer.status in _ASK_LATER or answer.status >= _OWN_FAULT:
            raise OutboundError(f"its server answered {_in_words(answer.status)}")
        if answer.status not in _GOOD:
            raise BadInputError(f"{what} can't be had: its server answered {_in_words(answer.status)}")
        with files.new(target) as file:
            async for piece in answer.pieces:
                size += len(piece)
                await _written(file, piece)
    return size


def _in_words(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


async def _written(file: int, piece: bytes) -> None:
    """Write off the loop. Whoever is cancelled waits for the thread: its descriptor would become another file's."""
    writing = asyncio.create_task(asyncio.to_thread(_write, file, piece))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.gather(writing, return_exceptions=True)
        raise


def _write(file: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(file, left) :]


def _identified(spec: JobSpec, place: Scratch) -> Ready:
    """What came, judged by its content as an upload is; the file gets the ending that an upload would have."""
    size = place.source.stat().st_size
    if not size:
        raise BadInputError("the source is empty")
    media_type = sniff_file(place.source)
    kind_named(spec.kind).check_source(media_type, spec.source.name)
    renamed = place.folder / named_for(media_type)
    place.source.rename(renamed)
    found = replace(spec, source=replace(spec.source, size=size, type=media_type))
    return Ready(found, replace(place, source=renamed), Fetched(size, media_type))
