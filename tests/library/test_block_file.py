"""A block as a file: what is written is read, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from crane_app.library import block_file
from crane_app.library.block_file import Block, Untrusted, read, write

NAME = "0f" * 16
BLOCK = Block(NAME, 512, True, (np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.arange(5, dtype=np.int32)))
only_posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no modes of files")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "a.block"
    write(made, BLOCK)
    return made


def test_a_block_comes_back_as_it_was(path):
    found = read(path, NAME)
    assert (found.name, found.start, found.exact) == (NAME, 512, True)
    for array, was in zip(found.arrays, BLOCK.arrays, strict=True):
        assert array.dtype == was.dtype
        assert np.array_equal(array, was)
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_array_that_is_not_in_one_piece_is_written_as_it_is_read(tmp_path):
    spread = np.arange(24, dtype=np.int32).reshape(4, 6)[:, ::2]
    write(tmp_path / "b", Block(NAME, 0, False, (spread,)))
    assert np.array_equal(read(tmp_path / "b", NAME).arrays[0], spread)


def test_a_file_is_never_written_over(path):
    with pytest.raises(FileExistsError):
        write(path, BLOCK)


def test_a_torn_file_is_not_trusted_wherever_it_ends(path):
    whole = path.read_bytes()
    for size in (0, 1, 11, 64, 100, len(whole) - 4, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(Untrusted):
            read(path, NAME)
    path.write_bytes(whole + b"\0")
    with pytest.raises(Untrusted):
        read(path, NAME)


def test_a_flipped_bit_is_found_wherever_it_is(path):
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(Untrusted):
            read(path, NAME)


def test_a_file_under_another_name_is_not_trusted(path):
    with pytest.raises(Untrusted, match="another block"):
        read(path, "1e" * 16)


@pytest.mark.parametrize("layout", [[["|O", [3]]], [["<i2", [-1]]], [["<i2", [2**40]]], [["<i2", []]], [[]], 7])
def test_a_header_that_says_nonsense_is_not_trusted(tmp_path, monkeypatch, layout):
    head = block_file._head

    def nonsense(block: Block) -> bytes:
        real = head(block)
        text = b'{"name": "%s", "start": 0, "exact": true, "arrays": %s}' % (NAME.encode(), str(layout).encode())
        text = text.replace(b"'", b'"')
        return (block_file.PREFIX.pack(real[:8], len(text)) + text).ljust(192, b"\0")

    monkeypatch.setattr(block_file, "_head", nonsense)
    write(tmp_path / "b", BLOCK)
    with pytest.raises(Untrusted):
        read(tmp_path / "b", NAME)


@only_posix
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o611])
def test_a_file_that_others_may_touch_is_not_trusted(path, mode):
    path.chmod(mode)
    with pytest.raises(Untrusted, match="this user alone"):
        read(path, NAME)


@only_posix
def test_a_file_of_someone_else_is_not_trusted(path, monkeypatch):
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(Untrusted, match="this user alone"):
        read(path, NAME)


@only_posix
def test_a_link_is_not_followed(path, tmp_path):
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(Untrusted, match="link"):
        read(tmp_path / "link", NAME)


def test_what_is_not_there_is_not_untrusted(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none", NAME)
