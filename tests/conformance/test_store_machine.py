"""Any sequence of calls on a table and a queue, with a fault at any of them, against a model of what must be there.

A refused call changes nothing; a call whose answer was lost did all or nothing, and reading tells which; nothing that
was acknowledged is ever missing.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from rolehost.errors import AlreadyExistsError, ReceiptMismatchError, StoreUnavailableError, VersionMismatchError
from rolehost.stores import Fields, QueueMessage, Row
from rolehost.testing import Faults, FaultyStores
from support.stores import Engine, unused

Answer = TypeVar("Answer")

KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.one_of(st.none(), st.integers(-(2**53), 2**53), st.booleans(), st.text(max_size=20))
FIELDS = st.dictionaries(st.sampled_from(["x", "y", "z"]), VALUES, max_size=3)
TAGS = st.sampled_from(["", "queued", "running"])


@dataclass
class Expected:
    """What the stores must hold."""

    rows: dict[str, Row] = field(default_factory=dict)
    versions: set[tuple[str, str]] = field(default_factory=set)
    live: dict[str, str] = field(default_factory=dict)
    dead: dict[str, str] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)


class StoreMachine(RuleBasedStateMachine):
    """Rules are calls; each may be struck by the fault that was planned before it."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._open = AsyncExitStack()
        self._expected = Expected()
        self._faults = Faults()
        self._count = 0

    @initialize()
    def connect(self) -> None:
        folder = Path(self._run(self._temporary()))
        self._inner = self._run(self._open.enter_async_context(self.engine.open(folder)))
        stores = FaultyStores(self._inner, self._faults)
        name = unused("machine")
        self._table, self._queue = stores.table(name), stores.queue(name)
        self._true_table, self._true_queue = self._inner.table(name), self._inner.queue(name)

    async def _temporary(self) -> str:
        return self._open.enter_context(tempfile.TemporaryDirectory(prefix="rolehost-machine-"))

    def teardown(self) -> None:
        if hasattr(self, "_inner"):
            self._nothing_acknowledged_is_missing()
        self._run(self._open.aclose())
        self._runner.close()

    def _run(self, work: Awaitable[Answer]) -> Answer:
        async def waited() -> Answer:
            return await work

        return self._runner.run(waited())

    received = Bundle("received")

    @rule(lost=st.booleans())
    def plan_a_fault(self, *, lost: bool) -> None:
        self._faults.clear()
        if lost:
            self._faults.lose_answer("*")
        else:
            self._faults.refuse("*")

    # the table

    @rule(key=KEYS, fields=FIELDS, tag=TAGS)
    def insert(self, key: str, fields: Fields, tag: str) -> None:
        old = self._expected.rows.get(key)
        try:
            version = self._run(self._table.insert(key, fields, tag=tag))
        except AlreadyExistsError:
            assert old is not None
        except StoreUnavailableError:
            self._either(key, old, dict(fields), tag)
        else:
            assert old is None
            self._now(Row(key=key, version=version, tag=tag, fields=_kept(fields)))

    @rule(key=KEYS, changes=FIELDS, tag=st.one_of(st.none(), TAGS), stale=st.booleans())
    def write(self, key: str, changes: Fields, tag: str | None, *, stale: bool) -> None:
        old = self._expected.rows.get(key)
        version = "no version" if old is None or stale else old.version
        new = {**old.fields, **changes} if old else {}
        tagged = (old.tag if old else "") if tag is None else tag
        try:
            written = self._run(self._table.write(key, version, changes, tag=tag))
        except VersionMismatchError:
            assert old is None or stale
        except StoreUnavailableError:
            self._either(key, old, new, tagged)
        else:
            assert old is not None
            assert not stale
            self._now(Row(key=key, version=written, tag=tagged, fields=_kept(new)))

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        old = self._expected.rows.get(key)
        try:
            self._run(self._table.delete(key, old.version if old else "no version"))
        except VersionMismatchError:
            assert old is None
        except StoreUnavailableError:
            found = self._run(self._true_table.read(key))
            assert found in {None, old} if old is None else found is None or found == old
            if found is None:
                self._expected.rows.pop(key, None)
        else:
            del self._expected.rows[key]

    def _either(self, key: str, old: Row | None, fields: dict[str, Any], tag: str) -> None:
        """An answer was lost: the row is as before, or as the call wanted it, and nothing else."""
        found = self._run(self._true_table.read(key))
        if found == old:
            return
        assert found is not None
        assert (dict(found.fields), found.tag) == (_kept(fields), tag)
        self._now(found)

    def _now(self, row: Row) -> None:
        assert (row.key, row.version) not in self._expected.versions, "a version was used again"
        self._expected.versions.add((row.key, row.version))
        self._expected.rows[row.key] = row

    @invariant()
    def rows_are_as_expected(self) -> None:
        if hasattr(self, "_inner"):
            for key in ("a", "b", "c"):
                assert self._run(self._true_table.read(key)) == self._expected.rows.get(key)

    # the queue

    @rule(body=st.text(max_size=30))
    def put(self, body: str) -> None:
        self._count += 1
        marked = f"{self._count}:{body}"
        try:
            self._run(self._queue.put(marked, message_id=f"m{self._count}"))
        except StoreUnavailableError:
            self._expected.unsure.add(marked)
        else:
            self._expected.live[marked] = marked

    @rule(target=received)
    def receive(self) -> QueueMessage | None:
        try:
            messages = self._run(self._queue.receive(1, hide=3600))
        except StoreUnavailableError:
            return None
        return messages[0] if messages else None

    @rule(message=received, verb=st.sampled_from(["complete", "dead_letter"]))
    def settle(self, message: QueueMessage | None, verb: str) -> None:
        if message is None:
            return
        call = (
            self._queue.complete(message) if verb == "complete" else self._queue.dead_letter(message, reason="because")
        )
        try:
            self._run(call)
        except (ReceiptMismatchError, StoreUnavailableError):
            # Settled by an earlier call, or this one's answer was lost: it is in one place, or was meant to go.
            self._expected.live.pop(message.body, None)
            self._expected.unsure.add(message.body)
        else:
            self._expected.live.pop(message.body, None)
            self._expected.unsure.discard(message.body)
            if verb == "dead_letter":
                self._expected.dead[message.body] = message.body

    @rule(message=received)
    def release(self, message: QueueMessage | None) -> None:
        if message is None:
            return
        try:
            self._run(self._queue.release(message))
        except (ReceiptMismatchError, StoreUnavailableError):
            return

    def _nothing_acknowledged_is_missing(self) -> None:
        self._faults.clear()
        counted = self._run(self._true_queue.counts())
        held = set(self._expected.live) | self._expected.unsure
        if counted.visible is not None and counted.hidden is not None:  # else the queue doesn't know
            assert len(self._expected.live) <= counted.visible + counted.hidden <= len(held)
        visible = {message.body for message in self._run(self._true_queue.peek(1000))}
        assert visible <= held
        dead = {message.body for message in self._run(self._true_queue.peek(1000, dead=True))}
        assert set(self._expected.dead) <= dead <= set(self._expected.dead) | self._expected.unsure


def _kept(fields: Fields) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_any_sequence_of_calls_with_faults_keeps_the_contract(engine: Engine) -> None:
    machine = type("Machine", (StoreMachine,), {"engine": engine})
    chosen = settings(
        max_examples=engine.examples,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=chosen)
