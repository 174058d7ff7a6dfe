"""Keep the Chinese catalog complete: collect messages, compile it, say what is wrong with it.

Messages come from the code (`_`, `N_`, `ngettext`) and from ``click_messages.toml``: what click
says of itself. Without ``--write`` nothing is changed: every fault is named, and the exit code is
1. With it new messages are added untranslated, those no longer in use are dropped, and the ``.mo``
that an installed encvault reads is compiled; then the faults that are left are named.

The files have no dates, line numbers or program versions in them, so that they change only with
the messages.
"""

from __future__ import annotations

import io
import os
import re
import string
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from babel.messages.catalog import Catalog
from babel.messages.extract import extract, extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from babel.messages.catalog import Message

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "encvault"
PO = PACKAGE / "locale" / "zh_CN" / "LC_MESSAGES" / "encvault.po"
CLICK_MESSAGES = Path(__file__).with_name("click_messages.toml")
RENEW = "make catalog WRITE=--write"
KEYWORDS: dict[str, Any] = {"_": None, "N_": None, "ngettext": (1, 2)}
# an id with a plural is a pair, as babel has it
Id = str | tuple[str, ...]

# in two halves, so that a search for them finds no file of ours
FORBIDDEN = ("不可" + "篡改", "国密" + "认证", "通过" + "密评", "绝对" + "安全")
_HAN = "[\u4e00-\u9fff]"
_NARROW_STOP = re.compile(rf"{_HAN} ?[,;:!?]|[,;:!?] ?{_HAN}")
_TOUCHING = re.compile(rf"{_HAN}[A-Za-z0-9]|[A-Za-z0-9]{_HAN}")


class ChineseCatalog(Catalog):
    """A catalog whose header says only what readers of the file need."""

    def __init__(self) -> None:
        super().__init__(locale="zh_CN", domain="encvault", header_comment="", fuzzy=False)

    @property
    def mime_headers(self) -> list[tuple[str, str]]:  # type: ignore[override]  # not settable here
        """The header's members."""
        return [
            ("Project-Id-Version", "encvault"),
            ("Language", "zh_CN"),
            ("Plural-Forms", "nplurals=1; plural=0;"),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
        ]


# -- what there is to say -------------------------------------------------------------------


def messages_in_code(folder: Path = PACKAGE) -> dict[Id, list[str]]:
    """Each message of the package's code, and the files that have it."""
    found: dict[Id, list[str]] = {}
    rows = extract_from_dir(folder, keywords=KEYWORDS, method_map=[("**.py", "python")])
    for name, _line, message, *_rest in sorted(rows, key=lambda row: row[:2]):
        files = found.setdefault(message, [])
        if (shown := f"{folder.name}/{name}") not in files:
            files.append(shown)
    return found


def click_lists() -> tuple[list[Id], set[Id]]:
    """What click says to users of this program, and what it never does."""
    lists = tomllib.loads(CLICK_MESSAGES.read_text(encoding="utf-8"))
    return [*lists["spoken"], *map(tuple, lists["spoken_plural"])], set(lists["silent"])


def all_messages() -> dict[Id, list[str]]:
    """Every message that the catalog must have, with where it is from."""
    found = messages_in_code()
    # one entry serves a word with and without a plural, and gettext finds it by the singular
    singulars = {_singular(message) for message in found}
    for message in click_lists()[0]:
        if message in found:
            found[message].append("click")
        elif _singular(message) not in singulars:
            found[message] = ["click"]
    return found


def news_of_click() -> list[str]:
    """What the installed click says that our lists do not know; worth a look, and no fault."""
    spoken, silent = click_lists()
    known = {_singular(message) for message in [*spoken, *silent]}
    news = set()
    for path in Path(click.__file__).parent.glob("*.py"):
        with path.open("rb") as file:
            for _line, message, *_rest in extract("python", file, keywords=KEYWORDS):
                news.add(_singular(message))
    return sorted(news - known)


def _singular(message: Id) -> str:
    return message if isinstance(message, str) else message[0]


# -- the files ------------------------------------------------------------------------------


def read(data: bytes) -> Catalog:
    """The catalog of a ``.po`` file."""
    return read_po(io.BytesIO(data), locale="zh_CN", abort_invalid=True)


def merge(old: Catalog, wanted: Mapping[Id, Sequence[str]]) -> ChineseCatalog:
    """A catalog of the wanted messages, with the translations that the old one has."""
    new = ChineseCatalog()
    for message, places in wanted.items():
        known = old.get(message)
        added = new.add(
            message,
            known.string if known else "",
            locations=[(place, 0) for place in places],
            flags={"fuzzy"} if known and known.fuzzy else (),
            user_comments=known.user_comments if known else (),
        )
        # babel's guesses, which change with its version; `faults` looks closer
        added.flags -= {"python-format", "python-brace-format"}
    return new


