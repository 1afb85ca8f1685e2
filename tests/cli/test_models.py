"""`crane models` against a hub on this machine."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Type

from crane_app.cli.main import main
from crane_app.engine.loading import load
from crane_app.library import catalogue, fit, hub_cache, notes
from crane_app.models.registry import MODULES
from tests.engine.test_loading_gguf import wide
from tests.gguf_checkpoint import write_gguf
from tests.library.hub import CONFIG, Drop, Hold, Hub, Say, sha256
from tests.library.test_models_on_disk import write
from tests.models.scramble import golden

REPO = "Qwen/Qwen3-0.6B"
NAME = "model.safetensors"
WEIGHTS = bytes(range(256)) * 1024
FILES = {"config.json": CONFIG, "README.md": b"---\nlicense: mit\n---\n", NAME: WEIGHTS}


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "CRANE_HUB_ENDPOINT", "CRANE_PROXY", "CRANE_MODEL_FOLDERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def hub(monkeypatch):
    with Hub() as made:
        made.put(REPO, dict(FILES))
        monkeypatch.setenv("HF_ENDPOINT", made.address)
        yield made


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "hub"


def said(capsys, *words: str) -> tuple[int, str, str]:
    status = main(["models", *words])
    out, err = capsys.readouterr()
    return status, out, err


def as_json(capsys, *words: str):
    status, out, err = said(capsys, *words, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def test_get_brings_a_model_and_list_shows_it(hub, cache, capsys):
    status, out, err = said(capsys, "get", REPO)
    folder = hub_cache.folder_of(cache, REPO) / "snapshots" / ("c" * 40)
    assert (status, out, err) == (0, f"{folder}\n", "")
    assert (folder / NAME).read_bytes() == WEIGHTS
    assert said(capsys, "list")[1] == f"{REPO}  chat  262 kB  mit\n"
    [listed] = as_json(capsys, "list")["models"]
    assert (listed["repo"], listed["nbytes"], listed["folder"]) == (REPO, len(WEIGHTS), str(folder))


def test_get_as_json_tells_what_came(hub, capsys):
    assert as_json(capsys, "get", REPO)["architecture"] == "Qwen3ForCausalLM"


def test_a_named_mirror_is_asked(hub, capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert said(capsys, "get", REPO, "--hub-endpoint", hub.address)[0] == 0
    monkeypatch.setenv("CRANE_HUB_ENDPOINT", hub.address)
    assert said(capsys, "get", REPO)[0] == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("get", "no/such"), "There is no model no/such on"),
        (("get", "../x"), "'../x' is no model's id"),
        (("get", REPO, "--revision", "v9"), "has no revision 'v9'"),
        (("get", REPO, "--hub-endpoint", "ftp://x"), "is no address of a hub"),
        (("get", REPO, "--proxy", "nonsense"), "is no address of a proxy"),
        (("info", "no/such"), "There is no model no/such on"),
        (("verify", "no/such"), "There is no model 'no/such' on this computer."),
        (("remove", "no/such"), "There is no model 'no/such' on this computer."),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_status_1(hub, capsys, words, sentence):
    status, out, err = said(capsys, *words)
    assert (status, out) == (1, "")
    assert err.startswith("crane: ")
    assert sentence in err


def test_nothing_here_yet_points_the_way(capsys):
    assert said(capsys, "list")[1].startswith("There are no models on this computer yet.")
    status, out, _ = said(capsys, "list", "--offers")
    assert status == 0
    assert REPO in out


def test_offers_are_models_that_run():
    for offer in catalogue.OFFERS:
        assert hub_cache.valid(offer.repo)
        assert offer.runs == (offer.architecture in MODULES)
    assert catalogue.find("qwen/qwen3-0.6b").repo == REPO


def test_info_knows_what_is_here(hub, capsys, tmp_path):
    said(capsys, "get", REPO)
    about = said(capsys, "info", REPO)[1]
    assert "architecture Qwen3ForCausalLM" in about
    assert "licence      mit" in about
    assert "context      4096 tokens" in about
    folder = write(tmp_path / "mine")
    assert as_json(capsys, "info", str(folder))["architecture"] == "Qwen3ForCausalLM"


@pytest.mark.parametrize("kind", [Type.Q4_0, Type.Q8_0, Type.Q4_K, Type.Q5_0, Type.Q5_K], ids=lambda kind: kind.name)
def test_info_tells_what_a_gguf_file_takes_loaded_as_the_settings_say(
    capsys, tmp_path, monkeypatch, backend_name, kind
):
    for name, value in {"BACKEND": backend_name, "DEVICE": "cpu", "DTYPE": "float32"}.items():
        monkeypatch.setenv(f"CRANE_{name}", value)
    file, (config, shapes) = tmp_path / "model.gguf", wide("qwen3")
    write_gguf(file, config, shapes, kind)
    about = as_json(capsys, "info", str(file))
    taken = load(file, backend_name, "cpu", "float32").nbytes
    assert about["needed"] - about["cache"] - fit.RUNTIME == pytest.approx(taken, rel=0.02)


def test_info_counts_the_weights_of_a_draft_model(capsys, tmp_path, monkeypatch):
    large, small = (golden("qwen3").write(tmp_path / name) for name in ("large", "small"))
    alone = as_json(capsys, "info", str(large))["needed"]
    monkeypatch.setenv("CRANE_DRAFT_MODEL", str(small))
    about = as_json(capsys, "info", str(large))
    loaded = load(small, "torch", "cpu")
    assert about["needed"] - alone == loaded.nbytes
    assert "small, counted in the memory" in said(capsys, "info", str(large))[1]


def test_info_asks_the_hub_for_what_is_not_here(hub, capsys):
    about = as_json(capsys, "info", REPO)
    assert [file["name"] for file in about["files"]] == ["README.md", "config.json", NAME]
    assert about["licence"] == "apache-2.0"  # as the list of offers says
    assert "not yet; crane models get" in said(capsys, "info", REPO)[1]
    assert hub.sent[NAME] == 0


def test_folders_of_the_settings_are_listed(capsys, tmp_path, monkeypatch):
    write(tmp_path / "mine")
    monkeypatch.setenv("CRANE_MODEL_FOLDERS", str(tmp_path / "mine"))
    assert said(capsys, "list")[1] == "mine  chat  1 kB\n"


def test_a_download_that_broke_off_is_listed_and_given_up(hub, capsys, cache):
    hub.next(NAME, Drop(1000), Say(403))
    assert said(capsys, "get", REPO)[0] == 1
    assert said(capsys, "list")[1] == f"{REPO}: 1 kB of 262 kB are here; crane models get {REPO}\n"
    assert said(capsys, "remove", REPO)[0] == 1  # not without --yes, where nobody can be asked
    assert as_json(capsys, "remove", REPO, "--yes") == {"removed": REPO}
    assert notes.every(cache) == ()
    assert not hub_cache.folder_of(cache, REPO).exists()


def test_a_model_is_removed_whole(hub, capsys, cache):
    said(capsys, "get", REPO)
    assert said(capsys, "remove", REPO, "--yes")[0] == 0
    assert not hub_cache.folder_of(cache, REPO).exists()


def test_no_name_is_no_model(capsys, monkeypatch, tmp_path):
    # GIVEN a model that was imported, and so has no id on the hub
    folder = write(tmp_path / "own" / "mine")
    monkeypatch.setattr("crane_app.library.models.own_folder", lambda: tmp_path / "own")
    # WHEN the name is empty, as of a script's variable that was never set THEN nothing is removed
    status, _, err = said(capsys, "remove", "", "--yes")
    assert status == 1
    assert "There is no model" in err
    assert folder.exists()


def test_a_folder_of_ones_own_is_not_removed(capsys, tmp_path):
    folder = write(tmp_path / "mine")
    status, _, err = said(capsys, "remove", str(folder), "--yes")
    assert status == 1
    assert f"Delete it there: {folder}" in err
    assert folder.exists()


@pytest.mark.parametrize(("answer", "gone"), [("y\n", True), ("no\n", False), ("", False)])
def test_on_a_terminal_it_is_asked_first(hub, capsys, cache, monkeypatch, answer, gone):
    said(capsys, "get", REPO)
    terminal = io.StringIO(answer)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    status, _, err = said(capsys, "remove", REPO)
    assert err.startswith(f"This will delete {REPO} (262 kB) for good. Go on? [y/N] ")
    assert (status == 0) is gone
    assert hub_cache.folder_of(cache, REPO).exists() is not gone


def test_verify_finds_what_is_damaged(hub, capsys, cache):
    said(capsys, "get", REPO)
    assert said(capsys, "verify", REPO)[:2] == (0, f"{REPO} is whole.\n")
    (hub_cache.folder_of(cache, REPO) / "blobs" / sha256(WEIGHTS)).write_bytes(b"x" * len(WEIGHTS))
    status, out, _ = said(capsys, "verify", REPO)
    assert status == 1
    assert out == f"Damaged, and thrown away: {NAME}. crane models get {REPO} brings it anew.\n"


def test_progress_is_shown_on_a_terminal_alone(hub, capsys, monkeypatch):
    assert said(capsys, "get", REPO)[2] == ""
    hub.put(REPO, FILES, commit="d" * 40)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert "100 %  262 kB of 262 kB" in said(capsys, "get", REPO)[2]


# As a program of its own


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "crane_app", "models", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


def came(cache: Path) -> int:
    part = hub_cache.folder_of(cache, REPO) / "blobs" / f"{sha256(WEIGHTS)}{hub_cache.INCOMPLETE}"
    return part.stat().st_size if part.exists() else 0


def until_held(hub: Hub, cache: Path, child: subprocess.Popen[str], nbytes: int) -> None:
    """Until the child has written all that the hub let it have."""
    import time

    hub.wait_held()
    end = time.monotonic() + 20
    while came(cache) < nbytes:
        assert child.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_download_survives_kill_9(hub, cache, capsys):
    # GIVEN a download in another process, in the middle
    hub.next(NAME, Hold(100_000))
    child = start("get", REPO)
    until_held(hub, cache, child, 100_000)
    # WHEN that process is killed
    child.kill()
    child.communicate()
    # THEN it is known what is missing
    [left] = notes.every(cache)
    assert (left.repo, left.missing) == (REPO, (NAME,))
    # AND what had come is not sent again
    before = hub.sent[NAME]
    assert said(capsys, "get", REPO)[0] == 0
    assert hub.gets(NAME) == ["", "bytes=100000-"]
    assert hub.sent[NAME] - before == len(WEIGHTS) - 100_000
    assert (hub_cache.folder_of(cache, REPO) / "blobs" / sha256(WEIGHTS)).read_bytes() == WEIGHTS
    assert notes.every(cache) == ()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process")
def test_ctrl_c_keeps_what_came(hub, cache):
    hub.next(NAME, Hold(100_000))
    child = start("get", REPO)
    until_held(hub, cache, child, 100_000)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, "")
    assert err == "What has come is kept; the same command goes on with it.\ncrane: Stopped.\n"
    assert came(cache) == 100_000
