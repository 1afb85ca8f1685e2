"""What a person calls a model, and where it is."""

from pathlib import Path

import pytest

from crane_app.errors import ModelNotFound
from crane_app.library.whereabouts import place, title
from tests.library.test_models_on_disk import in_cache, write

ID = "Qwen/Qwen3-0.6B"


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.delenv("CRANE_MODEL_FOLDERS", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


@pytest.mark.parametrize("said", [ID, "qwen/qwen3-0.6b", "Qwen3-0.6B", "qwen3-0.6b"])
def test_a_model_of_the_cache_is_found_by_its_id_or_the_last_part_of_it(cache, said):
    folder = in_cache(cache, ID)
    assert place(said) == folder
    assert title(folder) == ID


def test_a_folder_of_that_name_comes_first(cache, tmp_path):
    in_cache(cache, ID)
    own = write(tmp_path / "Qwen" / "Qwen3-0.6B")
    assert place(ID) == own
    assert title(own) == "Qwen3-0.6B"


def test_a_name_that_two_have_is_not_guessed(cache):
    in_cache(cache, "a/Bird")
    in_cache(cache, "b/Bird")
    with pytest.raises(ModelNotFound, match=r"Here are: a/Bird, b/Bird\.$"):
        place("Bird")


def test_what_is_not_here_is_said_with_what_is_and_how_to_get_it(cache):
    with pytest.raises(ModelNotFound, match=f"There are none here yet. To get it: crane models get {ID}$"):
        place(ID)
    with pytest.raises(ModelNotFound, match=r"There are none here yet\. To get one: crane models get [\w./-]+$"):
        place("nothing.gguf")
    for name in "abcdefgh":
        in_cache(cache, f"birds/{name}")
    with pytest.raises(ModelNotFound, match=r"Here are: birds/a, .*, birds/f and 2 more. To get it"):
        place(ID)


def test_a_path_that_is_wrong_is_called_a_path(tmp_path):
    with pytest.raises(ModelNotFound, match=r"There is no model folder at /no/such/model. Name a folder"):
        place("/no/such/model")