def po_bytes(catalog: Catalog) -> bytes:
    """The catalog as the text that translators edit."""
    file = io.BytesIO()
    write_po(file, catalog, width=0, include_lineno=False, ignore_obsolete=True)
    return file.getvalue()


def mo_bytes(catalog: Catalog) -> bytes:
    """The catalog as gettext reads it."""
    plain = ChineseCatalog()
    for message in _messages(catalog):
        if not message.fuzzy and _is_translated(message):
            plain.add(message.id, message.string)
    file = io.BytesIO()
    write_mo(file, plain)
    return file.getvalue()


def _messages(catalog: Catalog) -> Iterator[Message]:
    """All but the header."""
    return (message for message in catalog if message.id)


def _strings(message: Message) -> list[str]:
    return [message.string] if isinstance(message.string, str) else list(message.string)


def _is_translated(message: Message) -> bool:
    return all(_strings(message))


# -- what can be wrong ----------------------------------------------------------------------


def faults(
    catalog: Catalog, wanted: Mapping[Id, Sequence[str]], mo: bytes | None = None
) -> list[str]:
    """Everything that is wrong with a catalog, a line each.

    Args:
        catalog: as read from the ``.po`` file.
        wanted: every message that it must have.
        mo: the compiled file, or None if there is none.
    """
    there = {_id(message) for message in _messages(catalog)}
    found = [f"missing: {_shown(message)}" for message in wanted if message not in there]
    found += [f"no longer used: {_shown(message)}" for message in there - wanted.keys()]
    found += [f"no longer used: {_shown(message)}" for message in catalog.obsolete]
    for message in _messages(catalog):
        if message.fuzzy:
            found.append(f"marked fuzzy: {_shown(message.id)}")
        if not _is_translated(message):
            found.append(f"not translated: {_shown(message.id)}")
            continue
        found += [
            f"{fault}: {_shown(message.id)} = {text!r}"
            for text in _strings(message)
            for fault in _faults_of_text(_id(message), text)
        ]
    if mo != mo_bytes(catalog):
        found.append("the .mo is not what the .po says")
    return sorted(found)


def _id(message: Message) -> Id:
    return message.id if isinstance(message.id, str) else tuple(message.id)


def _faults_of_text(message: Id, text: str) -> Iterator[str]:
    forms = [message] if isinstance(message, str) else list(message)
    if placeholders(text) not in [placeholders(form) for form in forms]:
        yield "other placeholders"
    ends = forms[-1].rstrip().endswith(".")
    if text.endswith("。") != ends:
        yield "a final stop is missing" if ends else "a final stop that the English has not"
    if _NARROW_STOP.search(text):
        yield "narrow punctuation"
    if _TOUCHING.search(text):
        yield "no space between Chinese and Latin"
    for word in FORBIDDEN:
        if word in text:
            yield f"the word {word}"


def placeholders(text: str) -> list[tuple[str, str, str]] | None:
    """Name, format and conversion of each ``{…}``, in order of name; None if it is no format.

    A field without a name is no part of any message here.
    """
    try:
        fields = list(string.Formatter().parse(text))
    except ValueError:
        return None
    return sorted((name, form or "", how or "") for _, name, form, how in fields if name)


def _shown(message: Id) -> str:
    return repr(_singular(message))


# -- the command ----------------------------------------------------------------------------


def main(arguments: Sequence[str], po: Path = PO) -> int:
    """Write or check; return the exit code."""
    if arguments not in ([], ["--write"]):
        print("usage: catalog.py [--write]", file=sys.stderr)
        return 2
    wanted, mo = all_messages(), po.with_suffix(".mo")
    catalog = read(po.read_bytes()) if po.exists() else ChineseCatalog()
    if arguments:
        catalog = merge(catalog, wanted)
        po.parent.mkdir(parents=True, exist_ok=True)
        po.write_bytes(po_bytes(catalog))
        catalog = read(po.read_bytes())
        mo.write_bytes(mo_bytes(catalog))
        print(f"wrote {po.name} and {mo.name}: {len(wanted)} messages")
    for message in news_of_click():
        print(f"note: click has a message that no list has: {message!r}", file=sys.stderr)
    found = faults(catalog, wanted, mo.read_bytes() if mo.exists() else None)
    for fault in found:
        print(fault, file=sys.stderr)
    if found:
        print(f"mend these in {os.path.relpath(po)}, then run: {RENEW}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
