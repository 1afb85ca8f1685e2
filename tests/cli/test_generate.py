"""crane generate: text as it is made, one JSON object, and every wrong value refused before a model is loaded."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from crane_app.cli.main import main
from tests.models.scramble import golden, write_checkpoint

ROOT = Path(__file__).parents[2]
CASE = golden("qwen3")
TOKENS = ",".join(map(str, CASE.arrays["tokens"].tolist()))
KEYS = ["tokens", "text", "finish_reason", "prompt_tokens", "seed", "backend", "device", "dtype", "timing"]
TIMING = ["load_s", "ttft_s", "prefill_tps", "decode_tps"]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CRANE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a tokenizer and with a context that is not full in a second."""
    long = replace(CASE, config={**CASE.config, "max_position_embeddings": 2**20})
    return long.write(tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 300 tokens with a byte-level tokenizer; the end of a text is token 2 of the config."""
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<unk>", "<s>", "</s>"],
        show_progress=False,
    )
    library.train_from_iterator(["the cat sat on the mat and the dog sat on the log"] * 3, trainer)
    size = library.get_vocab_size()
    at = tmp_path_factory.mktemp("text") / "a model 🦜"
    shapes = {**CASE.shapes, "model.embed_tokens.weight": (size, 64)}
    write_checkpoint(at, {**CASE.config, "vocab_size": size}, shapes)
    library.save(str(at / "tokenizer.json"))
    return at


def run(folder: Path | str, *argv: str) -> int:
    try:
        return main(["generate", "--model", str(folder), "--cpu", *argv])
    except SystemExit as exit:
        return int(exit.code or 0)


def told(capsys: pytest.CaptureFixture[str], folder: Path, *argv: str) -> dict[str, Any]:
    """The one object on stdout."""
    assert run(folder, *argv, "--json") == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1
    return json.loads(out)


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line on stderr, after notes; nothing is on stdout, and no traceback anywhere."""
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert said.out == ""
    assert all(line.startswith("crane: note: ") for line in lines[:-1]), said.err
    assert lines[-1].startswith("crane: ")
    return lines[-1]


# What is told


def test_the_object_has_the_documented_keys(capsys, folder, backend_name):
    got = told(capsys, folder, "-p", "the cat", "--backend", backend_name, "--dtype", "float32", "--max-tokens", "5")
    assert list(got) == KEYS
    assert list(got["timing"]) == TIMING
    assert (got["backend"], got["device"], got["dtype"]) == (backend_name, "cpu", "float32")
    assert len(got["tokens"]) == 5
    assert got["finish_reason"] == "length"
    assert all(value > 0 for value in got["timing"].values())


def test_the_tokens_are_those_of_transformers(capsys, bare, backend_name):
    got = told(
        capsys,
        bare,
        "--tokens",
        TOKENS,
        "--backend",
        backend_name,
        "--dtype",
        "float32",
        "--max-tokens",
        "32",
        "--ignore-eos",
    )
    assert got["tokens"] == CASE.arrays["greedy"].tolist()
    assert got["prompt_tokens"] == len(CASE.arrays["tokens"])
    assert got["text"] == ""


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_on_both_backends(capsys, folder, backend_name, dtype):
    got = told(capsys, folder, "-p", "the", "--backend", backend_name, "--dtype", dtype, "--max-tokens", "3")
    assert got["dtype"] == dtype


def test_one_token_has_no_decoding_speed(capsys, bare):
    got = told(capsys, bare, "--tokens", "1", "--max-tokens", "1")
    assert got["timing"]["decode_tps"] is None
    assert len(got["tokens"]) == 1


@pytest.mark.parametrize("count", [1, 5, 20])
def test_log_probabilities_are_added_when_asked_for(capsys, bare, count):
    got = told(capsys, bare, "--tokens", TOKENS, "--logprobs", str(count), "--max-tokens", "4")
    assert list(got) == [*KEYS, "logprobs"]
    assert len(got["logprobs"]) == len(got["tokens"]) == 4
    for token, pairs in zip(got["tokens"], got["logprobs"], strict=True):
        assert all(pair.keys() == {"id", "logprob"} for pair in pairs)
        assert len(pairs) == count
        assert pairs[0]["id"] == token
        assert sum(np.exp(pair["logprob"]) for pair in pairs) <= 1 + 1e-5


def test_a_drawn_token_that_is_not_among_the_likeliest_is_told_too(capsys, bare):
    got = told(
        capsys, bare, "--tokens", TOKENS, "--logprobs", "1", "--max-tokens", "8", "--temperature", "50", "--seed", "1"
    )
    assert 2 in {len(pairs) for pairs in got["logprobs"]}
    for token, pairs in zip(got["tokens"], got["logprobs"], strict=True):
        assert token in {pair["id"] for pair in pairs}


def test_a_seed_that_was_drawn_can_be_given_again(capsys, bare):
    argv = ("--tokens", TOKENS, "--temperature", "1", "--max-tokens", "12")
    first, other = told(capsys, bare, *argv), told(capsys, bare, *argv)
    assert first["seed"] != other["seed"]
    assert told(capsys, bare, *argv, "--seed", str(first["seed"]))["tokens"] == first["tokens"]
    assert other["tokens"] != first["tokens"]


@pytest.mark.parametrize(
    "argv",
    [
        ["--top-k", "3", "--top-p", "0.5", "--min-p", "0.1"],
        ["--repetition-penalty", "1.3", "--repeat-last-n", "4", "--presence-penalty", "1", "--frequency-penalty", "-1"],
        ["--logit-bias", "5=2", "--logit-bias=9=-100"],
        ["--seed", str(2**63 - 1)],
    ],
    ids=lambda a: a[0],
)
def test_every_way_of_drawing_runs_on_both_backends(capsys, bare, backend_name, argv):
    told(capsys, bare, "--tokens", TOKENS, "--backend", backend_name, "--temperature", "1", "--max-tokens", "4", *argv)


def test_without_json_the_text_is_shown(capsys, folder):
    text = told(capsys, folder, "-p", "the cat sat", "--max-tokens", "20", "--ignore-eos")["text"]
    assert run(folder, "-p", "the cat sat", "--max-tokens", "20", "--ignore-eos") == 0
    assert capsys.readouterr().out == text + "\n"


def test_without_a_tokenizer_the_ids_are_shown(capsys, bare):
    assert run(bare, "--tokens", TOKENS, "--max-tokens", "3") == 0
    said = capsys.readouterr()
    assert [int(part) for part in said.out.split()] == CASE.arrays["greedy"].tolist()[:3]
    assert "tokenizer" in said.err


@pytest.mark.parametrize("prompt", [["--tokens", "1,2"], ["-p", "the cat"]], ids=["ids", "text"])
def test_what_is_made_is_shown_at_once(monkeypatch, folder, bare, prompt):
    """A pipe is flushed after every token, not when its buffer is full: somebody is watching."""
    shown: list[str] = []

    class Pipe(io.StringIO):
        def flush(self):
            shown.append(self.getvalue())

    monkeypatch.setattr(sys, "stdout", Pipe())
    assert run(bare if "--tokens" in prompt else folder, *prompt, "--max-tokens", "8", "--ignore-eos") == 0
    assert len(set(shown)) > 4


def test_aliases(capsys, folder):
    assert main(["generate", "--model-path", str(folder), "--prompt", "the", "--cpu", "--max-tokens", "1"]) == 0
    assert main(["generate", "-m", str(folder), "-p", "the", "--device", "cpu", "--max-tokens", "1"]) == 0
    capsys.readouterr()


def test_a_tilde_is_the_home_folder(capsys, bare, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").symlink_to(bare)
    assert run("~/model", "--tokens", "1", "--max-tokens", "1") == 0
    capsys.readouterr()


# Where it ends


def test_the_end_of_text_token_ends_it(capsys, folder):
    forced = ("-p", "the", "--logit-bias", "2=100", "--max-tokens", "4")
    got = told(capsys, folder, *forced)
    assert got["finish_reason"] == "stop"
    assert got["text"] == ""
    going = told(capsys, folder, *forced, "--ignore-eos")
    assert going["finish_reason"] == "length"
    assert going["tokens"] == [2, 2, 2, 2]


def test_a_stop_text_ends_it_and_is_not_shown(capsys, folder):
    argv = ("-p", "the cat", "--max-tokens", "30", "--ignore-eos", "--temperature", "1", "--seed", "4")
    whole = told(capsys, folder, *argv)["text"]
    stop = whole[6:9]
    got = told(capsys, folder, *argv, "--stop", stop, "--stop", "never to be seen")
    assert got["finish_reason"] == "stop"
    assert got["text"] == whole[: whole.index(stop)]
    assert len(got["tokens"]) < 30


def test_a_stop_text_that_does_not_come_changes_nothing(capsys, folder):
    argv = ("-p", "the cat", "--max-tokens", "12", "--ignore-eos")
    plain = told(capsys, folder, *argv)
    held = told(capsys, folder, *argv, "--stop", plain["text"] + "and more")
    assert (held["text"], held["tokens"], held["finish_reason"]) == (plain["text"], plain["tokens"], "length")


def test_the_context_ends_it(capsys, tmp_path):
    small = replace(CASE, config={**CASE.config, "max_position_embeddings": 10}).write(tmp_path)
    got = told(capsys, small, "--tokens", "1,2,3,4", "--max-tokens", "100", "--ignore-eos")
    assert len(got["tokens"]) == 6
    assert got["finish_reason"] == "length"
    assert run(small, "--tokens", TOKENS) == 1
    said = sentence(capsys)
    assert "23" in said
    assert "10" in said


def test_a_failure_under_way_is_told_as_error(capsys, bare, monkeypatch):
    """Whatever failed: stdout has its object, stderr its sentence."""

    def failing(*_, **__):
        raise RuntimeError("the device is gone")

    monkeypatch.setattr("crane_app.backends.runner.Runner.launch", failing)
    assert run(bare, "--tokens", "1", "--json") == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["finish_reason"] == "error"
    assert "the device is gone" in said.err.strip().splitlines()[-1]


def test_a_prompt_that_is_refused_is_told_as_error(capsys, bare):
    assert run(bare, "--tokens", "1,199", "--json") == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["finish_reason"] == "error"
    assert "199" in said.err


# What is refused


@pytest.mark.parametrize(
    ("flag", "values"),
    [
        ("--temperature", ["nan", "inf", "-inf", "-0.1", "x", ""]),
        ("--top-p", ["nan", "inf", "-0.1", "1.1", "x"]),
        ("--min-p", ["nan", "-0.1", "1.1"]),
        ("--repetition-penalty", ["nan", "inf", "0", "-1"]),
        ("--presence-penalty", ["nan", "inf", "3", "-3"]),
        ("--frequency-penalty", ["nan", "-inf", "3"]),
        ("--top-k", ["-1", "1.5", "nan", "x", "9" * 5000]),
        ("--repeat-last-n", ["-2", "x"]),
        ("--max-tokens", ["0", "-1", "1.5", "nan", "x"]),
        ("--seed", ["-1", "1.5", "x", str(2**64)]),
        ("--logprobs", ["-1", "21", "x"]),
        ("--stop", [""]),
        ("--logit-bias", ["5", "=1", "5=", "5=x", "x=1", "5=nan", "5=inf", "5=-inf", "-1=2"]),
        ("--backend", ["cuda", ""]),
        ("--dtype", ["int8", "fp16", ""]),
        ("--device", ["gpu", ""]),
    ],
)
def test_a_value_that_means_nothing_is_wrong_usage(capsys, flag, values):
    """Found before the folder is looked at."""
    for value in values:
        assert run("/nowhere", "--tokens", "1", f"{flag}={value}") == 2, f"{flag}={value:.20}"
        said = capsys.readouterr()
        assert flag in said.err
        assert "Traceback" not in said.err
        assert len(said.err) < 6000


def test_stop_texts_need_text(capsys, bare):
    assert run(bare, "--tokens", "1", "--stop", "x") in (1, 2)
    assert "--stop" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["--tokens", "1", "-p", "x"]])
