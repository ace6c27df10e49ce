"""The worker of this folder, tried on a picture without a service: `pytest` runs it."""

from pathlib import Path

from PIL import Image

from rolehost.testing import run_once, worker_in

WORKER = worker_in(Path(__file__).with_name("service.toml"), "Transcoder")


def test_a_picture_in_another_format(tmp_path: Path) -> None:
    picture = tmp_path / "dot.png"
    Image.new("RGB", (3, 2), "teal").save(picture)
    ran = run_once(WORKER, picture, parameters={"preset": "webp"})
    assert ran.ok, ran
    assert ran.result_type == "image/webp"
