"""``encvault log verify``, ``prove``, ``check``, ``export`` and ``report``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from encvault.accesslog import filters, verifying
from encvault.accesslog.export import FORMS
from encvault.accesslog.words import action_text, outcome_text
from encvault.cli import ui
from encvault.cli.log import log_option, output_options
from encvault.cli.options import json_option, whole_number
from encvault.cli.streams import writing_result
from encvault.errors import InvalidRequest
from encvault.i18n import _
from encvault.operations import auditing

if TYPE_CHECKING:
    from encvault.accesslog.audit import Audit, Finding
    from encvault.accesslog.log import AccessLog


def _trust_options(function: Any) -> Any:
    """``--anchor`` and ``--policy``."""
    for option in (
        click.option(
            "--policy",
            metavar="FILE",
            help=_("Trust the public keys in FILE, which was kept elsewhere."),
        ),
        click.option(
            "--anchor",
            "anchors",
            multiple=True,
            metavar="FILE",
            help=_("Hold the log against a checkpoint kept elsewhere, or a vault. Repeatable."),
        ),
    ):
        function = option(function)
    return function


@click.command(
    "verify",
    help=_(
        "Check that the log is what was signed, entry by entry.\n\n"
        "ANCHORED-OK (code 0): nothing was changed, and nothing before the anchor is missing. "
        "OK-UNANCHORED (3): nothing was changed, but the end may be missing. TAMPERED (65). "
        "CANNOT-VERIFY (78): keys, anchor or log are missing."
    ),
)
@_trust_options
@log_option
@json_option
def verify_command(
    *, anchors: tuple[str, ...], policy: str | None, log: AccessLog, as_json: bool
) -> int:
    """See the command's help."""
    audit = verifying.verify(log.path, anchors=anchors, policy=policy)
    outcome = auditing.audit_outcome(log.path, audit)
    if as_json:
        ui.show_json(_audit_json(audit))
        return outcome.exit_code if outcome else 0
    _show_audit(audit)
    return ui.fail(outcome) if outcome else 0


