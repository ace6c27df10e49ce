"""The test process's own descriptors, so that a child which inherits what it must not can be told."""

from __future__ import annotations

import os
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
