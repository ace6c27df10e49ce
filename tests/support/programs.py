"""Programs of the system that tests need: missing here, the test is skipped; missing on a build server, it fails."""

from __future__ import annotations

import os
import shutil

import pytest


def needs(*commands: str) -> pytest.MarkDecorator:
    """Mark a test that can't run without these commands; `make test` installs them."""
    missing = [command for command in commands if shutil.which(command) is None]
    reason = f"not installed here: {', '.join(missing)} (`make test` installs it for root)"
    return pytest.mark.skipif(bool(missing) and not os.environ.get("CI"), reason=reason)