def test_either_a_prompt_or_tokens(capsys, bare, argv):
    assert run(bare, *argv) == 2
    capsys.readouterr()


def test_a_prompt_needs_a_tokenizer(capsys, bare):
    assert run(bare, "-p", "the cat") == 1
    assert "tokenizer.json" in sentence(capsys)


@pytest.mark.parametrize("argv", [["-p", ""], ["--tokens", ""], ["--tokens", ","]])
def test_an_empty_prompt_is_refused(capsys, folder, argv):
    assert run(folder, *argv) in (1, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_no_model_is_named(capsys):
    assert main(["generate", "--tokens", "1"]) == 1
    assert "--model" in sentence(capsys)


def test_the_remote_backend_is_reserved(capsys, bare):
    assert run(bare, "--tokens", "1", "--backend", "remote") == 1
    assert "reserved" in sentence(capsys)


@pytest.mark.parametrize(("backend", "device"), [("torch", "metal"), ("mlx", "cuda")])
def test_a_device_of_the_other_backend(capsys, bare, backend, device):
    assert main(["generate", "-m", str(bare), "--tokens", "1", "--backend", backend, "--device", device]) == 1
    assert "--backend" in sentence(capsys)


def test_a_gpu_that_is_not_there(capsys, bare):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert main(["generate", "-m", str(bare), "--tokens", "1", "--backend", "torch", "--device", "cuda"]) == 1
    assert "GPU" in sentence(capsys)


# Odd text


@pytest.mark.parametrize(
    "prompt", ["🦜", "a\0b", "\ud800", "a\udcffb", "\u202e‮", "<|im_end|></s>", "日本語" * 50, "\n", " "]
)
def test_any_text_is_a_prompt(capsys, folder, prompt):
    got = told(capsys, folder, "-p", prompt, "--max-tokens", "3")
    assert got["prompt_tokens"] > 0


def test_markup_in_a_prompt_is_text(capsys, folder):
    """A person who types </s> does not end anything: it is four characters."""
    assert told(capsys, folder, "-p", "</s>", "--max-tokens", "1")["prompt_tokens"] == 4


# As a program


@pytest.fixture
def started() -> Iterator[Any]:
    """`crane generate ARGV` as a program of its own; killed at the end if it still runs."""
    running: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, *argv: str, **changed: str) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "crane_app",
            "generate",
            "-m",
            str(folder),
            "--backend",
            "torch",
            "--cpu",
            *argv,
        ]
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, cwd=ROOT, env={**os.environ, **changed}))
        return running[-1]

    yield start
    for one in running:
        if one.poll() is None:
            one.kill()
        one.communicate()


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to send")
def test_ctrl_c_tells_what_was_made(started, bare):
    program = started(bare, "--tokens", TOKENS, "--max-tokens", "1000000", "--ignore-eos", "--json")
    assert b"tokenizer" in program.stderr.readline()  # loaded
    time.sleep(0.5)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=30)
    got = json.loads(out)
    assert program.returncode == 130
    assert got["finish_reason"] == "cancelled"
    assert list(got) == KEYS
    assert got["tokens"][:32] == CASE.arrays["greedy"].tolist()[: len(got["tokens"])]
    assert b"Traceback" not in err


