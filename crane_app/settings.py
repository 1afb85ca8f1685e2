"""One table of settings. A verb's flags and the CRANE_* variables are read off it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from crane_app.errors import BadInput


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


def value(setting: Setting) -> Any:
    """The setting's value from CRANE_<NAME>, else its default."""
    variable = f"CRANE_{setting.name.upper().replace('-', '_')}"
    text = os.environ.get(variable)
    if not text:
        return setting.default
    if setting.choices and text not in setting.choices:
        raise BadInput(f"{variable} is '{text}'; it must be one of: {', '.join(setting.choices)}.")
    return setting.parse(text)


def add_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    """The named settings as flags; `--cpu` stands for `--device cpu` wherever there is a device."""
    for setting in (TABLE[name] for name in names):
        parser.add_argument(
            f"--{setting.name}",
            *setting.aliases,
            type=setting.parse,
            choices=setting.choices or None,
            default=value(setting),
            metavar=None if setting.choices else setting.name.upper(),
            help=f"{setting.sentence} (or CRANE_{setting.name.upper().replace('-', '_')})",
        )
    if "device" in names:
        parser.add_argument("--cpu", dest="device", action="store_const", const="cpu", help="Same as --device cpu")
