"""The peer's side: a Celery application on Azure's queues. It runs in an environment of its own, without rolehost.

    python -m benchmarks.celery_app < calls.json      # sends
    celery --app benchmarks.celery_app worker         # works

`BENCH_BROKER` is the broker's URL, `BENCH_MARKS` the file that grows by a byte with each task that has ended, and
`BENCH_POLL`, where it is set, a shorter pause than Celery's own second; there are no control messages then.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from celery import Celery  # type: ignore[import-not-found, unused-ignore]  # in the other environment only

app = Celery("benchmark", broker=os.environ["BENCH_BROKER"])
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True
if poll := os.environ.get("BENCH_POLL"):
    app.conf.broker_transport_options = {"polling_interval": float(poll)}
    app.conf.worker_enable_remote_control = False


def noop() -> None:
    """Nothing."""
    _ended()


def run(argv: list[str]) -> None:
    """A console application on local files."""
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    _ended()


def _ended() -> None:
    file = os.open(os.environ["BENCH_MARKS"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, b".")
    finally:
        os.close(file)


TASKS = {"noop": app.task(noop, name="noop"), "run": app.task(run, name="run")}

if __name__ == "__main__":
    for name, arguments in json.load(sys.stdin):
        TASKS[name].apply_async(arguments)
