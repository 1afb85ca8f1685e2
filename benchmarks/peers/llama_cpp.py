"""llama.cpp, for `crane bench --vs llama_cpp`, through llama-cpp-python: one row, flash attention on or off.

It reads GGUF: the model itself where that is one, else put one GGUF of the same model into its folder, or name it in
CRANE_BENCH_GGUF. Its bits are the file's own, whatever --dtype says. Needs: pip install llama-cpp-python.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from crane_app.bench.serve import prompt, serve
from crane_app.errors import ModelNotFound, Unsupported


class LlamaCpp:
    """See crane_app.bench.serve.Model. Both settings of flash attention are tried before a case is measured."""

    def __init__(self, folder: str, backend: None, device: str, dtype: str, threads: int | None):
        import llama_cpp

        self.path, self.threads, self.layers = gguf(Path(folder)), threads, 0 if device == "cpu" else -1
        self.library = llama_cpp
        self.ready: dict = {"file": self.path.name}
        self.models: list = []
        self.case: tuple[int, ...] = ()
        self._grow(64)

    def prefill(self, tokens: int) -> float:
        return self._fastest(("prefill", tokens), tokens, lambda model: self._prefill(model, tokens))

    def decode(self, context: int, batch: int, steps: int) -> float:
        if batch > 1:
            raise Unsupported("llama-cpp-python decodes one row at a time.")
        return self._fastest(("decode", context, steps), context + steps, lambda m: self._decode(m, context, steps))

    def _fastest(self, case: tuple, length: int, run) -> float:
        if self.case != case:
            self._grow(length)
            seconds = [min(run(model) for _ in range(2)) for model in self.models]
            order = sorted(range(len(seconds)), key=lambda i: seconds[i])
            self.models, self.case = [self.models[i] for i in order], case
        return run(self.models[0])

    def _prefill(self, model, tokens: int) -> float:
        ids = prompt(tokens, 1, model.n_vocab())[0].tolist()
        model.reset()
        start = time.perf_counter()
        model.eval(ids)
        self._drawn(model)
        return time.perf_counter() - start

    def _decode(self, model, context: int, steps: int) -> float:
        if model.n_tokens < context:
            model.reset()
            model.eval(prompt(context, 1, model.n_vocab())[0].tolist())
        model.n_tokens = context  # eval() cuts its cache there
        token = 1
        start = time.perf_counter()
        for _ in range(steps):
            model.eval([token])
            token = self._drawn(model)
        return time.perf_counter() - start

    def _drawn(self, model) -> int:
        logits = self.library.llama_get_logits_ith(model.ctx, -1)
        return int(np.ctypeslib.as_array(logits, (model.n_vocab(),)).argmax())

    def _grow(self, length: int) -> None:
        """Contexts with room for `length` positions; llama.cpp fixes it when it loads."""
        if self.models and self.models[0].n_ctx() >= length:
            return
        self.models = []
        for flash in (False, True):
            given = {"n_ctx": length, "n_gpu_layers": self.layers, "flash_attn": flash, "verbose": False}
            self.models.append(self.library.Llama(str(self.path), n_threads=self.threads, **given))


def gguf(folder: Path) -> Path:
    """The one file to read; ModelNotFound says where it is looked for."""
    named = os.environ.get("CRANE_BENCH_GGUF")
    found = [Path(named)] if named else [folder] if folder.is_file() else sorted(folder.glob("*.gguf"))
    if len(found) != 1 or not found[0].is_file():
        raise ModelNotFound(
            f"It needs one GGUF of the same model, in {folder} or named in CRANE_BENCH_GGUF; {len(found)} found. "
            "llama.cpp's convert_hf_to_gguf.py makes one."
        )
    return found[0]


if __name__ == "__main__":
    serve(LlamaCpp, ("llama-cpp-python",))
