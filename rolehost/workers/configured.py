"""A worker that is no code: all of it stands in the `[roles.X.worker]` table of the service's definition."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from rolehost.errors import EntryPointError, RoleEnvironmentError, SubmissionError
from rolehost.jobs.declared import kind_of
from rolehost.jobs.job import End, JobSpec
from rolehost.jobs.parameters import LONGEST, text_of
from rolehost.jobs.sniffing import UNKNOWN, sniff_file
from rolehost.jobs.submission import display_name
from rolehost.service_model.worker import DECLARATION, LITERAL, PLACEHOLDER, Group, WorkerDeclaration, placeholders
from rolehost.service_model.worker_reading import read_worker
from rolehost.service_model.worker_rules import MEDIA_TYPE
from rolehost.workers.console_app import ConsoleApp
from rolehost.workers.console_worker import ConsoleAppWorker
from rolehost.workers.exit_policy import ExitRule, Verdict
from rolehost.workers.outcome import Outcome
from rolehost.workers.progress import KeyValueProgress, PatternProgress, ProgressSpec, ResultProgress
from rolehost.workers.scratch import Scratch
from rolehost.workers.settings import WorkerSettings
from rolehost.workers.watchdog import Limits

MOST_BYTES = 100_000
"""Of what a client sends, in the arguments of a run: the system takes 128 KiB in one of them."""
_MEGABYTE = 1 << 20
_SLOTS = "Worker.Slots"
# The braces of `{{word}}` are filled in like values: what a client sends is never looked through for placeholders.
_BRACES = {"_open": "{", "_close": "}"}
_TYPES = mimetypes.MimeTypes(filenames=())
"""Of the standard library alone: the same on every machine."""
for _ending, _type in {
    # Unknown there, by another name, or as something else: `.ass` as sound, which subtitles aren't.
    ".flac": "audio/flac",
    ".md": "text/markdown",
    ".mkv": "video/x-matroska",
    ".webp": "image/webp",
    ".ass": "text/x-ssa",
    ".mpa": "audio/mpeg",
    ".wav": "audio/wav",
}.items():
    _TYPES.add_type(_type, _ending)
_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
"""What a file is that is packed, whatever is in it: `notes.txt.gz` is no text."""


class ConfiguredWorker(ConsoleAppWorker):
    """Does the jobs of a kind by a program, as its declaration says.

    Args:
        declaration: of a table that names a program; None: the one that the role was started with.

    Raises:
        EntryPointError: the role was started with none.
    """

    def __init__(self, declaration: WorkerDeclaration | None = None) -> None:
        super().__init__()
        self._declared = declaration or _told(os.environ)
        self._kind = kind_of(self._declared)
        self.kind = self._declared.kind
        self.app = app_of(self._declared)

    def read_settings(self) -> WorkerSettings:
        """The role's settings; how many run at a time is the declaration's, where `Worker.Slots` says nothing."""
        settings = super().read_settings()
        if self._declared.concurrency is None or self._is_set(_SLOTS):
            return settings
        return replace(settings, slots=self._declared.concurrency)

    def _is_set(self, name: str) -> bool:
        try:
            self.role_environment.get_configuration_setting_value(name)
        except RoleEnvironmentError:
            return False
        return True

    async def attempt(self, job: JobSpec, scratch: Scratch) -> Outcome:
        """Look at the input and the parameters again: whoever submitted the job may not have known the declaration."""
        try:
            media_type = await asyncio.to_thread(sniff_file, scratch.source)
            self._kind.check_source(media_type, job.source.name)
            parameters = self._kind.parse(_texts(job.parameters), media_type)
        except SubmissionError as error:
            return Outcome(end=End.BAD_INPUT, detail=str(error))
        job = replace(job, parameters=parameters, source=replace(job.source, type=media_type))
        if self._asked_for(job) > MOST_BYTES:
            told = f"the parameters make more than {MOST_BYTES} bytes of arguments, which no program can be given"
            return Outcome(end=End.BAD_INPUT, detail=told)
        return await super().attempt(job, self._named(job, scratch))

    def _asked_for(self, job: JobSpec) -> int:
        """The bytes that a client's values make of the arguments."""
        values = self.values(job)
        arguments = (*self.command(job), *self._declared.verify)
        return sum(len(values.get(name, "").encode()) for each in arguments for name in placeholders(each))

    def _named(self, job: JobSpec, scratch: Scratch) -> Scratch:
        """The source with the ending for which it was accepted: there are programs that go by it alone."""
        ending = PurePath(job.source.name).suffix.lower()
        if scratch.source.suffix or ending not in self._declared.accepts:
            return scratch
        return replace(scratch, source=scratch.source.rename(scratch.source.with_suffix(ending)))

    def command(self, job: JobSpec) -> Sequence[str]:
        """The arguments, without the groups of which a parameter has no value."""
        values = self.values(job)
        kept = [group for group in self._declared.program if not _left_out(group, values)]
        return [template(each) for group in kept for each in ([group] if isinstance(group, str) else group)]

    def values(self, job: JobSpec) -> Mapping[str, str]:
        """The parameters: empty where one was not given; a switch with a flag is that flag, or empty."""
        values = dict.fromkeys((each.name for each in self._declared.parameters), "") | dict(super().values(job))
        for name, flag in self._declared.flags.items():
            values[name] = flag if job.parameters.get(name) else ""
        return {**values, **_BRACES}

    def result_name(self, job: JobSpec) -> str:
        """As declared; the source's own name by default."""
        name = job.source.name
        values = {**self.values(job), "name": name, "stem": PurePath(name).stem}
        return display_name(_filled(self._declared.result_name, values)) if self._declared.result_name else name

    def result_type(self, job: JobSpec) -> str:
        """As declared; by default what the ending of the result's name says."""
        if self._declared.result_type:
            told = _filled(self._declared.result_type, self.values(job))
            return told if MEDIA_TYPE.fullmatch(told) else UNKNOWN
        if not self._declared.result_name:
            return job.source.type
        media_type, packed = _TYPES.guess_type(self.result_name(job))
        return _PACKED.get(packed, UNKNOWN) if packed else media_type or UNKNOWN

    async def measured_by(self, job: JobSpec, scratch: Scratch) -> ProgressSpec | None:
        """As declared; a total may be one of the job's parameters."""
        progress = self._declared.progress
        if progress is None or not isinstance(progress.total, str):
            return await super().measured_by(job, scratch)
        total = _filled(progress.total, self.values(job))
        return KeyValueProgress(progress.key, float(total)) if total else None


