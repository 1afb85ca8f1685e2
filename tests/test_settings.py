"""The table of settings, and the file that keeps their values."""

from __future__ import annotations

import argparse
import json
import logging
import os
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crane_app import settings
from crane_app.errors import BadInput, CraneError
from crane_app.settings import SETTINGS, TABLE, Setting, checked, kept, load, parsed, save, value, variable

SIZE, MODEL, DTYPE, KEEP = TABLE["text-size"], TABLE["model"], TABLE["dtype"], TABLE["keep-history"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "crane" / "settings.json"


@pytest.fixture
def users(monkeypatch, path: Path) -> Path:
    """The file that the command line reads."""
    monkeypatch.setattr(settings, "settings_path", lambda: path)
    for setting in SETTINGS:
        monkeypatch.delenv(variable(setting), raising=False)
    return path


def put(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def values(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))["values"]


# The table


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_row_is_whole(setting: Setting):
    assert checked(setting, setting.default) == setting.default
    assert setting.sentence.endswith(".")
    assert len(setting.words) in (0, len(setting.choices))
    assert bool(setting.group) == bool(setting.title)
    if setting.title and setting.default is None:
        assert setting.unset, "the page must call None something"


def test_no_two_settings_share_a_name():
    assert len(TABLE) == len(SETTINGS)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("text-size", "120", 120),
        ("temperature", "0.5", 0.5),
        ("temperature", "2", 2.0),
        ("keep-history", "No", False),
        ("keep-history", "1", True),
        ("appearance", "dark", "dark"),
        ("model", "/models/a b", "/models/a b"),
        ("model-folders", "/a:/b", "/a:/b"),
        ("system-prompt", "two\nlines", "two\nlines"),
    ],
)
def test_a_text_stands_for_a_value(name: str, text: str, found: object):
    assert parsed(TABLE[name], text) == found
    assert type(parsed(TABLE[name], text)) is type(found)


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("text-size", "300", "a whole number from 80 to 200"),
        ("text-size", "79", "a whole number from 80 to 200"),
        ("text-size", "1e2", "a whole number"),
        ("text-size", "9" * 5000, "a whole number"),
        ("temperature", "nan", "a number from 0 to 2"),
        ("temperature", "inf", "a number from 0 to 2"),
        ("temperature", "warm", "a number from 0 to 2"),
        ("keep-history", "maybe", "yes or no"),
        ("appearance", "sepia", "one of: system, light, dark"),
        ("model", "a\0b", "a text"),
    ],
)
def test_a_text_that_stands_for_nothing_says_what_would_do(name: str, text: str, allowed: str):
    with pytest.raises(BadInput, match=allowed) as raised:
        parsed(TABLE[name], text)
    assert name in str(raised.value)
    assert len(str(raised.value)) < 250


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("text-size", True),
        ("text-size", 100.0),
        ("text-size", "100"),
        ("text-size", None),
        ("text-size", 10**400),
        ("temperature", float("nan")),
        ("keep-history", 1),
        ("appearance", None),
        ("appearance", ["dark"]),
        ("model", 5),
    ],
)
def test_a_value_of_another_kind_is_refused(name: str, found: object):
    with pytest.raises(BadInput, match=name):
        checked(TABLE[name], found)


# The file


def test_what_was_saved_is_there_again_and_only_that(path: Path):
    save(path, {"text-size": 120, "model": "/modèles/a b", "keep-history": False})
    document = load(path)
    assert document == {
        "version": 1,
        "values": {"text-size": 120, "model": "/modèles/a b", "keep-history": False},
    }
    assert kept(SIZE, document) == 120
    assert kept(DTYPE, document) is None
    assert [each.name for each in path.parent.iterdir()] == ["settings.json"]


def test_a_default_is_not_written_down(path: Path):
    save(path, {"text-size": 120, "model": "/a"})
    save(path, {"text-size": 100})
    assert values(path) == {"model": "/a"}


def test_no_file_is_an_empty_one(path: Path):
    assert load(path) == {"version": 1, "values": {}}
    assert not path.exists()


def test_what_a_newer_version_wrote_stays(path: Path):
    newer = {"version": 7, "values": {"hologram": [1, {"a": None}], "appearance": "sepia"}, "more": {"x": 1}}
    put(path, json.dumps(newer))
    save(path, {"text-size": 120})
    newer["values"]["text-size"] = 120
    assert load(path) == newer


def test_a_value_that_only_a_newer_version_has_is_ignored_with_a_sentence(path: Path):
    put(path, '{"version": 2, "values": {"appearance": "sepia", "text-size": 120}}')
    document = load(path)
    with pytest.raises(BadInput, match="appearance is 'sepia'; it must be one of"):
        kept(TABLE["appearance"], document)
    assert kept(SIZE, document) == 120


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"version": 1, "values": {"text-size": 1',
        b"[]",
        b"null",
        b'{"version": 1}',
        b'{"values": []}',
        b"\xff\xfe\x00",
        b"\0" * 500,
        b"[" * 200_000,
        b" " * (settings.LARGEST + 1),
    ],
    ids=range(11),
)
def test_a_damaged_file_is_a_sentence_and_is_kept_aside_when_it_is_written(path: Path, text: bytes):
    put(path, text)
    with pytest.raises(BadInput, match="damaged"):
        load(path)
    save(path, {"text-size": 120})
    assert values(path) == {"text-size": 120}
    (aside,) = path.parent.glob("settings.damaged-*.json")
    assert aside.read_bytes() == text


def test_a_byte_order_mark_does_no_harm(path: Path):
    put(path, b'\xef\xbb\xbf{"values": {"text-size": 120}}')
    assert kept(SIZE, load(path)) == 120


