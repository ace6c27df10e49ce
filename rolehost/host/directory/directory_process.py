"""The instance directory's helper process: all that an instance host does with the stores, outside of it.

It renews only as long as it hears its client: a heartbeat is the client's. It ends with the client, however that ends.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import secrets
import signal
import socket
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

from rolehost import clock
from rolehost.errors import ConflictError, RoleHostError, StoreUnavailableError
from rolehost.host.directory import events as directory_events
from rolehost.host.directory import rows as directory_rows
from rolehost.host.directory import runs as directory_runs
from rolehost.host.directory.client import IMDS, DirectoryTimes
from rolehost.host.directory.events import RoleEvents
from rolehost.host.directory.instance_metadata import InstanceMetadata, ask_metadata
from rolehost.host.directory.keeper import Keeper
from rolehost.host.directory.mail import MOST_WAITING
from rolehost.host.directory.rows import InstanceRows, facts_of, process_name
from rolehost.host.directory.runs import RunRecords
from rolehost.host.link import Link
from rolehost.stores import Stores
from rolehost.stores.connect import connect
from rolehost.stores.costs import reporting
from rolehost.telemetry import emit
from rolehost.telemetry.transactions import HEARTBEATS, spent_on

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_ROWS_KEPT = 3600.0
_PEER = ("instance", "role", "state", "status", "endpoints", "fault_domain", "update_domain", "generation", "ready_at")

Message = Mapping[str, Any]


class Inbox:
    """What the client says, heard at once also while the stores can't be opened.

    Args:
        link: the line to it.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._messages: OrderedDict[Hashable, Message | None] = OrderedDict()
        self._last = 0
        self._came = asyncio.Event()
        self.heard = clock.monotonic()
        self.over = asyncio.Event()

    async def listen(self) -> None:
        """Until the client closes, or is gone. Its ticks are answered here: they ask for no store."""
        while (message := await self._link.receive()) is not None and "close" not in message:
            self.heard = clock.monotonic()
            if "alive" in message:
                self._link.send({"alive": True})
            else:
                self._keep(message)
        self._keep(message)
        self.over.set()

    async def get(self) -> Message | None:
        """The next message, `close` at last; None: the client is gone."""
        while not self._messages:
            self._came.clear()
            await self._came.wait()
        return self._messages.popitem(last=False)[1]

    def _keep(self, message: Message | None) -> None:
        """Of an instance's facts the newest; of events and outputs as many as the client itself keeps."""
        self._last += 1
        key: Hashable = self._last
        match message:
            case {"status": facts}:
                key = ("status", str(facts.get("instance")))
                self._messages.pop(key, None)
            case {"event": _} | {"output": _}:
                key = ("mail", self._last)
                waiting = [each for each in self._messages if isinstance(each, tuple) and each[0] == "mail"]
                if len(waiting) >= MOST_WAITING:
                    del self._messages[waiting[0]]
        self._messages[key] = message
        self._came.set()


