"""mlx-lm, for `crane bench --vs mlx_lm`: its own models and caches on MLX, one step ahead of the reader.

On Linux and with --cpu it computes on the CPU, where MLX is for correctness. Needs: pip install mlx-lm.
"""

from __future__ import annotations

import time
from pathlib import Path

from crane_app.bench.serve import prompt, serve

CHUNK = 2048  # of a prompt; mlx_lm.generate's prefill_step_size


class MlxLm:
    """See crane_app.bench.serve.Model."""

    def __init__(self, folder: str, backend: None, device: str, dtype: str, threads: int | None):
        import mlx.core as mx
        from mlx_lm.utils import load_model

        mx.set_default_device(mx.gpu if device == "metal" else mx.cpu)
        self.model, self.config = load_model(Path(folder))
        self.model.set_dtype(getattr(mx, dtype))
        mx.eval(self.model.parameters())
        self.ready: dict = {}
        self.case = (0, 0, 0)
        self.cache: list = []

    def prefill(self, tokens: int) -> float:
        ids = self._prompt(tokens, 1)
        start = time.perf_counter()
        self._fill(ids, self._caches(1)).tolist()
        return time.perf_counter() - start

    def decode(self, context: int, batch: int, steps: int) -> float:
        import mlx.core as mx

        if self.case != (context, batch, steps):
            self.cache = self._caches(batch)
            mx.eval(self._fill(self._prompt(context, batch), self.cache))
            self.case = (context, batch, steps)
        else:
            for layer in self.cache:
                layer.trim(steps)
        token = mx.ones((batch, 1), mx.int32)
        mx.eval(token)
        start = time.perf_counter()
        pending = self._step(token)
        for _ in range(steps - 1):
            ahead = self._step(pending)
            mx.eval(pending)
            pending = ahead
        mx.eval(pending)
        return time.perf_counter() - start

    def _step(self, token):
        import mlx.core as mx

        token = mx.argmax(self.model(token, cache=self.cache)[:, -1:], -1)
        mx.async_eval(token)
        return token

    def _fill(self, ids, cache):
        """Cache ids [B, L] in chunks; the first token [B]."""
        import mlx.core as mx

        for start in range(0, ids.shape[1] - 1, CHUNK):
            self.model(ids[:, start : min(start + CHUNK, ids.shape[1] - 1)], cache=cache)
            mx.eval([layer.state for layer in cache])
        return mx.argmax(self.model(ids[:, -1:], cache=cache)[:, -1], -1)

    def _caches(self, batch: int) -> list:
        from mlx_lm.models.cache import BatchKVCache, KVCache

        return [KVCache() if batch == 1 else BatchKVCache([0] * batch) for _ in self.model.layers]

    def _prompt(self, tokens: int, rows: int):
        import mlx.core as mx

        return mx.array(prompt(tokens, rows, self.config["vocab_size"]))


if __name__ == "__main__":
    serve(MlxLm, ("mlx-lm", "mlx"))
