"""What may be asked of a running service over its control socket, and the answers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from rolehost.errors import RoleHostError, ServiceModelError, UpdateRefusedError
from rolehost.host.fabric.control import Say
from rolehost.host.fabric.deployment import Deployment
from rolehost.host.fabric.generations import Goal
from rolehost.host.fabric.news import Item
from rolehost.host.fabric.walk import Mode
from rolehost.service_model import (
    Differences,
    RoleModel,
    ServiceModel,
    differences,
    examine,
    read_update,
    refusals,
    scaling_refusals,
    unsupported,
)
from rolehost.telemetry import emit

_INSTANCES = "ROLEHOST_INSTANCES_"

Check: TypeAlias = "Callable[[Path, Path | None, Mapping[str, str]], Awaitable[list[str]]]"
"""What is wrong with a definition (its configuration, the variables over it), its code included, which it imports."""


class Desk:
    """Takes changes, one at a time, and tells how the service is.

    Args:
        deployment: the running service.
        model: what it was started from.
        environ: the variables that go over every definition.
        stop: asks for a stop within so many seconds, None: as long as it takes.
        check: asked before code is taken that the service doesn't run yet; None: such code is taken as it is.
    """

    def __init__(
        self,
        deployment: Deployment,
        model: ServiceModel,
        environ: Mapping[str, str],
        *,
        stop: Callable[[float | None], None],
        check: Check | None = None,
    ) -> None:
        self._deployment = deployment
        self._environ = environ
        self._stop = stop
        self._check = check
        self._started_from = model
        self._one_change = asyncio.Lock()
        self._of_files = model
        self._seen_first: Differences | None = None
        self.closed = False

    async def answer(self, request: Mapping[str, Any], say: Say) -> None:
        """Do what is asked, and say what comes of it."""
        try:
            match request:
                case {"do": "status"}:
                    say({"status": self._deployment.status()})
                case {"do": "watch"}:
                    await self._watch(say)
                case {"do": "stop", "seconds": None | int() | float() as seconds}:
                    self._stop(seconds)
                    say({"stopping": len(self._deployment.fleet.members)})
                    await asyncio.Event().wait()  # the end of the connection tells the end of the service
                case _:
                    await self._change(request, say)
        except ServiceModelError as error:
            say({"refused": list(error.problems)})
        except RoleHostError as error:
            say({"refused": [str(error)]})
        except OSError as error:  # no process, no descriptor is left: nothing was begun
            say({"refused": [f"the machine has no room for that: {error.strerror or error}"]})

    async def take_files(self, source: Path, configuration: Path | None) -> None:
        """Take what the service was started from, if it says something else than before.

        A definition that isn't valid is told, and not taken. What an `update` has changed since stays as it is, unless
        these files are changed.
        """
        try:
            async with self._one_change:
                self._require_open()
                model = await asyncio.to_thread(_read, source, configuration, self._environ)
                before, self._of_files = self._of_files, model
                if differences(before, model) and (changes := await self._accepted(model, Mode.AUTO)):
                    self._seen_first = changes
                    emit("definition.changed", file=str(source), changes=changes.to_json())
                self._deployment.refuse(source, ())
        except RoleHostError as error:
            problems = error.problems if isinstance(error, ServiceModelError) else (str(error),)
            self._refuse(source, problems)
        except Exception as error:  # noqa: BLE001 - a file must not end a service that runs
            self._refuse(source, [f"the definition can't be taken: {error!r}"])

    def _refuse(self, source: Path, problems: Sequence[str]) -> None:
        emit("definition.refused", file=str(source), problems=list(problems))
        self._deployment.refuse(source, problems)

    async def _change(self, request: Mapping[str, Any], say: Say) -> None:
        waits = request.get("wait", True) is not False
        deployment = self._deployment
        with deployment.news.heard() as news:
            async with self._one_change:
                self._require_open()
                match request:
                    case {"do": "update", "file": str(file), "mode": "auto" | "manual" as mode}:
                        load = request.get("load", True) is not False
                        changed = await self._update(Path(file), Mode(mode), say, load=load)
                        waits = waits and mode == Mode.AUTO and changed
                    case {"do": "scale", "role": str(role), "instances": int(count)}:
                        waits = await self._scale(role, count, say) and waits
                    case {"do": "rollback"}:
                        self._seen_first = None
                        say({"accepted": {"generation": deployment.rollback().generation}})
                    case {"do": "walk", "domain": int(domain)}:
                        deployment.allow(domain)
                        say({"accepted": {"generation": deployment.goal.generation, "domain": domain}})
                    case _:
                        raise UpdateRefusedError(["this service knows no such request: is it of another release?"])
            if waits:
                await self._wait(news, deployment.goal, request.get("domain"), say)

    async def _update(self, file: Path, mode: Mode, say: Say, *, load: bool) -> bool:
        running, started = self._deployment.model, self._started_from
        model = await asyncio.to_thread(read_update, file, running, self._environ)
        changes = await self._accepted(model, mode, load=load)
        ours = _is_one_of(file, started.source, started.configuration)
        if ours and changes is None:  # the watch may have been faster: then it is this change that is asked for
            changes, self._seen_first = self._seen_first, None
        if ours:  # the watch will see it too, and must not take it for a change to come
            self._of_files = await self._as_started(model)
        counted = [name for name, role in model.roles.items() if self._count_variable(role)]
        say(
            {
                "accepted": {
                    "generation": self._deployment.goal.generation,
                    "mode": str(mode),
                    "changes": (changes or differences(running, model)).to_json()
                    | {"masked": self._masked(running, model)},
                    "instances_masked": counted,
                    "next_up_reads": None if ours else str(started.source or "its own definition"),
                }
            }
        )
        if changes is not None and self._deployment.is_settled:
            say({"ended": "finished", "late": list(self._deployment.walk.late)})
            return False
        return changes is not None

    async def _accepted(self, model: ServiceModel, mode: Mode, *, load: bool = True) -> Differences | None:
        """Apply a model if anything of it is new; None: nothing is."""
        running = self._deployment.model
        if told := refusals(running, model):
            raise UpdateRefusedError(told)
        changes = differences(running, model)
        if not changes:
            return None
        if load and _is_other_code(running, model):
            await self._require_loadable(model)
        self._require_open()  # again: the file was read meanwhile, and whoever starts now would never be stopped
        self._deployment.apply(model, mode)
        self._seen_first = None
        return changes

    def _masked(self, running: ServiceModel, model: ServiceModel) -> dict[str, list[str]]:
        """What the files have other than before, or than at the start, and the environment hides all the same."""
        found: dict[str, list[str]] = {}
        for before in (running, self._started_from):
            for role, names in differences(before, model).masked.items():
                found[role] = [*dict.fromkeys([*found.get(role, []), *names])]
        return found

    async def _scale(self, name: str, count: int, say: Say) -> bool:
        running = self._deployment.model
        role = running.roles.get(name)
        if role is None:
            raise UpdateRefusedError([f'the service has no role "{name}"; it has {", ".join(running.roles)}'])
        if told := scaling_refusals(role, count):
            raise UpdateRefusedError([f'the role "{name}" can\'t be scaled: {sentence}' for _, sentence in told])
        if variable := self._count_variable(role):
            raise UpdateRefusedError([f"the number of instances of {name} comes from the variable {variable} of `up`"])
        model = replace(running, roles=MappingProxyType({**running.roles, name: replace(role, instances=count)}))
        changes = await self._accepted(model, Mode.AUTO)
        generation = self._deployment.goal.generation
        say({"accepted": {"generation": generation, "changes": differences(running, model).to_json()}})
        return changes is not None

    def _count_variable(self, role: RoleModel) -> str | None:
        """The variable that has the role's number of instances, whatever a file says."""
        wanted = _INSTANCES + re.sub(r"[.-]", "_", role.name.upper())
        return next((name for name in self._environ if name.upper() == wanted), None)

    async def _require_loadable(self, model: ServiceModel) -> None:
        if self._check is None or model.source is None:
            return
        if told := await self._check(model.source, model.configuration, self._environ):
            raise UpdateRefusedError(told)

    async def _as_started(self, model: ServiceModel) -> ServiceModel:
        """What the files of the start say now, one of which is in this model."""
        source, configuration = self._started_from.source, self._started_from.configuration
        if source is None or (model.source, model.configuration) == (source, configuration):
            return model
        with suppress(ServiceModelError):
            return await asyncio.to_thread(_read, source, configuration, self._environ)
        return self._of_files

    def _require_open(self) -> None:
        if self.closed:
            raise UpdateRefusedError(["the service is stopping"])

    async def _wait(self, news: asyncio.Queue[Item], goal: Goal, domain: int | None, say: Say) -> None:
        """Say how the change goes, until all instances have it, or another one took its place."""
        while True:
            if domain is not None and self._deployment.goal is goal and self._deployment.walk.is_done(domain):
                say({"ended": "walked", "domain": domain, "late": self._deployment.walk.late})
                return
            item = await news.get()
            match item:
                case {"update": event, "generation": generation} if generation == goal.generation:
                    say({"progress": dict(item)})
                    if event == "finished":
                        say({"ended": "finished", "late": item["late"]})
                        return
                case {"update": _}:
                    say({"ended": "replaced", "generation": item["generation"]})
                    return
                case _:
                    pass

    async def _watch(self, say: Say) -> None:
        with self._deployment.news.heard() as news:
            say({"status": self._deployment.status()})
            while True:
                item = await news.get()
                if "status" in item:
                    say(item)


def _read(source: Path, configuration: Path | None, environ: Mapping[str, str]) -> ServiceModel:
    examined = examine(source, environ, configuration=configuration)
    problems = list(examined.errors)
    if examined.model is not None:
        problems += [each for each in unsupported(examined) if not each.warning]
    if examined.model is None or problems:
        raise ServiceModelError([str(problem) for problem in problems])
    return examined.model


def _is_other_code(running: ServiceModel, model: ServiceModel) -> bool:
    """Whether roles take their classes or programs from elsewhere than what runs: nobody has seen that these start."""
    old, new = [[(role.entry_point, role.worker) for role in each.roles.values()] for each in (running, model)]
    return running.directory != model.directory or old != new


def _is_one_of(file: Path, *others: Path | None) -> bool:
    return file.resolve() in {other.resolve() for other in others if other is not None}