class Directory:
    """Serves one client.

    Args:
        link: the line to it.
        inbox: what it says.
        stores: open.
        holder: the client's process, as `process_name` has it.
        times: how often.
    """

    def __init__(self, link: Link, inbox: Inbox, stores: Stores, holder: str, times: DirectoryTimes) -> None:
        self._link = link
        self._inbox = inbox
        self._times = times
        self._rows = InstanceRows(stores.table(directory_rows.TABLE), lease=times.lease, holder=holder)
        self._events = RoleEvents(stores.table(directory_events.TABLE), secrets.token_hex(4))
        self._runs = RunRecords(stores)
        self._keepers: dict[int, Keeper] = {}
        self._facts: dict[str, Message] = {}
        self._mail: asyncio.Queue[Message] = asyncio.Queue()
        self._outputs: dict[str, Message] = {}
        self._metadata = ""

    async def serve(self, asking: Awaitable[InstanceMetadata | None] | None = None) -> None:
        """Work until the client closes, or is gone.

        Args:
            asking: answers with the machine's facts.
        """
        async with asyncio.TaskGroup() as tasks:
            work = [self._post(), self._refresh(), self._watch_peers(), self._prune(), self._describe(asking)]
            running = [tasks.create_task(each) for each in work]
            while (message := await self._inbox.get()) is not None:
                if "close" in message:
                    await self._close(running[0])
                    break
                self._hear(tasks, message)
            for task in (*running, *(keeper.task for keeper in self._keepers.values() if keeper.task)):
                task.cancel()

    async def _describe(self, asking: Awaitable[InstanceMetadata | None] | None) -> None:
        """Put the machine's facts into the rows, once they are known."""
        answer = None if asking is None else await asking
        self._link.send({"metadata": None if answer is None else answer.to_json()})
        if answer is not None:
            self._metadata = json.dumps(answer.to_json())
            for keeper in self._keepers.values():
                keeper.metadata = self._metadata

    def _hear(self, tasks: asyncio.TaskGroup, message: Message) -> None:
        match message:
            case {"hold": wish}:
                self._hold(tasks, wish)
            case {"status": facts}:
                self._facts[str(facts.get("instance"))] = facts
                for keeper in self._keepers.values():
                    keeper.hear(facts)
            case {"release": instance}:
                self._release(tasks, instance)
            case {"event": _} | {"output": _}:
                if self._mail.qsize() >= MOST_WAITING:  # the client has forgotten the oldest, too
                    self._mail.get_nowait()
                    self._mail.task_done()
                self._mail.put_nowait(message)

    def _hold(self, tasks: asyncio.TaskGroup, wish: Message) -> None:
        keeper = Keeper(self._rows, self._times, wish, self._hears_client, self._tell)
        keeper.metadata = self._metadata
        for facts in self._facts.values():
            keeper.hear(facts)
        self._keepers[wish["id"]] = keeper
        keeper.task = tasks.create_task(keeper.keep())

    def _release(self, tasks: asyncio.TaskGroup, instance: str) -> None:
        self._facts.pop(instance, None)
        for request, keeper in list(self._keepers.items()):
            if keeper.instance == instance:
                del self._keepers[request]
                tasks.create_task(keeper.release())

    def _hears_client(self) -> bool:
        return clock.monotonic() - self._inbox.heard < self._times.lease

    def _tell(self, message: Message) -> None:
        self._link.send(message)

    def _token(self, instance: str) -> str:
        return next((keeper.token for keeper in self._keepers.values() if keeper.instance == instance), "")

    async def _post(self) -> None:
        """Events and outputs, one after another, each until it is stored."""
        while True:
            message = await self._mail.get()
            match message:
                case {"event": event, "number": number}:
                    await stored(functools.partial(self._events.add, number, event))
                    self._link.send({"done": number})
                case {"output": run, "number": number}:
                    await self._keep_run(run)
                    self._link.send({"done": number})
                case {"refresh": name} if (run := self._outputs.get(name)) is not None:
                    await quietly(self._runs.keep(run, self._token(str(run.get("instance")))))
            self._mail.task_done()

    async def _keep_run(self, run: Message) -> None:
        if not (run.get("run") and run.get("instance")):
            return
        name = f"{run['instance']}.{run['run']}"
        first = name not in self._outputs
        self._outputs[name] = run
        token = self._token(str(run.get("instance")))
        await stored(lambda: self._runs.keep(run, token))
        if run.get("ended_at") is not None:
            self._outputs.pop(name, None)
            await self._note("run.lost" if run.get("lost") else "run.completed", run)
        elif first:
            await self._note("run.started", run)

    async def _note(self, name: str, run: Message) -> None:
        """A run's own events, under a key that the run makes: told again they are the same."""
        at = str(run.get("ended_at") or run.get("started_at") or clock.iso(clock.now()))
        facts = {each: run.get(each) for each in ("run", "kind", "name", "exit_code", "signal")}
        event = {"name": name, "instance": run.get("instance"), "at": at, "facts": facts}
        writer = directory_runs.segment(f"{run.get('instance')}.{run.get('run')}")
        await stored(lambda: self._events.add(0 if name == "run.started" else 1, event, writer=writer))

    async def _refresh(self) -> None:
        while True:
            await clock.sleep(self._times.refresh)
            if self._mail.empty():  # else the store is away, or busy enough
                for name in self._outputs:
                    self._mail.put_nowait({"refresh": name})

    async def _watch_peers(self) -> None:
        told: object = None
        while True:
            found = await quietly(self._rows.live())
            if found is not None:
                peers = [{name: facts_of(row).get(name) for name in _PEER} for row in found]
                if peers != told:
                    told = peers
                    self._link.send({"peers": peers})
            await clock.sleep(self._times.peers)

    async def _prune(self) -> None:
        while True:
            await clock.sleep(self._times.prune)
            await quietly(self._rows.prune(_ROWS_KEPT))
            await quietly(self._events.prune())
            await quietly(self._runs.prune({keeper.instance for keeper in self._keepers.values()}))

    async def _close(self, posting: asyncio.Task[None]) -> None:
        """Store what is waiting, for as long as the client waits, and give the numbers back."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._times.closing / 2):
                await self._mail.join()
        posting.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._times.closing / 2):
                await asyncio.gather(*(keeper.release() for keeper in self._keepers.values()))


async def stored(work: Callable[[], Awaitable[None]]) -> None:
    """Do it again until the store has it; what no store would take is dropped."""
    pause, tries = _FIRST_PAUSE, 0
    while True:
        try:
            await work()
        except (StoreUnavailableError, ConflictError) as error:
            _told_of(error, first=not tries)
        except (RoleHostError, KeyError, TypeError, ValueError) as error:
            tries += 1
            _told_of(error, first=True)
            if tries > 3:  # noqa: PLR2004 - a full disk may pass, a row that is too large doesn't
                return
        else:
            return
        await clock.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


async def quietly(work: Awaitable[Any]) -> Any:
    """Its answer; None when the store says no, or nothing: it is done again anyhow."""
    try:
        return await work
    except RoleHostError as error:
        _told_of(error, first=False)
        return None


def _told_of(error: Exception, *, first: bool) -> None:
    if first:
        emit("directory.store_unavailable", reason=str(error))


async def serve(descriptor: int, times: DirectoryTimes, *, metadata: bool, environ: Mapping[str, str]) -> None:
    """Be the helper of the process at the other end of a socket."""
    link = await Link.open(socket.socket(fileno=descriptor))
    inbox = Inbox(link)
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(inbox.listen())]
    try:
        async with AsyncExitStack() as held:
            holder = process_name(os.getppid())
            stores = asyncio.create_task(_opened(held, environ))
            tasks += [stores, asyncio.create_task(inbox.over.wait())]
            asking = asyncio.create_task(ask_metadata(environ.get(IMDS, ""))) if metadata else None
            await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED)
            if stores.done():
                async with reporting(stores.result(), f"host.{socket.gethostname()}.{os.getpid()}"):
                    await Directory(link, inbox, stores.result(), holder, times).serve(asking)
    finally:
        for task in tasks:
            task.cancel()
        link.close()


async def _opened(held: AsyncExitStack, environ: Mapping[str, str]) -> Stores:
    pause = _FIRST_PAUSE
    while True:
        try:
            return await held.enter_async_context(connect(environ))
        except RoleHostError as error:
            _told_of(error, first=pause == _FIRST_PAUSE)
        await clock.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def main(arguments: list[str]) -> int:
    """The process that `DirectoryClient` starts."""
    from rolehost.telemetry.logs import configure_logging  # noqa: PLC0415 - only a process of its own writes logs

    parser = argparse.ArgumentParser(prog="rolehost.host.directory.directory_process")
    parser.add_argument("--link", required=True, type=int)
    parser.add_argument("--times", default="{}", type=json.loads)
    parser.add_argument("--metadata", action="store_true")
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # it ends when its client does, and has to tell the end of all others
    configure_logging(verbose="ROLEHOST_VERBOSE" in os.environ, process="directory")
    with spent_on(HEARTBEATS):
        asyncio.run(serve(options.link, DirectoryTimes(**options.times), metadata=options.metadata, environ=os.environ))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
