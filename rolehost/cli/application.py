"""The command line as a whole: `rolehost` and its commands."""

from __future__ import annotations

from typing import Annotated

import typer

from rolehost._version import __version__
from rolehost.cli import (
    batch,
    cancel,
    check,
    convert,
    job,
    jobs,
    key,
    new,
    poison,
    run,
    runs,
    scale,
    status,
    stop,
    submit,
    up,
    update,
)
from rolehost.cli.failures import Commands

app = typer.Typer(
    cls=Commands,
    name="rolehost",
    help="Runs a service of worker roles on one machine, and works with its jobs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # the plain form starts faster, and reads the same in a pipe
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command("up")(up.up)
app.command("run")(run.run)
app.command("status")(status.status)
app.command("update")(update.update)
app.command("scale")(scale.scale)
app.command("stop")(stop.stop)
app.command("submit")(submit.submit)
app.command("jobs")(jobs.jobs)
app.command("job")(job.job)
app.command("runs")(runs.runs)
app.command("cancel")(cancel.cancel)
app.command("batch")(batch.batch)
app.add_typer(poison.app, name="poison")
app.add_typer(key.app, name="key")
app.add_typer(new.app, name="new")
app.command("check")(check.check)
app.command("convert")(convert.convert)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer's form of a callback
    if wanted:
        print(f"rolehost {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass
