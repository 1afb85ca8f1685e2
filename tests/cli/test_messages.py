"""crane generate --messages: conversations from files, and what is wrong with some."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from crane_app.cli.main import main
from crane_app.cli.messages import LARGEST, read_messages, write_messages
from crane_app.errors import BadInput
from crane_app.pipelines.chat import Message
from tests.chat_checkpoint import write_chat

CHATS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_chat(tmp_path_factory.mktemp("chat") / "tiny")


def put(folder: Path, value: Any) -> Path:
    path = folder / "chat.json"
    path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return path


def generate(folder: Path, *argv: str) -> int:
    try:
        return main(["generate", "-m", str(folder), "--cpu", "--max-tokens", "3", *argv])
    except SystemExit as exit:
        return int(exit.code or 0)


def refused(capsys, folder: Path, *argv: str) -> str:
    """The one sentence with which it fails."""
    assert generate(folder, *argv) == 1
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.strip().splitlines()
    assert line.startswith("crane: ")
    assert len(line) < 500
    return line


@pytest.mark.parametrize(
    "value", [CHATS, {"messages": CHATS, "model": "x"}, b"\xef\xbb\xbf" + json.dumps(CHATS).encode()]
)
def test_a_conversation_goes_through_the_template(capsys, folder, tmp_path, value):
    assert generate(folder, "--messages", str(put(tmp_path, value)), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    typed = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert generate(folder, "-p", typed, "--json") == 0
    as_text = json.loads(capsys.readouterr().out)
    assert told["prompt_tokens"] < as_text["prompt_tokens"]  # typed markup is text, the template's is markup
    assert (len(told["tokens"]), told["finish_reason"]) == (3, "length")


def test_standard_input_is_a_file_too(capsys, folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(CHATS).encode())))
    assert generate(folder, "--messages", "-") == 0
    assert capsys.readouterr().out


def test_thinking_is_the_templates_business(capsys, folder, tmp_path):
    path = str(put(tmp_path, CHATS))
    counts = []
    for flag in ([], ["--no-think"], ["--think"]):
        assert generate(folder, "--messages", path, "--json", *flag) == 0
        counts.append(json.loads(capsys.readouterr().out)["prompt_tokens"])
    assert counts[0] == counts[1] < counts[2]
    assert "--messages" in refused(capsys, folder, "-p", "hello", "--think")


@pytest.mark.parametrize("other", [["-p", "x"], ["--tokens", "1"]])
def test_one_kind_of_prompt(capsys, folder, tmp_path, other):
    assert generate(folder, "--messages", str(put(tmp_path, CHATS)), *other) == 2
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "not JSON"),
        (b'[{"role": "user"', "not JSON"),
        (b"\xff\xfe[", "UTF-8"),
        (b"[" * 100_000, "nested"),
        (b"[" + b"9" * 5000 + b"]", "not JSON"),
        (b"3", "list of messages"),
        ({"text": "hello"}, "list of messages"),
        ([], "no message"),
        (["hello"], "Message 1"),
        ([{"role": "robot", "content": "x"}], "'robot'"),
        ([{"role": ["user"], "content": "x"}], "role"),
        ([{"role": "user", "content": None}], "Message 1 has no content"),
        ([*CHATS, {"role": "user", "content": 5}], "Message 3"),
        ([{"role": "user", "content": "a\ud800b"}], "U+D800) at character 1"),
        ([{"role": "user", "content": "a\x00b"}], "a NUL at character 1"),
        ([{"role": "user", "content": "word " * 200_000}], "context holds 4096"),
        ([{"role": "user", "content": "a" * (17 << 20)}], "characters"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_conversation(capsys, folder, tmp_path, value, said):
    assert said in refused(capsys, folder, "--messages", str(put(tmp_path, value)))


def test_a_file_that_is_not_there_or_is_too_large(capsys, folder, tmp_path):
    assert "none.json" in refused(capsys, folder, "--messages", str(tmp_path / "none.json"))
    assert "cannot be read" in refused(capsys, folder, "--messages", str(tmp_path))
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(LARGEST + 1)
    assert "larger" in refused(capsys, folder, "--messages", str(tmp_path / "large.json"))


def test_a_model_without_a_template(capsys, tmp_path):
    bare = write_chat(tmp_path / "bare", template=None)
    assert "--prompt" in refused(capsys, bare, "--messages", str(put(tmp_path, CHATS)))


def test_what_was_written_can_be_read(tmp_path):
    messages = [Message("user", "naïve 🦜\n\x1b"), Message("assistant", "\ud800?")]
    write_messages(tmp_path / "a.json", messages)
    assert read_messages(tmp_path / "a.json")[0] == messages[0].as_dict()
    assert read_messages(tmp_path / "a.json")[1]["content"] == "??"
    with pytest.raises(BadInput, match="cannot be written"):
        write_messages(tmp_path / "none" / "a.json", messages)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