def test_a_bias_for_tokens_that_the_model_does_not_have(started, bare, backend_name):
    """It would be written past the end of the scores: in a program of its own, since that ends a program."""
    biases = [f"--logit-bias={token}=1" for token in (199, 2**32)]
    running = [started(bare, "--tokens", "1", "--max-tokens", "9", "--backend", backend_name, one) for one in biases]
    for bias, program in zip(biases, running, strict=True):
        _, err = program.communicate(timeout=60)
        said = err.decode().strip().splitlines()[-1]
        assert program.returncode in (1, 2), bias
        assert bias.split("=")[1] in said
        assert "did not expect" not in said


@pytest.mark.parametrize("seen", [0, 1])
@pytest.mark.skipif(os.name == "nt", reason="pipes end otherwise")
def test_a_reader_that_goes_away_is_no_fault(started, bare, folder, seen):
    """`crane generate | head`: with a little to say, and with a lot."""
    argv = (
        ("--tokens", TOKENS, "--max-tokens", "5") if not seen else ("-p", "the", "--max-tokens", "400", "--ignore-eos")
    )
    program = started(folder if seen else bare, *argv)
    program.stdout.read(seen)
    program.stdout.close()
    err = program.stderr.read().decode()
    program.wait(timeout=30)
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
    assert program.returncode in (0, 141)


@pytest.mark.parametrize("argv", [["--json"], []], ids=["json", "text"])
def test_a_terminal_that_knows_ascii_alone(started, folder, argv):
    """A character it cannot show is no reason to fail after the work is done."""
    odd = ("-p", "日本", "--max-tokens", "40", "--temperature", "2", "--seed", "3", "--ignore-eos")
    program = started(folder, *odd, *argv, PYTHONIOENCODING="ascii")
    out, err = program.communicate(timeout=60)
    assert program.returncode == 0, err.decode()
    assert b"Traceback" not in err
    if argv:
        assert len(json.loads(out)["tokens"]) == 40
