"""The worker for media: pictures by `legacy_bin/transcode`, sound and film by ffmpeg, unmodified."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from rolehost.errors import BadInputError, ProgramNotFoundError
from rolehost.jobs.job import End, JobSpec
from rolehost.jobs.sniffing import sniff_file
from rolehost.jobs.transcode_kind import PRESETS, Sort, misfit
from rolehost.workers.console_app import ConsoleApp, Run, standard_values
from rolehost.workers.console_worker import ConsoleAppWorker
from rolehost.workers.exit_policy import ExitRule, Verdict
from rolehost.workers.outcome import Outcome
from rolehost.workers.progress import KeyValueProgress, ProgressSpec
from rolehost.workers.reasons import last_line, shortened
from rolehost.workers.scratch import Scratch
from rolehost.workers.transcoding.ffmpeg import MOST_STREAMS, find_ffmpeg
from rolehost.workers.transcoding.presets import EXTENSIONS, TYPES, Command, command
from rolehost.workers.transcoding.probe import Film, measure_command, measured, probe_command, read_probe
from rolehost.workers.transcoding.settings import TranscodeSettings
from rolehost.workers.watchdog import Limits

BAD_INPUT = 65  # sysexits' EX_DATAERR
PROBE_SECONDS = 60.0
_MEGABYTE = 1 << 20
_NOT_DECODABLE = (
    r"Invalid data found when processing input|moov atom not found|Picture size \d+x\d+ (is invalid|exceeds)"
    # A track of which no frame, or no frame's format, ever came; version 5's words, and version 9's.
    r"|Cannot determine format of input stream|Value inf for parameter 'time_base' out of range"
    r"|Neither number of channels nor channel layout specified|Video of less than 3 columns or lines is not supported"
)
_TRACKS = "exceeds max_streams"
_OF_THE_MACHINE = re.compile(
    r"Permission denied|No such file or directory|Cannot allocate memory|temporarily unavailable|Too many open files"
    r"|Input/output error|loading shared libraries|^(setpriv|prlimit|env): "
)
_OF_OURS = re.compile(
    r"^\[.*\] (Codec \(\w+\) not on whitelist .*|Failed to open codec in avformat_find_stream_info)\n", re.MULTILINE
)
_LAST_FRAME = re.compile(r"^frame= *(\d+)$", re.MULTILINE)
_LAST_TIME = re.compile(r"^out_time_us=(-?\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Plan:
    """One attempt: how its program is called, and how much film it will write."""

    argv: Sequence[str]
    seconds: float | None = None


class TranscodeWorker(ConsoleAppWorker):
    """A job's `preset` says what is made of it: another picture, a web video, its sound, some of its frames.

    A source is opened as what its content shows, by one demuxer, and nothing beside it; `TranscodeSettings` has the
    role's settings.
    """

    kind = "transcode"
    app = ConsoleApp(
        ("{python}", "{approot}/legacy_bin/transcode", "{source}", "{target}", "{format}"),
        bad_input_exit_codes={BAD_INPUT},
        exit_rules=(
            ExitRule(verdict=Verdict.PUT_BACK, stderr="No space left on device"),
            ExitRule(
                verdict=Verdict.RETRY, codes=range(1, 256), stderr="Cannot allocate memory|temporarily unavailable"
            ),
            ExitRule(verdict=Verdict.FAIL, codes=range(1, 256), stderr=_NOT_DECODABLE),
        ),
        limits=Limits(open_files=256),
    )
    _ffmpeg = ""
    _wanted = TranscodeSettings()

    def __init__(self) -> None:
        super().__init__()
        self._plans: dict[int, _Plan] = {}

    @classmethod
    def missing(cls, settings: Mapping[str, str], path: str) -> Iterator[str]:
        """What has to be installed before every preset works: `rolehost check` asks.

        Args:
            settings: the role's.
            path: its PATH.
        """
        try:
            find_ffmpeg(settings.get("Transcode.Ffmpeg", ""), path)
        except ProgramNotFoundError as error:
            yield str(error)

    async def prepare(self, root: Path) -> None:
        """Read the settings, look for ffmpeg, and find out who the applications run as."""
        wanted = self._wanted = TranscodeSettings.read(self.role_environment)
        limits = replace(self.app.limits, memory=wanted.memory * _MEGABYTE, file_bytes=wanted.result * _MEGABYTE)
        self.app = replace(self.app, limits=limits)
        with suppress(ProgramNotFoundError):  # pictures don't need it; a job that does says so
            self._ffmpeg = await asyncio.to_thread(self._find)
        await super().prepare(root)

    def command(self, job: JobSpec) -> Sequence[str]:
        """As the preset asks, of the file that the attempt looked into."""
        return self._plans[id(job)].argv

    def result_name(self, job: JobSpec) -> str:
        """`film-web-video.mp4` for a web video of film.mkv, `photo.png` for a picture."""
        preset, wanted = str(job.parameters["preset"]), str(job.parameters["format"])
        name = PurePath(job.source.name).stem + ("" if _of_pictures(job) else f"-{preset}")
        return f"{name}.{EXTENSIONS.get(wanted, wanted)}"

    def result_type(self, job: JobSpec) -> str:
        """The format's."""
        wanted = str(job.parameters["format"])
        return TYPES.get(wanted, f"image/{wanted}")

    async def attempt(self, job: JobSpec, scratch: Scratch) -> Outcome:
        """Look into the source, decide, and run."""
        try:
            plan = await self._plan(job, scratch)
        except BadInputError as error:
            return Outcome(end=End.BAD_INPUT, detail=shortened(f"{job.source.name}: {error}"))
        except ProgramNotFoundError as error:
            return Outcome(end=End.APP_ERROR, detail=str(error))
        if isinstance(plan, Outcome):
            return scratch.halt.judged(plan, "the probe")
        self._plans[id(job)] = plan
        try:
            outcome = await super().attempt(job, scratch)
        finally:
            del self._plans[id(job)]
        return outcome if _of_pictures(job) else _judged(job, outcome)

    async def measured_by(self, job: JobSpec, scratch: Scratch) -> ProgressSpec | None:
        """By the time that ffmpeg has written, of what it will."""
        del scratch
        seconds = self._plans[id(job)].seconds
        return KeyValueProgress("out_time_us", seconds * 1e6) if seconds else None

    async def _plan(self, job: JobSpec, scratch: Scratch) -> _Plan | Outcome:
        media_type = await asyncio.to_thread(sniff_file, scratch.source)
        if wrong := misfit(
            str(job.parameters["preset"]), media_type
        ):  # when it was submitted it may not have been known
            raise BadInputError(wrong)
        if _of_pictures(job):
            return _Plan(self.app.argv)
        ffmpeg = self._ffmpeg = self._ffmpeg or await asyncio.to_thread(self._find)  # installed meanwhile, perhaps
        film = await self._probe(ffmpeg, media_type, job, scratch)
        if isinstance(film, Outcome):
            return film
        wanted: Command = command(job.parameters, film, self._wanted.threads)
        return _Plan(wanted.argv(ffmpeg, media_type, self._wanted.threads), wanted.seconds)

    async def _probe(self, ffmpeg: str, media_type: str, job: JobSpec, scratch: Scratch) -> Film | Outcome:
        """Look into the source, contained as the application itself; an outcome if that couldn't be done.

        Raises:
            BadInputError: it isn't what it looks like, or nothing that is worked on here.
        """
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                run = await self._looked(probe_command(ffmpeg, media_type), scratch)
        except TimeoutError:
            return Outcome(end=End.TIMEOUT, detail=f"looking into it took longer than {PROBE_SECONDS:g} s")
        film = read_probe(run.stderr)
        if fault := _fault_of_ours(run, read=film is not None):
            return fault
        if film is None:
            raise BadInputError(f"it can't be read as {media_type}: {_why(run, scratch, job)}")
        film.check()
        if film.seconds is None:
            run = await self._looked(measure_command(ffmpeg, media_type, film), scratch)
            film = replace(film, seconds=measured(run.stdout))
        return _fault_of_ours(run, read=film.seconds is not None) or film

    async def _looked(self, template: Sequence[str], scratch: Scratch) -> Run:
        values = standard_values(os.environ)
        values |= {
            "source": str(scratch.source),
            "target": str(scratch.folder / "none"),
            "scratch": str(scratch.folder),
        }
        return await self._run(template, values, scratch)

    def _find(self) -> str:
        return find_ffmpeg(self._wanted.ffmpeg, os.environ.get("PATH", os.defpath))


