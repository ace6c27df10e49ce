"""The console application `transcode`, run as a user would."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image

from support.legacy_applications import application, names
from support.pictures import HOLE, LAID, Sample, camera_exif, flag, photograph, truncated

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

FORMATS = ["jpeg", "png", "webp", "gif", "tiff", "bmp"]


def transcode(*arguments: object, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return application("transcode", *arguments, python=python)


@pytest.mark.parametrize("wanted", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_every_format_becomes_every_other(tmp_path: Path, source: str, wanted: str) -> None:
    path = tmp_path / "source"
    flag((300, 200)).save(path, format=source.upper(), **({"exif": camera_exif()} if source == "jpeg" else {}))
    target = tmp_path / f"target.{wanted}"
    done = transcode(path, target, wanted)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"source: 300x200 -> 300x200 {wanted}\n"
    with Image.open(target) as picture:
        assert picture.format == wanted.upper()
    assert Sample(path, (300, 200)).problems(target) == []


@pytest.mark.parametrize("wanted", FORMATS)
def test_transparency_is_kept_or_laid_on_white(tmp_path: Path, wanted: str) -> None:
    flag((300, 200), HOLE).save(tmp_path / "holed.png")
    assert transcode(tmp_path / "holed.png", tmp_path / "target", wanted).returncode == 0
    assert Sample(tmp_path, (300, 200), HOLE).problems(tmp_path / "target") == []


@pytest.mark.parametrize("wanted", FORMATS)
def test_the_name_of_the_target_need_not_match(tmp_path: Path, wanted: str) -> None:
    flag((30, 20)).save(tmp_path / "source.png")
    assert transcode(tmp_path / "source.png", tmp_path / "target.xyz", wanted.title()).returncode == 0
    with Image.open(tmp_path / "target.xyz") as picture:
        assert picture.format == wanted.upper()
    assert names(tmp_path) == ["source.png", "target.xyz"]


def test_a_photograph_keeps_its_size_and_stands_upright(tmp_path: Path) -> None:
    photo = photograph(tmp_path / "photo.jpg", 1, orientation=8)
    done = transcode(photo, tmp_path / "photo.webp", "webp")
    assert done.stdout == "photo.jpg: 867x1156 -> 867x1156 webp\n"
    flag((60, 40)).transpose(LAID[5]).save(tmp_path / "turned.jpg", exif=camera_exif(5))
    assert transcode(tmp_path / "turned.jpg", tmp_path / "turned.png", "png").returncode == 0
    assert Sample(tmp_path, (60, 40)).problems(tmp_path / "turned.png") == []


def test_jpg_and_tif_are_understood(tmp_path: Path) -> None:
    flag((30, 20)).save(tmp_path / "source.png")
    assert transcode(tmp_path / "source.png", tmp_path / "a", "JPG").stdout.endswith(" jpeg\n")
    assert transcode(tmp_path / "source.png", tmp_path / "b", "tif").stdout.endswith(" tiff\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "transcode: arguments: 0 of them"),
        (("a", "b"), "transcode: arguments: 2 of them"),
        (("a", "b", "png", "c"), "transcode: arguments: 4 of them"),
        (("a", "b", "psd"), "transcode: psd: not a format: jpeg, png, webp, gif, tiff, bmp"),
        (("a", "b", "--png"), "transcode: --png: unknown option"),
    ],
)
def test_wrong_usage_exits_64(arguments: tuple[str, ...], reason: str) -> None:
    done = transcode(*arguments)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith(reason)


def test_a_picture_too_long_for_the_format_is_refused(tmp_path: Path) -> None:
    Image.new("L", (16_384, 2)).save(tmp_path / "long.png")
    done = transcode(tmp_path / "long.png", tmp_path / "long.webp", "webp")
    assert done.returncode == 65
    assert "webp holds 16383 pixels a side at most, not 16384x2" in done.stderr
    assert names(tmp_path) == ["long.png"]


def test_a_truncated_picture_is_refused_and_the_old_target_stays(tmp_path: Path) -> None:
    cut = truncated(tmp_path / "cut.jpg", photograph(tmp_path / "whole.jpg", 0.3))
    (tmp_path / "out.png").write_bytes(b"the old one")
    done = transcode(cut, tmp_path / "out.png", "png")
    assert done.returncode == 65
    assert done.stderr == "transcode: cut.jpg: the picture is truncated: its end is missing\n"
    assert (tmp_path / "out.png").read_bytes() == b"the old one"


def test_without_a_source_or_pillow(tmp_path: Path) -> None:
    assert transcode(tmp_path / "none", tmp_path / "out", "png").returncode == 66
    assert transcode(tmp_path / "none", tmp_path / "out", "png", python=("-S",)).returncode == 69


def test_help_and_version() -> None:
    assert transcode("--help").stdout.startswith("usage: transcode SOURCE TARGET FORMAT")
    assert transcode("--version").stdout == "transcode 1.0.0\n"
