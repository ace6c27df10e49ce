"""The front end as a role."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rolehost.entrypoint import ServedRole
from rolehost.errors import RoleEnvironmentError
from rolehost.frontend.app import create_app
from rolehost.frontend.authentication.authenticator import Authenticator, authenticator
from rolehost.frontend.hosts import allowed_hosts
from rolehost.frontend.readiness import Readiness
from rolehost.frontend.scale import backlog
from rolehost.frontend.server import serve
from rolehost.frontend.settings import FrontendSettings
from rolehost.frontend.spool import Spool
from rolehost.host.ports.listening import bound_address, listen
from rolehost.jobs.batches.driver import BatchDriver
from rolehost.jobs.table import TABLE, JobTable
from rolehost.jobs.webhooks import Webhooks
from rolehost.stores.connect import connect
from rolehost.telemetry import emit
from rolehost.telemetry.metrics_port import MetricsSettings, metrics_port
from rolehost.telemetry.opentelemetry_export import exported_traces

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolehost.environment import RoleEnvironment

ENDPOINT = "Http"
PUBLIC = "ROLEHOST_PUBLIC"
ANYWHERE = ("127.0.0.1", 8080)


class ThumbnailFrontend(ServedRole):
    """Pages and API for every kind of job that the service has, on the endpoint `Http`."""

    @cached_property
    def _opened(self) -> asyncio.Event:
        return asyncio.Event()

    async def serving(self) -> None:
        """Wait until `serve` has its settings, its socket and its stores: the instance is ready then."""
        await self._opened.wait()

    async def serve(self, stopping: asyncio.Event) -> None:
        """Open the stores and answer requests until the role stops."""
        settings = FrontendSettings.read(self.role_environment)
        metrics = MetricsSettings.read(self.role_environment)
        with ExitStack() as held:
            listening = held.enter_context(_listening(self.role_environment))
            public = _public(os.environ) or bound_address(listening)
            hosts = allowed_hosts(settings.allowed_hosts, public.rpartition(":")[0].strip("[]"))
            guard = _guard(settings, os.environ, public, bound_address(listening))
            folder = _spool_folder(os.environ, held)
            spool = Spool(folder)
            held.callback(spool.close)
            async with connect(os.environ) as stores, Webhooks(stores, settings.webhooks) as webhooks:
                probe = os.environ.get("ROLEHOST_PROBE") or None
                instance = _instance_id(self.role_environment)
                driver = BatchDriver(stores, instance)
                app = create_app(
                    stores,
                    spool,
                    settings=settings,
                    probe=probe,
                    hosts=hosts,
                    instance=instance,
                    guard=guard,
                    webhooks=webhooks,
                    driver=driver,
                )
                emit("frontend.listening", address=bound_address(listening), public=public)
                jobs = JobTable(stores.table(TABLE))
                counted = metrics_port(metrics, instance=instance, backlog=partial(backlog, jobs))
                held.enter_context(exported_traces(instance))
                async with driver, counted, Readiness(jobs, folder).watched(self.role_environment):
                    self._opened.set()
                    await serve(app, listening, stopping, settings)
        emit("frontend.stopped")


def _listening(environment: RoleEnvironment) -> socket.socket:
    """A socket on the endpoint's address."""
    if environment.is_available:
        endpoint = environment.current_role_instance.instance_endpoints.get(ENDPOINT)
        if endpoint is None:
            raise RoleEnvironmentError(f'the role serves HTTP, but declares no endpoint "{ENDPOINT}"')
        return listen(*endpoint.ip_endpoint)
    return listen(*ANYWHERE)


def _guard(settings: FrontendSettings, environ: Mapping[str, str], public: str, bound: str) -> Authenticator | None:
    data = Path(environ["ROLEHOST_DATA"]) if environ.get("ROLEHOST_DATA") else None
    relayed = _public(environ) is not None
    guard = authenticator(settings.authentication, data, addresses=(public, bound), relayed=relayed)
    if guard is None and settings.allowed_hosts:
        emit("auth.none", hosts=settings.allowed_hosts, reason="what is let through to here is answered to anybody")
    return guard


def _instance_id(environment: RoleEnvironment) -> str:
    return environment.current_role_instance.id if environment.is_available else ""


def _public(environ: Mapping[str, str]) -> str | None:
    """`host:port` that clients connect to, where a load balancer of the host's stands in front of us.

    To us all clients are then that load balancer: nothing may go by their addresses, so a trusted proxy is refused.
    """
    try:
        given = json.loads(environ.get(PUBLIC) or "{}").get(ENDPOINT)
    except (ValueError, AttributeError) as error:
        raise RoleEnvironmentError(f"{PUBLIC} names no public addresses: {error}") from error
    return None if given is None else str(given)


def _spool_folder(environ: Mapping[str, str], held: ExitStack) -> Path:
    """Beside the blobs, so that an upload is moved into them; a folder of its own where there is no data directory."""
    if data := environ.get("ROLEHOST_DATA"):
        return Path(data) / "spool"
    return Path(held.enter_context(TemporaryDirectory(prefix="rolehost-spool-")))
