"""Names of files on their way in and out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rolehost.frontend.downloads import ascii_name
from support.front_end import FrontEnd, Seed, front_end, picture


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path / "data") as running:
        yield running


@pytest.mark.parametrize("path", ["/jobs", "/api/v1/jobs"])
@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("a %22good%22 one.png", 'a "good" one.png'),
        ("two%0D%0Alines.png", "twolines.png"),
        ("100%25.png", "100%25.png"),
        ("%2e%2e%2Fx%20y%3f.png", "%2e%2e%2Fx%20y%3f.png"),
        ("%2522.png", "%2522.png"),
    ],
)
async def test_the_escapes_of_the_form_encoding_are_undone_and_no_others(
    site: FrontEnd, path: str, sent: str, kept: str
) -> None:
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{sent}"\r\n\r\n'.encode()
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = await site.client.post(path, content=head + picture() + b"\r\n--x--\r\n", headers=headers)
    assert response.status_code in {202, 303}
    (job,) = (await site.client.get("/api/v1/jobs")).json()["jobs"]
    assert job["source"]["name"] == kept


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("DSC_4413-small.png", "DSC_4413-small.png"),
        ("Übersicht é.png", "Ubersicht e.png"),
        ("東京.png", "__.png"),
        ('a"b\\c;d%22.png', "a_b_c_d_22.png"),
        ("../../etc/passwd", "_.._etc_passwd"),
        (".bashrc", "bashrc"),
        ("\r\nSet-Cookie: x", "__Set-Cookie_ x"),
        ("..", "download"),
        ("", "download"),
        ("\ud800.png", "_.png"),
    ],
)
def test_names_in_ascii_do_no_harm(name: str, plain: str) -> None:
    assert ascii_name(name) == plain


async def test_downloads_have_a_name_for_programs_that_know_the_old_form_only(site: FrontEnd, tmp_path: Path) -> None:
    seed = Seed(site.stores, tmp_path)
    job = await seed.completed(await seed.queued('Größe "1".png'))
    for path in (f"/api/v1/jobs/{job.id}/result", f"/jobs/{job.id}/result", f"/jobs/{job.id}/picture"):
        disposition = (await site.client.get(path)).headers["content-disposition"]
        assert 'filename="Gro_e _1_-small.png"' in disposition
        assert disposition.endswith("filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%221%22-small.png")
