"""A file that goes with a question: what is text is read, what is none is a sentence."""

import os
from pathlib import Path

import pytest

from crane_app.errors import BadInput
from crane_app.media.text_files import LARGEST, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_unicode_encoding_with_a_mark_is_read(tmp_path: Path, encoding: str):
    path = tmp_path / "my notes 🐦.txt"
    path.write_bytes("Grüße, 鶴 🐦".encode(encoding))
    assert read_text(path) == "Grüße, 鶴 🐦"


@pytest.mark.parametrize(("raw", "text"), [(b"", ""), (b"a\r\nb\rc\n", "a\nb\nc\n"), (b"caf\xe9", "café")])
def test_line_ends_and_old_files_are_read(tmp_path: Path, raw: bytes, text: str):
    (tmp_path / "a").write_bytes(raw)
    assert read_text(tmp_path / "a") == text


@pytest.mark.parametrize("raw", [b"\x7fELF\0\0", b"\x81\x8d\x8f", b"\xff\xfea\0\0\xd8x"])
def test_what_is_no_text_is_refused(tmp_path: Path, raw: bytes):
    (tmp_path / "a.bin").write_bytes(raw)
    with pytest.raises(BadInput, match=r"a\.bin is not a text file"):
        read_text(tmp_path / "a.bin")


def test_what_is_too_large_is_not_read_whole(tmp_path: Path):
    with (tmp_path / "big.log").open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(BadInput, match="larger than 4 MB"):
        read_text(tmp_path / "big.log")


def test_folders_and_missing_files_are_sentences(tmp_path: Path):
    with pytest.raises(BadInput, match="is a folder"):
        read_text(tmp_path)
    with pytest.raises(BadInput, match="gone cannot be read"):
        read_text(tmp_path / "gone")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nothing is forbidden to this user")
def test_a_file_that_may_not_be_read_is_a_sentence(tmp_path: Path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "a").chmod(0)
    with pytest.raises(BadInput, match="cannot be read"):
        read_text(tmp_path / "a")
