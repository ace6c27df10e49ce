"""The examples that have no Python: OCR by configuration, a shell script and a compiled program as roles."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from host_support import let_others_in
from PIL import Image, ImageDraw, ImageFont

from support.programs import needs
from support.service import ROOT, Service, until

pytestmark = pytest.mark.acceptance

EXAMPLES = ROOT / "examples"


@pytest.fixture
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """A copy of the example that the test names."""
    name: str = request.param
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder)
    let_others_in(folder)
    service = Service(folder)
    yield service
    service.close()


def named(example: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("service", [example], indirect=True, ids=[example])


def picture_of(path: Path, *lines: str) -> Path:
    """Black on white, in letters of a size that is read surely."""
    with Image.new("L", (1000, 60 + 90 * len(lines)), "white") as image:
        draw = ImageDraw.Draw(image)
        for number, line in enumerate(lines):
            draw.text((40, 30 + 90 * number), line, fill="black", font=ImageFont.load_default(size=56))
        image.save(path, dpi=(300, 300))
    return path


@needs("tesseract")
@named("ocr")
def test_ocr_reads_pictures(service: Service) -> None:
    picture_of(service.directory / "scan.png", "The quick brown fox", "jumps over 13 dogs")
    (service.directory / "noise.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    checked = service.bare("check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    service.start()
    form = service.get("/").decode()
    assert all(each in form for each in ("Text from pictures", "Language", "hocr"))
    submit = ["submit", "--kind", "ocr", "scan.png", "--output", "texts"]
    for output in ("txt", "pdf", "hocr"):
        answer = service.command(*submit, "--parameter", f"output={output}")
        assert answer.returncode == 0, answer.stderr
    texts = service.directory / "texts"
    assert (texts / "scan.txt").read_text().split("\n")[:2] == ["The quick brown fox", "jumps over 13 dogs"]
    assert (texts / "scan.pdf").read_bytes().startswith(b"%PDF-")
    assert "ocrx_word" in (texts / "scan.hocr").read_text()
    types = {job["result"]["name"]: job["result"]["type"] for job in service.jobs()}
    assert (types["scan.txt"], types["scan.pdf"]) == ("text/plain", "application/pdf")
    assert service.command(*submit, "--parameter", "language=kli").returncode == 1
    assert service.command("submit", "--kind", "ocr", "noise.png", "--wait").returncode == 1
    ends = {job["state"]: job["reason"] for job in service.jobs() if job["state"] != "completed"}
    assert ends.keys() == {"poisoned", "failed"}
    assert "Could not initialize tesseract" in ends["poisoned"]
    refused = service.command(*submit, "--parameter", "language=--help")
    assert (refused.returncode, "language" in refused.stderr) == (2, True)


@named("guest-shell")
def test_a_shell_script_lives_as_a_role(service: Service) -> None:
    service.start(front_end=False)
    resources, said = service.data / "resources" / "Ledger_IN_0", lines_of(service)
    until(lambda: said == [f"Ledger_IN_0 watches {resources}/Inbox/"], "it watches")
    (resources / "Inbox" / "letter txt").write_text("hello\n")
    until(lambda: said[1:] == ["Ledger_IN_0 noted letter txt"], "the file is noted")
    (resources / "Inbox" / "letter.txt").write_text("hello\n")
    until(lambda: said[2:] == ["Ledger_IN_0 noted letter.txt"], "a name is no pattern")
    digest = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert (resources / "Ledger" / "ledger.txt").read_text() == f"letter txt {digest}\nletter.txt {digest}\n"
    os.kill(min(service.pids("ledger.sh")), signal.SIGKILL)  # what it forks is younger
    until(lambda: " watches " in "".join(said[3:]), "it was started again")
    assert service.stop() == 0
    until(lambda: said[4:] == ["Ledger_IN_0 is done"], "it ends in order, and notes nothing twice")
    assert '"exit_code": 0' in service.command("runs", "Ledger_IN_0", "--json").stdout


def lines_of(service: Service) -> list[str]:
    """What the service writes to stdout, line by line as it comes."""
    lines: list[str] = []

    def listen(stream: IO[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))  # noqa: PERF401 - others look at the list meanwhile

    assert service.process is not None
    assert service.process.stdout is not None
    threading.Thread(target=listen, args=[service.process.stdout], daemon=True).start()
    return lines


@needs("cc", "make")
@named("guest-compiled")
def test_a_compiled_program_serves_behind_the_service_s_port(service: Service) -> None:
    told = service.bare("check")
    assert "greeter is not in approot" in told.stdout + told.stderr, "what isn't compiled yet is named"
    subprocess.run(["make"], cwd=service.directory, check=True, capture_output=True)
    checked = service.bare("check")
    assert (checked.returncode, "warning" in checked.stdout + checked.stderr) == (0, False)
    service.start()
    until(lambda: {greeter(service) for _ in range(4)} == {"Greeter_IN_0", "Greeter_IN_1"}, "both answer")
    assert service.stop() == 0


def greeter(service: Service) -> str:
    """Who answers."""
    return service.get("/").decode().split(" greets you")[0]
