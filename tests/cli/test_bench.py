"""`crane bench` on a tiny model of random weights, with a real side process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crane_app.backends import installed
from crane_app.cli import bench
from crane_app.cli.main import main
from crane_app.engine import random_checkpoint
from tests.models.scramble import golden

FAST = ["--contexts", "8", "--batches", "1", "2", "--prompts", "8", "600", "--rounds", "2", "--steps", "2"]
LIBRARY = "mlx" if "mlx" in installed() else "torch"
HOW = ["--cpu", "--backend", LIBRARY, "--dtype", "float32", *FAST]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    small = {"hidden_size": 64, "intermediate_size": 96, "vocab_size": 199, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512}
    monkeypatch.setitem(random_checkpoint.CONFIGS, "tiny", random_checkpoint.CONFIGS["qwen3-0.6b"] | small | heads)
    return "tiny"


def test_the_json_has_every_figure(tiny: str, capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "--random-weights", tiny, "--remove", "--json", "--vs", "nobody", *HOW]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert set(report) == {"model", "setup", "load", "prefill", "decode", "memory", "skipped"}
    assert report["model"]["architecture"] == "Qwen3ForCausalLM"
    assert {"first_s", "again_s", "start_s", "files_dropped"} == set(report["load"]["crane"])
    assert [case["tokens"] for case in report["prefill"]] == [8, 600]
    assert report["prefill"][1]["refused"]["crane"] == "600 positions do not fit into the model's context of 512."
    assert [(case["context"], case["batch"]) for case in report["decode"]] == [(8, 1), (8, 2)]
    case = report["decode"][0]
    for figure in (case["tokens_per_s"]["crane"], case["share"], case["bandwidth"]):
        assert set(figure) == {"median", "low", "high", "rounds"}
        assert len(figure["rounds"]) == 2
        assert figure["low"] > 0
    assert case["bytes_per_token"] >= report["model"]["weights"]
    assert report["memory"]["crane"]["peak"] > report["model"]["weights"]
    assert report["setup"]["backend"] == LIBRARY
    assert "There is no peer 'nobody'" in report["skipped"]["nobody"]
    assert "There is no peer 'nobody'" in err
    assert not list(bench.cache_folder().iterdir())


def test_the_text_fits_and_the_weights_stay(tiny: str, capsys: pytest.CaptureFixture[str]):
    assert main(["bench", "--random-weights", tiny, "--threads", "1", *HOW]) == 0
    out, _ = capsys.readouterr()
    assert "first token, ms" in out
    assert "share of memory" in out
    assert "1 threads" not in out
    assert max(map(len, out.splitlines())) <= 130
    assert (bench.cache_folder() / tiny / "config.json").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "Name a model"),
        (["--model", "/nowhere"], "There is no model folder at"),
        (["--model", "x", "--random-weights", "qwen3-0.6b"], "two models"),
        (["--model", "x", "--remove"], "--remove is for"),
        (["--random-weights", "gpt-9"], "There are: qwen2.5-0.5b"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(flags, said, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.delenv("CRANE_MODEL", raising=False)
    assert main(["bench", *flags]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err.splitlines()[-1]


@pytest.mark.parametrize("flags", [["--rounds", "0"], ["--contexts"], ["--keep", "--remove"], ["--batches", "x"]])
def test_wrong_flags_are_wrong_usage(flags):
    with pytest.raises(SystemExit) as raised:
        main(["bench", *flags])
    assert raised.value.code == 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_ends_every_process(tmp_path: Path):
    folder = golden("qwen3").write(tmp_path)
    flags = ["--model", str(folder), "--cpu", "--backend", LIBRARY, "--rounds", "1000000", "--prompts", "8"]
    command = [sys.executable, "-m", "crane_app", "bench", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            while "prompt of" not in process.stderr.readline():
                assert process.poll() is None
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            assert children
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            assert "Stopped." in process.stderr.read()
        finally:
            process.kill()
    assert not [pid for pid in children if os.path.exists(f"/proc/{pid}")]  # noqa: PTH110


def test_the_packed_program_refuses_before_it_makes_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["bench", "--random-weights", "qwen3-0.6b"]) == 1
    assert "The packed Crane has no bench" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
