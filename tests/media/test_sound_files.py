"""Sound files: whole or not at all, in four kinds; sox is the witness where it is installed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from crane_app.errors import BadInput, CraneError
from crane_app.media.sound_files import FORMATS, SoundFile, check

RATE = 22_050


def tone(seconds: float = 1.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_holds_what_was_written(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a b{kind}"
    with SoundFile(path, RATE) as file:
        for part in np.array_split(tone(), 7):
            file.write(part)
    found, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    assert len(found) == pytest.approx(RATE, rel=0.1)
    assert np.sqrt(np.mean(found**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


@pytest.mark.skipif(shutil.which("sox") is None, reason="sox is not installed")
@pytest.mark.parametrize("kind", [".wav", ".flac", ".ogg"])
def test_sox_hears_the_tone(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"tone{kind}"
    with SoundFile(path, RATE) as file:
        file.write(tone())
    told = subprocess.run(["sox", path, "-n", "stat"], capture_output=True, text=True, check=True).stderr
    frequency = next(float(line.split()[-1]) for line in told.splitlines() if line.startswith("Rough"))
    assert frequency == pytest.approx(440, rel=0.05)


def test_too_loud_is_cut_off_not_wrapped_around(tmp_path: Path) -> None:
    with SoundFile(tmp_path / "x.wav", RATE) as file:
        file.write(np.array([2.0, -2.0], np.float32))
    found, _ = soundfile.read(tmp_path / "x.wav", dtype="float32")
    np.testing.assert_allclose(found, [1, -1], atol=1e-3)


def test_an_unknown_kind_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"\.wav, \.flac, \.mp3, \.ogg"):
        check(tmp_path / "x.aac")


def test_a_folder_and_a_missing_folder_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.wav").mkdir()
    with pytest.raises(CraneError, match="is a folder"):
        check(tmp_path / "x.wav")
    with pytest.raises(CraneError, match="There is no folder"):
        check(tmp_path / "none" / "x.wav")


def test_what_is_left_early_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"older")
    with contextlib.suppress(KeyboardInterrupt), SoundFile(path, RATE) as file:
        file.write(tone())
        raise KeyboardInterrupt
    assert path.read_bytes() == b"older"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("kind", FORMATS)
def test_a_full_disk_is_told_and_leaves_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from crane_app.media import sound_files

    class Full:
        """A file on a disk that has room for 1,000 bytes more."""

        def __init__(self, file: object) -> None:
            self.file, self.left = file, 1000

        def write(self, data: bytes) -> int:
            self.left -= len(data)
            if self.left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(data)

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    real = sound_files.tempfile.NamedTemporaryFile
    monkeypatch.setattr(sound_files.tempfile, "NamedTemporaryFile", lambda *a, **k: Full(real(*a, **k)))
    with pytest.raises(CraneError, match="The disk is full"), SoundFile(tmp_path / f"x{kind}", RATE) as file:
        file.write(np.random.default_rng(0).uniform(-1, 1, 200_000).astype(np.float32))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from crane_app.media import sound_files

    def refuse(*_args: object, **_named: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(sound_files.tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(CraneError, match="Permission denied"), SoundFile(tmp_path / "x.wav", RATE):
        pass


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
