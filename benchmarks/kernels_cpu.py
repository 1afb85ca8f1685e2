"""Products of the native kernels beside PyTorch's bfloat16 product, on matrices that no cache holds.

    python -m benchmarks.kernels_cpu [--rows 3072] [--columns 1024] [--rounds 7]

Rounds alternate; GB/s are bytes of packed weights, and the share is of what reading alone gives in the same round.
Reading alone comes first, in large pages and in small ones (Linux).
"""

from __future__ import annotations

import argparse
import mmap
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from crane_app.backends.torch import native

COLD = 3 * 10**8  # bytes of matrices that are gone through, more than any cache holds
TOKENS = (1, 8, 256)


def matrices(form: str, rows: int, columns: int) -> list[native.Matrix]:
    """Enough of them for COLD; what is in them does not matter for the time."""
    size = -(-rows // native.STRIP) * native.library().crane_strip_bytes(native.FORMATS[form], columns)
    memory = native.aligned(size * max(COLD // size, 1))
    memory[:] = 1
    parts = (memory[at : at + size] for at in range(0, len(memory), size))
    return [native.Matrix(form, (rows, columns), part, torch.bfloat16, False) for part in parts]


def seconds(product: Callable[[int], object], count: int) -> float:
    """Of one product, over all `count` matrices."""
    start = time.perf_counter()
    for i in range(count):
        product(i)
    return (time.perf_counter() - start) / count


def told_reading(threads: int, rounds: int) -> None:
    """Bytes a second from memory in large and in small pages, by turns."""
    advice = {"large": "MADV_HUGEPAGE", "small": "MADV_NOHUGEPAGE"}
    if not all(hasattr(mmap, name) for name in advice.values()):
        return
    found: dict[str, list[float]] = {pages: [] for pages in advice}
    held = {}
    for pages, name in advice.items():
        memory = mmap.mmap(-1, COLD, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(getattr(mmap, name))
        held[pages] = np.frombuffer(memory, np.uint8)
        held[pages][:] = 1
    for _ in range(rounds):
        for pages, each in held.items():
            read = seconds(lambda _, each=each: native.library().crane_stream(each.ctypes.data, COLD, threads), 1)
            found[pages].append(COLD / read / 1e9)
    ratio = statistics.median(a / b for a, b in zip(found["large"], found["small"], strict=True))
    for pages, rates in found.items():
        print(f"reading in {pages} pages: {statistics.median(rates):5.1f} GB/s [{min(rates):.1f} - {max(rates):.1f}]")
    print(f"large pages are {ratio:.2f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=3072)
    parser.add_argument("--columns", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--forms", nargs="+", choices=native.FORMS, default=["Q4_0", "A4_BF16", "Q8_0", "BF16", "F32"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    told_reading(args.threads, args.rounds)
    stream = native.aligned(COLD)
    stream[:] = 1
    plain = [torch.randn(args.rows, args.columns, dtype=torch.bfloat16) for _ in range(16)]
    for tokens in TOKENS:
        x = torch.randn(tokens, args.columns, dtype=torch.bfloat16)
        few = slice(None) if tokens < 64 else slice(16)
        sides = {form: matrices(form, args.rows, args.columns)[few] for form in args.forms}
        runs: dict[str, list[float]] = {name: [] for name in (*sides, "torch bfloat16")}
        limits = []
        for _ in range(args.rounds):
            limits.append(seconds(lambda _: native.library().crane_stream(stream.ctypes.data, COLD, args.threads), 1))
            for name, held in sides.items():
                runs[name].append(seconds(lambda i, held=held, x=x: held[i].times(x), len(held)))
            runs["torch bfloat16"].append(seconds(lambda i, x=x: torch.nn.functional.linear(x, plain[i]), len(plain)))
        for name, each in runs.items():
            nbytes = sides[name][0].nbytes if name in sides else plain[0].nbytes
            shares = np.array([nbytes / s for s in each]) / (COLD / np.array(limits))
            median = statistics.median(each)
            work = 2 * args.rows * args.columns * tokens
            print(
                f"{tokens:4} tokens, {name:15} {1e6 * median:8.1f} us [{1e6 * min(each):.1f} - {1e6 * max(each):.1f}], "
                f"{nbytes / median / 1e9:5.1f} GB/s ({statistics.median(shares):.0%}), {work / median / 1e9:6.0f} GOP/s"
            )


if __name__ == "__main__":
    main()