def _audit_json(audit: Audit) -> dict[str, Any]:
    return {
        "verdict": audit.verdict.value,
        "origin": audit.origin,
        "size": audit.size,
        "anchored_size": audit.anchored_size,
        "open_from": audit.open_from,
        "first_at": audit.first_at,
        "last_at": audit.last_at,
        "own_policy": audit.own_policy,
        "policy_sha256": audit.policy_digest,
        "checkpoint": audit.checkpoint,
        "wrong": list(map(_finding_json, audit.wrong)),
        "notes": list(map(_finding_json, audit.notes)),
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {"rule": finding.rule, "index": finding.index, "text": finding.text}


def _show_audit(audit: Audit) -> None:
    keys = _("those in the log's own folder") if audit.own_policy else _("those that were given")
    rows: list[tuple[str, Any]] = [(_("verdict"), audit.verdict.value)]
    if audit.origin:
        rows += [
            (_("origin"), audit.origin),
            (_("entries proved"), audit.size),
            (_("of these anchored"), audit.anchored_size),
            (_("keys"), keys),
            (_("SHA-256 of the keys"), audit.policy_digest),
        ]
    if audit.first_at:
        rows += [
            (_("first entry"), audit.first_at),
            (_("last entry"), audit.last_at),
            (_("day not closed from"), audit.open_from),
        ]
    ui.result_table(rows)
    for title, findings in ((_("wrong"), audit.wrong), (_("worth knowing"), audit.notes)):
        for finding in findings:
            at = "" if finding.index is None else _(" (entry {index})").format(index=finding.index)
            ui.result(f"{title}: {finding.text}{at}")


@click.command(
    "prove",
    help=_(
        "Write a proof that the log has an entry, to show that one entry and no other.\n\n"
        "Give the INDEX of the entry, or a file, of which the latest entry is proved. Whoever has "
        "the proof and the log's public keys can check it without the log: encvault log check"
    ),
)
@click.argument("index", type=whole_number(), required=False)
@click.option("--file", "path", metavar="PATH", help=_("Prove the latest entry about this file."))
@output_options(_("Write the proof to FILE instead of stdout."))
@log_option
def prove_command(
    index: int | None, *, path: str | None, output: str | None, force: bool, log: AccessLog
) -> int:
    """See the command's help."""
    if (index is None) == (path is None):
        raise InvalidRequest(reason=_("give the index of an entry, or --file"))
    proof = auditing.prove_entry(log.path, index, path)
    if output is None:
        with writing_result():
            sys.stdout.write(proof.data.decode())
    else:
        auditing.write_new(output, proof.data, force=force)
        ui.message(
            _("wrote a proof of entry {index} to {path}").format(index=proof.index, path=output)
        )
    ui.message(_("it is signed with the key {key}").format(key=proof.key))
    return 0


@click.command(
    "check",
    help=_(
        "Check a proof of one entry, and show the entry.\n\n"
        "It needs the log's public keys, not the log: --policy FILE as the log's owner published "
        "it, or one --key. Only with a policy it is known that the key is of the entry's day."
    ),
)
@click.argument("proof", metavar="PROOF")
@click.option("--key", "keys", multiple=True, metavar="VKEY", help=_("A public key of the log."))
@click.option("--policy", metavar="FILE", help=_("The public keys of the log, as published."))
@json_option
def check_command(proof: str, *, keys: tuple[str, ...], policy: str | None, as_json: bool) -> int:
    """See the command's help."""
    if not keys and policy is None:
        raise InvalidRequest(reason=_("give the log's public keys: --policy FILE, or --key VKEY"))
    found = auditing.check_proof(proof, keys, policy)
    if as_json:
        ui.show_json(
            {
                "index": found.index,
                "entry": dict(found.members),
                "origin": found.checkpoint.origin,
                "size": found.checkpoint.size,
                "day": found.day,
            }
        )
        return 0
    members = dict(found.members)
    rows: list[tuple[str, Any]] = [
        (_("entry"), found.index),
        (_("of the log"), found.checkpoint.origin),
        (_("signed on"), found.day or _("unknown day: no policy was given")),
        (_("action"), action_text(members.pop("op"))),
        (_("outcome"), outcome_text(members.pop("outcome"))),
    ]
    ui.result_table([*rows, *members.items()])
    ui.message(_("the proof holds"))
    return 0


@click.command(
    "export",
    help=_(
        "Print the entries for another system, after checking the log.\n\n"
        "Each record has the index and the size of the log, so that it can be proved: encvault log "
        "prove. If the exit code is not 0, what was printed is not to be used."
    ),
)
@click.option("--format", "form", type=click.Choice(FORMS), required=True, help=_("Which."))
@click.option("--since", metavar="TIME", help=_("Only what was recorded from TIME on."))
@click.option("--until", metavar="TIME", help=_("Only what was recorded up to TIME."))
@_trust_options
@output_options(_("Write to FILE instead of stdout."))
@log_option
def export_command(
    *,
    form: str,
    anchors: tuple[str, ...],
    policy: str | None,
    since: str | None,
    until: str | None,
    output: str | None,
    force: bool,
    log: AccessLog,
) -> int:
    """See the command's help."""
    now = datetime.now(UTC)
    wanted = filters.Filter(
        since=filters.since(since, now) if since else "",
        until=filters.until(until, now) if until else "",
    )
    lines = auditing.export_log(log.path, form, anchors=anchors, policy=policy, wanted=wanted)
    if output is None:
        with writing_result():
            for line in lines:
                sys.stdout.write(line)
    else:
        auditing.write_lines(output, lines, force=force)
    return 0


@click.command(
    "report",
    help=_(
        "Write a report for people: who opened what, when, and whether the log holds.\n\n"
        "It is one HTML file that needs no network, to be read in a browser or printed. The exit "
        "code is 65 if the log was changed; the report says so then."
    ),
)
@click.option("-o", "--output", metavar="FILE", required=True, help=_("Write the report to FILE."))
@click.option("--force", is_flag=True, help=_("Replace FILE."))
@_trust_options
@log_option
def report_command(
    *, output: str, force: bool, anchors: tuple[str, ...], policy: str | None, log: AccessLog
) -> int:
    """See the command's help."""
    audit = auditing.report_log(log.path, output, anchors=anchors, policy=policy, force=force)
    ui.message(_("wrote the report {path}").format(path=output))
    ui.message(_("verdict: {verdict}").format(verdict=audit.verdict.value))
    outcome = auditing.audit_outcome(log.path, audit)
    damaged = 65
    return ui.fail(outcome) if outcome and outcome.exit_code == damaged else 0
