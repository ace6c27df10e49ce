"""A client's request in a process of its own, struck as the variables say: `failpoint_client.py ASSET KIND KEY`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from rolehost.jobs.submission import Submission, Submitter
from support import failpoints


async def submit(asset: str, kind: str, key: str) -> None:
    async with failpoints.connected(os.environ) as stores:
        await Submitter(stores).submit(Submission(path=Path(asset), name="asset.txt", kind=kind, key=key))


if __name__ == "__main__":
    failpoints.load()
    asyncio.run(submit(*sys.argv[1:]))
