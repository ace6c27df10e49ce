"""Calling a role's own code: never on the infrastructure's loop, and never so that it holds up the process's end."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any


class UserCode:
    """Calls functions in threads of their own, and coroutines on a second loop. Its threads end with the process."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def call(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        """Call it; the future has what it returned or raised.

        Args:
            function: plain, or a coroutine function.
            arguments: what it is called with.
        """
        if inspect.iscoroutinefunction(function):
            return self._on_second_loop(function(*arguments))
        return asyncio.ensure_future(self._in_thread(function, arguments))

    async def _in_thread(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        def work() -> None:
            value, failure = None, None
            try:
                value = function(*arguments)
            except BaseException as error:  # noqa: BLE001 - the host decides what becomes of it
                failure = _carried(error)
            with suppress(RuntimeError):  # the loop is over, and nobody waits any more
                loop.call_soon_threadsafe(settle, value, failure)

        name = getattr(function, "__qualname__", "role")
        threading.Thread(target=work, name=name, daemon=True).start()
        value = await future
        return await self._on_second_loop(value) if inspect.isawaitable(value) else value

    def _on_second_loop(self, work: Awaitable[Any]) -> asyncio.Future[Any]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="role-loop", daemon=True).start()
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_settled(work), self._loop))


async def _settled(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise _carried(error) from error


def _carried(error: BaseException) -> BaseException:
    """What a future can hand over: no StopIteration, and nothing that would end or cancel who reads it."""
    if not isinstance(error, StopIteration | SystemExit | KeyboardInterrupt | asyncio.CancelledError):
        return error
    carried = RuntimeError(f"the role's code raised {error!r}")
    carried.__cause__ = error
    return carried
