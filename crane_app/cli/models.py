"""`crane models`: which models are here, what they are, and how to get others or be rid of them."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Generator, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from crane_app import settings
from crane_app.errors import BadInput, CraneError, ModelNotFound
from crane_app.library import catalogue, downloads, fit, hub, hub_cache, notes, whereabouts
from crane_app.library.downloads import Progress
from crane_app.library.models import OnDisk, examine, kept_in
from crane_app.pipelines import room

SENTENCE = "List, describe, download, check and remove models"
JOBS = {"chat": "chat", "pictures": "pictures", "dictate": "dictation", "read_aloud": "reading aloud", "other": "other"}
T = TypeVar("T")


def add_flags(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(title="what to do", metavar="WHAT", required=True)
    one = _verb(verbs, "list", _list, "What is on this computer")
    one.add_argument("--offers", action="store_true", help="What Crane suggests to download instead")
    one = _verb(verbs, "info", _info, "What is known about a model, here or on the hub")
    _add_name(one)
    settings.add_flags(one, "hub-endpoint", "proxy")
    one = _verb(verbs, "get", _get, "Download a model, or go on with a download")
    one.add_argument("name", metavar="ID", help="Of a model on Hugging Face, like Qwen/Qwen3-0.6B")
    one.add_argument("--revision", default="main", help="A branch, tag or commit (main)")
    settings.add_flags(one, "hub-endpoint", "proxy")
    one = _verb(verbs, "verify", _verify, "Read a downloaded model against its checksums")
    _add_name(one)
    one = _verb(verbs, "remove", _remove, "Delete a downloaded model, or give up a download")
    _add_name(one)
    one.add_argument("--yes", action="store_true", help="Do not ask first")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; raises CraneError with a sentence where it cannot be done."""
    return int(args.does(args))


def _verb(verbs: Any, name: str, does: Callable[[argparse.Namespace], int], sentence: str) -> argparse.ArgumentParser:
    one: argparse.ArgumentParser = verbs.add_parser(name, help=sentence, description=sentence, allow_abbrev=False)
    one.add_argument("--json", action="store_true", help="Print one JSON object")
    one.set_defaults(does=does)
    return one


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="MODEL", help="Its id, its name in the list, or its folder")


# What is here


def _list(args: argparse.Namespace) -> int:
    if args.offers:
        return _offers(args.json)
    waiting = notes.every(hub_cache.root())
    begun = {each.repo for each in waiting}
    entries = [entry for entry in whereabouts.entries() if not (entry.problem and entry.repo in begun)]
    if args.json:
        return _print_json(
            {"models": [_plain(each) for each in entries], "unfinished": [asdict(each) for each in waiting]}
        )
    rows = [(each.name, JOBS[each.job], fit.human(each.nbytes), each.licence, each.problem) for each in entries]
    _print_rows(rows)
    for each in waiting:
        print(f"{each.repo}: {fit.human(each.done)} of {fit.human(each.total)} are here; crane models get {each.repo}")
    if not (rows or waiting):
        print("There are no models on this computer yet. crane models list --offers suggests some.")
    return 0


def _offers(as_json: bool) -> int:
    memory = fit.memory()
    offers = [offer for offer in catalogue.OFFERS if offer.runs]
    if as_json:
        verdicts = [asdict(offer) | {"fit": offer.verdict(memory).fit} for offer in offers]
        return _print_json({"offers": verdicts})
    words = {"well": "fits well", "tight": "fits tightly", "no": "too large here", "unknown": ""}
    _print_rows(
        (each.repo, JOBS[each.job], fit.human(each.nbytes), each.licence, words[each.verdict(memory).fit])
        for each in offers
    )
    return 0


def _info(args: argparse.Namespace) -> int:
    entry = whereabouts.find(args.name)
    if entry is not None:
        small = settings.now("draft-model")
        draft = whereabouts.find(small) if small and entry.job == "chat" else None
        verdict = room.verdict(entry, fit.memory(), settings.now, draft)
        about = _plain(entry) | {"fit": verdict.fit, "needed": verdict.needed}
        lines = [
            ("architecture", entry.architecture),
            ("for", JOBS[entry.job]),
            ("size", fit.human(entry.nbytes)),
            ("context", f"{entry.context} tokens" if entry.context and entry.job == "chat" else ""),
            ("numbers", entry.dtype),
            ("licence", entry.licence),
            ("memory", verdict.sentence if entry.nbytes else ""),
            ("draft model", f"{draft.name}, counted in the memory" if draft is not None else ""),
            ("folder", str(entry.folder)),
            ("note", entry.remark),
            ("problem", entry.problem),
        ]
        return _print_about(args.json, entry.name, about, lines)
    where = hub.place(args.hub_endpoint, args.proxy)
    hub.checked(args.name)
    with hub.client(where) as http:
        listing = hub.ask(http, where, args.name, "main")
    offer = catalogue.find(args.name)
    cache = offer.cache if offer is not None else 0
    verdict = fit.verdict(listing.nbytes, cache, fit.memory())
    about = {"repo": listing.repo, "commit": listing.commit, "nbytes": listing.nbytes, "fit": verdict.fit}
    about |= {"licence": offer.licence if offer else "", "files": [asdict(file) for file in listing.files]}
    lines = [
        ("size", f"{fit.human(listing.nbytes)} in {len(listing.files)} files"),
        ("licence", offer.licence if offer else f"see {where.endpoint}/{args.name}"),
        ("memory", verdict.sentence),
        ("here", f"not yet; crane models get {args.name}"),
    ]
    return _print_about(args.json, args.name, about, lines)


