"""Step 1 of a job's life: the idempotency record, the input blob, then row and message in one operation.

Whatever happens in between, a repeated request with the same idempotency key finishes the same job.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path, PurePath
from typing import Any

from rolehost import clock
from rolehost.errors import (
    AlreadyExistsError,
    InvalidParameterError,
    KeyInFlightError,
    KeyReusedError,
    LimitExceededError,
    NotFoundError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    VersionMismatchError,
)
from rolehost.failpoints import failpoint
from rolehost.jobs.codec import dumps, spec_to_fields
from rolehost.jobs.job import INPUTS, Job, JobSpec, JobState, Priority, Resource, Source, new_id
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.levels import check_group, queue_of
from rolehost.jobs.resources import FIELD as RESOURCES
from rolehost.jobs.sniffing import HEAD, sniff, sniff_file
from rolehost.jobs.sources import guessed_type, name_of_url
from rolehost.jobs.table import TABLE, JobTable
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import NewRow, Stores
from rolehost.telemetry import emit
from rolehost.telemetry.tracing import span

KEYS = "idempotency"
KEY_KEPT = timedelta(hours=24)
IN_FLIGHT = timedelta(seconds=10)
LONGEST_KEY = 255
LONGEST_NAME = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What a client asks for.

    Its source is one of three: a file, a URL that each attempt fetches, or a blob that is there already.

    Args:
        path: the asset, a regular file; None where it is one of the other two.
        name: the file's name as the client gave it; only ever shown. Empty: what URL or blob end in.
        url: where the asset is fetched from, checked already (`SourceSettings.check_url`); empty for none.
        blob: the blob that the asset is in, checked already (`SourceSettings.check_blob`); empty for none.
        kind: the kind of job.
        given: parameters, names to text, not yet checked.
        key: the client's idempotency key, if it sent one.
        origin: the job that this one replays.
        batch: the batch that it belongs to.
        webhook: the URL that is told of the job's end, checked already (`WebhookSettings.check`); empty for none.
        consume: the file is ours to take.
        priority: how soon it begins beside other jobs of its kind.
        group: jobs of one group run one after the other; empty for none.
        resources: files beside the source, checked already (`check_resources`).
    """

    path: Path | None = None
    name: str = ""
    url: str = ""
    blob: str = ""
    kind: str = "thumbnail"
    given: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    origin: str | None = None
    batch: str | None = None
    webhook: str = ""
    consume: bool = False
    priority: Priority = Priority.NORMAL
    group: str = ""
    resources: tuple[Resource, ...] = ()

    @property
    def called(self) -> str:
        """The source's name."""
        return self.name or (name_of_url(self.url) if self.url else self.blob)


