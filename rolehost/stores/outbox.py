"""Row and message where no transaction spans them: the row goes with a note that says what is still owed."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from rolehost.errors import LimitExceededError, StoreError
from rolehost.failpoints import failpoint
from rolehost.stores import NewRow
from rolehost.stores.queues import Queue
from rolehost.stores.tables import Note, Table
from rolehost.telemetry import emit

OUTBOX: Final = "outbox"
_VERSION: Final = "v" * 96
"""As long as any engine's version: what is too large is refused before a row is there."""


async def submit(table: Table, queue: Queue, row: NewRow) -> str:
    """Write a row with its `outbox` note, put its message, drop the note; see `Stores.submit`.

    A put that fails is no error: the row is durable, the note tells recovery, and the fact is emitted.

    Raises:
        AlreadyExistsError: the key is taken; nothing was written.
        LimitExceededError: the message is too large; nothing was written.
    """
    size = len(row.message(_VERSION).encode(errors="surrogatepass"))
    if size > queue.limits.largest_message:
        raise LimitExceededError(f"the message has {size} bytes; the most is {queue.limits.largest_message}")
    version = await table.insert(row.key, row.fields, tag=row.tag, notes=[OUTBOX])
    await failpoint("before-put", row.key)
    try:
        await queue.put(row.message(version), message_id=row.message_id, session=row.session)
    except StoreError as error:
        emit("job.enqueue_deferred", job=row.key, queue=queue.name, why=str(error))
        return version
    await failpoint("after-put", row.key)
    with suppress(StoreError):  # recovery puts the message once more, and a second one does no harm
        await table.drop_note(Note(OUTBOX, row.key))
    return version
