"""A tiny chat model: golden qwen3's weights, a byte-level tokenizer of exactly its 199 tokens, and ChatML.

    folder = write_chat(tmp_path / "tiny")
    engine.load(str(folder))

What it says is noise, the same noise each time. Its tokenizer knows ASCII, most of the first plane of Unicode, emoji
and the tags of reasoning models; a byte it does not know is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from tests.models.scramble import golden

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAGS = ("<think>", "</think>")  # markup, but not special: it is shown
CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking %}
        {{- '<think>\\n' }}
    {%- endif %}
{%- endif %}
"""
SIZE = 199
# Printable ASCII and white space, then what follows the first byte of a character, then first bytes.
BYTES = (*range(0x20, 0x7F), 0x09, 0x0A, 0x0D, *range(0x80, 0xC0))
FIRST = (0xC2, 0xC3, 0xCE, 0xCF, 0xD0, 0xD1, 0xD7, 0xD8, 0xD9, *range(0xE1, 0xF0), 0xF0)
MERGES = (("t", "h"), ("th", "e"), ("a", "n"), ("i", "n"), ("e", "r"), ("o", "n"), ("r", "e"))


def library() -> tokenizers.Tokenizer:
    """Byte-level BPE: <|endoftext|> is 0, <|im_start|> 1, <|im_end|> 2."""
    letters = _letters()
    tokens = [*SPECIALS, *TAGS, *(letters[byte] for byte in (*BYTES, *FIRST)), *("".join(m) for m in MERGES)]
    assert len(tokens) == len(set(tokens)) == SIZE
    made = tokenizers.Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, list(MERGES)))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(SPECIALS))
    made.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    return made


def write_chat(folder: Path, template: str | None = CHATML, context: int = 4096, **generation: Any) -> Path:
    """Write the model and return its folder. generation: more for generation_config.json.

    With `template` None it is a model that only goes on with a text: its family is one without a known template.
    """
    case = golden("qwen3" if template is not None else "llama")
    config = {**case.config, "max_position_embeddings": context, "eos_token_id": 2}
    replace(case, config=config).write(folder)
    library().save(str(folder / "tokenizer.json"))
    dump(folder / "generation_config.json", {"eos_token_id": [2, 0], "do_sample": False, **generation})
    names = {"eos_token": SPECIALS[2], "pad_token": SPECIALS[0], "tokenizer_class": "Qwen2Tokenizer"}
    dump(folder / "tokenizer_config.json", names | ({"chat_template": template} if template is not None else {}))
    return folder


def dump(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), "utf-8")


def _letters() -> dict[int, str]:
    """Byte -> its letter in byte-level spelling (openai/gpt-2, src/encoder.py, bytes_to_unicode)."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in own]
    return {byte: chr(byte) for byte in own} | {byte: chr(256 + i) for i, byte in enumerate(rest)}
