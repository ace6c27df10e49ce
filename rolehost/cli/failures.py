"""What a person sees when something goes wrong: sentences on stderr and an exit code, no traceback."""

from __future__ import annotations

import os
import sys
from contextvars import copy_context
from typing import Any

import typer
from typer.core import TyperGroup

from rolehost.errors import InvalidParameterError, RoleHostError, ServiceModelError

FAILED = 1
USAGE = 2
INTERRUPTED = 130

VERBOSE = "rolehost.verbose"


class Commands(TyperGroup):
    """A group of commands whose errors are sentences.

    With ROLEHOST_DEBUG set, or `--verbose` where a command has it, the traceback is shown instead.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return copy_context().run(super().invoke, ctx)  # what a command learns is gone with it
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise typer.Exit(FAILED) from None
        except (RoleHostError, OSError, BaseExceptionGroup) as error:
            sentences = explained(error)
            if not sentences or os.environ.get("ROLEHOST_DEBUG") or ctx.meta.get(VERBOSE):
                raise
            for sentence in sentences:
                complain(sentence)
            raise typer.Exit(USAGE if isinstance(error, InvalidParameterError) else FAILED) from None


def explained(error: BaseException) -> list[str]:
    """The sentences of an error that was foreseen; none for a fault of ours."""
    match error:
        case ServiceModelError():
            return list(error.problems)
        case RoleHostError():
            return [str(error)]
        case OSError() if error.strerror:
            return [f"{error.filename}: {error.strerror}" if error.filename else error.strerror]
        case BaseExceptionGroup():
            parts = [explained(part) for part in error.exceptions]
            return [sentence for part in parts for sentence in part] if all(parts) else []
        case _:
            return []


def complain(sentence: str) -> None:
    """Say on stderr what went wrong."""
    print(f"rolehost: {sentence}", file=sys.stderr)


def flush_quietly() -> bool:
    """Write out what is buffered; False, and not a word, if the reader went away (`rolehost jobs | head`)."""
    complete = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            # The interpreter flushes again when it ends: into nothing.
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)
            complete = False
    return complete
