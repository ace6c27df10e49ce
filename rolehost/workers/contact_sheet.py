"""A sheet of all pictures in a ZIP, such as a batch's results: by `legacy_bin/contact_sheet`."""

from __future__ import annotations

import re
from pathlib import PurePath

from rolehost.jobs.job import JobSpec
from rolehost.jobs.sniffing import EXTENSIONS
from rolehost.workers.console_app import ConsoleApp
from rolehost.workers.console_worker import ConsoleAppWorker
from rolehost.workers.progress import PatternProgress

BAD_INPUT = 65  # sysexits' EX_DATAERR


class ContactSheetWorker(ConsoleAppWorker):
    """`columns` and `tile` of a job become the arguments of the console application."""

    kind = "contact-sheet"
    app = ConsoleApp(
        ("{python}", "{approot}/legacy_bin/contact_sheet", "{source}", "{target}", "{columns}", "{tile}"),
        bad_input_exit_codes={BAD_INPUT},
        progress=PatternProgress(re.compile(r"\((?P<percent>[0-9]+)%\)")),
    )

    def result_name(self, job: JobSpec) -> str:
        """`holiday-sheet.jpg` for the results of the batch holiday."""
        return f"{PurePath(job.source.name).stem}-sheet.{EXTENSIONS[self.result_type(job)]}"

    def result_type(self, job: JobSpec) -> str:
        """As the job asks."""
        return f"image/{job.parameters['format']}"
