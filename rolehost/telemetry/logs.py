"""The subscriber that writes log lines: pretty on a terminal, JSON otherwise, always on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from rolehost.telemetry import on_terminal, subscribe

# What people look at first. Everything else that happens in a job's ordinary life is for `--verbose`.
_WARNINGS = frozenset(
    {
        "assignment.masked",
        "assignment.refused",
        "attempt.crashed",
        "attempt.failed",
        "auth.keys_unavailable",
        "auth.none",
        "auth.refused",
        "batch.failed",
        "certificate.missing",
        "certificate.unreadable",
        "child.not_contained",
        "child.runs_as_root",
        "child.shares_pids",
        "child.strays_left",
        "definition.not_run",
        "definition.refused",
        "directory.dropped",
        "directory.failed",
        "directory.number_held",
        "directory.number_lost",
        "directory.restarted",
        "directory.row_skipped",
        "directory.store_unavailable",
        "endpoint.datagrams_lost",
        "endpoint.no_port",
        "environment.change_cancelled",
        "environment.change_unreadable",
        "frontend.troubled",
        "generation.not_removed",
        "hook.misconfigured",
        "hook.refused",
        "http.failed",
        "http.server_warning",
        "instance.host_lost",
        "instance.host_silent",
        "instance.killed",
        "instance.number_lost",
        "instance.recycled",
        "instance.start_slow",
        "job.enqueue_deferred",
        "job.poisoned",
        "job.woken",
        "keys.unreadable",
        "lease.lost",
        "link.overflowed",
        "log.not_kept",
        "message.malformed",
        "message.orphaned",
        "metrics.not_listening",
        "progress.failed",
        "progress.stuck",
        "recovery.failed",
        "resource.over_at_start",
        "resources.not_shared",
        "role.crashed",
        "role.hung",
        "role.killed",
        "role.start_refused",
        "scratch.kept",
        "sessions.secret_unreadable",
        "store.forbidden",
        "store.unavailable",
        "task.killed",
        "traces.not_exported",
        "update.late",
        "webhook.crashed",
        "webhook.failed",
        "webhook.given_up",
        "webhook.gone",
        "worker.paused",
    }
)


def prettied(lines: bytes) -> bytes:
    """Whole lines of another process of ours, for a terminal; what is no log line stays as it is."""
    return b"".join(_prettied(line) for line in lines.splitlines(keepends=True))


def _prettied(line: bytes) -> bytes:
    if not (line.startswith(b"{") and b'"event":' in line):
        return line
    try:
        facts = json.loads(line)
        return f"{structlog.dev.ConsoleRenderer()(None, '', facts)}\n".encode()
    except (ValueError, TypeError, KeyError):
        return line


def configure_logging(*, verbose: bool = False, **context: str) -> Callable[[], None]:
    """Write a line for each event from now on.

    Args:
        verbose: also the events whose names end in a debugging step (`.renewed`, `.polled`).
        context: facts that every line carries, as `instance="ThumbnailBackend_IN_0"`.

    Returns:
        A function that ends it.
    """
    terminal = on_terminal()
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
        with suppress(OSError, ValueError):  # whoever read our stderr is gone, or closed it: no reason to stop working
            if event in _WARNINGS:
                log.warning(event, **facts)
            elif event.endswith((".renewed", ".polled", ".trace")):
                log.debug(event, **facts)
            else:
                log.info(event, **facts)

    return subscribe(write)
