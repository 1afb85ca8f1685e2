"""One table of settings. A verb's flags and the CRANE_* variables are read off it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Setting:
    """name: of the flag and of CRANE_<NAME>; parse: text to value; choices: the only values, if any."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    sentence: str
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


SETTINGS = (
    Setting("model", str, None, "Folder with config.json and *.safetensors", aliases=("--model-path", "-m")),
    Setting("backend", str, None, "Tensor library; this machine's own if not given", ("mlx", "torch", "remote")),
    Setting("device", str, "auto", "Where to compute", ("auto", "cpu", "cuda", "metal")),
    Setting("dtype", str, None, "Number type; the device's best if not given", ("float32", "float16", "bfloat16")),
)
TABLE = {setting.name: setting for setting in SETTINGS}


def variable(setting: Setting) -> str:
    """The environment variable that sets it."""
    return f"CRANE_{setting.name.upper().replace('-', '_')}"


def value(setting: Setting) -> Any:
    """The setting's value as text from CRANE_<NAME>, else its default. argparse parses a text only where it is used."""
    return os.environ.get(variable(setting)) or setting.default


def add_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """The named settings as flags; `--cpu` stands for `--device cpu` wherever there is a device."""
    for setting in (TABLE[name] for name in names):
        parser.add_argument(
            f"--{setting.name}",
            *setting.aliases,
            type=_parsing(setting),
            default=value(setting),
            metavar="|".join(setting.choices) or setting.name.upper(),
            help=f"{setting.sentence} (or {variable(setting)})",
        )
    if "device" in names:
        parser.add_argument("--cpu", dest="device", action="store_const", const="cpu", help="Same as --device cpu")


def _parsing(setting: Setting) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        if setting.choices and text not in setting.choices:
            known = ", ".join(setting.choices)
            raise argparse.ArgumentTypeError(f"'{text:.60}' (here or in {variable(setting)}) is not one of: {known}")
        return setting.parse(text)

    return parse
