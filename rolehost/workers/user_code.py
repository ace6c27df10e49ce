"""User code never runs on the infrastructure loop: plain functions get a thread, coroutines a loop of their own."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


async def call_user_code(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of the user's, plain or coroutine, off this loop.

    Cancelling it cancels a coroutine. A plain function can't be interrupted: it runs on in its thread, a daemon that
    keeps no process alive, and nobody waits for its result.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    async def awaited() -> Any:
        task, own = asyncio.ensure_future(function(*arguments)), asyncio.get_running_loop()
        loop.call_soon_threadsafe(answer.add_done_callback, lambda _: _call(own, task.cancel))
        return await task

    def work() -> None:
        try:
            value = asyncio.run(awaited()) if coroutine else function(*arguments)
        except BaseException as error:  # noqa: BLE001 - it is the awaiting task that deals with it
            _tell(loop, answer, error=error)
        else:
            _tell(loop, answer, value=value)

    coroutine = inspect.iscoroutinefunction(function)
    threading.Thread(target=work, name=f"user code {getattr(function, '__qualname__', function)}", daemon=True).start()
    return await answer


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    """Call a function on another loop, unless that is over."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function)


def _tell(
    loop: asyncio.AbstractEventLoop,
    answer: asyncio.Future[Any],
    *,
    value: Any = None,
    error: BaseException | None = None,
) -> None:
    def settle() -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(_carriable(error))

    _call(loop, settle)


def _carriable(error: BaseException) -> BaseException:
    """A future refuses StopIteration, and a SystemExit of the user's must not end our loop."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"user code raised {error!r}")
