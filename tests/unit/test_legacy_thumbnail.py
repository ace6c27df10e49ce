"""The console application `thumbnail`, run as a user would, on pictures as they come."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat

from support.colour_profiles import swapped_rgb
from support.legacy_applications import LEGACY_BIN, application, names
from support.pictures import (
    BLACK,
    BLUE,
    HOLE,
    LAID,
    RED,
    Sample,
    bomb,
    camera_exif,
    corners_of,
    flag,
    mixed,
    photograph,
    traces,
    truncated,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return mixed(tmp_path_factory.mktemp("mixed"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return photograph(tmp_path / "photo.jpg", 3)


def thumbnail(*arguments: object, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return application("thumbnail", *arguments, python=python)


def refused(done: subprocess.CompletedProcess[str], exit_code: int, reason: str) -> None:
    assert done.returncode == exit_code, done.stderr
    assert done.stdout == ""
    line = done.stderr.splitlines()[0]
    assert line.startswith("thumbnail: ")
    assert reason in line


@pytest.mark.parametrize("extension", ["own", ".jpg", ".png"])
def test_fifty_mixed_pictures_come_out_right(samples: list[Sample], extension: str, tmp_path: Path) -> None:
    def problems(sample: Sample) -> list[str]:
        target = tmp_path / (sample.path.name + (sample.path.suffix if extension == "own" else extension))
        done = thumbnail(sample.path, target, "Medium")
        if sample.verdict == "good":
            return [done.stderr] if done.returncode or done.stderr else sample.problems(target)
        return [] if done.returncode == 65 and not target.exists() else ["not refused"]

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip((s.path.name for s in samples), pool.map(problems, samples), strict=True))
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
    assert [s.verdict for s in samples].count("good") == 48
    assert len(samples) == 50


def test_the_fifty_hold_what_thumbnails_must_not_give_away(samples: list[Sample]) -> None:
    told = {clue for s in samples if s.verdict == "good" for clue in traces(s.path)}
    assert {"exif", "xmp", "comment", "GPS"} < told


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        (("Small",), (128, 96)),
        (("Medium",), (512, 384)),
        (("large",), (1024, 768)),
        (("Custom", 640, 200), (267, 200)),
        (("CUSTOM", 5000, 5000), (2000, 1500)),
        (("Custom", 1, 1), (1, 1)),
    ],
)
def test_the_picture_fits_inside_the_box_and_is_never_enlarged(
    photo: Path, tmp_path: Path, arguments: tuple[object, ...], size: tuple[int, int]
) -> None:
    target = tmp_path / "thumbnail.jpg"
    done = thumbnail(photo, target, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"photo.jpg: 2000x1500 -> {size[0]}x{size[1]} jpeg\n"
    with Image.open(target) as picture:
        assert (picture.format, picture.size) == ("JPEG", size)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_photograph_looks_like_the_whole_one(tmp_path: Path, orientation: int) -> None:
    photo = photograph(tmp_path / "photo.jpg", 2, orientation=orientation)
    assert thumbnail(photo, tmp_path / "small.png", "Custom", 301, 200).returncode == 0
    with Image.open(photo) as whole, Image.open(tmp_path / "small.png") as small:
        reference = ImageOps.exif_transpose(whole).resize(small.size, Image.Resampling.LANCZOS)
        assert max(ImageStat.Stat(ImageChops.difference(reference, small)).mean) < 1.5


def test_a_reduced_cmyk_photograph_looks_like_the_whole_one(tmp_path: Path) -> None:
    photo = photograph(tmp_path / "photo.jpg", 2)
    with Image.open(photo) as rgb:
        rgb.convert("CMYK").save(photo)
        assert thumbnail(photo, tmp_path / "small.png", "Small").returncode == 0
        with Image.open(tmp_path / "small.png") as small:
            reference = rgb.resize(small.size, Image.Resampling.LANCZOS)
            assert max(ImageStat.Stat(ImageChops.difference(reference, small)).mean) < 2


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
def test_deep_grey_keeps_its_gradation(tmp_path: Path, mode: str) -> None:
    ramp = Image.linear_gradient("L").convert("I").point(lambda v: v * 257)
    deep = ramp.convert("F").point(lambda v: v * (1 / 65535) + 0.0) if mode == "F" else ramp
    deep = Image.frombytes("I;16B", ramp.size, _big_endian(ramp)) if mode == "I;16B" else deep
    (deep.convert(mode) if mode == "I;16" else deep).save(tmp_path / "deep.tiff")
    assert thumbnail(tmp_path / "deep.tiff", tmp_path / "flat.png", "Medium").returncode == 0
    with Image.open(tmp_path / "flat.png") as flat:
        assert [flat.getpixel((9, row)) for row in (0, 1, 64, 128, 200, 255)] == [0, 1, 64, 128, 200, 255]


def test_numbers_below_zero_and_over_the_usual_range_are_stretched(tmp_path: Path) -> None:
    levels = Image.linear_gradient("L").convert("F").point(lambda v: v * 1000.0 - 55_000.0)
    levels.save(tmp_path / "heights.tiff")
    assert thumbnail(tmp_path / "heights.tiff", tmp_path / "flat.png", "Medium").returncode == 0
    with Image.open(tmp_path / "flat.png") as flat:
        assert [flat.getpixel((9, row)) for row in (0, 64, 128, 255)] == [0, 64, 128, 255]


def test_a_profile_is_obeyed_where_the_picture_is_transparent(tmp_path: Path) -> None:
    flag(corners=(RED, RED, BLUE, None)).save(tmp_path / "swapped.png", icc_profile=swapped_rgb())
    assert thumbnail(tmp_path / "swapped.png", tmp_path / "small.png", "Small").returncode == 0
    with Image.open(tmp_path / "small.png") as small:
        green, _, _, hole = corners_of(small)
        assert "icc_profile" not in small.info
    assert green == pytest.approx((30, 200, 30, 255), abs=8)
    assert hole[3] == 0


def _big_endian(ramp: Image.Image) -> bytes:
    return b"".join(int(value).to_bytes(2) for value in ramp.get_flattened_data() if isinstance(value, int))


def test_transparent_edges_do_not_darken(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (999, 999), (0, 0, 0, 0))
    picture.paste((255, 255, 255, 255), (333, 333, 666, 666))
    picture.save(tmp_path / "square.png")
    assert thumbnail(tmp_path / "square.png", tmp_path / "small.png", "Small").returncode == 0
    with Image.open(tmp_path / "small.png") as small:
        shades = {colour[:3] for _, colour in small.getcolors() or [] if isinstance(colour, tuple) and colour[3]}
    assert min(min(shade) for shade in shades) > 250


def test_half_transparent_becomes_white_or_a_hole_in_gif(tmp_path: Path) -> None:
    picture = flag(corners=HOLE)
    picture.paste((0, 0, 0, 40), (0, 0, 400, 300))
    picture.paste((0, 0, 0, 200), (400, 0, 800, 300))
    picture.save(tmp_path / "shadow.png")
    assert thumbnail(tmp_path / "shadow.png", tmp_path / "shadow.gif", "Small").returncode == 0
    with Image.open(tmp_path / "shadow.gif") as gif:
        faint, strong, blue, hole = corners_of(gif)
    assert (faint[3], hole[3]) == (0, 0)
    assert strong == pytest.approx((55, 55, 55, 255), abs=8)
    assert blue == pytest.approx((*BLUE, 255), abs=8)


def test_a_picture_may_replace_itself(photo: Path, tmp_path: Path) -> None:
    assert thumbnail(photo, photo, "Small").returncode == 0
    with Image.open(photo) as picture:
        assert picture.size == (128, 96)
    assert names(tmp_path) == ["photo.jpg"]


def test_a_damaged_orientation_does_not_spoil_the_picture(tmp_path: Path) -> None:
    exif = camera_exif().tobytes()
    flag().save(tmp_path / "odd.jpg", exif=exif[:10] + b"\xff" * 20)
    assert thumbnail(tmp_path / "odd.jpg", tmp_path / "small.jpg", "Small").returncode == 0


@pytest.mark.parametrize("name", ["-vf", "a b;$(touch x).jpg", "two\nlines\x1b[31m.jpg", "Fähre 船.jpg"])
def test_a_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    flag().save(tmp_path / name, format="JPEG")
    done = thumbnail(tmp_path / name, tmp_path / "out.png", "Small")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    assert "\x1b" not in done.stdout
    (tmp_path / name).write_bytes(b"nothing")
    done = thumbnail(tmp_path / name, tmp_path / "out.png", "Small")
    refused(done, 65, "not a picture")
    assert len(done.stderr.splitlines()) == 1
    assert names(tmp_path) == sorted([name, "out.png"])


def test_a_relative_name_that_begins_with_a_dash_follows_two_dashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flag().save("-vf", format="JPEG")
    refused(thumbnail("-vf", "out.png", "Small"), 64, "-vf: unknown option")
    assert thumbnail("--", "-vf", "out.png", "Small").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "0 of them"),
        (("a.jpg",), "1 of them"),
        (("a.jpg", "b.jpg"), "2 of them"),
        (("a.jpg", "b.jpg", "Huge"), "Huge: not a size"),
        (("a.jpg", "b.jpg", "Small", "10", "10"), "5 of them"),
        (("a.jpg", "b.jpg", "Custom"), "3 of them"),
        (("a.jpg", "b.jpg", "Custom", "10"), "4 of them"),
        (("a.jpg", "b.jpg", "Custom", "0", "10"), "WIDTH 0: not a whole number"),
        (("a.jpg", "b.jpg", "Custom", "10", "65536"), "HEIGHT 65536: not a whole number"),
        (("a.jpg", "b.jpg", "Custom", "10", "1e3"), "HEIGHT 1e3: not a whole number"),
        (("a.jpg", "b.jpg", "Custom", "٣", "10"), "not a whole number"),
        (("a.jpg", "b.psd", "Small"), "b.psd: its extension must name a format"),
        (("a.jpg", "b", "Small"), "b: its extension must name a format"),
        (("--fast", "a.jpg", "b.jpg", "Small"), "--fast: unknown option"),
    ],
)
def test_wrong_usage_exits_64_and_says_what_is_wrong(arguments: tuple[str, ...], reason: str) -> None:
    refused(thumbnail(*arguments), 64, reason)


def test_wrong_usage_shows_the_usage() -> None:
    assert thumbnail().stderr.splitlines()[1].startswith("thumbnail: usage: thumbnail SOURCE TARGET (Small |")


@pytest.mark.parametrize("extension", ["jpg", "png", "gif", "webp", "tiff", "bmp", "progressive.jpg", "lzw.tiff"])
def test_a_truncated_picture_is_refused(tmp_path: Path, extension: str) -> None:
    # Each encoder takes what it knows.
    whole = photograph(
        tmp_path / f"whole.{extension}",
        0.3,
        progressive=extension.startswith("progressive"),
        compression="tiff_lzw" if extension.startswith("lzw") else None,
    )
    cut = truncated(tmp_path / f"cut.{extension}", whole)
    refused(thumbnail(cut, tmp_path / "out.png", "Small"), 65, f"cut.{extension}: the picture is ")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"milk, bread, apples\n", "not a picture in JPEG, PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a picture in JPEG, PNG"),
        (b"8BPS\0\1" + bytes(100), "not a picture in JPEG, PNG"),
        (b"SIMPLE  =                    T", "not a picture in JPEG, PNG"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not a picture in JPEG, PNG"),
        (b"BM and then a text", "the picture is damaged"),
        (b"\xff\xd8\xff" + bytes(50), "the picture is damaged"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "source.jpg").write_bytes(data)
    refused(thumbnail(tmp_path / "source.jpg", tmp_path / "out.png", "Small"), 65, f"source.jpg: {reason}")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("side", [10_001, 30_000])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    done = thumbnail(bomb(tmp_path / "bomb.png", side, side), tmp_path / "out.png", "Small")
    refused(done, 65, f"bomb.png: too many pixels: {side}x{side} is {side * side:,}, the limit is 100,000,000")


def test_damaged_files_never_cause_an_internal_error(samples: list[Sample], tmp_path: Path) -> None:
    chance = random.Random(5)  # noqa: S311 - damage, no secrets

    def outcome(index: int) -> tuple[int, bool, int]:
        source, target = tmp_path / f"damaged-{index}", tmp_path / f"out-{index}.png"
        done = thumbnail(source, target, "Small")
        return done.returncode, target.exists(), len(done.stderr.splitlines())

    names = ["plain.jpg", "palette.png", "plain.gif", "plain.webp", "grey-16.tiff", "fax.tiff", "plain.bmp"]
    originals = [s.path.read_bytes() for s in samples if s.path.name in names] * 6
    for index, original in enumerate(originals):
        data = bytearray(original)
        for _ in range(6):
            data[chance.randrange(4, min(len(data), 2000))] = chance.randrange(256)
        (tmp_path / f"damaged-{index}").write_bytes(data)
    with ThreadPoolExecutor(2) as pool:
        outcomes = set(pool.map(outcome, range(len(originals))))
    assert outcomes == {(0, True, 0), (65, False, 1)}


def test_a_missing_source_exits_66(tmp_path: Path) -> None:
    refused(thumbnail(tmp_path / "none.jpg", tmp_path / "out.png", "Small"), 66, "none.jpg: no such file or directory")
    refused(thumbnail(tmp_path, tmp_path / "out.png", "Small"), 66, "not a file")


def test_a_target_that_cannot_be_created_exits_73(photo: Path, tmp_path: Path) -> None:
    refused(thumbnail(photo, tmp_path / "none" / "out.png", "Small"), 73, "its folder does not exist")
    (tmp_path / "folder.png").mkdir()
    refused(thumbnail(photo, tmp_path / "folder.png", "Small"), 73, "exists and is not a file")
    os.mkfifo(tmp_path / "pipe.png")
    refused(thumbnail(photo, tmp_path / "pipe.png", "Small"), 73, "exists and is not a file")
    refused(thumbnail(photo, tmp_path / ("x" * 300 + ".png"), "Small"), 73, "file name too long")
    assert names(tmp_path) == ["folder.png", "photo.jpg", "pipe.png"]


def test_a_full_disk_exits_74_and_leaves_the_old_target(photo: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.bmp"
    target.write_bytes(b"the old one")
    command = [sys.executable, "-B", str(LEGACY_BIN / "thumbnail"), str(photo), str(target), "Medium"]
    limited = ["sh", "-c", 'ulimit -f 16; exec "$@"', "sh", *command]  # the smallest disk that a test can have
    done = subprocess.run(limited, capture_output=True, text=True, timeout=60, check=False)
    refused(done, 74, "out.bmp: file too large")
    assert target.read_bytes() == b"the old one"
    assert names(tmp_path) == ["out.bmp", "photo.jpg"]


def test_a_target_behind_a_link_is_written_where_the_link_leads(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "real.png").touch()
    (tmp_path / "link.png").symlink_to("real.png")
    assert thumbnail(photo, tmp_path / "link.png", "Small").returncode == 0
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").stat().st_size > 0


def test_a_reader_who_went_away_does_not_undo_the_work(photo: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(LEGACY_BIN / "thumbnail"), str(photo), str(tmp_path / "out.png"), "Small"]
    shell = ["sh", "-c", '"$@" > /dev/full', "sh", *command]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out.png").exists()


def test_without_pillow_it_says_so(photo: Path, tmp_path: Path) -> None:
    no_site_packages = ("-S",)
    refused(thumbnail(photo, tmp_path / "out.png", "Small", python=no_site_packages), 69, "Pillow: not installed")
    assert thumbnail("--help", python=no_site_packages).returncode == 0


def test_help_and_version_go_to_stdout() -> None:
    help_text = thumbnail("--help")
    assert (help_text.returncode, help_text.stderr) == (0, "")
    assert "Custom WIDTH HEIGHT" in help_text.stdout
    assert thumbnail("a.jpg", "--version").stdout == "thumbnail 1.0.0\n"


def test_it_runs_by_its_own_name() -> None:
    path = os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"]))  # noqa: PTH120 - joined to a PATH
    command = [str(LEGACY_BIN / "thumbnail"), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": path})
    assert done.stdout == "thumbnail 1.0.0\n"


def test_only_what_a_jpeg_needs_is_imported(photo: Path, tmp_path: Path) -> None:
    done = thumbnail(photo, tmp_path / "out.jpg", "Small", python=("-v",))
    imported = {line.split("'")[1] for line in done.stderr.splitlines() if line.startswith("import '")}
    plugins = {name for name in imported if name.startswith("PIL.") and name.endswith("Plugin")}
    assert plugins == {"PIL.JpegImagePlugin", "PIL.TiffImagePlugin"}  # the latter reads EXIF
    assert imported.isdisjoint({"argparse", "pathlib", "PIL.ImageCms"})


def test_the_environment_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("PILLOW_MAX_IMAGE_PIXELS", "1000000000")
    refused(thumbnail(bomb(tmp_path / "bomb.png"), tmp_path / "out.png", "Small"), 65, "too many pixels")
    exif = camera_exif(6)
    flag(corners=(RED, RED, BLUE, BLUE)).transpose(LAID[6]).save(tmp_path / "turned.jpg", exif=exif)
    assert thumbnail(tmp_path / "turned.jpg", tmp_path / "out.png", "Small").returncode == 0
    with Image.open(tmp_path / "out.png") as picture:
        assert corners_of(picture)[0][0] > BLACK[0] + 150
