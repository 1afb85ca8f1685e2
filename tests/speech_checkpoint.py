"""A tiny speech model: golden Moonshine's weights, and a tokenizer of exactly its 96 tokens in the published manner.

    folder = write_speech(tmp_path / "ears")
    engine.load(str(folder))

What it hears is noise, the same noise each time.
"""

from __future__ import annotations

import json
import string
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers

from tests.models.moonshine.cases import Case, case

SPECIALS = ("<unk>", "<s>", "</s>")
LETTERS = (*string.ascii_letters, *string.digits, *".,;:!?'\"-()&%$")
MERGES = (("t", "h"), ("th", "e"), ("▁", "a"), ("i", "n"), ("e", "r"), ("o", "n"), ("▁", "the"), ("r", "e"))
BYTES = ("<0x41>", "<0x42>", "<0xC3>", "<0xA9>", "<0x0A>", "<0x20>", "<0x7A>", "<0xE2>")


def library() -> tokenizers.Tokenizer:
    """BPE over SentencePiece's pieces: <unk> is 0, <s> 1, </s> 2."""
    tokens = [*SPECIALS, "▁", *LETTERS, *("".join(merge) for merge in MERGES), *BYTES]
    assert len(tokens) == len(set(tokens)) == 96, len(set(tokens))
    made = tokenizers.Tokenizer(
        models.BPE({token: id for id, token in enumerate(tokens)}, list(MERGES), unk_token="<unk>", byte_fallback=True)
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(list(SPECIALS))
    return made


def write_speech(folder: Path, words: bool = True, eos: int | None = 2) -> Path:
    """Write the model and return its folder; without `words` it has no tokenizer, with `eos` None no end."""
    known = case("small")
    Case(known.name, {**known.config, "eos_token_id": eos}, known.shapes, known.arrays).write(folder)
    dump(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": eos, "decoder_start_token_id": 1})
    sound = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000, "do_normalize": False}
    dump(folder / "preprocessor_config.json", sound)
    if words:
        library().save(str(folder / "tokenizer.json"))
        names = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
        dump(folder / "tokenizer_config.json", names)
    return folder


def dump(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=1), "utf-8")
