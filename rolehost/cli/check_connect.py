"""`rolehost check --connect`: whether the stores can be used, resource by resource, and which right is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rolehost.cli.failures import FAILED, complain
from rolehost.cli.printing import print_json, print_table, printable
from rolehost.errors import EntryPointError, StoreError

if TYPE_CHECKING:
    from rolehost.service_model import RoleModel, ServiceModel
    from rolehost.stores.proofs import Proof, Proved, QueueSettings

NORMAL = "normal"
_SHORTEST_LOCK = 15.0
_LOCKS_OF_A_LEASE = 2.0
_LEASE = "worker.leaseseconds"
_DEADLINE = "worker.deadlineseconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """What was found.

    Args:
        proofs: what was tried.
        problems: sentences.
        warnings: sentences.
    """

    proofs: Sequence[Proof]
    problems: Sequence[str]
    warnings: Sequence[str]

    def tell(self, definition: Mapping[str, object], warnings: Sequence[str], *, as_json: bool) -> int:
        """Say it; the answer is the exit code.

        Args:
            definition: what `check --json` says of it.
            warnings: of the definition.
            as_json: for a program, as one document.
        """
        told = [*warnings, *self.warnings]
        if as_json:
            stores = [asdict(proof) for proof in self.proofs]
            more = {"problems": list(self.problems), "warnings": told, "connected": not self.problems, "stores": stores}
            print_json({**definition, **more})
            return FAILED if self.problems else 0
        if self.proofs:
            rows = [(each.resource, each.action, _result(each)) for each in self.proofs]
            print_table(("RESOURCE", "VERB", "RESULT"), rows)
        for line in [*self.problems, *told]:
            print(printable(line))
        if self.problems:
            complain("the stores can't be used as they are")
            return FAILED
        print("The definition is valid, and the stores can be used.")
        return 0


def check_connections(model: ServiceModel, environ: Mapping[str, str]) -> Connected:
    """Try everything; nothing secret is in any sentence.

    Args:
        model: a definition without errors.
        environ: names the stores.
    """
    from rolehost.stores.connect import QUEUE, STORAGE, prove  # noqa: PLC0415 - `--help` needs none of it

    try:
        queues = queues_of(model)
        proved = asyncio.run(
            prove(environ, [*queues], spare=[name for name, level in queues.items() if level != NORMAL])
        )
    except StoreError as error:
        return Connected(proofs=(), problems=[str(error)], warnings=())
    problems = [sentence(proof) for proof in proved.proofs if proof.problem and not proof.optional]
    warnings = [f"warning: {sentence(proof)}" for proof in proved.proofs if proof.problem and proof.optional]
    warnings += [f"warning: {told}" for told in _settings(proved, model)]
    bus = environ.get(QUEUE, "").strip() not in {"", "storage"}
    if bus and environ.get(STORAGE, "").strip() in {"", "embedded"}:
        warnings.append(
            f"warning: the queue is on Service Bus, and tables and blobs are on this machine ({STORAGE} is embedded): "
            "workers elsewhere would take messages of jobs that they can't see. One machine only."
        )
    return Connected(proofs=proved.proofs, problems=problems, warnings=warnings)


def sentence(proof: Proof) -> str:
    """What can't be done, and what is missing."""
    missing = f"; missing: {proof.right}" if proof.right else ""
    return f"{proof.resource}: {proof.action}: {proof.problem}{missing}"


def queues_of(model: ServiceModel) -> Mapping[str, str]:
    """The queues that the service's workers receive from, and their levels, as far as entry points can be loaded."""
    from rolehost.entrypoint import load_entry_point  # noqa: PLC0415 - with it comes all that the roles import
    from rolehost.jobs.levels import ordered_queue_of  # noqa: PLC0415 - only needed here
    from rolehost.jobs.levels import queues_of as levels_of  # noqa: PLC0415 - the same

    kinds = set()
    for role in model.roles.values():
        try:
            kind = role.worker.kind if role.worker else ""
            if role.entry_point and not kind:
                kind = getattr(load_entry_point(role.entry_point, model.directory), "kind", "")
        except EntryPointError:  # the check itself has told it
            continue
        kinds |= {str(kind)} - {""}
    found: dict[str, str] = {}
    for kind in sorted(kinds):
        found |= {queue: level for level, queue in levels_of(kind).items()} | {ordered_queue_of(kind): "ordered"}
    return found


def _settings(proved: Proved, model: ServiceModel) -> Iterator[str]:
    """What a broker's queue is set to, and what would come of it."""
    from rolehost.workers.settings import WorkerSettings  # noqa: PLC0415 - only needed here

    default = WorkerSettings()
    lease = min((_number(role, _LEASE, default.lease) for role in model.roles.values()), default=default.lease)
    deadline = max((_number(role, _DEADLINE, default.deadline) for role in model.roles.values()), default=0.0)
    for queue in proved.queues:
        for told in _of_queue(queue, lease, deadline):
            yield f'queue "{queue.name}": {told}'


def _of_queue(queue: QueueSettings, lease: float, deadline: float) -> Iterator[str]:
    from rolehost.jobs.job import CAPS  # noqa: PLC0415 - only needed here
    from rolehost.stores.queues import ORDERED  # noqa: PLC0415 - only needed here

    budgets = sum(CAPS.values())
    if queue.deliveries <= budgets:
        told = " + ".join(f"{cap} {name}" for name, cap in CAPS.items())
        yield (
            f"MaxDeliveryCount is {queue.deliveries}, and a job's budgets may take {budgets} attempts ({told}), and "
            "more where it is drained: the broker would set it aside before. Set it to 1000."
        )
    if queue.lock < _SHORTEST_LOCK:
        yield f"a lock of {queue.lock:g} s is short: a broker that is slow to renew it loses it. Set it to 60 s."
    if queue.lock > _LOCKS_OF_A_LEASE * lease:
        yield f"a lock of {queue.lock:g} s is long (the lease is {lease:g} s): a killed worker's job waits for it."
    if 0 < queue.time_to_live < deadline:
        yield f"messages are gone after {queue.time_to_live:g} s, and a job may wait for {deadline:g} s."
    ordered = queue.name.endswith(ORDERED)
    if queue.sessions and not ordered:
        yield "it requires sessions, and no message of ours names one: nothing can be put."
    if ordered and not queue.sessions:
        yield "it has no sessions: jobs of ordered groups can't be received. Make it anew, with sessions."


def _number(role: RoleModel, name: str, default: float) -> float:
    values = [value for each, value in role.settings.items() if each.casefold() == name]
    try:
        return float(values[0]) if values else default
    except ValueError:  # the check of the settings has told it
        return default


def _result(proof: Proof) -> str:
    if not proof.problem:
        return "ok"
    return "not possible, and not needed" if proof.optional else "not possible"
