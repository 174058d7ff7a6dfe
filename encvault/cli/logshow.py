"""``encvault log init``, ``show``, ``anchor`` and ``erase``."""

from __future__ import annotations

import sys
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

import click

from encvault.accesslog import filters, viewing
from encvault.accesslog.redaction import is_month
from encvault.accesslog.words import ACTIONS, action_text, outcome_text
from encvault.cli import ui
from encvault.cli.log import log_option, output_options
from encvault.cli.options import json_option, whole_number, yes_option
from encvault.cli.secrets import CommandLinePrompter, SecretOptions
from encvault.cli.streams import writing_result
from encvault.errors import InvalidRequest
from encvault.i18n import _, size_text
from encvault.operations import auditing
from encvault.vault.vault import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from encvault.accesslog.events import Entry
    from encvault.accesslog.log import AccessLog

_MAX_LAST = 1_000_000_000
_POLL_SECONDS = 0.5
_WIDTHS = (16, 8, 20)  # columns for when, who and what; the path has the rest


@click.command(
    "init",
    help=_(
        "Begin the access log, unless there is one, and write its public keys to FILE.\n\n"
        "Keep FILE where nobody who uses this machine can change it: who has it can check the log "
        "without trusting the machine. The log begins by itself with the first access; its public "
        "keys can be written at any time."
    ),
)
@output_options(_("Write the public keys to FILE."))
@log_option
@json_option
def init_command(*, output: str | None, force: bool, log: AccessLog, as_json: bool) -> int:
    """See the command's help."""
    found = auditing.begin_log(log, output, force=force)
    if as_json:
        ui.show_json(
            {
                "path": found.path,
                "origin": found.origin,
                "first_day": found.first_day,
                "last_day": found.last_day,
                "policy_sha256": found.policy_digest,
                "made": found.made,
            }
        )
        return 0
    ui.message(_("the access log begins") if found.made else _("there was an access log already"))
    ui.result_table(
        [
            (_("log"), found.path),
            (_("origin"), found.origin),
            (_("keys from"), found.first_day),
            (_("keys to"), found.last_day),
            (_("SHA-256 of the keys"), found.policy_digest),
        ]
    )
    if output is not None:
        ui.message(_("wrote the public keys to {path}; keep it elsewhere").format(path=output))
    return 0


@click.command(
    "show",
    help=_(
        "Show the entries, oldest first.\n\n"
        "What is shown was hashed and held against the last checkpoint; a whole check is: "
        "encvault log verify. TIME is such as 2026-11-30, 2026-11-30T08:00, 7d or 24h."
    ),
)
@click.option("--since", metavar="TIME", help=_("Only what was recorded from TIME on."))
@click.option("--until", metavar="TIME", help=_("Only what was recorded up to TIME."))
@click.option("--user", metavar="NAME", default="", help=_("Only what this user did."))
@click.option("--file", "path", metavar="PATH", help=_("Only this file, or what is below PATH."))
@click.option(
    "--op",
    type=click.Choice(list(ACTIONS)),
    metavar="OP",
    help=_("Only this action, such as open."),
)
@click.option(
    "--outcome",
    type=click.Choice(["ok", "failed", "refused"]),
    help=_("Only what ended so."),
)
@click.option("--id", "wanted_id", metavar="ID", help=_("Only this vault, sealed file or keyslot."))
@click.option(
    "-n",
    "--last",
    type=whole_number(high=_MAX_LAST),
    metavar="N",
    help=_("Only the last N of these."),
)
@click.option("-f", "--follow", is_flag=True, help=_("Go on showing what is recorded."))
@log_option
@json_option
def show_command(
    *,
    since: str | None,
    until: str | None,
    user: str,
    path: str | None,
    op: str | None,
    outcome: str | None,
    wanted_id: str | None,
    last: int | None,
    follow: bool,
    log: AccessLog,
    as_json: bool,
) -> int:
    """See the command's help."""
    now = datetime.now(UTC)
    wanted = filters.Filter(
        since=filters.since(since, now) if since else "",
        until=filters.until(until, now) if until else "",
        user=user,
        path=canonical(path) if path else "",
        op=op or "",
        outcome=outcome or "",
        id=wanted_id or "",
        keys=auditing.keys_of_paths(log.path) if path else {},
    )
    show = _show_json if as_json else _show_line
    if follow:
        _follow(log.path, wanted, show, last)
    found: Iterable[Entry] = viewing.view(log.path, wanted)[1]
    for entry in found if last is None else deque(found, maxlen=last):
        show(entry)
    return 0


