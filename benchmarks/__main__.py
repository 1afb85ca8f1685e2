"""Lists the benchmarks, one script per claim, and runs them by name."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def scripts() -> dict[str, Path]:
    """The benchmarks by name; a leading underscore marks what they share."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.py")) if not path.stem.startswith("_")}


def peers() -> dict[str, Path]:
    """What `crane bench --vs` can measure beside Crane."""
    return {path.stem: path for path in sorted((FOLDER / "peers").glob("*.py"))}


def sentence(path: Path) -> str:
    """The first line of a script's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def main(arguments: list[str]) -> int:
    """List the benchmarks; with `all`, or a name and its flags, run them."""
    known = scripts()
    if not known:
        print("There are no benchmarks yet.")
    elif not arguments:
        _list(known)
        print("\nRun one with `make bench ARGS=NAME`, all with `make bench ARGS=all`.")
        print("\n`crane bench --vs PEER` measures any model, paired with:\n")
        _list(peers())
    elif arguments == ["all"]:
        return max(run(name, []) for name in known)
    elif arguments[0] in known:
        return run(arguments[0], arguments[1:])
    else:
        print(f"There is no benchmark '{arguments[0]}'. There are: {', '.join(known)}.", file=sys.stderr)
        return 2
    return 0


def _list(found: dict[str, Path]) -> None:
    width = max(map(len, found))
    print("\n".join(f"{name:{width}}  {sentence(path)}" for name, path in found.items()))


def run(name: str, flags: list[str]) -> int:
    """Run a benchmark in a process of its own; its exit status."""
    return subprocess.run([sys.executable, "-m", f"{FOLDER.name}.{name}", *flags]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
