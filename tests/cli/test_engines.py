"""Which engine `generate` uses: the running one, unless something speaks against it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from crane_app.cli.main import main
from crane_app.engine.engine import Engine
from crane_app.errors import CraneError, Unsupported
from tests.chat_checkpoint import write_chat


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_chat(tmp_path_factory.mktemp("engines") / "tiny")


class Running(Engine):
    """The running engine, as a client sees it: to close is to leave."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 0

    def close(self, drain: bool = True) -> None:
        self.left += 1


@pytest.fixture
def running(monkeypatch) -> Iterator[Running]:
    engine = Running()

    def connect(new_engine: bool = False, start: bool = True) -> Running:
        assert not new_engine
        assert not start
        return engine

    monkeypatch.setattr("crane_app.engine.process.client.connect", connect)
    yield engine
    Engine.close(engine, drain=False)


def told(capsys, folder, *argv: str) -> tuple[Any, str]:
    """The JSON object, and what is on stderr."""
    assert main(["generate", "-m", str(folder), "--tokens", "5", "--max-tokens", "3", "--json", *argv]) == 0
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def test_the_running_engine_is_used_and_said_to_be(capsys, folder, running):
    first, said = told(capsys, folder, "--cpu", "--dtype", "float32")
    assert "using the running engine (pid " in said
    assert running.left == 1
    assert [(card.name, card.dtype) for card in running.models()] == [("tiny", "float32")]
    again, _ = told(capsys, folder)  # as it is loaded there, since nothing else was asked for
    assert (again["dtype"], again["tokens"]) == ("float32", first["tokens"])
    by_name, _ = told(capsys, "tiny")
    assert by_name["tokens"] == first["tokens"]
    assert running.stats().tokens == 9


def test_one_of_its_own_where_that_is_asked_for(capsys, folder, running):
    _, said = told(capsys, folder, "--cpu", "--new-engine")
    assert said == ""
    assert running.models() == []


@pytest.mark.parametrize("flags", [["--dtype", "bfloat16"], ["--backend", "mlx"]])
def test_one_of_its_own_where_the_model_is_loaded_otherwise(capsys, folder, running, flags):
    if "mlx" in flags:
        pytest.importorskip("mlx.core", exc_type=ImportError)
    told(capsys, folder, "--cpu", "--dtype", "float32", "--backend", "torch")
    got, said = told(capsys, folder, "--cpu", *flags)
    assert flags[1] in (got["dtype"], got["backend"])
    assert said == ""
    assert running.stats().tokens == 3


def test_a_draft_model_is_loaded_with_the_model_and_changes_no_token(capsys, folder, running, tmp_path):
    """A running engine that has the model without it is not what was asked for."""
    small = write_chat(tmp_path / "small")
    first, _ = told(capsys, folder)
    again, said = told(capsys, folder, "--draft-model", str(small))
    assert "running engine" not in said
    assert "small goes ahead of it" in said
    assert again["tokens"] == first["tokens"]
    running.unload("tiny")
    told(capsys, folder, "--draft-model", str(small))
    assert [card.draft for card in running.models()] == [str(small)]
    _, said = told(capsys, folder)
    assert "using the running engine" in said


def test_a_draft_model_that_is_not_here_is_named(capsys, folder, running, tmp_path):
    assert main(["generate", "-m", str(folder), "--tokens", "5", "--draft-model", str(tmp_path / "no")]) == 1
    assert f"no model folder at {tmp_path / 'no'}" in capsys.readouterr().err
    assert running.models() == []


def test_two_folders_of_one_name(capsys, folder, running, tmp_path):
    other = write_chat(tmp_path / "tiny")
    told(capsys, folder, "--cpu")
    told(capsys, other, "--cpu")
    assert {card.folder for card in running.models()} == {str(folder), str(other)}


@pytest.mark.parametrize("error", [CraneError("No engine is running."), Unsupported("It is of another version.")])
def test_one_of_its_own_where_none_can_be_used(capsys, folder, monkeypatch, error):
    def connect(**_: Any) -> None:
        raise error

    monkeypatch.setattr("crane_app.engine.process.client.connect", connect)
    assert told(capsys, folder, "--cpu")[1] == ""


def test_a_model_that_was_downloaded_is_named_by_its_id(capsys, monkeypatch, tmp_path, running):
    # GIVEN a model in the cache
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    write_chat(tmp_path / "models--birds--tiny" / "snapshots" / ("a" * 40))
    # WHEN it is named as it was when it was downloaded, THEN it answers, and is called so
    told(capsys, "birds/tiny", "--cpu", "--dtype", "float32")
    assert [card.name for card in running.models()] == ["birds/tiny"]
    # AND is the loaded one, also by the last part of its id
    told(capsys, "tiny")
    assert len(running.models()) == 1
    # AND one that is not here is not looked for in the engine's folder
    assert main(["generate", "-m", "birds/big", "--prompt", "hi"]) == 1
    assert capsys.readouterr().err.endswith(
        "There is no model 'birds/big' on this computer, nor a folder or a file of that name. Here are: birds/tiny. "
        "To get it: crane models get birds/big\n"
    )
