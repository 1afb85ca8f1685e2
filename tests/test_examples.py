"""The programs in examples/ do what they say, on a tiny model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.chat_checkpoint import write_chat

ROOT = Path(__file__).parents[1]


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, env=env, cwd=ROOT, timeout=120, encoding="utf-8", check=False
    )


def test_a_conversation_step_by_step(tmp_path):
    told = run("examples/chat.py", "-m", str(write_chat(tmp_path / "tiny")))
    assert told.returncode == 0, told.stderr
    shown = told.stdout
    assert "prompt templated: '<|im_start|>user\\nhello<|im_end|>\\n<|im_start|>assistant\\nHi, how are you?" in shown
    streamed, answer = re.search(r"assistant\\n'\n\n(.*)\nOutput: (.*)", shown, re.DOTALL).groups()  # type: ignore[union-attr]
    assert streamed.strip()
    assert re.sub(r"<\|\w+\|>\s*$", "", answer).strip() == streamed.strip()
    assert re.search(r"\d+ tokens read at [\d.]+ tok/s, \d+ made at [\d.]+ tok/s", told.stderr)


def test_without_a_model_it_says_where_it_looked(tmp_path):
    told = run("examples/chat.py", "--model-path", str(tmp_path / "none"))
    assert told.returncode == 1
    assert told.stderr.startswith("There is no model folder at")
    assert told.stdout == ""


def test_the_default_is_the_folder_of_the_readme():
    assert "checkpoints/Qwen2.5-0.5B-Instruct" in (ROOT / "examples" / "chat.py").read_text("utf-8")
