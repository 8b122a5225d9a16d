"""``chelys cache``: the store of what was computed."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from chelys.cli.console import JsonOption, StoreOption, StoreSizeOption, echo, open_store
from chelys.errors import UserError

app = typer.Typer(help="What was computed of audiobooks, kept so that nothing is computed twice.")

_MOST_SHOWN = 5


@app.command("status", epilog="Example: chelys cache status")
def status(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Say what is kept, and where."""
    with open_store(store) as kept:
        found = kept.status()
    if as_json:
        stages = {name: {"entries": count, "bytes": size} for name, (count, size) in found.stages.items()}
        echo(json.dumps({"folder": str(found.folder), "bytes": found.bytes, "stages": stages}, indent=2))
        return
    echo(f"{found.folder}: {_size(found.bytes)}, {found.computed} entries computed on this machine")
    for name, (count, size) in found.stages.items():
        echo(f"  {name:8} {count:8} entries {_size(size):>10}")


@app.command("gc", epilog="Example: chelys cache gc --store-size 5")
def gc(store: StoreOption = None, store_size: StoreSizeOption = None, as_json: JsonOption = False) -> None:
    """Remove what was not used for longest, down to the size that is given."""
    with open_store(store, store_size) as kept:
        removed, freed = kept.gc()
        left = kept.status().bytes
    if as_json:
        echo(json.dumps({"removed": removed, "bytes_removed": freed, "bytes": left}))
    else:
        echo(f"removed {removed} entries, {_size(freed)}; {_size(left)} are left")


@app.command("why", epilog='Example: chelys cache why "One line of the book."')
def why(
    words: Annotated[str, typer.Argument(metavar="TEXT|KEY", help="Words as they are written, or a key's beginning.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say of entries of one text which of their inputs differ: why a sentence was computed again."""
    from chelys.inference.sound_recipe import differing

    with open_store(store) as kept:
        found = kept.find(words)
    if not found:
        raise UserError(f"nothing of {words[:60]!r} is kept: give words of one sentence as they stand in the book")
    found = [one for one in found if one[3].lower() == words.lower()] or found  # those of this very text
    lines: list[dict[str, Any]] = []
    for stage in dict.fromkeys(one[0] for one in found):
        entries = [one for one in found if one[0] == stage][: _MOST_SHOWN + 1]
        for place, (_, key, inputs, label) in enumerate(entries[:_MOST_SHOWN]):
            changes = differing(entries[place + 1][2], inputs) if place + 1 < len(entries) else None
            lines.append({"stage": stage, "key": key, "text": label, "changed": changes})
    if as_json:
        echo(json.dumps(lines, indent=2, ensure_ascii=False))
        return
    for one in lines:
        echo(f"{one['stage']:8} {one['key']}  {one['text'][:80]}")
        if one["changed"] is None:
            echo("         the first of this text")
        for name, (old, new) in (one["changed"] or {}).items():
            echo(f"         {name}: {_value(old)} before, {_value(new)} now")


def _value(value: Any) -> str:
    return "none" if value is None else str(value)[:80]


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
