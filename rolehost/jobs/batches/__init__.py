"""Batches: many jobs under one name, counted at a flat cost, let into the queue a few at a time.

A batch is one row, and a manifest in blobs that never change. Whoever adds items uploads their inputs and puts a
*slice* of the manifest, as often as it takes; the same item (its name and content) has the same job id whoever adds it.
*Sealing* fixes the list: its slices become numbered *pages* of items, each of them once. From then on a driver (any
worker role, front end, or a command that waits) lets the items in, in their order, through a window: there are never
more of them in the queue than its workers do in a moment, so that a job which is submitted alone is done soon, and
several batches take turns, by submitter first.

What changes is in the row alone, and each step is one conditional write of it:

    open ----seal----> sealing ----pages written----> running ----all ended, then-job placed----> done
      +------------------+-------------cancel-------------+--------> cancelling ----------------> cancelled

- `begun`: items before it have been let in, or are about to be by whoever wrote it; nobody touches one behind it. So a
  cancel is one write, however many items wait.
- `placed`: items before it are known to have a job. A driver that is killed between writing `begun` and placing leaves
  at most the items between the two: the next one places them again, under ids that are theirs: none is lost, and none
  is two jobs.
- `pages`: those with a job that may not have ended. Once all of a page have, its counts are added to the row's and it
  leaves the list, in one write: no item is counted twice or never, and nobody looks at it again.
- `seen`: how the items of those pages stood at `as_of`. Reading a batch is reading one row.

Why pages are written at the sealing and not by those who add: the log may hold an item twice (a repeated request, a
command that was killed and run again), in slices of any size. Made once, from a list of slices that is itself written
once, pages hold every item once, all but the last are full, and positions are numbers.
"""

from __future__ import annotations

from rolehost.jobs.batches.model import Batch, BatchState, Item, NewBatch, Then
from rolehost.jobs.batches.table import BatchTable

__all__ = ["Batch", "BatchState", "BatchTable", "Item", "NewBatch", "Then"]
