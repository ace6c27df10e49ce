"""`python -m benchmarks`: thumbnails against xargs, no-op jobs, enqueue to start; and on Azurite beside Celery."""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from pathlib import Path

from benchmarks import azure, latency, noop, thumbnails

ALL = ("thumbnails", "noop", "latency", "azure")


def main() -> None:
    """Run what is asked for, and print a line for each figure."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*ALL, []], help="by default all")
    parser.add_argument("--photographs", type=int, default=60, help="12-megapixel JPEGs a round (60)")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of rounds (5)")
    parser.add_argument("--parallel", type=int, default=os.cpu_count() or 2, help="at a time (the processors)")
    parser.add_argument("--jobs", type=int, default=2000, help="no-op jobs a round (2000)")
    parser.add_argument("--azure-jobs", type=int, default=300, help="no-op jobs a round on Azurite (300)")
    parser.add_argument("--azure-photographs", type=int, default=24, help="photographs a round on Azurite (24)")
    parser.add_argument("--azure-rounds", type=int, default=3, help="rounds on Azurite (3)")
    asked = parser.parse_args()
    wanted = asked.what or ALL
    with tempfile.TemporaryDirectory(prefix="rolehost-bench-") as folder:
        if "thumbnails" in wanted:
            asyncio.run(thumbnails.run(Path(folder), asked.photographs, asked.rounds, asked.parallel))
        if "noop" in wanted:
            asyncio.run(noop.run(Path(folder), asked.jobs, asked.rounds))
        if "latency" in wanted:
            asyncio.run(latency.run(Path(folder), 300))
        if "azure" in wanted:
            asyncio.run(azure.run(Path(folder), asked.azure_jobs, asked.azure_photographs, asked.azure_rounds))


main()
