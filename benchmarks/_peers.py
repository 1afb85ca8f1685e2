"""One other program, asked line by line for tokens a second; run by an interpreter that has it, and knows no Crane.

    python benchmarks/_peers.py openvino|mistralrs|transformers FILE THREADS

Answers `ready`, or `skipped` with the reason; then for each line `decode CONTEXT STEPS` or `prefill TOKENS` a number.
Prompts are drawn anew each time, so that no kept prefix helps.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from typing import Any

WORDS = 4000  # ids or letters are drawn from so many


class OpenVino:
    """OpenVINO GenAI, which reads the GGUF file and keeps its bits; 8-bit activations, as it chooses by itself."""

    def __init__(self, file: str, threads: int):
        import openvino_genai

        plan = openvino_genai.SchedulerConfig()
        plan.enable_prefix_caching = False
        self.library = openvino_genai
        given = {"INFERENCE_NUM_THREADS": threads, "scheduler_config": plan}
        self.model = openvino_genai.LLMPipeline(file, "CPU", **given)

    def _run(self, tokens: int, steps: int) -> Any:
        import numpy as np
        import openvino

        ids = np.array([random.choices(range(100, WORDS), k=tokens)], np.int64)
        given = self.library.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        config = self.library.GenerationConfig(max_new_tokens=steps, ignore_eos=True)
        return self.model.generate(given, config).perf_metrics

    def decode(self, context: int, steps: int) -> float:
        return 1000 / float(self._run(context, steps).get_tpot().mean)

    def prefill(self, tokens: int) -> float:
        return 1000 * tokens / float(self._run(tokens, 1).get_ttft().mean)


class MistralRs:
    """mistral.rs (Candle) on the GGUF file; prompts are words, whose number of tokens it tells."""

    def __init__(self, file: str, threads: int):
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        import mistralrs

        folder, _, name = file.rpartition("/")
        self.library = mistralrs
        which = mistralrs.Which.GGUF(quantized_model_id=folder, quantized_filename=name)
        self.model = mistralrs.Runner(which=which)
        self.each = 1.0  # tokens a letter
        self.each = self._run(200, 1).prompt_tokens / 200

    def _run(self, tokens: int, steps: int) -> Any:
        text = "".join(random.choices("etaoinshrdlu ", k=max(int(tokens / self.each), 1)))
        request = self.library.CompletionRequest(model="default", prompt=text, max_tokens=steps, temperature=0.0)
        return self.model.send_completion_request(request).usage

    def decode(self, context: int, steps: int) -> float:
        return float(self._run(context, steps).avg_compl_tok_per_sec)

    def prefill(self, tokens: int) -> float:
        return float(self._run(tokens, 1).avg_prompt_tok_per_sec)


class Transformers:
    """transformers in bfloat16 on the folder of safetensors."""

    def __init__(self, folder: str, threads: int):
        import torch
        import transformers

        torch.set_num_threads(threads)
        self.torch = torch
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()

    def _run(self, tokens: int, steps: int) -> tuple[float, float]:
        """Seconds of the prompt and of the steps after it."""
        ids = self.torch.tensor([random.choices(range(100, WORDS), k=tokens)])
        with self.torch.inference_mode():
            start = time.perf_counter()
            out = self.model(ids, use_cache=True, logits_to_keep=1)
            middle = time.perf_counter()
            for _ in range(steps):
                ids = out.logits[:, -1:].argmax(-1)
                out = self.model(ids, past_key_values=out.past_key_values, use_cache=True)
        return middle - start, time.perf_counter() - middle

    def decode(self, context: int, steps: int) -> float:
        return steps / self._run(context, steps)[1]

    def prefill(self, tokens: int) -> float:
        return tokens / self._run(tokens, 0)[0]


PEERS = {"openvino": OpenVino, "mistralrs": MistralRs, "transformers": Transformers}


def main(name: str, file: str, threads: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        peer = PEERS[name](file, int(threads))
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
        answers.write(json.dumps({"skipped": reason}) + "\n")
        return
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        word, *numbers = line.split()
        answers.write(json.dumps({"rate": getattr(peer, word)(*map(int, numbers))}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
