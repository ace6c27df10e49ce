"""The test process's own descriptors: one that a child must not inherit, and a want of them."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loud_stdin() -> Iterator[None]:
    """Our own standard input says something for the length of the block; pytest's is empty."""
    kept = os.dup(0)
    ours, theirs = os.pipe()
    os.write(theirs, b"a line that no child may read\n")
    os.close(theirs)
    os.dup2(ours, 0)
    os.close(ours)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)


@contextmanager
def no_descriptor_free() -> Iterator[None]:
    """This process can open nothing for the length of the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
