"""What tests of roles and workers need: `docs/testing.md` shows each of these at work. Import it in tests only.

`run_once` has a worker try one job in this process; `worker_in` finds the worker of a definition. `RecordedApp` is a
console application that does what a `Recording` says and remembers its `Call`s. `FakeClock` stands in for
`rolehost.clock`. `FaultyStores` are stores whose `Faults` are planned. A role's `RoleEnvironment.for_testing` needs
nothing from here.
"""

from __future__ import annotations

from rolehost.testing.defined import DefinedWorker, worker_in
from rolehost.testing.fake_clock import FakeClock
from rolehost.testing.faulty import Faults, FaultyStores
from rolehost.testing.recorded_app import Call, RecordedApp
from rolehost.testing.recordings import Recording, Said, Step, Stream
from rolehost.testing.run_once import Ran, run_once, run_once_async

__all__ = [
    "Call",
    "DefinedWorker",
    "FakeClock",
    "Faults",
    "FaultyStores",
    "Ran",
    "RecordedApp",
    "Recording",
    "Said",
    "Step",
    "Stream",
    "run_once",
    "run_once_async",
    "worker_in",
]
