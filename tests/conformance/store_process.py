"""A process of its own that works on the stores which its environment names. It prints what it did, line by line."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Mapping

from rolehost.errors import StoreFullError
from rolehost.stores import NewRow, Stores
from rolehost.stores.connect import connect


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def put(stores: Stores, queue: str, body: str) -> None:
    """Put one message for each line that comes in."""
    say("ready")
    for _ in sys.stdin:
        await stores.queue(queue).put(body, message_id="from-a-process")
        say("put")


async def submit(stores: Stores, table: str, queue: str, prefix: str) -> None:
    """Submit until killed, sixteen at a time; a key is printed once its submission was acknowledged."""

    async def one_after_another(number: int) -> None:
        for count in range(1_000_000):
            key = f"{prefix}{number:02}-{count:06}"
            await stores.submit(
                NewRow(
                    table=table,
                    key=key,
                    fields={"text": "x" * 300},
                    tag="queued",
                    queue=queue,
                    message_id=key,
                    message=lambda version: version,
                )
            )
            say(key)

    await asyncio.gather(*(one_after_another(number) for number in range(16)))


async def hammer(stores: Stores, table: str, queue: str, seconds: str) -> None:
    """Write, put and receive for some seconds; prints how often, and the longest wait in between."""
    longest, cycles = 0.0, 0
    end = time.monotonic() + float(seconds)
    key = f"p{os.getpid()}"
    version = await stores.table(table).insert(key, {})
    while (began := time.monotonic()) < end:
        version = await stores.table(table).write(key, version, {"cycles": cycles})
        await stores.queue(queue).put("x", message_id=key)
        for message in await stores.queue(queue).receive(1, hide=60):
            await stores.queue(queue).complete(message)
        cycles += 1
        longest = max(longest, time.monotonic() - began)
    say(f"{cycles} {longest}")


async def take(stores: Stores, queue: str) -> None:
    """Receive and complete until nothing is left; prints each body."""
    while messages := await stores.queue(queue).receive(4, hide=60):
        for message in messages:
            await stores.queue(queue).complete(message)
            say(message.body)


async def fill(stores: Stores, table: str, largest_file: str) -> None:
    """Insert rows until no file may grow, then write one on; prints each key that was acknowledged, then `full`."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest_file), int(largest_file)))
    version = await stores.table(table).insert("first", {})
    for count in range(1_000_000):
        try:
            await stores.table(table).insert(f"{count:06}", {"text": "x" * 10_000})
        except StoreFullError:
            say("full")
            break
        say(f"{count:06}")
    for count in range(50):
        version = await stores.table(table).write("first", version, {"count": count})
    await stores.table(table).delete("first", version)


async def blobs(stores: Stores, prefix: str) -> None:
    """Put blobs of a megabyte until killed, four at a time; prints each name that was acknowledged."""

    async def one_after_another(number: int) -> None:
        for count in range(1_000_000):
            name = f"{prefix}/{number}-{count:06}"
            await stores.blobs.put(name, os.urandom(1024) * 1024)
            say(name)

    await asyncio.gather(*(one_after_another(number) for number in range(4)))


COMMANDS: Mapping[str, Callable[..., Awaitable[None]]] = {
    "put": put,
    "submit": submit,
    "hammer": hammer,
    "take": take,
    "fill": fill,
    "blobs": blobs,
}


async def main() -> None:
    async with connect(os.environ) as stores:
        await COMMANDS[sys.argv[1]](stores, *sys.argv[2:])


if __name__ == "__main__":
    asyncio.run(main())
