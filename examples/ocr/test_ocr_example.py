"""The worker of this folder, tried on a picture without a service: `pytest` runs it."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from rolehost.testing import run_once, worker_in

WORKER = worker_in(Path(__file__).with_name("service.toml"), "Ocr")


def test_the_words_of_a_picture_are_read(tmp_path: Path) -> None:
    picture = tmp_path / "sign.png"
    with Image.new("L", (900, 140), "white") as drawn:
        ImageDraw.Draw(drawn).text((40, 30), "quick brown fox", fill="black", font=ImageFont.load_default(size=64))
        drawn.save(picture, dpi=(300, 300))
    ran = run_once(WORKER, picture)
    assert ran.ok, ran
    assert (ran.result_name, ran.result_text.split()) == ("sign.txt", ["quick", "brown", "fox"])
