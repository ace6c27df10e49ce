"""What a worker's role settings may say, with the defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from rolehost.errors import RoleEnvironmentError
from rolehost.jobs.retention import RetentionRules
from rolehost.jobs.sources import SourceSettings
from rolehost.jobs.sweeper import INTERVAL
from rolehost.jobs.webhook_settings import WebhookSettings
from rolehost.workers.polling import LONGEST, SHORTEST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolehost.environment import RoleEnvironment


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """The settings of a queue worker; seconds and bytes throughout.

    Args:
        slots: console applications at a time (`Worker.Slots`; by default one for each processor).
        lease: a claim's length (`Worker.LeaseSeconds`). It is renewed at a third of it.
        timeout: the longest run of a console application (`Worker.TimeoutSeconds`).
        stall: an application without any sign of life for so long is stopped (`Worker.StallSeconds`).
        disk_floor: bytes free for scratch below which nothing is claimed (`Worker.DiskFloorBytes`).
        term_grace: from TERM to KILL (`Worker.TermGraceSeconds`).
        retry_base: the constant part of the pause before a retry (`Worker.RetryBaseSeconds`).
        retry_max: the longest pause before a retry (`Worker.RetryMaxSeconds`).
        deadline: a job still open so long after its submission is poisoned (`Worker.DeadlineSeconds`).
        output: kept of each of stdout and stderr per attempt (`Worker.OutputBytes`).
        drain: from SIGTERM to the end, the TERM grace included; the host decides.
        poll: the longest pause between two looks at an empty queue that can't wait (`Worker.PollSeconds`); by
            default no longer than `recovery`, for a job that is woken waits for the next look.
        warm_start: whether an application that names its `warm_imports` starts warm (`Worker.WarmStart`).
        pid_namespace: whether each application gets a PID namespace of its own (`Worker.PidNamespace`); none starts
            warm then.
        recovery: from one sweep to the next (`Recovery.IntervalSeconds`).
        retention: how long jobs are kept when they are over (`Retention.CompletedDays`, `FailedDays`, `PoisonedDays`,
            `CancelledDays`; 0: for ever).
        webhooks: who may be told of a job's end, and what signs it (`Webhooks.SecretFile` and others).
        sources: where sources may be fetched from (`Sources.AllowedHosts` and others).
    """

    slots: int = 1
    lease: float = 60.0
    timeout: float = 1800.0
    stall: float = 300.0
    disk_floor: int = 256 * 1024 * 1024
    term_grace: float = 10.0
    retry_base: float = 15.0
    retry_max: float = 3600.0
    deadline: float = 7 * 86400.0
    output: int = 4 * 1024 * 1024
    drain: float = 25.0
    poll: float = LONGEST
    warm_start: bool = True
    pid_namespace: bool = False
    recovery: float = INTERVAL
    retention: RetentionRules = field(default_factory=RetentionRules)
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    sources: SourceSettings = field(default_factory=SourceSettings)

    @property
    def renew_after(self) -> float:
        """Seconds from the sending of one renewal to the next."""
        return self.lease / 3

    @property
    def margin(self) -> float:
        """Trust in the lease ends so many seconds before the lease does."""
        return self.lease / 6

    @property
    def kill_grace(self) -> float:
        """From TERM to KILL when an attempt is interrupted: within the lease's margin, within the grace."""
        return min(self.term_grace, self.margin)

    @classmethod
    def of(cls, role_environment: RoleEnvironment, environ: Mapping[str, str]) -> WorkerSettings:
        """Read the role's settings; what isn't set has its default.

        Raises:
            RoleEnvironmentError: a value is no number, no flag, or out of range.
        """
        read, default = _Reader(role_environment), cls()
        recovery = read.number("Recovery.IntervalSeconds", default.recovery, least=0.1)
        return cls(
            slots=round(read.number("Worker.Slots", os.cpu_count() or 1, least=1)),
            lease=read.number("Worker.LeaseSeconds", default.lease, least=0.5),
            timeout=read.number("Worker.TimeoutSeconds", default.timeout, least=0.1),
            stall=read.number("Worker.StallSeconds", default.stall, least=0.1),
            disk_floor=round(read.number("Worker.DiskFloorBytes", default.disk_floor, least=0)),
            term_grace=read.number("Worker.TermGraceSeconds", default.term_grace, least=0),
            retry_base=read.number("Worker.RetryBaseSeconds", default.retry_base, least=0),
            retry_max=read.number("Worker.RetryMaxSeconds", default.retry_max, least=0),
            deadline=read.number("Worker.DeadlineSeconds", default.deadline, least=1),
            output=round(read.number("Worker.OutputBytes", default.output, least=1024)),
            drain=float(environ.get("ROLEHOST_DRAIN_SECONDS", default.drain)),
            poll=read.number("Worker.PollSeconds", min(default.poll, recovery), least=SHORTEST),
            warm_start=read.flag("Worker.WarmStart", default=default.warm_start),
            pid_namespace=read.flag("Worker.PidNamespace", default=default.pid_namespace),
            recovery=recovery,
            retention=RetentionRules(
                completed=read.days("Retention.CompletedDays", default.retention.completed),
                failed=read.days("Retention.FailedDays", default.retention.failed),
                poisoned=read.days("Retention.PoisonedDays", default.retention.poisoned),
                cancelled=read.days("Retention.CancelledDays", default.retention.cancelled),
            ),
            webhooks=WebhookSettings.read(role_environment),
            sources=SourceSettings.read(role_environment, environ),
        )


class _Reader:
    """Numbers and flags out of settings."""

    def __init__(self, role_environment: RoleEnvironment) -> None:
        self._environment = role_environment

    def number(self, name: str, default: float, *, least: float) -> float:
        try:
            text = self._environment.get_configuration_setting_value(name)
        except RoleEnvironmentError:
            return default
        try:
            value = float(text)
        except ValueError:
            raise RoleEnvironmentError(f"the setting {name} must be a number, not {text!r}") from None
        if not least <= value < float("inf"):
            raise RoleEnvironmentError(f"the setting {name} must be at least {least:g}, not {text}")
        return value

    def days(self, name: str, default: timedelta | None) -> timedelta | None:
        days = self.number(name, default / timedelta(days=1) if default else 0, least=0)
        return timedelta(days=days) if days else None

    def flag(self, name: str, *, default: bool) -> bool:
        try:
            text = self._environment.get_configuration_setting_value(name)
        except RoleEnvironmentError:
            return default
        if text.lower() not in {"true", "false"}:
            raise RoleEnvironmentError(f"the setting {name} must be true or false, not {text!r}")
        return text.lower() == "true"