class Submitter:
    """Submits jobs; one for a process.

    Args:
        stores: where to.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._jobs = JobTable(stores.table(TABLE))
        self._keys = stores.table(KEYS)
        self._owner = os.urandom(8).hex()
        self._in_flight: set[str] = set()

    async def submit(self, asked: Submission) -> Job:
        """Accept a job: once this returns, its row is durable and it will end in a terminal state.

        Raises:
            SubmissionError: it can't be accepted, and why; nothing was stored.
            StoreError: the stores can't take it now.
        """
        parameters, media_type = await self.check(asked)
        if asked.key is None:
            return await self.place(asked, new_id(), parameters, media_type)
        return await self._once(asked, parameters, media_type)

    async def check(self, asked: Submission) -> tuple[Mapping[str, Any], str]:
        """The job's parameters, and the media type of its source as far as it is known; nothing is stored.

        Raises:
            SubmissionError: it can't be accepted, and why.
            StoreError: nobody answers.
        """
        kind = kind_named(asked.kind)
        media_type = await self._identified(asked)
        if media_type:
            kind.check_source(media_type, asked.called)
        await self._look_at_resources(asked)
        parameters = kind.parse(asked.given, media_type or guessed_type(asked.called))
        if asked.key is not None:
            check_key(asked.key)
        return parameters, media_type

    async def _identified(self, asked: Submission) -> str:
        """The media type by the content; empty where the source is a URL: a worker finds it out."""
        if asked.url:
            return ""
        if asked.path is None:
            return await self._identified_blob(asked.blob)
        media_type = await asyncio.to_thread(sniff_file, asked.path)
        if not asked.path.stat().st_size:
            raise InvalidParameterError(f"{asked.name or 'the file'} is empty", field="file")
        return media_type

    async def _look_at_resources(self, asked: Submission) -> None:
        """Refuse blobs that are not there, before anything is stored."""
        for index, resource in enumerate(asked.resources):
            if resource.blob:
                await self._identified_blob(resource.blob, f"/{RESOURCES}/{index}/blob")

    async def _identified_blob(self, blob: str, field: str = "blob") -> str:
        try:
            async for piece in self._stores.blobs.stream(blob, length=HEAD):
                return sniff(piece[:HEAD])
        except NotFoundError:
            raise InvalidParameterError(f"there is no blob {blob!r}", field) from None
        raise InvalidParameterError(f"the blob {blob!r} is empty", field)

    async def _once(self, asked: Submission, parameters: Mapping[str, Any], media_type: str) -> Job:
        """Submit under an idempotency key."""
        key = hashlib.sha256((asked.key or "").encode()).hexdigest()
        if key in self._in_flight:
            raise KeyInFlightError("the first request with this Idempotency-Key is still being worked on")
        self._in_flight.add(key)
        try:
            body = await asyncio.to_thread(_hash_of_request, asked, parameters)
            job_id, done = await self._reserve(key, body)
            return done or await self.place(asked, job_id, parameters, media_type)
        finally:
            self._in_flight.discard(key)

    async def _reserve(self, key: str, body: str) -> tuple[str, Job | None]:
        """The job id that belongs to a key, and the job itself if its submission is done."""
        while True:
            record = await self._keys.read(key)
            if record is None:
                job_id = new_id()
                made = {"job": job_id, "body": body, "owner": self._owner, "made_at": clock.iso(clock.now())}
                try:
                    await self._keys.insert(key, made)
                except AlreadyExistsError:
                    continue
                return job_id, None
            age = clock.now() - clock.from_iso(str(record.fields["made_at"]))
            if age > KEY_KEPT:
                with suppress(VersionMismatchError):
                    await self._keys.delete(key, record.version)
                continue
            if record.fields["body"] != body:
                raise KeyReusedError("this Idempotency-Key belongs to a request with another body")
            job_id = str(record.fields["job"])
            job = await self._jobs.read(job_id)
            if job is None and record.fields["owner"] != self._owner and age < IN_FLIGHT:
                raise KeyInFlightError("the first request with this Idempotency-Key is still being worked on")
            return job_id, job

    async def place(self, asked: Submission, job_id: str, parameters: Mapping[str, Any], media_type: str) -> Job:
        """Store the input, then row and message; parameters are checked already."""
        with span(f"submit {asked.kind}", kind="producer", job=job_id) as step:
            return await self._place(asked, job_id, parameters, media_type, str(step.place))

    async def _place(
        self, asked: Submission, job_id: str, parameters: Mapping[str, Any], media_type: str, traceparent: str
    ) -> Job:
        check_group(self._stores, asked.kind, asked.group, asked.priority)
        source = await self._source(asked, job_id, media_type)
        await failpoint("after-input", job_id)
        spec = JobSpec(
            id=job_id,
            kind=asked.kind,
            submitted_at=clock.now(),
            parameters=parameters,
            source=source,
            origin=asked.origin,
            batch=asked.batch,
            traceparent=traceparent,
            webhook=asked.webhook,
            priority=asked.priority,
            group=asked.group,
            resources=asked.resources,
        )
        try:
            job = await self._insert(spec)
        except (StoreFullError, LimitExceededError, InvalidParameterError):
            # Else another process may have accepted the job under the same id meanwhile; a blob that is lent stays.
            if asked.key is None and asked.path is not None:
                with suppress(StoreError):
                    await self._stores.blobs.delete(source.blob)
            raise
        emit("job.submitted", job=job_id, kind=spec.kind, bytes=source.size)
        return job

    async def _source(self, asked: Submission, job_id: str, media_type: str) -> Source:
        """The source as the row has it; a file becomes the job's own blob."""
        name = display_name(asked.called)
        if asked.path is None:
            return Source(name=name, size=0, type=media_type, blob=asked.blob, url=asked.url)
        blob, size = f"{INPUTS}{job_id}/source", asked.path.stat().st_size
        with suppress(AlreadyExistsError):  # an earlier request with this key came so far
            await self._stores.blobs.put(blob, asked.path, consume=asked.consume)
        return Source(name=name, size=size, type=media_type, blob=blob)

    async def _insert(self, spec: JobSpec) -> Job:
        """Row and message; when no answer comes, the row tells."""
        try:
            version = await self._stores.submit(first_row(spec))
        except (AlreadyExistsError, StoreUnavailableError):
            job = await self._jobs.read(spec.id)
            if job is None:
                raise
            return job
        await failpoint("after-submit", spec.id)
        return Job(spec=spec, version=version, state=JobState.QUEUED)


def first_row(spec: JobSpec) -> NewRow:
    """A queued job's row, with the message that wakes its workers."""
    return NewRow(
        table=TABLE,
        key=spec.id,
        fields=spec_to_fields(spec),
        tag=JobState.QUEUED,
        queue=queue_of(spec),
        message_id=f"{spec.id}:0",
        message=lambda version: WakeUp(job=spec.id, spec=spec, version=version).encode(),
        session=spec.group,
    )


def check_key(key: str) -> None:
    """Refuse an idempotency key that is none.

    Raises:
        InvalidParameterError: it is empty, too long, or not printable ASCII.
    """
    if not key or len(key) > LONGEST_KEY or not (key.isascii() and key.isprintable()):
        raise InvalidParameterError(
            f"Idempotency-Key must be 1 to {LONGEST_KEY} printable ASCII characters", field="Idempotency-Key"
        )


def display_name(name: str) -> str:
    """A client's file name as it is kept: its last segment, without control characters, of bearable length.

    It is shown and offered as the name of a download; no path is ever made of it.
    """
    last = PurePath(name.replace("\\", "/")).name
    kept = "".join(character for character in last if character.isprintable()).strip()
    if len(kept) > LONGEST_NAME:
        stem, dot, extension = kept.rpartition(".")
        kept = (stem or extension)[: LONGEST_NAME - 12] + (dot + extension[:10] if stem else "")
    return kept if kept.strip(".") else "unnamed"


def _hash_of_request(asked: Submission, parameters: Mapping[str, Any]) -> str:
    if asked.path is None:
        content = f"url {asked.url}" if asked.url else f"blob {asked.blob}"
    else:
        with asked.path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    told: list[Any] = [
        asked.kind,
        asked.name,
        sorted(asked.given.items()),
        sorted(parameters.items()),
        asked.batch,
        content,
    ]
    told += [asked.webhook] if asked.webhook else []
    told += [asked.priority] if asked.priority is not Priority.NORMAL else []
    told += [f"group {asked.group}"] if asked.group else []
    told += [[[each.name, each.blob, each.url] for each in asked.resources]] if asked.resources else []
    return hashlib.sha256(dumps(told).encode()).hexdigest()
