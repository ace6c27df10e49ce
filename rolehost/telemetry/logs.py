"""The subscriber that writes log lines: pretty on a terminal, JSON otherwise, always on stderr."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from rolehost.telemetry import subscribe

# What people look at first. Everything else that happens in a job's ordinary life is for `--verbose`.
_WARNINGS = frozenset(
    {
        "attempt.crashed",
        "attempt.failed",
        "child.runs_as_root",
        "child.strays_left",
        "definition.not_run",
        "http.failed",
        "http.server_warning",
        "instance.host_lost",
        "instance.killed",
        "instance.recycled",
        "job.poisoned",
        "lease.lost",
        "message.malformed",
        "role.crashed",
        "role.hung",
        "role.killed",
        "role.start_refused",
        "scratch.kept",
        "store.unavailable",
    }
)


def configure_logging(*, verbose: bool = False, **context: str) -> Callable[[], None]:
    """Write a line for each event from now on.

    Args:
        verbose: also the events whose names end in a debugging step (`.renewed`, `.polled`).
        context: facts that every line carries, as `instance="ThumbnailBackend_IN_0"`.

    Returns:
        A function that ends it.
    """
    terminal = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(sort_keys=False, default=str)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),  # a line in one write: processes share stderr,
    )
    log = structlog.get_logger().bind(**context)

    def write(event: str, facts: dict[str, Any]) -> None:
        with suppress(OSError):  # whoever read our stderr is gone: no reason to stop working
            if event in _WARNINGS:
                log.warning(event, **facts)
            elif event.endswith((".renewed", ".polled", ".trace")):
                log.debug(event, **facts)
            else:
                log.info(event, **facts)

    return subscribe(write)
