"""The subscriber that counts: what happened in this process, as Prometheus reads it.

No label holds an id, a name or an address that somebody else chose: every label has few values, and keeps to them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from rolehost import clock
from rolehost.telemetry import subscribe, transactions

MOST_VALUES = 40
"""Values of one label; further ones are `other`."""
MOST_RUNNING = 10_000
JOB_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
WAIT_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 86400)
HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})

_ENDS = {
    "job.completed": "ok",
    "job.failed": "bad_input",
    "job.poisoned": "poisoned",
    "attempt.failed": "",
    "attempt.put_back": "",
    "attempt.cancelled": "cancelled",
    "lease.lost": "lease_lost",
}
"""How the events that end an attempt count; empty: by the fact `end`."""
_JOBS = {
    "job.completed": "completed",
    "job.failed": "failed",
    "job.poisoned": "poisoned",
    "job.cancelled": "cancelled",
}


class Metrics:
    """Counts events; one for a process.

    Args:
        instance: the instance's id.
    """

    def __init__(self, *, instance: str = "") -> None:
        self.registry = CollectorRegistry()
        self._running: OrderedDict[str, list[float]] = OrderedDict()
        self._values: dict[str, set[str]] = {}
        self._make()
        info = Gauge("rolehost_instance", "This instance.", ["role", "instance"], registry=self.registry)
        info.labels(instance.rpartition("_IN_")[0], instance).set(1)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.registry.register(_Renewals(self._running))
        self.registry.register(_Transactions())

    def _make(self) -> None:
        def counter(name: str, told: str, *labels: str) -> Counter:
            return Counter(name, told, labels, registry=self.registry)

        def histogram(name: str, told: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, told, labels, buckets=buckets, registry=self.registry)

        self._submitted = counter("rolehost_jobs_submitted", "Jobs accepted here, by kind.", "kind")
        self._claimed = counter("rolehost_jobs_claimed", "Attempts begun here.")
        self._ended = counter("rolehost_jobs_ended", "Jobs that ended here, by state.", "state")
        self._attempts = counter("rolehost_attempts_ended", "Attempts that ended here, by how.", "end")
        self._seconds = histogram("rolehost_attempt_seconds", "From claim to end.", JOB_SECONDS, "end")
        self._waited = histogram("rolehost_queue_wait_seconds", "From submission to the first claim.", WAIT_SECONDS)
        self._renewed = counter("rolehost_lease_renewals", "Leases renewed.")
        self._unavailable = counter("rolehost_store_unavailable", "Calls that a store did not answer.", "what")
        self._requests = counter("rolehost_http_requests", "Requests answered.", "method", "status")
        self._answered = histogram("rolehost_http_request_seconds", "From head to end of the answer.", HTTP_SECONDS)
        self._plain = {
            "job.enqueue_deferred": counter("rolehost_jobs_enqueue_deferred", "Jobs whose message recovery puts."),
            "job.woken": counter("rolehost_jobs_woken", "Jobs that recovery woke."),
            "auth.refused": counter("rolehost_auth_refused", "Wrong keys and tokens, up to the limit of attempts."),
        }
        self._paused = Gauge(
            "rolehost_worker_paused", "1 while nothing is claimed for want of room.", registry=self.registry
        )

    def follow(self) -> Callable[[], None]:
        """Count from now on; the answer is a function that ends it."""
        return subscribe(self.note)

    def note(self, event: str, facts: dict[str, Any]) -> None:
        """Count an event."""
        if event in _ENDS:
            self._note_end(event, facts)
        if event in _JOBS:
            self._ended.labels(_JOBS[event]).inc()
        match event:
            case "job.submitted":
                self._submitted.labels(self._known("kind", str(facts.get("kind")))).inc()
            case "job.claimed":
                self._note_claim(facts)
            case "lease.renewed":
                self._note_renewal(facts)
            case "http.request.trace":
                self._note_request(facts)
            case "store.unavailable":
                self._unavailable.labels(self._known("what", str(facts.get("what")))).inc()
            case "worker.paused" | "worker.resumed":
                self._paused.set(event == "worker.paused")
            case _ if event in self._plain:
                self._plain[event].inc()

    def _note_end(self, event: str, facts: dict[str, Any]) -> None:
        began = self._running.pop(str(facts.get("job")), None)
        if began is None:
            return  # an end that was told before, or of an attempt of somebody else's
        end = self._known("end", _ENDS[event] or str(facts.get("end")))
        self._attempts.labels(end).inc()
        self._seconds.labels(end).observe(clock.monotonic() - began[0])

    def _note_claim(self, facts: dict[str, Any]) -> None:
        now = clock.monotonic()
        self._claimed.inc()
        self._running[str(facts.get("job"))] = [now, now]
        if len(self._running) > MOST_RUNNING:
            self._running.popitem(last=False)
        if (waited := facts.get("waited")) is not None:
            self._waited.observe(max(0.0, float(waited)))

    def _note_renewal(self, facts: dict[str, Any]) -> None:
        self._renewed.inc()
        if (times := self._running.get(str(facts.get("job")))) is not None:
            times[1] = clock.monotonic()

    def _note_request(self, facts: dict[str, Any]) -> None:
        method = facts["method"] if facts["method"] in METHODS else "other"
        self._requests.labels(method, str(facts["status"])).inc()
        self._answered.observe(facts["seconds"])

    def _known(self, label: str, value: str) -> str:
        """A label's value, or `other` once there are too many."""
        values = self._values.setdefault(label, set())
        if value not in values and len(values) >= MOST_VALUES:
            return "other"
        values.add(value)
        return value


class _Renewals:
    """What is running, and how long ago the leases of it were renewed: computed when it is asked for."""

    def __init__(self, running: OrderedDict[str, list[float]]) -> None:
        self._running = running

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges."""
        now, renewed = clock.monotonic(), [times[1] for times in self._running.values()]
        yield GaugeMetricFamily("rolehost_attempts_running", "Attempts that run here.", value=len(renewed))
        yield GaugeMetricFamily(
            "rolehost_lease_renewal_age_seconds",
            "Since the renewal that is longest ago, of all leases held here; 0 where none is.",
            value=now - min(renewed) if renewed else 0.0,
        )


class _Transactions:
    """What is asked of stores that bill each request; nothing where they cost nothing."""

    def collect(self) -> Iterator[Metric]:
        """The counters, and what they come to."""
        ledger, name = transactions.ledger, "rolehost_storage_transactions"
        if not (sent := ledger.sent):
            return
        told = "Requests to the storage account, each of which is billed."
        counted = CounterMetricFamily(name, told, labels=["service", "kind", "purpose"])
        for labels, number in sorted(sent.items()):
            counted.add_metric(labels, number)
        yield counted
        if (per_job := ledger.per_job()) is not None:
            yield GaugeMetricFamily(f"{name}_per_job", "Those for jobs, by the jobs that ended here.", value=per_job)
        hourly = GaugeMetricFamily(
            f"{name}_per_idle_hour", "Those in an hour that are sent whether there is work or not.", labels=["purpose"]
        )
        for purpose in transactions.IDLE:
            hourly.add_metric([purpose], ledger.per_idle_hour(purpose))
        yield hourly
