"""The documentation: it builds without a warning, its links lead somewhere, its pictures and lists are whole."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

import rolehost
import rolehost.testing
from rolehost.jobs.job import JobState
from support.role_process import ROOT

pytestmark = pytest.mark.acceptance
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("examples/**/*.md"), ROOT / "legacy_bin/README.md"])
_LINK = re.compile(r"!?\[[^]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


async def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    """As `make docs` does."""
    (recipe,) = [line.strip() for line in (ROOT / "Makefile").read_text().splitlines() if "-m sphinx" in line]
    assert "--fail-on-warning" in recipe
    words = recipe.replace("build/", f"{tmp_path}/").split()[1:]
    build = await asyncio.create_subprocess_exec(
        sys.executable, *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    told, _ = await build.communicate()
    assert (build.returncode, told.decode()) == (0, "")
    index = (tmp_path / "docs" / "index.html").read_text()
    for page in DOCS.rglob("*.md"):
        assert f'href="{page.relative_to(DOCS).with_suffix(".html")}"' in index or page.stem == "index"
    reference = (tmp_path / "docs" / "reference.html").read_text()
    assert "Raises" in reference
    assert 'class="math' not in reference


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_or_a_heading_leads_there(page: Path) -> None:
    for link in _LINK.findall(_FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if heading and target.suffix == ".md":
            assert heading in _headings(target), link


def _headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the built pages make them."""
    found = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in found}


def test_the_picture_of_the_states_has_all_of_them() -> None:
    assert set(re.findall(r'class="name"[^>]*>(\w+)<', (DOCS / "states.svg").read_text())) == set(JobState)


def test_the_reference_has_every_public_name() -> None:
    listed = re.findall(r"^\.\. auto\w+:: (\w+)$", (DOCS / "reference.md").read_text(), re.MULTILINE)
    assert set(listed) == set(rolehost.__all__) - {"__version__", "role_environment"} | set(rolehost.testing.__all__)
