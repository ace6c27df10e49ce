"""Adding items to an open batch: their inputs first, then a slice of the manifest that names them."""

from __future__ import annotations

import asyncio
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rolehost.errors import AlreadyExistsError, BatchStateError, InvalidParameterError
from rolehost.jobs.batches.admission import input_blob, spec_of
from rolehost.jobs.batches.model import Batch, BatchState, Item, item_id
from rolehost.jobs.batches.table import BatchTable
from rolehost.jobs.codec import dumps
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.levels import queue_of
from rolehost.jobs.sniffing import sniff_file
from rolehost.jobs.submission import display_name
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import Stores

LARGEST_SLICE = 100
_FORBIDDEN = dict.fromkeys(map(ord, '<>:"|?*'), "_")
"""What no name on Windows may have."""
_DEVICES = re.compile(
    r"(?:con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3]) *(?:\..*)?", re.IGNORECASE
)
"""What no file on Windows may be called, whatever its ending."""
_LONGEST_FOLDER = 200
_MOST_BYTES = 240
"""Of a name: file systems end at 255, and a number may have to go into it."""
_LONGEST_ENDING = 16
_VERSION = "v" * 96
"""As long as any engine's version of a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A file to be added.

    Args:
        path: a regular file.
        name: as the client gave it.
        folder: in which its result shall lie; empty for none.
        consume: the file is ours to take.
    """

    path: Path
    name: str
    folder: str = ""
    consume: bool = False


class Adder:
    """Adds to one batch.

    Args:
        stores: where to.
        batch: the batch.
    """

    def __init__(self, stores: Stores, batch: Batch) -> None:
        self._stores = stores
        self._table = BatchTable(stores)
        self._batch = batch
        self._kind = kind_named(batch.asked.kind)

    @property
    def batch(self) -> Batch:
        """The batch, as it was given."""
        return self._batch

    async def item(self, addition: Addition) -> Item:
        """What a file would be in the batch; nothing is stored.

        Raises:
            SubmissionError: it can't be accepted.
            OSError: it can't be read.
        """
        media_type, content, size = await asyncio.to_thread(_facts, addition.path)
        if not size:
            raise InvalidParameterError(f"{addition.name or 'the file'} is empty", field="file")
        self._kind.check_source(media_type, addition.name)
        name, folder = display_name(addition.name), safe_folder(addition.folder)
        made = Item(
            id=item_id(self._batch.id, dumps([folder, name, content])),
            name=name,
            folder=folder,
            size=size,
            type=media_type,
            parameters=self._kind.parse(self._batch.asked.given, media_type),
        )
        self._check_size(made)
        return made

    def _check_size(self, item: Item) -> None:
        """Refuse now what no queue could take later."""
        spec = spec_of(self._batch, item)
        size = len(WakeUp(job=spec.id, spec=spec, version=_VERSION).encode().encode(errors="surrogatepass"))
        if size > self._stores.queue(queue_of(spec)).limits.largest_message:
            raise InvalidParameterError(f"the parameters of {item.name} are too long", field="parameters")

    async def upload(self, item: Item, addition: Addition) -> None:
        """Store the file; once more is no error.

        Raises:
            StoreError: the stores can't take it now.
        """
        with suppress(AlreadyExistsError):
            await self._stores.blobs.put(input_blob(self._batch.id, item.id), addition.path, consume=addition.consume)

    async def append(self, name: str, items: Sequence[Item]) -> bool:
        """Add what was uploaded; from now on it is in the batch. False if a slice of this name was there already.

        Args:
            name: of the slice: letters, digits and hyphens; a request that is repeated gives the same.
            items: up to `LARGEST_SLICE` of them.

        Raises:
            BatchStateError: the batch was sealed or cancelled meanwhile: it may hold these items, or not.
        """
        added = await self._table.manifest(self._batch.id).add(name, items)
        now = await self._table.get(self._batch.id)  # after the slice is there: who sealed before may not have seen it
        if now.state is not BatchState.OPEN:
            raise BatchStateError(f"the batch {now.name} is {now.state}: nothing can be added to it")
        return added


def safe_folder(folder: str) -> str:
    """A folder as it may stand in a ZIP: below where it is unpacked, on every system."""
    parts = [safe_name(part) for part in folder.replace("\\", "/").split("/") if part.strip(" .")]
    return "/".join(parts)[:_LONGEST_FOLDER].rstrip("/ .")


def safe_name(name: str) -> str:
    """A file's name as it may stand in a ZIP."""
    plain = unicodedata.normalize("NFC", name.encode(errors="replace").decode())
    kept = display_name(plain.translate(_FORBIDDEN)).lstrip(".").rstrip(" .") or "unnamed"
    return _fitting(f"_{kept}" if _DEVICES.fullmatch(kept) else kept)


def _fitting(name: str) -> str:
    """A name cut where its bytes are too many for a file system; its ending stays."""
    if len(name.encode()) <= _MOST_BYTES:
        return name
    stem, dot, ending = name.rpartition(".")
    last = f"{dot}{ending[:_LONGEST_ENDING]}" if stem else ""
    return (stem or name).encode()[: _MOST_BYTES - len(last.encode())].decode(errors="ignore").rstrip() + last


def _facts(path: Path) -> tuple[str, str, int]:
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
        return sniff_file(path), content, file.tell()
