"""Conversations as files: names that every system takes, Markdown for people, JSON for `--messages`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crane_app.cli.messages import read_messages
from crane_app.library.chats import Attachment, Chats
from crane_app.library.export import DEVICES, LONGEST, as_markdown, file_name, write


@pytest.fixture
def chats():
    return Chats.in_memory()


@pytest.fixture
def chat(chats: Chats) -> int:
    """A question with a file, two versions of its answer, the second one shown."""
    number = chats.new("Cranes", "/models/Qwen3-0.6B", "Be brief.")
    question = chats.add(number, "user", "What flies?", attachments=[Attachment("notes.txt", "a\n```\nb")])
    chats.add(number, "assistant", "Planes.", question.id, model="/models/Qwen3-0.6B")
    chats.add(number, "assistant", "Cranes\0 \U0001f426.", question.id, model="/models/Qwen3-0.6B")
    return number


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("What is a crane?", "What is a crane.md"),
        ("a/b\\c:d", "a b c d.md"),
        ("../../etc/passwd", "etc passwd.md"),
        (".hidden", "hidden.md"),
        ("con", "_con.md"),
        ("NUL.txt", "_NUL.txt.md"),
        ("lpt¹", "_lpt¹.md"),
        ("console", "console.md"),
        ("", "Conversation.md"),
        (" . ", "Conversation.md"),
        ("Kraniche \U0001f426 鶴", "Kraniche \U0001f426 鶴.md"),
        ("family \U0001f468‍\U0001f469‍\U0001f467", "family \U0001f468‍\U0001f469‍\U0001f467.md"),
        ("bird \u200d", "bird.md"),
        ("fdp\u202egnp.exe", "fdp gnp.exe.md"),
        ("two\nlines\0", "two lines.md"),
        ("half \ud800", "half.md"),
    ],
)
def test_a_title_becomes_a_name_that_every_system_takes(title: str, name: str):
    assert file_name(title, ".md") == name


@given(st.text(max_size=300))
def test_no_title_makes_a_name_that_a_system_refuses(title: str):
    name = file_name(title, ".json")
    stem = name.removesuffix(".json")
    assert stem
    assert len(name.encode()) <= LONGEST + len("_.json")
    assert not set(name) & set('<>:"/\\|?*\0')
    assert stem == stem.strip(" .")
    assert stem.split(".")[0].lower() not in DEVICES


def test_markdown_says_who_said_what(chats: Chats, chat: int):
    text = as_markdown(chats.chat(chat), chats.path(chat))
    fenced = "notes.txt:\n````\na\n```\nb\n````"
    parts = ["# Cranes", "> Be brief.", "**You**", "What flies?", fenced, "**Crane** (Qwen3"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "Planes" not in text


def test_the_messages_flag_takes_an_exported_conversation(chats: Chats, chat: int, tmp_path: Path):
    write(chats, chat, "json", tmp_path / "chat.json")
    messages = read_messages(tmp_path / "chat.json")
    assert [message["role"] for message in messages] == ["system", "user", "assistant"]
    assert "notes.txt" in messages[1]["content"]
    assert messages[2]["content"] == "Cranes\ufffd \U0001f426."


def test_json_has_every_version(chats: Chats, chat: int, tmp_path: Path):
    write(chats, chat, "json", tmp_path / "chat.json")
    turns = json.loads((tmp_path / "chat.json").read_text("utf-8"))["turns"]
    assert [(turn["text"], turn["shown"]) for turn in turns[1:]] == [("Planes.", False), ("Cranes\0 \U0001f426.", True)]
    assert turns[0]["attachments"] == [{"name": "notes.txt", "text": "a\n```\nb"}]
