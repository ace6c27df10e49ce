"""The worker of this folder, tried on a text without a service: `pytest` runs it."""

from pathlib import Path

from rolehost.testing import run_once, worker_in

WORKER = worker_in(Path(__file__).with_name("service.toml"), "Pandoc")


def test_markdown_becomes_a_page(tmp_path: Path) -> None:
    text = tmp_path / "letter.md"
    text.write_text("# Dear reader\n\nHello *there*.\n")
    ran = run_once(WORKER, text, parameters={"title": "A letter"})
    assert ran.ok, ran
    assert ran.result_name == "letter.html"
    assert "<em>there</em>" in ran.result_text
