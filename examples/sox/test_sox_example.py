"""The worker of this folder, tried on a sound without a service: `pytest` runs it."""

import wave
from pathlib import Path

import pytest

from rolehost.errors import InvalidParameterError
from rolehost.testing import run_once, worker_in

WORKER = worker_in(Path(__file__).with_name("service.toml"), "Sox")


def test_two_channels_become_one(tmp_path: Path) -> None:
    sound = tmp_path / "beep.wav"
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(range(200)) * 160)
    ran = run_once(WORKER, sound, parameters={"format": "wav", "rate": 16000})
    assert ran.ok, ran
    with wave.open(str(ran.result), "rb") as made:
        assert (made.getnchannels(), made.getframerate(), made.getnframes()) == (1, 16000, 16000)


def test_a_format_that_is_not_offered_never_becomes_a_job(tmp_path: Path) -> None:
    sound = tmp_path / "beep.wav"
    sound.write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt ")
    with pytest.raises(InvalidParameterError, match="wav, flac or ogg"):
        run_once(WORKER, sound, parameters={"format": "mp3"})
