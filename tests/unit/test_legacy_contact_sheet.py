"""The console application that lays the pictures of a ZIP out on a sheet, as whoever starts it sees it."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

PROGRAM = Path(__file__).resolve().parents[2] / "legacy_bin" / "contact_sheet"
COLOURS = [(number * 20, 80, 255 - number * 20) for number in range(7)]


def run(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def encoded(size: tuple[int, int], colour: tuple[int, int, int], kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Seven pictures, and three files that are none."""
    with zipfile.ZipFile(tmp_path / "source.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, colour in enumerate(COLOURS):
            archive.writestr(f"deep/{number}.png", encoded((100, 50 + number), colour))
        archive.writestr("errors.txt", "one failed")
        archive.writestr("cut.png", encoded((300, 300), (1, 2, 3))[:-200])
        archive.writestr("../../up.jpg", b"no picture")
    return tmp_path / "source.zip"


def test_pictures_stand_in_their_order_inside_their_squares(tmp_path: Path, source: Path) -> None:
    told = run(tmp_path, source, "sheet.png", "3", "80")
    assert (told.returncode, told.stdout.splitlines()[-1]) == (0, "7 pictures, 3 left out -> 240x240 png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (240, 240)
        for number, colour in enumerate(COLOURS):
            assert sheet.getpixel((number % 3 * 80 + 40, number // 3 * 80 + 40)) == colour
            assert sheet.getpixel((number % 3 * 80 + 40, number // 3 * 80 + 1)) == (255, 255, 255)
    assert "cut.png: " in told.stderr
    assert "10 of 10 (100%)" in told.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"source.zip", "sheet.png"}, "nothing is left behind"


def test_a_sheet_is_about_square_and_never_too_large(tmp_path: Path, source: Path) -> None:
    assert run(tmp_path, source, "sheet.jpg", "0", "64").returncode == 0
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert (sheet.format, sheet.size) == ("JPEG", (4 * 64, 2 * 64))
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(30):
            archive.writestr(f"{number}.png", encoded((8, 8), (9, 9, 9)))
    assert run(tmp_path, "many.zip", "wide.png", "30", "1024").returncode == 0
    with Image.open(tmp_path / "wide.png") as sheet:
        assert max(sheet.size) <= 10_000


def test_a_file_that_grows_is_left_out_before_it_fills_the_disk(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("bomb.png", "w", force_zip64=True) as file:
            for _ in range(300):
                file.write(bytes(1024 * 1024))
        archive.writestr("good.png", encoded((8, 8), (9, 9, 9)))
    told = run(tmp_path, "bomb.zip", "sheet.png", "0", "64")
    assert (told.returncode, told.stdout.splitlines()[-1]) == (0, "1 pictures, 1 left out -> 64x64 png")


def test_a_file_that_is_listed_a_thousand_times_is_not_unpacked_as_often(tmp_path: Path) -> None:
    """300 KB that would have been 400 GB on their way through the disk."""
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(20 << 20))
        archive.filelist.extend(archive.filelist * 1999)
    told = run(tmp_path, "bomb.zip", "sheet.png", "0", "64")
    assert (told.returncode, told.stdout) == (65, "")
    assert "bomb.zip: the ZIP is too large unpacked" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["source.zip", "sheet.png", "3"], 64, "missing: TILE"),
        (["source.zip", "sheet.png", "101", "80"], 64, "COLUMNS 101"),
        (["source.zip", "sheet.png", "3", "15"], 64, "TILE 15"),
        (["source.zip", "sheet.txt", "3", "80"], 64, "extension"),
        (["nowhere.zip", "sheet.png", "3", "80"], 66, "no such file"),
        (["text.zip", "sheet.png", "3", "80"], 65, "no ZIP"),
        (["empty.zip", "sheet.png", "3", "80"], 65, "none of what is in it is a picture"),
        (["source.zip", "nowhere/sheet.png", "3", "80"], 73, "folder"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    tmp_path: Path, source: Path, arguments: list[str], code: int, word: str
) -> None:
    assert source.exists()
    (tmp_path / "text.zip").write_text("no ZIP at all")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    told = run(tmp_path, *arguments)
    assert told.returncode == code, told.stderr
    assert word in told.stderr
    assert not (tmp_path / "sheet.png").exists()
