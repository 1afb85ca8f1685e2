"""Asks a model that knows one sentence, through everything that a real one goes through."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TextIO

QUESTION = "How do cranes fly?"
REPO = "Qwen/Qwen3-0.6B"


def answer_a_question(out: TextIO, _folder: Path) -> bool:
    """Says whether the answer is the sentence."""
    from crane_app.demo import one_sentence
    from crane_app.demo.pictures import compared
    from crane_app.engine.engine import Engine
    from crane_app.pipelines.chat import Chat, events

    print(f"Asking a model made for this, which knows one sentence: {QUESTION}", file=out)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="crane-demo-") as temporary:
        engine = Engine()
        try:
            folder = one_sentence.write(Path(temporary, "one-sentence"))
            for _ in events(engine.load(str(folder), "one-sentence")):
                pass
            found = "".join(Chat(engine, "one-sentence").reply([{"role": "user", "content": QUESTION}]))
        finally:
            engine.close(drain=False)
    took = time.perf_counter() - started
    right = compared(one_sentence.SENTENCE, found, f"{took:.1f} s with loading", out)
    print(f"For a model that knows more: crane models get {REPO}", file=out)
    return right
