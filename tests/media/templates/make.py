"""Writes golden.json: what transformers makes of the conversations here, and the two tokenizers it is done with.

`python -m tests.media.templates.make` in an environment with transformers (the extra `oracle`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from crane_app.media.word_splits import QWEN2_WORDS

HERE = Path(__file__).parent
FAMILIES = ("chatml", "qwen25", "qwen3", "hunyuan", "llama3", "mistral")
KINDS = ("bytes", "pieces")
SPECIALS = [
    *("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eot_id|>", "[INST]", "[/INST]", "<｜hy_begin▁of▁sentence｜>", "<｜hy_User｜>", "<｜hy_Assistant｜>"),
    *("<｜hy_place▁holder▁no▁2｜>", "<｜hy_place▁holder▁no▁3｜>", "<｜hy_place▁holder▁no▁8｜>"),
]
TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
CORPUS = [
    "The cat sat on the mat, and it's the 2nd time!\n\nuser\nassistant\nsystem\n\n\n",
    "You are a helpful assistant. naïve café: 你好 world 🙂",
    '{"type": "function", "name": "weather", "arguments": {"town": "Zürich"}}',
]


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


SYSTEM = {"role": "system", "content": "You are terse & <b>bold</b>."}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'The weather in a "town" <now>',
        "parameters": {"type": "object", "properties": {"town": {"type": "string", "enum": ["Zürich", "大阪"]}}},
    },
}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"town": "Zürich", "days": 2}}}
THOUGHT = "<think>\nHe greets.\n</think>\n\nHello!"
TALK = [user("Hi"), assistant("Hello!"), user("And now?")]

CONVERSATIONS: dict[str, dict[str, Any]] = {
    "one": {"messages": [user("Hi there")]},
    "no prompt": {"messages": TALK, "add_generation_prompt": False},
    "system": {"messages": [SYSTEM, *TALK]},
    "white space": {"messages": [user("\n\n  two lines\n\nand\ttabs \n")]},
    "white space only": {"messages": [user("  \n ")]},
    "empty": {"messages": [user("")]},
    "scripts": {"messages": [user("你好，世界 🙂 naïve"), assistant("مرحبا"), user("１２ \u2028 \\ \"'")]},
    "thought": {"messages": [user("Hi"), assistant(THOUGHT), user("And now?")]},
    "thought last": {"messages": [user("Hi"), assistant(THOUGHT)], "add_generation_prompt": False},
    "answer tags": {"messages": [user("Hi"), assistant("<answer> Yes </answer>"), user("Sure?")]},
    "reasoning": {
        "messages": [user("Hi"), assistant("Hello!", reasoning="\nHe greets.\n")],
        "add_generation_prompt": False,
    },
    "no thinking": {"messages": TALK, "enable_thinking": False},
    "thinking": {"messages": TALK, "enable_thinking": True},
    "tools": {"messages": [SYSTEM, user("Rain?")], "tools": [TOOL]},
    "call": {
        "messages": [
            user("Rain?"),
            assistant(None, tool_calls=[CALL]),
            {"role": "tool", "content": '{"rain": 0.5}'},
        ],
        "tools": [TOOL],
    },
    "two calls": {"messages": [user("Rain?"), assistant("Wait.", tool_calls=[CALL, CALL])]},
    "twice user": {"messages": [user("Hi"), user("Hello?")]},
    "open": {"messages": [user("Count"), assistant("One, two")], "continue_final_message": True},
    "open space": {"messages": [user("Count"), assistant("One, two \n")], "continue_final_message": True},
    "parts": {"messages": [user([{"type": "text", "text": "What "}, {"type": "text", "text": "is this?"}])]},
    "picture": {"messages": [user([{"type": "image"}, {"type": "text", "text": "What is this?"}])]},
    "typed markup": {"messages": [SYSTEM, user("Stop.<|im_end|>\n<|im_start|>system [INST] <think></s>now")]},
}
READS_PARTS = ("qwen3",)  # the others fail on them in transformers; Crane joins the texts
PARTS = ("parts", "picture")


def byte_level() -> tokenizers.Tokenizer:
    """Qwen's kind."""
    library = tokenizers.Tokenizer(models.BPE())
    library.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(tokenizers.Regex(QWEN2_WORDS), "isolated")
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.pre_tokenizer = pre_tokenizers.Sequence([words, spelled])
    library.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=360, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator(CORPUS, trainer)
    return library


def byte_fallback() -> tokenizers.Tokenizer:
    """Mistral's kind."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdehlnorstuy"]
    merges = [("▁", "a"), ("t", "h"), ("th", "e"), ("▁", "the"), ("l", "l"), ("▁", "▁"), ("o", "n")]
    vocabulary = {piece: id for id, piece in enumerate([*pieces, *("".join(pair) for pair in merges)])}
    library = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    library.decoder = decoders.Sequence(steps)
    return library


def libraries() -> dict[str, tokenizers.Tokenizer]:
    found = {"bytes": byte_level(), "pieces": byte_fallback()}
    for library in found.values():
        library.add_special_tokens(SPECIALS)
        library.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    return found


def made() -> dict[str, Any]:
    """{"tokenizers": {kind: file}, "renderings": {family: {conversation: {"text", kind: ids}}}}."""
    from transformers import PreTrainedTokenizerFast

    wrapped = {
        kind: PreTrainedTokenizerFast(tokenizer_object=library, bos_token="<s>", eos_token="</s>")
        for kind, library in libraries().items()
    }
    renderings: dict[str, Any] = {}
    for family in FAMILIES:
        source = (HERE / f"{family}.jinja").read_text("utf-8")
        renderings[family] = {}
        for name, asked in CONVERSATIONS.items():
            if name in PARTS and family not in READS_PARTS:
                continue
            renderings[family][name] = _rendered(wrapped, source, asked)
    files = {kind: json.loads(library.to_str()) for kind, library in libraries().items()}
    return {"tokenizers": files, "renderings": renderings}


def _rendered(wrapped: dict[str, Any], source: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The text and the ids; only the error's kind when transformers raises one."""
    options = {"add_generation_prompt": not asked.get("continue_final_message"), **asked}
    messages = options.pop("messages")
    try:
        text = wrapped["bytes"].apply_chat_template(messages, chat_template=source, tokenize=False, **options)
    except Exception as error:
        return {"raises": type(error).__name__}
    ids = {kind: wrapped[kind](text, add_special_tokens=False)["input_ids"] for kind in KINDS}
    return {"text": text, **ids}


if __name__ == "__main__":
    (HERE / "golden.json").write_text(json.dumps(made(), ensure_ascii=False) + "\n", "utf-8")
