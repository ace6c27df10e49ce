"""Thumbnails a second, end to end (submission, blobs, rows, leases), against `xargs -P` of the same application."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from benchmarks import figures
from benchmarks.service import HERE, until, worker
from rolehost import clock
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores.connect import connect

APPLICATION = HERE.parent / "legacy_bin" / "thumbnail"
DISTINCT = 12


async def run(folder: Path, photographs: int, rounds: int, parallel: int) -> None:
    """Print both, and the ratio paired by round."""
    pictures = made_photographs(folder / "photographs", photographs)
    place = folder / "thumbnails"
    (place / "out").mkdir(parents=True)
    ours: list[float] = []
    theirs: list[float] = []
    async with worker(place, "rolehost.workers.thumbnail:ThumbnailWorker", {"Worker.Slots": parallel}):
        await _rolehost(place / "data", pictures[:4])  # both warm
        await _xargs(pictures[:4], place / "out", parallel)
        for _ in range(rounds):
            theirs.append(await _xargs(pictures, place / "out", parallel))
            ours.append(await _rolehost(place / "data", pictures))
    figures.line(f"xargs -P{parallel}, thumbnails/s", figures.spread(theirs))
    figures.line(f"rolehost, {parallel} slots, thumbnails/s end to end", figures.spread(ours))
    figures.line("ratio to xargs", figures.ratio(ours, theirs))


def made_photographs(folder: Path, count: int) -> list[Path]:
    """12-megapixel JPEGs: a dozen different ones, each under several names."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from support.pictures import photograph  # noqa: PLC0415 - the tests' generator, found only now

    folder.mkdir()
    made: list[Path] = []
    for number in range(count):
        path = folder / f"photo{number:04d}.jpg"
        if number < DISTINCT:
            photograph(path, seed=number)
        else:
            path.hardlink_to(made[number % DISTINCT])
        made.append(path)
    return made


async def _xargs(pictures: list[Path], out: Path, parallel: int) -> float:
    """The console application over all pictures, by xargs."""
    argv = ["xargs", "-0", "-P", str(parallel), "-I{}", sys.executable, str(APPLICATION)]
    since = clock.monotonic()
    process = await asyncio.create_subprocess_exec(
        *argv,
        f"{pictures[0].parent}/{{}}",
        f"{out}/{{}}",
        "Medium",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    await process.communicate("\0".join(picture.name for picture in pictures).encode())
    if process.returncode:
        raise RuntimeError("xargs failed")
    return len(pictures) / (clock.monotonic() - since)


async def _rolehost(data: Path, pictures: list[Path]) -> float:
    """The same pictures, submitted to the running service; until the last row is completed."""
    async with connect({"ROLEHOST_DATA": str(data)}) as stores:
        jobs, submitter = JobTable(stores.table(TABLE)), Submitter(stores)
        aim = (await jobs.counts())["completed"] + len(pictures)

        async def done() -> bool:
            return (await jobs.counts())["completed"] >= aim

        since = clock.monotonic()
        for picture in pictures:
            await submitter.submit(Submission(path=picture, name=picture.name, given={"size": "Medium"}))
        await until(done, 600)
        return len(pictures) / (clock.monotonic() - since)
