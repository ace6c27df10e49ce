"""The worker of this folder, tried on a picture without a service: `pytest` runs it."""

from pathlib import Path

from PIL import Image

from rolehost.testing import run_once, worker_in

WORKER = worker_in(Path(__file__).with_name("service.toml"), "Quantise")


def test_a_picture_gets_a_palette(tmp_path: Path) -> None:
    picture = tmp_path / "photo.png"
    Image.linear_gradient("L").convert("RGB").save(picture)
    ran = run_once(WORKER, picture, parameters={"colours": 8})
    assert ran.ok, ran
    assert ran.result is not None
    with Image.open(ran.result) as made:
        assert (made.mode, len(made.getcolors() or [])) == ("P", 8)
