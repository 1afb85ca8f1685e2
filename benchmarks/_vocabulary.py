"""A made-up vocabulary of byte-level BPE, of the size and the build of Qwen's: 151,387 merges, each of two tokens.

What is measured with it costs what a real one does; what is written with it means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from crane_app.media.tokenizer import BYTE_OF

MERGES = 151387
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LONGEST = 10  # characters of a token; the mean is some 7, as with Qwen
NORMAL, CONTROLS, UNUSED = 1, 3, 5  # gguf-py, TokenType
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Vocabulary:
    """tokens by id with their kinds, and merges in their order."""

    tokens: list[str]
    kinds: list[int]
    merges: list[str]

    def id(self, token: str) -> int:
        return self.tokens.index(token)


@cache
def vocabulary(size: int) -> Vocabulary:
    """Of `size` tokens: bytes, what merges make of them, control tokens, padding. The same every time."""
    random = np.random.default_rng(0)
    tokens = sorted(BYTE_OF)
    merges: list[str] = []
    known = set(tokens)
    count = min(MERGES, size - len(tokens) - len(CONTROL))
    while len(merges) < count:
        # Squared: the first tokens are the common ones, of which most others are made.
        for left, right in ((random.random((4096, 2)) ** 2) * len(tokens)).astype(int).tolist():
            made = tokens[left] + tokens[right]
            if len(made) > LONGEST or made in known or len(merges) == count:
                continue
            merges.append(f"{tokens[left]} {tokens[right]}")
            known.add(made)
            tokens.append(made)
    kinds = [NORMAL] * len(tokens) + [CONTROLS] * len(CONTROL)
    tokens += CONTROL
    padding = size - len(tokens)
    return Vocabulary(tokens + [f"[PAD{id}]" for id in range(len(tokens), size)], kinds + [UNUSED] * padding, merges)
