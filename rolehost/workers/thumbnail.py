"""The worker that ships: thumbnails of pictures, by `legacy_bin/thumbnail`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from rolehost.jobs.job import JobSpec
from rolehost.jobs.kinds import CUSTOM
from rolehost.jobs.sniffing import EXTENSIONS
from rolehost.workers.console_app import ConsoleApp
from rolehost.workers.console_worker import ConsoleAppWorker

BAD_INPUT = 65  # sysexits' EX_DATAERR

FORMATS = ("Jpeg", "Png", "WebP", "Gif", "Tiff", "Bmp")
WARM_IMPORTS = ("picture_conversion", "copy", "PIL.ImageCms", *(f"PIL.{name}ImagePlugin" for name in FORMATS))
"""What `legacy_bin/thumbnail` imports, of its own folder and of Pillow."""


class ThumbnailWorker(ConsoleAppWorker):
    """`size`, `width`, `height` and `format` of a job become the arguments of the console application."""

    kind = "thumbnail"
    app = ConsoleApp(
        ("{python}", "{approot}/legacy_bin/thumbnail", "{source}", "{target}", "{size}"),
        bad_input_exit_codes={BAD_INPUT},
        warm_imports=WARM_IMPORTS,
    )

    def command(self, job: JobSpec) -> Sequence[str]:
        """Custom sizes say how wide and how high."""
        box = ("{width}", "{height}") if job.parameters["size"] == CUSTOM else ()
        return (*self.app.argv, *box)

    def result_name(self, job: JobSpec) -> str:
        """`photo-medium.jpg` for the medium thumbnail of photo.png."""
        asked = job.parameters
        size = f"{asked['width']}x{asked['height']}" if asked["size"] == CUSTOM else str(asked["size"]).lower()
        return f"{PurePath(job.source.name).stem}-{size}.{EXTENSIONS[self.result_type(job)]}"

    def result_type(self, job: JobSpec) -> str:
        """As the job asks."""
        return f"image/{job.parameters['format']}"
