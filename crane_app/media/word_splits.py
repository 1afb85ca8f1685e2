"""How byte-level tokenizers cut a text into words before they merge bytes, by the names that GGUF files give the ways.

Names: llama.cpp, src/llama-vocab.cpp; the patterns are those of each family's tokenizer.json.
"""

from __future__ import annotations

from dataclasses import dataclass

# transformers 5.23, models/qwen2/tokenization_qwen2.py
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_WORDS = QWEN2_WORDS.replace(r"\p{N}|", r"\p{N}{1,3}|")
TEKKEN_WORDS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK_WORDS = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)


@dataclass(frozen=True)
class Splitting:
    """How a text is cut before bytes are merged. words: patterns, each cutting what the one before left.

    gpt2: ByteLevel's own pattern comes last. whole: a word that is a token needs no merges. bos: a text begins with it.
    """

    words: tuple[str, ...] = ()
    nfc: bool = False
    digits: bool = False
    gpt2: bool = False
    whole: bool = False
    bos: bool = False


SPLITTINGS = {
    "qwen2": Splitting((QWEN2_WORDS,), nfc=True),
    "deepseek-r1-qwen": Splitting((QWEN2_WORDS,)),
    "llama-bpe": Splitting((LLAMA3_WORDS,), whole=True, bos=True),
    "smaug-bpe": Splitting((LLAMA3_WORDS,)),
    "tekken": Splitting((TEKKEN_WORDS,), whole=True, bos=True),
    "hunyuan-dense": Splitting(DEEPSEEK_WORDS),
    "deepseek-v3": Splitting(DEEPSEEK_WORDS),
    "smollm": Splitting(digits=True, gpt2=True),
    "gpt-2": Splitting(gpt2=True),
}
SAME = {"llama3": "llama-bpe", "llama-v3": "llama-bpe"}
# What files have that were made before pre-tokenizers had names.
UNNAMED = {"qwen2": "qwen2", "qwen3": "qwen2", "qwen3moe": "qwen2", "hunyuan-dense": "hunyuan-dense"}
