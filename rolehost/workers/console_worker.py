"""A worker that runs an unmodified console application on each job."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from rolehost.errors import ProgramNotFoundError
from rolehost.failpoints import failpoint
from rolehost.jobs.job import End, JobSpec
from rolehost.jobs.parameters import text_of
from rolehost.processes import Cgroups, Redirects, WarmStarts, unprivileged_identity, with_own_pids
from rolehost.processes.cgroups import told
from rolehost.telemetry import emit
from rolehost.telemetry.tracing import variables
from rolehost.workers import reach
from rolehost.workers.console_app import (
    ConsoleApp,
    Run,
    allowed_environment,
    fill,
    run_console_app,
    standard_values,
)
from rolehost.workers.exit_policy import end_of
from rolehost.workers.listening import Listener, OwnParser
from rolehost.workers.outcome import Outcome, fault_of, other_type, plain_suffix
from rolehost.workers.progress import ProgressSpec
from rolehost.workers.queue_worker import QueueWorker
from rolehost.workers.reasons import exited, last_line, shortened
from rolehost.workers.scratch import Scratch, make_resources
from rolehost.workers.settings import WorkerSettings


class ConsoleAppWorker(QueueWorker):
    """A worker role around a console application: name its `kind` and its `app`, and that is all.

    A run that exits with 0 and leaves a result is done. Any other exit is charged and tried again, except those that
    `app.bad_input_exit_codes` names.
    """

    app: ConsoleApp
    _marker = ""
    _warm: WarmStarts | None = None
    _groups: Cgroups | None = None
    _progress_told = False
    _progress_stuck = False

    def command(self, job: JobSpec) -> Sequence[str]:
        """The argv template for a job; by default the application's own.

        Args:
            job: its `parameters` say what is asked for.
        """
        del job
        return self.app.argv

    def values(self, job: JobSpec) -> Mapping[str, str]:
        """What the job's placeholders stand for in the argv template, by name: by default its parameters."""
        return {name: text_of(value) for name, value in job.parameters.items()}

    def result_name(self, job: JobSpec) -> str:
        """The name under which a person downloads the result; its extension is the target's, too."""
        return job.source.name

    def result_type(self, job: JobSpec) -> str:
        """The result's media type."""
        return job.source.type

    def parse_progress(self, line: str) -> float | None:
        """How far the application has come, if a line of its output tells: override it where no pattern does.

        It is called in a thread; an exception costs what this line would have told.

        Args:
            line: of stdout or stderr, without its end, which may be a carriage return.

        Returns:
            Percent, 0 to 100; None if the line tells nothing.
        """
        del line
        return None

    def progress(self, job: JobSpec, scratch: Scratch) -> ProgressSpec | Awaitable[ProgressSpec | None] | None:
        """What tells how far a job's run has come; a plain function or a coroutine function.

        Args:
            job: its `source` and `parameters` may say what there is to do.
            scratch: its directory; the asset is there.

        Returns:
            By default what the application's own description says.
        """
        del job, scratch
        return self.app.progress

    async def measured_by(self, job: JobSpec, scratch: Scratch) -> ProgressSpec | None:
        """The same, on the infrastructure loop, where a probe may be run: for what ships."""
        if type(self).parse_progress is not ConsoleAppWorker.parse_progress:
            return OwnParser(self.parse_progress)
        if type(self).progress is ConsoleAppWorker.progress:
            return self.app.progress
        spec: ProgressSpec | None = await self._user_code.call(self.progress, job, scratch)
        return spec

    async def prepare(self, root: Path) -> None:
        """Find out who the application runs as: nobody, where this host is root and the machine lets it."""
        own = self.role_environment
        self._marker = f"{own.deployment_id}/{own.current_role_instance.id}/"
        values = standard_values(os.environ)
        probe = reach.probe(self.app.argv, values, root)
        self.identity = await unprivileged_identity(probe, Path("/"))
        if self._settings.pid_namespace:
            self.identity = await with_own_pids(self.identity, probe, Path("/"))
        self._groups = await asyncio.to_thread(Cgroups.find)
        emit("worker.contains", how=told(self._groups))
        if self._settings.warm_start and not self.identity.own_pids:
            self._warm = self._warm_starts(values)

    @asynccontextmanager
    async def prepared(self, settings: WorkerSettings, root: Path) -> AsyncIterator[None]:
        """Fit for attempts; afterwards what starts the application warm is ended."""
        try:
            async with super().prepared(settings, root):
                yield
        finally:
            if self._warm:
                await self._warm.close()
            if self._groups:
                await asyncio.to_thread(self._groups.close)

    def _warm_starts(self, values: Mapping[str, str]) -> WarmStarts | None:
        """What starts the application, where it is a script that says what it imports."""
        program, *arguments = self.app.argv
        if self.app.warm_imports is None or program != "{python}" or not arguments:
            return None
        if self.app.reads_stdin or self.app.writes_stdout:
            return None
        warm = WarmStarts(
            fill(arguments[:1], values)[0],
            self.app.warm_imports,
            env=allowed_environment(os.environ, Path("/")) | dict(self.app.environment),
            marker=f"{self._marker}warm-",
            identity=self.identity,
        )
        warm.start()
        return warm

    async def attempt(self, job: JobSpec, scratch: Scratch) -> Outcome:
        """Run the application, and judge how it ended."""
        template, result_name, result_type = await self._user_code.call(self._asked, job)
        target = scratch.folder / f"target{plain_suffix(result_name)}"
        # Ours come last: what a client submits must never say which program runs.
        values = {**self.values(job), **standard_values(os.environ)}
        values |= {"source": str(scratch.source), "target": str(target), "scratch": str(scratch.folder)}
        values |= {"resources": str(scratch.resources)}
        if any("{resources}" in argument for argument in (*template, *self.app.verify)):
            make_resources(scratch, self.identity)  # there also for a job without any
        shown = _Shown(scratch, job.source.name)
        try:
            await failpoint("before-spawn", job.id)
            async with self._listening(job, scratch, target) as hear:
                redirects = self.app.redirects(scratch.source, target)
                run = await self._run(template, values, scratch, self._warm, hear, redirects=redirects)
        except ProgramNotFoundError as error:
            return Outcome(end=End.APP_ERROR, detail=str(error))
        made = Outcome(end=End.OK, result=target, result_name=result_name, result_type=result_type)
        judged = self._judge(run, made, shown)
        if judged.end is End.OK and self.app.verify:
            judged = await self._verified(judged, values, scratch, shown)
        return scratch.halt.judged(judged, self.app.name)

    @asynccontextmanager
    async def _listening(
        self, job: JobSpec, scratch: Scratch, target: Path
    ) -> AsyncIterator[Callable[[str, bytes], None] | None]:
        """Take note of the progress meanwhile; the value, if any, gets the application's output."""
        listener = None if self._progress_stuck else await self._listener(job, scratch, target)
        if listener is None:
            yield None
            return
        listening = asyncio.create_task(listener.listen())
        try:
            yield listener.hear if listener.hears else None
        finally:
            listening.cancel()
            await asyncio.wait([listening])
            if listener.stuck:  # its thread can't be ended: there is to be no other like it
                self._progress_stuck = True
                emit("progress.stuck", kind=self.kind)

    async def _listener(self, job: JobSpec, scratch: Scratch, target: Path) -> Listener | None:
        try:
            spec = await self.measured_by(job, scratch)
            if spec is None:
                return None
            return Listener(
                spec,
                scratch.meter,
                result=target,
                source=job.source.size,
                user_code=self._user_code,
                failed=self._progress_failed,
            )
        except Exception as error:  # noqa: BLE001 - a user's code, or a probe: the job goes on without
            self._progress_failed(error)
            return None

    def _progress_failed(self, error: Exception) -> None:
        """Tell of it once: it costs nothing but progress, but likely that of every job."""
        if not self._progress_told:
            self._progress_told = True
            emit("progress.failed", kind=self.kind, why=shortened(f"{type(error).__name__}: {error}"))

    async def _run(
        self,
        template: Sequence[str],
        values: Mapping[str, str],
        scratch: Scratch,
        warm: WarmStarts | None = None,
        on_output: Callable[[str, bytes], None] | None = None,
        *,
        redirects: Redirects | None = None,
    ) -> Run:
        """Run a command of the job's, in its scratch directory."""
        return await run_console_app(
            fill(template, values),
            env=allowed_environment(os.environ, scratch.folder) | dict(self.app.environment) | variables(),
            cwd=scratch.folder,
            marker=f"{self._marker}{scratch.folder.name}",
            identity=self.identity,
            timeout=self.app.timeout or self._settings.timeout,
            grace=self.grace,
            output=self._settings.output,
            stall=self.app.stall or self._settings.stall,
            limits=self.app.limits,
            result=Path(values["target"]),
            warm=warm,
            halt=scratch.halt,
            groups=self._groups,
            on_output=on_output,
            redirects=redirects,
        )

    async def _verified(self, made: Outcome, values: Mapping[str, str], scratch: Scratch, shown: _Shown) -> Outcome:
        """Have the result looked at; what it says of a bad one is the reason."""
        try:
            run = await self._run(self.app.verify, {**values, "result": values["target"]}, scratch)
        except ProgramNotFoundError as error:
            return replace(made, end=End.BAD_OUTPUT, detail=f"the result could not be verified: {error}")
        if run.stopped is None and run.exit.code == 0:
            return made
        said = run.stopped.why if run.stopped else last_line(shown.text(run.stderr)) or f"exit code {run.exit.code}"
        return replace(made, end=End.BAD_OUTPUT, detail=shortened(f"the result did not pass its verification: {said}"))

    def _asked(self, job: JobSpec) -> tuple[Sequence[str], str, str]:
        """What subclasses say of a job, in one call off the infrastructure loop."""
        return self.command(job), self.result_name(job), self.result_type(job)

    def _judge(self, run: Run, made: Outcome, shown: _Shown) -> Outcome:
        """An exit, and what it left, as an attempt's end; `made` if all went well."""
        code = -run.exit.signal if run.exit.signal else run.exit.code
        stdout, stderr = shown.text(run.stdout), shown.text(run.stderr)

        def outcome(end: End, detail: str) -> Outcome:
            return Outcome(end=end, detail=shortened(detail), exit_code=code, stdout=stdout, stderr=stderr)

        name = self.app.name
        if run.stopped is not None:
            return outcome(run.stopped.end, f"{name} was stopped: {run.stopped.why}{shown.progress}")
        end = end_of(run.exit, run.stderr, self.app.exit_rules, self.app.bad_input_exit_codes)
        if end is not End.OK:
            return outcome(end, exited(name, run.exit.code, run.exit.signal, stderr))
        if made.result and (fault := fault_of(made.result) or other_type(made.result, made.result_type)):
            return outcome(End.BAD_OUTPUT, f"{exited(name, run.exit.code, run.exit.signal, '')}, but {fault}")
        return replace(made, exit_code=code, stdout=stdout, stderr=stderr)


class _Shown:
    """Output as a person may see it: the scratch directory's paths are the file's own name again."""

    def __init__(self, scratch: Scratch, name: str) -> None:
        folder, source = str(scratch.folder), scratch.source
        self._meter = scratch.meter
        self._replace = [(str(source), name), (folder + os.sep, ""), (folder, ".")]
        if source.suffix:  # else its name is a word that means other things too
            self._replace.append((source.name, name))

    @property
    def progress(self) -> str:
        """The end of a sentence: how far it had come."""
        return f"; it had come to {int(self._meter.now.percent)} %" if self._meter.now else ""

    def text(self, text: str) -> str:
        for path, shown in self._replace:
            text = text.replace(path, shown)
        return text