def test_a_program_that_dies_while_it_writes_leaves_the_old_file(path: Path, monkeypatch):
    save(path, {"text-size": 120})

    def power_cut(_fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", power_cut)
    with pytest.raises(KeyboardInterrupt):
        save(path, {"text-size": 150})
    monkeypatch.undo()
    assert values(path) == {"text-size": 120}
    save(path, {"text-size": 150})
    assert values(path) == {"text-size": 150}


def test_a_full_disk_is_a_sentence_and_leaves_the_old_file(path: Path, monkeypatch):
    save(path, {"text-size": 120})

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CraneError, match="No space left"):
        save(path, {"text-size": 150})
    assert values(path) == {"text-size": 120}
    assert [each.name for each in path.parent.iterdir()] == ["settings.json"]


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path):
    (tmp_path / "crane").write_text("a file where the folder should be")
    with pytest.raises(CraneError, match="cannot be saved at"):
        save(tmp_path / "crane" / "settings.json", {"text-size": 120})


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="nothing forbids it to this user")
def test_a_folder_that_is_read_only_is_a_sentence(path: Path):
    path.parent.mkdir(mode=0o500)
    with pytest.raises(CraneError, match="cannot be saved at"):
        save(path, {"text-size": 120})


def test_a_folder_in_the_files_place_cannot_be_read(path: Path):
    path.mkdir(parents=True)
    with pytest.raises(CraneError, match="cannot be read"):
        load(path)


@pytest.mark.skipif(sys.platform == "win32", reason="files there have no such permissions")
def test_nobody_else_may_read_the_file(path: Path):
    save(path, {"system-prompt": "secret"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="links there need a right of their own")
def test_a_link_stays_a_link(path: Path, tmp_path: Path):
    path.parent.mkdir()
    path.symlink_to(tmp_path / "dotfiles.json")
    save(path, {"text-size": 120})
    assert path.is_symlink()
    assert values(tmp_path / "dotfiles.json") == {"text-size": 120}


@pytest.mark.skipif(sys.platform != "linux", reason="only there are names any bytes")
def test_a_folder_whose_name_is_no_text_comes_back(path: Path):
    folder = os.fsdecode(b"/models/\xff\xfe")
    save(path, {"model": folder})
    assert os.fsencode(kept(MODEL, load(path))) == b"/models/\xff\xfe"


@given(st.dictionaries(st.text(max_size=20), st.none() | st.booleans() | st.text() | st.lists(st.integers())))
def test_unknown_settings_come_back_whatever_they_are(tmp_path_factory, unknown: dict):
    path = tmp_path_factory.mktemp("settings") / "settings.json"
    unknown = {name: each for name, each in unknown.items() if name not in TABLE}
    path.write_text(json.dumps({"version": 1, "values": unknown}), "utf-8")
    save(path, {"text-size": 120})
    assert values(path) == {**unknown, "text-size": 120}


# Flags, variables, the file, the default


def flag(*argv: str, name: str = "dtype") -> object:
    parser = argparse.ArgumentParser(exit_on_error=False)
    settings.add_flags(parser, "model", "backend", "device", "dtype", "text-size", "keep-history")
    return getattr(parser.parse_args(argv), name.replace("-", "_"))


def test_a_flag_stands_above_a_variable_above_the_file_above_the_default(users: Path, monkeypatch):
    assert flag() is None
    save(users, {"dtype": "float16"})
    assert flag() == "float16"
    monkeypatch.setenv("CRANE_DTYPE", "bfloat16")
    assert flag() == "bfloat16"
    assert flag("--dtype", "float32") == "float32"


def test_values_from_the_file_keep_their_type(users: Path, monkeypatch):
    save(users, {"text-size": 120, "keep-history": False})
    assert flag(name="text-size") == 120
    assert flag(name="keep-history") is False
    monkeypatch.setenv("CRANE_KEEP_HISTORY", "yes")
    monkeypatch.setenv("CRANE_TEXT_SIZE", "150")
    assert flag(name="keep-history") is True
    assert flag(name="text-size") == 150


def test_an_empty_variable_is_none(users: Path, monkeypatch):
    monkeypatch.setenv("CRANE_DTYPE", "")
    save(users, {"dtype": "float16"})
    assert value(DTYPE) == "float16"


@pytest.mark.parametrize(("name", "text"), [("text-size", "300"), ("keep-history", "perhaps"), ("dtype", "int4")])
def test_a_bad_flag_is_told_with_what_it_may_be(users: Path, name: str, text: str):
    with pytest.raises(argparse.ArgumentError) as raised:
        flag(f"--{name}", text)
    assert f"'{text}'" in str(raised.value)
    assert settings.allowed(TABLE[name]) in str(raised.value)
    assert variable(TABLE[name]) in str(raised.value)


@pytest.mark.parametrize("text", ["{", '{"values": {"dtype": "int4", "device": 7}}'])
def test_a_bad_file_is_told_and_the_default_holds(users: Path, caplog, text: str):
    put(users, text)
    with caplog.at_level(logging.WARNING):
        assert flag() is None
        assert flag(name="device") == "auto"
    assert caplog.messages
    assert len(caplog.messages) == len(set(caplog.messages))
    assert all(str(users) in told for told in caplog.messages)
    assert users.read_text() == text


def test_a_bad_file_does_not_matter_where_a_flag_says_it(users: Path, caplog):
    put(users, '{"values": {"dtype": "int4"}}')
    with caplog.at_level(logging.WARNING):
        assert flag("--dtype", "float32") == "float32"
    assert caplog.messages == []


def test_the_files_place_is_the_users_own():
    assert settings.settings_path().name == "settings.json"
    assert settings.settings_path().parent.name == "crane"
    assert Path(os.environ["HOME"]) in settings.settings_path().parents
