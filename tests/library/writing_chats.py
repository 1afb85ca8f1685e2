"""A program that writes to a conversation until it is killed; tests start it as a process of its own.

Prints a line for each update that has returned, so that whoever reads knows what must be on disk.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from crane_app.library.chats import Chats


def main(path: str, chat: str, times: str) -> None:
    """Answer in the conversation, a word more each time; without a number of times for ever."""
    chats = Chats.open(Path(path))
    turn = chats.add(int(chat), "assistant", "", state="running")
    print(turn.id, flush=True)
    words: list[str] = []
    for count in range(int(times)) if times else itertools.count():
        words.append(f"word{count}")
        chats.update(turn.id, text=" ".join(words[-200:]))
        print(count, flush=True)
    chats.update(turn.id, state="done")


if __name__ == "__main__":
    main(*sys.argv[1:])
