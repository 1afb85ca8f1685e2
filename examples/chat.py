"""A conversation with a model in a folder, step by step: from messages to a prompt, ids, an answer and its text."""

from __future__ import annotations

import argparse
import sys

from crane_app import AutoTokenizer, CraneError, GenerationConfig, Message, TextStreamer, load, print_build_info


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a chat model about yoga.")
    parser.add_argument("-m", "--model-path", default="checkpoints/Qwen2.5-0.5B-Instruct")
    args = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(args.model_path)
    print_build_info()
    model = load(args.model_path, device="cpu", dtype="float16")

    config = GenerationConfig(
        max_new_tokens=235,
        temperature=0.67,
        top_p=1.0,
        repetition_penalty=1.1,
        repeat_last_n=1,
        do_sample=False,
        pad_token_id=tokenizer.get_token("<|end_of_text|>"),
        eos_token_id=tokenizer.get_token("<|im_end|>"),
        report_speed=True,
    )

    chats = [
        Message("user", "hello"),
        Message("assistant", "Hi, how are you?"),
        Message("user", "I am OK, tell me some truth about Yoga."),
    ]
    prompt = tokenizer.apply_chat_template(chats, add_generation_prompt=True)
    print(f"prompt templated: {prompt!r}\n")

    input_ids = model.prepare_inputs(prompt)
    model.warmup()

    streamer = TextStreamer(tokenizer, skip_prompt=True)
    output_ids = model.generate(input_ids, config, streamer)

    print(f"Output: {tokenizer.decode(output_ids, skip_special_tokens=False)}")


if __name__ == "__main__":
    try:
        main()
    except CraneError as error:
        sys.exit(f"{error}")
