"""The worker of this folder, tried on files without a service: `pytest` runs it."""

from pathlib import Path

from rolehost.testing import run_once, worker_in

WORKER = worker_in(Path(__file__).with_name("service.toml"), "Jpeg")


def test_a_bitmap_becomes_a_jpeg(tmp_path: Path) -> None:
    bitmap = tmp_path / "dots.ppm"
    bitmap.write_bytes(b"P6 2 1 255\n" + b"\xff\x00\x00\x00\x00\xff")
    ran = run_once(WORKER, bitmap, parameters={"quality": 50})
    assert ran.ok, ran
    assert (ran.result_name, ran.result_type) == ("dots-q50.jpg", "image/jpeg")
    assert ran.result_bytes.startswith(b"\xff\xd8\xff")


def test_half_a_header_is_the_inputs_fault(tmp_path: Path) -> None:
    noise = tmp_path / "noise.ppm"
    noise.write_bytes(b"P6 2 1 nonsense\n" + bytes(6))
    assert run_once(WORKER, noise).end == "bad_input"
