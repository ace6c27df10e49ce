"""Progress of programs that know nothing of us: their lines, their results, and what a person is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolehost.workers.progress import KeyValueProgress, Lines, Meter, PatternProgress, Progress, ResultProgress
from support.fake_clock import FakeClock


@pytest.mark.parametrize(
    ("pattern", "lines", "percents"),
    [
        (r"(?P<percent>[\d.]+)%", ["start", " 12.5% done", "100%", "n/a%"], [None, 12.5, 100.0, None]),
        (r"page (?P<done>\d+) of (?P<total>\d+)", ["page 1 of 4", "page 4 of 4", "page 1 of 0"], [25.0, 100.0, None]),
        (r"(?P<percent>\d+)%", ["3%" + 9000 * "x", 9000 * "x" + "4%", 900 * "x" + "5%" + 900 * "x"], [3.0, 4.0, None]),
        (r"(?P<percent>[\d.,]+)%", ["12,5%", "1,2,3%"], [12.5, None]),
        (r"(?P<done>[\d,]+)/(?P<total>[\d,.]+)", ["1,250,000/5,000,000", "50/1,000.0"], [25.0, 5.0]),
        (r"(?P<percent>\d+)%", ["disk 80%, done 12%"], [12.0]),
        (
            r"(?P<part>\d) of (?P<parts>\d), (?P<percent>[\d.]+)",
            ["task 1 of 2, 50.0", "task 2 of 2, 50.0"],
            [25.0, 75.0],
        ),
        (r"(?:total (?P<total>\d+))|(?:frame (?P<done>\d+))", ["frame 1", "total 50", "frame 25"], [None, None, 50.0]),
    ],
)
def test_a_pattern_reads_lines(pattern: str, lines: list[str], percents: list[float | None]) -> None:
    parser = PatternProgress(re.compile(pattern))
    assert [parser.read(line) for line in lines] == percents


def test_keys_and_values_are_read_as_ffmpeg_writes_them() -> None:
    parser = KeyValueProgress("out_time_us", 20_000_000)
    lines = [
        "frame=12",
        "out_time_us=5000000",
        "out_time_us=N/A",
        "out_time_ms=1",
        "progress=continue",
        "out_time_us= 10e6",
    ]
    assert [parser.read(line) for line in lines] == [None, 25.0, None, None, None, 50.0]
    assert KeyValueProgress("x", 0).read("x=1") is None


def test_the_size_of_a_result_tells(tmp_path: Path) -> None:
    parser = ResultProgress(200)
    assert parser.look(tmp_path / "result") is None
    (tmp_path / "result").write_bytes(bytes(50))
    assert parser.look(tmp_path / "result") == 25.0
    assert ResultProgress(of_source=0.5).of(400).look(tmp_path / "result") == 25.0
    assert ResultProgress(of_source=0.5).look(tmp_path / "result") is None


def test_lines_end_with_a_carriage_return_too() -> None:
    lines = Lines()
    assert list(lines.feed(b" 1%\r 2%\r\n 3")) == [" 1%", " 2%"]
    assert lines.rest == " 3"
    assert list(lines.feed(b"%\r")) == [" 3%"]
    assert list(lines.feed(b"7%\b\b8%\b\b9%\n")) == ["7%", "8%", "9%"]


def test_what_is_no_text_is_left_out() -> None:
    assert list(Lines().feed(b"1%\n\x01\x02 99%\n\x1b[2K2%\n caf\xe9 3%\n")) == [
        "1%",
        "\x1b[2K2%",
        " caf\N{REPLACEMENT CHARACTER} 3%",
    ]


@given(st.lists(st.binary(max_size=20_000), max_size=6))
def test_any_bytes_are_lines_of_bounded_length(pieces: list[bytes]) -> None:
    lines = Lines()
    for piece in pieces:
        assert all(len(line) <= 8192 for line in lines.feed(piece))
        assert len(lines._rest) <= 8192


def test_the_same_lines_come_however_the_bytes_are_cut() -> None:
    data = b"a=1\rb=2\n\nc=3\r\nrest"
    whole = list(Lines().feed(data))
    for size in range(1, 7):
        lines = Lines()
        assert [each for at in range(0, len(data), size) for each in lines.feed(data[at : at + size])] == whole


def test_what_is_shown_only_rises_and_never_ends_before_the_program() -> None:
    meter = Meter()
    shown = []
    said: Sequence[Any] = (None, 10.0, 5.0, float("nan"), -3.0, float("inf"), 10.0, 20.0, "much", 250.0, 100.0)
    for percent in said:
        meter.note(percent)
        shown.append(meter.now.percent if meter.now else None)
    assert shown == [None, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 20.0, 20.0, 99.9, 99.9]


async def test_the_time_left_follows_the_pace_since_the_first_value(monkeypatch: pytest.MonkeyPatch) -> None:
    time = FakeClock(monkeypatch)
    meter = Meter()
    await time.advance(100)  # opening files
    meter.note(10.0)
    assert meter.now == Progress(10.0, None), "one value says nothing of the pace"
    await time.advance(10)
    meter.note(30.0)
    assert meter.now == Progress(30.0, 35.0)
    assert Progress(33.333, 34.6).to_json() == {"percent": 33.3, "eta_seconds": 35}


def documented() -> list[tuple[str, str, str, float]]:
    """Program, pattern, line and percent of the table in the page about progress."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "progress.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if "(?P<" in line and line.startswith("|")]
    return [(program, pattern, line.strip("`"), float(percent)) for program, pattern, line, percent in rows]


@pytest.mark.parametrize(("program", "pattern", "line", "percent"), documented())
def test_the_patterns_of_the_page_read_their_programs(program: str, pattern: str, line: str, percent: float) -> None:
    expression, *unfinished = re.findall("`(.+?)`", pattern)
    assert unfinished in ([], ["unfinished"])
    assert PatternProgress(re.compile(expression)).read(line) == percent, program


def test_the_page_has_patterns() -> None:
    assert len(documented()) == 7