# What changes something


def _get(args: argparse.Namespace) -> int:
    where = hub.place(args.hub_endpoint, args.proxy)
    steps = downloads.Download(args.name, args.revision, where).steps()
    try:
        folder = _shown(steps)
    except KeyboardInterrupt:
        steps.close()
        print("What has come is kept; the same command goes on with it.", file=sys.stderr)
        raise
    entry = replace(examine(folder, "hub", args.name), repo=args.name)
    if args.json:
        return _print_json(_plain(entry))
    print(folder)
    if entry.problem:
        print(f"crane: {entry.problem}", file=sys.stderr)
    return 0


def _verify(args: argparse.Namespace) -> int:
    entry = _known(args.name)
    if entry.source != "hub":
        raise BadInput(f"{entry.name} was not downloaded into the Hugging Face cache, so it has no checksums here.")
    damaged = _shown(downloads.verify(entry.folder))
    if args.json:
        _print_json({"name": entry.name, "damaged": list(damaged)})
    elif damaged:
        names = ", ".join(damaged)
        print(f"Damaged, and thrown away: {names}. crane models get {entry.repo} brings it anew.")
    else:
        print(f"{entry.name} is whole.")
    return 1 if damaged else 0


def _remove(args: argparse.Namespace) -> int:
    cache = hub_cache.root()
    waiting = notes.find(cache, args.name) if hub_cache.valid(args.name) else None
    if waiting is not None:
        _sure(args, f"give up the download of {args.name} ({fit.human(waiting.done)} are here)")
        with downloads.alone(cache, args.name, "crane"):
            notes.throw_away(cache, args.name)
        return _print_json({"removed": args.name}) if args.json else 0
    entry = _known(args.name)
    if entry.source == "folder":
        raise BadInput(f"{entry.name} lies in a folder of your own. Delete it there: {entry.folder}")
    _sure(args, f"delete {entry.name} ({fit.human(entry.nbytes)}) for good")
    try:
        if entry.source == "hub":
            with downloads.alone(cache, entry.repo, "crane"):
                _erase(kept_in(entry))
        else:
            _erase(entry.folder)
    except OSError as error:
        raise CraneError(f"{entry.name} cannot be deleted whole ({error.strerror}).") from error
    return _print_json({"removed": entry.name}) if args.json else 0


def _erase(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sure(args: argparse.Namespace, what: str) -> None:
    if args.yes:
        return
    if not sys.stdin.isatty():
        raise BadInput(f"This would {what}. Say --yes if that is meant.")
    print(f"This will {what}. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CraneError("Nothing was changed.")


# Small steps


def _known(name: str) -> OnDisk:
    entry = whereabouts.find(name)
    if entry is None:
        raise ModelNotFound(f"There is no model '{name}' on this computer. crane models list shows what is.")
    return entry


def _shown(steps: Generator[Progress, None, T]) -> T:
    """Run to the end; on a terminal each step is one line that is written over."""
    shown = sys.stderr.isatty()
    try:
        while True:
            news = next(steps)
            if shown:
                width = shutil.get_terminal_size().columns - 1
                print(f"\r{_line(news)[:width]:<{width}}", end="", file=sys.stderr, flush=True)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        if shown:
            print(file=sys.stderr)


def _line(news: Progress) -> str:
    if news.doing == "asking":
        return "Asking for the list of files"
    if news.doing == "waiting":
        return news.words
    share = f"{100 * news.done // max(news.total, 1):3} %"
    amount = f"{fit.human(news.done)} of {fit.human(news.total)}"
    if news.doing == "checking":
        return f"{share}  {amount}  checking {news.file}"
    left = f"  {round(news.eta)} s left" if news.eta is not None else ""
    return f"{share}  {amount}  {fit.human(news.bytes_per_s)}/s{left}  {news.file}"


def _plain(entry: OnDisk) -> dict[str, Any]:
    told = asdict(replace(entry, tensors=())) | {"folder": str(entry.folder)}
    del told["tensors"]  # thousands of them
    return told


def _print_json(value: Any) -> int:
    print(json.dumps(value, ensure_ascii=False))
    return 0


def _print_about(as_json: bool, name: str, about: dict[str, Any], lines: list[tuple[str, str]]) -> int:
    if as_json:
        return _print_json(about)
    print(name)
    for what, words in lines:
        if words:
            print(f"  {what:<13}{words}")
    return 0


def _print_rows(rows: Iterable[tuple[str, ...]]) -> None:
    """Columns as wide as what stands in them."""
    every = [tuple(map(str, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    for row in every:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
