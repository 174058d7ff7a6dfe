"""Write the generated pages, or say whether they are what the code says.

``docs/cli.md`` is the help of every command; ``docs/exit-codes.md`` is the tree of errors; of the
pages on jobs the tables of keys, in both languages; ``docs/job.schema.json`` is for editors.
Without ``--write`` nothing is changed: a page that differs is named, with the difference, and the
exit code is 1.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from encvault import i18n
from encvault.cli import process
from encvault.cli.run import root
from encvault.errors import EncvaultError
from encvault.i18n import _
from encvault.jobs.keys import HOOK_KEYS, KEYS, job_schema
from encvault.jobs.values import toml_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DOCS = Path(__file__).resolve().parents[2] / "docs"
RENEW = "make docs WRITE=--write"
_NOTICE = f"<!-- Generated from the code by `{RENEW}`; do not edit. -->"
_HELP_WIDTH = 78  # what click uses on a terminal of 80 columns

_MEANINGS = {
    0: ("", "everything that was asked for is done"),
    1: ("", "an error that no other code names, or a bug"),
    2: ("", "the request itself is wrong; nothing was touched"),
    3: ("", "finished, but files were left; `status`, `doctor`: found what should not be"),
    65: ("EX_DATAERR", "data does not authenticate, or is not in a format that encvault reads"),
    66: ("EX_NOINPUT", "the source is missing"),
    69: ("EX_UNAVAILABLE", "something this machine should offer does not work"),
    73: ("EX_CANTCREAT", "a file cannot be created or is in the way, or there is no space"),
    74: ("EX_IOERR", "the storage reported an error, or went away"),
    75: ("EX_TEMPFAIL", "another run is at work, or something is away or locked: try again later"),
    77: ("EX_NOPERM", "wrong password, or no key that fits"),
    78: ("EX_CONFIG", "a password, a key or a setting is missing or not usable"),
    124: ("", "`job run`: it took longer than the job allows"),
    126: ("", "`run`: the command is there, and cannot be run"),
    127: ("", "`run`: there is no such command; any other code of `run` may be the command's own"),
    process.EXIT_HUNG_UP: ("128 + SIGHUP", "the terminal was closed, or the connection lost"),
    process.EXIT_INTERRUPTED: ("128 + SIGINT", "interrupted by Ctrl-C"),
    process.EXIT_BROKEN_PIPE: ("128 + SIGPIPE", "the reader of stdout went away"),
    process.EXIT_TERMINATED: ("128 + SIGTERM", "stopped by a signal"),
}
_WITHOUT_A_CLASS = {
    0,
    process.EXIT_HUNG_UP,
    process.EXIT_INTERRUPTED,
    process.EXIT_BROKEN_PIPE,
    process.EXIT_TERMINATED,
}


# -- commands -------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, click.Context]]:
    """Every command and subcommand with its full name, in the order of the help."""
    top = click.Context(
        root(),
        info_name="encvault",
        terminal_width=_HELP_WIDTH,
        help_option_names=["-h", "--help"],
    )
    yield from _with_subcommands(top)


def _with_subcommands(ctx: click.Context) -> Iterator[tuple[str, click.Context]]:
    yield ctx.command_path, ctx
    if isinstance(ctx.command, click.Group):
        for name in ctx.command.list_commands(ctx):
            command = ctx.command.get_command(ctx, name)
            if command is not None and not command.hidden:
                yield from _with_subcommands(click.Context(command, parent=ctx, info_name=name))


def cli_page() -> str:
    """The text of docs/cli.md."""
    lines = [
        "# The command line",
        "",
        _NOTICE,
        "",
        "The help of every command, as `--help` prints it. What scripts may rely on is in",
        "[scripting.md](scripting.md); the exit codes are in [exit-codes.md](exit-codes.md).",
        "",
    ]
    found = list(commands())
    lines += [f"- [`{name}`](#{name.replace(' ', '-')})" for name, _ctx in found]
    for name, ctx in found:
        text = "\n".join(line.rstrip() for line in ctx.get_help().splitlines())
        lines += ["", f"## {name}", "", "```text", text, "```"]
    return "\n".join(lines) + "\n"


# -- errors ---------------------------------------------------------------------------------


def classes(top: type[EncvaultError] = EncvaultError) -> list[type[EncvaultError]]:
    """Every class of the tree, each before those below it."""
    return [top, *(found for below in top.__subclasses__() for found in classes(below))]


def exit_codes_page() -> str:
    """The text of docs/exit-codes.md."""
    lines = [
        "# Exit codes and errors",
        "",
        _NOTICE,
        "",
        "Scripts may rely on the exit code and on the class name, which is the field `error` of",
        "JSON output. They do not change with the language. The messages do, and may be reworded.",
        "A code that is not in this table is a failure: see [scripting.md](scripting.md).",
        "",
        "## Codes",
        "",
        "| code | name | meaning | classes |",
        "|---|---|---|---|",
    ]
    by_code: dict[int, list[str]] = {}
    for cls in classes():
        by_code.setdefault(cls.exit_code, []).append(f"`{cls.__name__}`")
    if unknown := (by_code.keys() - _MEANINGS) | (_MEANINGS.keys() - by_code - _WITHOUT_A_CLASS):
        raise AssertionError(f"reference: these codes need a meaning or a class: {unknown}")
    for code, (name, meaning) in sorted(_MEANINGS.items()):
        lines.append(f"| {code} | {name} | {meaning} | {', '.join(by_code.get(code, []))} |")
    lines += ["", "## Classes", "", "A word in braces is a field of the error.", ""]
    lines += [
        f"- `{EncvaultError.__name__}` {EncvaultError.exit_code}: {_first_line(EncvaultError)}"
    ]
    groups = [cls for cls in classes()[1:] if cls.__subclasses__()]
    for group in groups:
        lines += ["", f"### {group.__name__}", "", f"{_first_line(group)} Code {group.exit_code}"]
        lines[-1] += " unless the table says otherwise."
        lines += ["", "| class | code | when | message | hint |", "|---|---|---|---|---|"]
        lines += [_row(cls) for cls in group.__subclasses__()]
    return "\n".join(lines) + "\n"


def _first_line(cls: type[EncvaultError]) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]


def _row(cls: type[EncvaultError]) -> str:
    cells = [
        f"`{cls.__name__}`",
        str(cls.exit_code),
        _first_line(cls),
        f"`{cls.message}`",
        f"`{cls.advice}`" if cls.advice else "",
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


# -- jobs -----------------------------------------------------------------------------------

_KEYS = re.compile(r"(<!-- keys: [^\n]*-->\n).*?(<!-- end of keys -->)", re.DOTALL)
_JOB_PAGES = {
    "jobs.md": ([], "| key | its value if it is left out, or an example | what it is for |"),
    "jobs.zh-CN.md": (["zh_CN"], "| 键 | 不写时的值，或示例 | 用途 |"),
}


def key_table(heading: str) -> str:
    """The keys of a job file, in the language that is active."""
    lines = ["", heading, "|---|---|---|", "| `version` | `1` | |"]
    for key in (*KEYS, *HOOK_KEYS):
        name = f"{key.table}.{key.name}" if key.table else key.name
        shown = f"`{toml_text(key.shown)}`" if key.shown != "" else ""
        lines.append(f"| `{name}` | {shown} | {_(key.text)} |")
    return "\n".join([*lines, "", ""])


def job_page(name: str) -> str:
    """A page on jobs with its table."""
    languages, heading = _JOB_PAGES[name]
    i18n.activate(languages)
    text = (DOCS / name).read_text(encoding="utf-8")
    return _KEYS.sub(lambda found: found[1] + key_table(heading) + found[2], text)


# -- all of them ----------------------------------------------------------------------------


def pages() -> dict[Path, str]:
    """Each generated page and its text, in its own language whatever the environment says."""
    found = {DOCS / name: job_page(name) for name in _JOB_PAGES}
    i18n.activate([])
    schema = json.dumps(job_schema(), indent=1, sort_keys=True) + "\n"
    return {
        DOCS / "cli.md": cli_page(),
        DOCS / "exit-codes.md": exit_codes_page(),
        DOCS / "job.schema.json": schema,
        **found,
    }


def differences() -> list[str]:
    """A unified difference for each page that is not what the code says."""
    found = []
    for path, text in pages().items():
        there = path.read_text(encoding="utf-8") if path.exists() else ""
        if there != text:
            lines = difflib.unified_diff(
                there.splitlines(), text.splitlines(), f"docs/{path.name}", "the code", lineterm=""
            )
            found.append("\n".join([*lines, f"docs/{path.name} is out of date; run: {RENEW}"]))
    return found


def main(arguments: Sequence[str]) -> int:
    """Write or compare; return the exit code."""
    if arguments not in ([], ["--write"]):
        print("usage: reference.py [--write]", file=sys.stderr)
        return 2
    if arguments:
        for path, text in pages().items():
            path.write_text(text, encoding="utf-8")
            print(f"wrote docs/{path.name}")
        return 0
    found = differences()
    for text in found:
        print(text, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
