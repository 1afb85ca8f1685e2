"""`crane convert`: a model written anew, in fewer bits or in another form."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

from crane_app import settings
from crane_app.errors import BadInput
from crane_app.library import fit, whereabouts

SENTENCE = "Write a model anew: in fewer bits, as a folder that mlx-lm reads too, or as one GGUF file"
# Of files that a folder of weights may have, and no folder is called.
WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".npz", ".ggml")


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SRC", help="The model: its id, its folder or its GGUF file")
    parser.add_argument("target", metavar="DST", type=Path, help="A new folder, or a new file NAME.gguf")
    parser.add_argument("--quantize", choices=settings.QUANTS, help="Bits of a weight; as they are if not given")
    parser.add_argument("--json", action="store_true", help="Print one JSON object instead of a sentence")


def run(args: argparse.Namespace) -> int:
    from crane_app.engine.converting import convert

    source, target = whereabouts.place(args.source), args.target.expanduser()
    if target.suffix.lower() in WEIGHTS:
        raise BadInput(f"'{target}' would be a folder. Name one, or a file that ends in .gguf.")
    started, shown = time.perf_counter(), sys.stderr.isatty()
    try:
        for done, total in convert(source, target, args.quantize):
            if shown:
                line = f"{100 * done // max(total, 1):3} %  {fit.human(done)} of {fit.human(total)}"
                print(f"\r{line:<{shutil.get_terminal_size().columns - 1}}", end="", file=sys.stderr, flush=True)
    finally:
        if shown:
            print(file=sys.stderr)
    nbytes = sum(file.stat().st_size for file in (target.rglob("*") if target.is_dir() else [target]))
    seconds = round(time.perf_counter() - started, 2)
    if args.json:
        print(json.dumps({"target": str(target), "nbytes": nbytes, "seconds": seconds}, ensure_ascii=False))
    else:
        print(f"{target}: {fit.human(nbytes)}")
    return 0