def _of_pictures(job: JobSpec) -> bool:
    return Sort.PICTURE in PRESETS[str(job.parameters["preset"])].takes


def _fault_of_ours(run: Run, *, read: bool) -> Outcome | None:
    """A look into a source that failed for no reason of the source's: it is worth another.

    Args:
        run: how the look ended.
        read: whether it saw anything. Then what it printed is the source's own words, too.
    """
    said = last_line(run.stderr)
    if run.stopped is not None:
        end, why = run.stopped.end, f"was stopped: {run.stopped.why}"
    elif run.exit.signal:
        end, why = End.KILLED, f"was ended by signal {run.exit.signal}"
    elif run.exit.exec_error or (not read and _OF_THE_MACHINE.search(said) and _TRACKS not in run.stderr):
        end, why = End.APP_ERROR, f"failed: {run.exit.exec_error or said}"
    else:
        return None
    return Outcome(end=end, detail=shortened(f"the probe {why}"), exit_code=run.exit.code, stderr=run.stderr)


def _why(run: Run, scratch: Scratch, job: JobSpec) -> str:
    if _TRACKS in run.stderr:
        return f"it has more than {MOST_STREAMS} tracks"
    said = last_line(run.stderr).replace(f"file:{scratch.source}", job.source.name)
    return said or "the probe found nothing"


def _judged(job: JobSpec, outcome: Outcome) -> Outcome:
    """An attempt of ffmpeg's: what it could make nothing of is no better the next time."""
    frames, times = _LAST_FRAME.findall(outcome.stdout), _LAST_TIME.findall(outcome.stdout)
    told = frames if job.parameters["preset"] != "audio" else times
    nothing = bool(told) and int(told[-1]) <= 0
    # Its progress, and what it says of decoders that were kept from it, are nothing to read for a person.
    outcome = replace(outcome, stdout="", stderr=_OF_OURS.sub("", outcome.stderr))
    if outcome.exit_code != 0 or outcome.end not in {End.OK, End.BAD_OUTPUT}:
        return outcome
    if outcome.end is End.BAD_OUTPUT or nothing:
        at = f" at {job.parameters['at']:g} s" if "at" in job.parameters else ""
        detail = f"{job.source.name}: nothing of it could be decoded{at}"
        return replace(outcome, end=End.BAD_INPUT, detail=shortened(detail), result=None)
    return outcome