def _left_out(group: str | Group, values: Mapping[str, str]) -> bool:
    """Whether an argument that is nothing but a value, or one of a group, lacks its value."""
    if isinstance(group, str):
        return PLACEHOLDER.fullmatch(group) is not None and values.get(group[1:-1]) == ""
    return any(values.get(name) == "" for each in group for name in placeholders(each))


def app_of(declared: WorkerDeclaration) -> ConsoleApp:
    """The console application of a declaration, with the argv template as if every parameter were given."""
    return ConsoleApp(
        argv=[template(each) for group in declared.groups for each in group],
        timeout=declared.timeout_seconds,
        bad_input_exit_codes=frozenset(declared.bad_input_exit_codes),
        exit_rules=[
            ExitRule(verdict=Verdict(each.then), codes=each.codes, signals=each.signals, stderr=each.stderr)
            for each in declared.exits
        ],
        verify=[template(each) for each in declared.verify],
        limits=_limits(declared),
        stall=declared.stall_seconds,
        environment=declared.environment,
        progress=_progress(declared),
        reads_stdin=bool(declared.stdin),
        writes_stdout=bool(declared.stdout),
    )


def template(argument: str) -> str:
    """An argument as `console_app.fill` takes it: braces that are meant as text are values, too."""
    return LITERAL.sub(lambda found: f"{{_open}}{found[1][1:-1]}{{_close}}", argument)


def _limits(declared: WorkerDeclaration) -> Limits:
    limits = declared.limits
    return Limits(
        memory=None if limits.memory_mb is None else limits.memory_mb * _MEGABYTE,
        cpu_seconds=limits.cpu_seconds,
        file_bytes=None if limits.file_mb is None else limits.file_mb * _MEGABYTE,
        open_files=limits.open_files,
        processes=limits.processes,
    )


def _progress(declared: WorkerDeclaration) -> ProgressSpec | None:
    progress = declared.progress
    if progress is None:
        return None
    if progress.pattern:
        return PatternProgress(re.compile(progress.pattern), unfinished=progress.unfinished)
    if progress.key:
        return None if isinstance(progress.total, str) else KeyValueProgress(progress.key, progress.total or 0)
    return ResultProgress(expected=progress.result_bytes or 0, of_source=progress.result_of_source or 0)


def _told(environ: Mapping[str, str]) -> WorkerDeclaration:
    try:
        declared = read_worker(json.loads(environ[DECLARATION]))
    except KeyError:
        raise EntryPointError(
            "a ConfiguredWorker takes all from a [roles.X.worker] table that names a program: this role has none"
        ) from None
    except ValueError as error:
        raise EntryPointError(f"the worker's declaration can't be read: {error}") from error
    if not declared.program:
        raise EntryPointError("the role's [roles.X.worker] table names no program")
    return declared


def _texts(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as they might have been submitted."""
    return {name: text_of(each) for name, each in parameters.items()}


def _filled(text: str, values: Mapping[str, str]) -> str:
    """A text with its values in it, of bearable length."""
    return PLACEHOLDER.sub(lambda found: values.get(found[1], "")[:LONGEST], template(text))