def _follow(
    path: str, wanted: filters.Filter, show: Callable[[Entry], None], last: int | None
) -> NoReturn:
    """Show what there is, at most its last entries, and what comes, until somebody stops it."""
    before: deque[Entry] | None = deque(maxlen=last)

    def pause() -> None:
        nonlocal before
        for entry in before or ():
            show(entry)
        before = None
        with writing_result():
            sys.stdout.flush()
        time.sleep(_POLL_SECONDS)

    for entry in viewing.follow(path, wanted, pause):
        if before is None:
            show(entry)
        else:
            before.append(entry)
    raise AssertionError("log show: following does not end")


def _show_json(entry: Entry) -> None:
    with writing_result():
        ui.show_json({**entry.members, "index": entry.index})  # which no member may stand for


def _show_line(entry: Entry) -> None:
    members = entry.members
    what: str = action_text(members["op"])
    if members["outcome"] != "ok":  # what was done needs no word for it
        outcome = outcome_text(members["outcome"])
        what = _("{action}: {outcome}").format(action=what, outcome=outcome)
    cells = (_local(members["ts"]), str(members["user"]), what)
    about = [str(members[name]) for name in ("path", "detail", "error") if name in members]
    if "path" not in members:
        about += [str(members[name]) for name in ("name", "file", "vault") if name in members][:1]
    elif "name" in members:
        about.append(_("(sealed as {name})").format(name=members["name"]))
    if "wall" in members:
        about.append(_("(clock: {time})").format(time=_local(members["wall"])))
    if "to" in members:
        about.append(f"-> {members['to']}")
    if "program" in members:
        about.append(_("(by {program})").format(program=members["program"]))
    columns = [ui.column(text, width) for text, width in zip(cells, _WIDTHS, strict=True)]
    with writing_result():
        ui.result("  ".join([f"{entry.index:5}", *columns, " ".join(about)]).rstrip())


def _local(ts: str) -> str:
    return datetime.fromisoformat(ts).astimezone().strftime("%Y-%m-%d %H:%M")


@click.command(
    "anchor",
    help=_(
        "Print the latest checkpoint, which anchors all entries up to now.\n\n"
        "Kept elsewhere (with a colleague, on paper, in a mail) it shows later that nothing before "
        "it was changed or taken away: encvault log verify --anchor FILE"
    ),
)
@output_options(_("Write it to FILE; a QR code if FILE ends in .svg or .png."))
@click.option("--qr", "as_qr", is_flag=True, help=_("Print a QR code, for a camera or paper."))
@log_option
def anchor_command(*, output: str | None, force: bool, as_qr: bool, log: AccessLog) -> int:
    """See the command's help."""
    note = auditing.latest_checkpoint(log.path)
    if output is not None:
        auditing.write_anchor(note, output, force=force)
        ui.message(_("wrote {path}; keep it elsewhere").format(path=output))
    elif as_qr:
        with writing_result():
            sys.stdout.write(auditing.qr_text(note))
    else:
        with writing_result():
            sys.stdout.write(note.decode())
    return 0


@click.command(
    "copy",
    help=_(
        "Copy the log for somebody who checks it, as it is now, while others may write to it.\n\n"
        "DIR is a new folder. The secret key stays behind."
    ),
)
@click.argument("target", metavar="DIR")
@log_option
def copy_command(target: str, *, log: AccessLog) -> int:
    """See the command's help."""
    size = auditing.copy_log(log.path, target)
    ui.message(_("copied the log to {path}, {size}").format(path=target, size=size_text(size)))
    return 0


@click.command(
    "erase",
    help=_(
        "Forget for good which files the entries of past months are about.\n\n"
        "Where paths are recorded as hmac, the keys of the months before MONTH are deleted. The "
        "entries stay, and the log still proves what it proved."
    ),
)
@click.option("--before", required=True, metavar="YYYY-MM", help=_("Keep this month and later."))
@yes_option
@click.option("--no-input", is_flag=True, help=_("Never ask. Without a terminal always so."))
@log_option
@json_option
def erase_command(*, before: str, yes: bool, no_input: bool, log: AccessLog, as_json: bool) -> int:
    """See the command's help."""
    if not is_month(before):
        reason = _("{text}: not a month such as 2026-11").format(text=before)
        raise InvalidRequest(reason=reason)
    prompter = CommandLinePrompter(SecretOptions(yes=yes, no_input=no_input))
    gone = auditing.erase_path_keys(log, before, prompter)
    if as_json:
        ui.show_json({"erased": gone})
    elif gone:
        ui.message(_("erased the keys of {months}").format(months=", ".join(gone)))
    else:
        ui.message(_("there is no key of a month before {month}").format(month=before))
    return 0
