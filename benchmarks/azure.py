"""On Azurite, beside Celery on its azurestoragequeues transport: jobs a second, processor time, storage requests.

Each run has an Azurite of its own and one worker, which has done a few jobs and is then frozen until all others are in
the queue. Time is measured from the moment when some of these are done until some are left, so that neither the start
nor the end counts; requests are counted over all of them, out of Azurite's access log. Ratios are paired by round.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import cpu, figures
from benchmarks.contenders import CELERY, Celery, Contender, Rolehost, Work
from benchmarks.emulator import emulator
from benchmarks.service import until
from benchmarks.thumbnails import made_photographs
from rolehost import clock

SLOTS = 32
EDGE = 2
"""Jobs before and after those that are measured, for each slot."""
CALM = 1.5
"""Seconds in which the sweep that follows a start is over."""
SETTLES = 90.0
"""Seconds until the pauses between looks at an empty queue have grown to the longest."""
MINUTE = 60.0
LONGEST = 120.0
ENOUGH = 80.0
"""Seconds after which no further round is begun: the whole has to end in bearable time on a busy machine, too."""
SHOWN = 0.005
"""Requests a job of which no less is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run.

    Args:
        rate: jobs a second.
        cpu: milliseconds of the worker's processes for a job.
        emulator_cpu: Azurite's.
        requests: of the worker for a job, by what they were.
        to_submit: requests for a job before that.
    """

    rate: float
    cpu: float
    emulator_cpu: float
    requests: Mapping[str, float]
    to_submit: float

    @property
    def all_requests(self) -> float:
        """Of the worker for a job."""
        return sum(self.requests.values())


async def run(folder: Path, jobs: int, pictures: int, rounds: int) -> None:
    """Print all figures; the idle minute passes beside the others."""
    if not CELERY.exists():
        raise SystemExit("make .venv-bench/.locked installs the peer, and is missing")
    place = folder / "azure"
    place.mkdir()
    figures.line("load of the machine, processors", f"{os.getloadavg()[0]:.1f}, {os.cpu_count()}")
    idling = asyncio.create_task(_idle(place))
    try:
        await _compare("no-op", place, Work(folder=place, jobs=jobs, slots=SLOTS), rounds, _NOOP)
        photos = await asyncio.to_thread(made_photographs, place / "photographs", 12)
        slots = os.cpu_count() or 2
        work = Work(folder=place, jobs=pictures, slots=slots, pictures=photos)
        await _compare("thumbnails", place, work, rounds, _PICTURES)
        for line in await idling:
            figures.line(*line)
    finally:
        idling.cancel()
        with suppress(asyncio.CancelledError):
            await idling
    figures.line("load of the machine", f"{os.getloadavg()[0]:.1f}")


_CELERY = Celery("celery")
_TUNED = Celery("celery, poll 0.1 s", poll=0.1)
_NOOP: Sequence[Contender] = (_CELERY, _TUNED, Rolehost("rolehost"))
_PICTURES: Sequence[Contender] = (_CELERY, _TUNED, Rolehost("rolehost"), Rolehost("rolehost, cold start", warm=False))


async def _compare(what: str, place: Path, work: Work, rounds: int, sides: Sequence[Contender]) -> None:
    """Rounds in which each has its turn, every other one backwards."""
    found: dict[str, list[Measured]] = {side.name: [] for side in sides}
    until_then = clock.monotonic() + ENOUGH
    for number in range(rounds):
        if number and clock.monotonic() > until_then:
            break
        for side in sides if number % 2 == 0 else reversed(sides):
            here = place / f"{what}-{number}-{len(found[side.name])}-{side.name.replace(' ', '-')}"
            here.mkdir()
            alone = Work(folder=here, jobs=work.jobs, slots=work.slots, pictures=work.pictures)
            found[side.name].append(await _measured(side, alone))
    figures.line(f"{what}, {work.slots} at a time: rounds", str(len(found[sides[0].name])))
    peers = {name: measured for name, measured in found.items() if name in {_CELERY.name, _TUNED.name}}
    for name, measured in found.items():
        _report(f"{what}: {name}", measured, {} if name in peers else peers)


def _report(what: str, found: Sequence[Measured], peers: Mapping[str, Sequence[Measured]]) -> None:
    figures.line(f"{what}, jobs/s", _spread(found, "rate"))
    for peer, theirs in peers.items():
        figures.line(f"  ratio to {peer}", _ratio(found, theirs, "rate"))
        figures.line("  ratio of CPU a job", _ratio(found, theirs, "cpu"))
    figures.line("  CPU ms a job; Azurite's", f"{_spread(found, 'cpu')}; {_spread(found, 'emulator_cpu')}")
    requests = f"{_spread(found, 'all_requests', '.2f')}; {found[0].to_submit:.2f}"
    figures.line("  requests a job; to submit one", requests)
    parts = sorted(((value, part) for part, value in found[0].requests.items()), reverse=True)
    figures.line("  of which", ", ".join(f"{part} {value:.2f}" for value, part in parts if value >= SHOWN))


def _ratio(ours: Sequence[Measured], theirs: Sequence[Measured], name: str) -> str:
    return figures.ratio([getattr(each, name) for each in ours], [getattr(each, name) for each in theirs])


def _spread(found: Sequence[Measured], name: str, form: str = ".1f") -> str:
    return figures.spread([float(getattr(each, name)) for each in found], form)


async def _measured(side: Contender, work: Work) -> Measured:
    """One run: a few jobs first, and the rest put into the queue while the worker is frozen."""
    few = replace(work, jobs=work.slots)
    with emulator(work.folder / "access.log") as (azurite, log):
        server = azurite.process.pid if azurite.process else 0

        async def after(jobs: int) -> tuple[float, int, float, float]:
            async def there() -> bool:
                return side.done(work, log.read()) >= jobs

            await until(there, LONGEST)
            return clock.monotonic(), side.done(work, log.read()), cpu.seconds(process), cpu.seconds(server)

        await side.submit(azurite, few)
        async with side.working(azurite, work) as process:
            await after(few.jobs)
            await clock.sleep(CALM)
            with cpu.frozen(process):
                before = log.read()
                await side.submit(azurite, work)
                submitted = log.read()
            edge = min(EDGE * work.slots, work.jobs // 4)
            began, ended = await after(few.jobs + edge), await after(few.jobs + work.jobs - edge)
            await after(few.jobs + work.jobs)
            requests = log.read() - submitted
    seconds, jobs, ours, servers = (b - a for a, b in zip(began, ended, strict=True))
    return Measured(
        rate=jobs / seconds,
        cpu=1000 * ours / jobs,
        emulator_cpu=1000 * servers / jobs,
        requests={name: count / work.jobs for name, count in requests.items()},
        to_submit=(submitted - before).total() / work.jobs,
    )


async def _idle(place: Path) -> Sequence[tuple[str, str]]:
    """Each with nothing to do and nothing set, on an Azurite of its own; a minute once it is calm."""
    sides = (_CELERY, Rolehost("rolehost"))
    for side in sides:
        (place / f"idle-{side.name}").mkdir()
    return await asyncio.gather(*(_idle_minute(side, place / f"idle-{side.name}") for side in sides))


async def _idle_minute(side: Contender, folder: Path) -> tuple[str, str]:
    work = Work(folder=folder, jobs=0, slots=SLOTS)
    async with AsyncExitStack() as stack:
        azurite, log = stack.enter_context(emulator(folder / "access.log"))
        process = await stack.enter_async_context(side.working(azurite, work))
        await clock.sleep(SETTLES)
        before, spent = log.read(), cpu.seconds(process)
        await clock.sleep(MINUTE)
        found, spent = log.read() - before, cpu.seconds(process) - spent
    told = ", ".join(f"{name} {count}" for name, count in Counter(found).most_common())
    return f"an idle minute: {side.name}", f"{found.total()} requests ({told}), {1000 * spent:.0f} ms CPU"
