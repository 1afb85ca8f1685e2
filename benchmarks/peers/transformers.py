"""transformers, for `crane bench --vs transformers`: its own models in PyTorch, sdpa or eager, dynamic or static cache.

A plain greedy loop over the model's forward: no generate(), whose set-up would count against it. Each case tries every
form twice before it is measured and stays with the fastest. Needs: pip install transformers.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from crane_app.bench.serve import prompt, serve

FORMS = (("sdpa", False), ("eager", False), ("sdpa", True))  # attention, static cache


class Transformers:
    """See crane_app.bench.serve.Model."""

    def __init__(self, folder: str, backend: None, device: str, dtype: str, threads: int | None):
        from transformers import AutoModelForCausalLM

        if threads:
            torch.set_num_threads(threads)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa")
        self.model = model.eval().to({"metal": "mps"}.get(device, device))
        self.ready: dict = {}
        self.case = (0, 0, 0)
        self.chosen: Callable[[], float]

    @torch.inference_mode()
    def prefill(self, tokens: int) -> float:
        from transformers import DynamicCache

        self.model.set_attn_implementation("sdpa")
        ids = self._prompt(tokens, 1)
        start = time.perf_counter()
        out = self.model(ids, past_key_values=DynamicCache(), use_cache=True, logits_to_keep=1)
        out.logits[:, -1].argmax(-1).tolist()
        return time.perf_counter() - start

    @torch.inference_mode()
    def decode(self, context: int, batch: int, steps: int) -> float:
        if self.case != (context, batch, steps):
            runs = [self._form(context, batch, steps, *form) for form in FORMS]
            seconds = [[run() for run in runs] for _ in range(2)]
            best = [min(each) for each in zip(*seconds, strict=True)]
            self.chosen = runs[best.index(min(best))]
            self.case = (context, batch, steps)
        return self.chosen()

    def _form(self, context: int, batch: int, steps: int, attention: str, static: bool) -> Callable[[], float]:
        """Seconds of `steps` tokens for each row, from `context` positions on."""
        from transformers import DynamicCache, StaticCache

        model = self.model
        cache = StaticCache(model.config, max_cache_len=context + steps) if static else DynamicCache()
        model.set_attn_implementation(attention)
        model(self._prompt(context, batch), past_key_values=cache, use_cache=True, logits_to_keep=1)

        def run() -> float:
            model.set_attn_implementation(attention)
            _rewind(cache, context, static)
            token = torch.ones(batch, 1, dtype=torch.long, device=model.device)
            start = time.perf_counter()
            for _ in range(steps):
                out = model(token, past_key_values=cache, use_cache=True)
                token = out.logits[:, -1].argmax(-1, keepdim=True)
            token.tolist()
            return time.perf_counter() - start

        return run

    def _prompt(self, tokens: int, rows: int) -> torch.Tensor:
        ids = prompt(tokens, rows, self.model.config.vocab_size)
        return torch.from_numpy(ids).long().to(self.model.device)


def _rewind(cache, length: int, static: bool) -> None:
    """A static cache counts its positions in each layer."""
    if static:
        for layer in cache.layers:
            layer.cumulative_length.fill_(length)
    elif cache.get_seq_length() > length:
        cache.crop(length - cache.get_seq_length())


if __name__ == "__main__":
    serve(Transformers, ("transformers", "torch"))
