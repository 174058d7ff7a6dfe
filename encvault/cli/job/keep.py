"""``encvault job new`` and ``encvault job check``."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from encvault.cli import ui
from encvault.cli.job.group import COMMAND, job_folders, state_of, user_folder
from encvault.cli.job.keys import as_user, owner_beside_root, prompter_of, refuse_root
from encvault.cli.options import json_option, quiet_option
from encvault.errors import InvalidRequest, JobExists
from encvault.fs.durable import storage_error
from encvault.i18n import N_, _, english
from encvault.jobs import checking, finding, owners
from encvault.jobs.jobfile import SUFFIX, is_name, parse_job
from encvault.jobs.keys import job_schema, job_text
from encvault.jobs.records import Records, worst
from encvault.jobs.units import STATE_BASE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.jobs.checking import Finding
    from encvault.jobs.jobfile import Job

_MODES = ("in-place", "mirror", "archive")
_LEVELS = {"ok": N_("ok"), "warning": N_("look"), "failed": N_("wrong")}


@click.command(
    "new",
    help=_(
        "Write the file of a new job, with a comment on every key.\n\n"
        "On a terminal what is missing is asked for. Nothing is sealed before: encvault job check "
        "NAME, and encvault job run NAME"
    ),
)
@click.argument("name", metavar="NAME")
@click.option(
    "--source", "sources", multiple=True, metavar="DIR", help=_("Seal this folder. Repeatable.")
)
@click.option("--mode", type=click.Choice(_MODES), help=_("How; mirror, if nothing is said."))
@click.option("--destination", metavar="DIR", help=_("Where to: a folder, sftp://… or s3://…."))
@click.option("--drive", metavar="ID", help=_("Or to the registered drive of this id."))
@click.option(
    "-r",
    "--recipient",
    "recipients",
    multiple=True,
    metavar="RECIPIENT",
    help=_("Seal for this recipient: a file, or the line itself. Repeatable."),
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    help=_("Leave out names or paths that match. Repeatable."),
)
@click.option("--at", metavar="HH:MM", help=_("When it runs."))
@click.option("--keep", type=int, metavar="N", help=_("How many archives are kept."))
@click.option(
    "--verify",
    type=click.Choice(["none", "sample", "full"]),
    help=_("How much of what lies there already is read back."),
)
@click.option("--system", is_flag=True, help=_("A job of the machine, in /etc/encvault/jobs.d."))
@click.option("--force", is_flag=True, help=_("Replace a job of this name."))
@quiet_option
def new_command(
    name: str,
    *,
    sources: tuple[str, ...],
    mode: str | None,
    destination: str | None,
    drive: str | None,
    recipients: tuple[str, ...],
    system: bool,
    force: bool,
    quiet: bool,
    **more: Any,
) -> int:
    """See the command's help."""
    if not is_name(name):
        raise InvalidRequest(reason=_("a job's name has up to 64 of A-Z a-z 0-9 . _ -"))
    top = {
        "sources": _absolute(sources) or _asked(_("folder to seal: ")),
        "mode": mode or "mirror",
        "destination": destination if destination is None else _place(destination),
        "drive": drive,
        "recipients": _recipients(recipients),
        "exclude": list(more["exclude"]),
        "keep": more["keep"],
        "verify": more["verify"],
    }
    if not top["sources"]:
        raise InvalidRequest(reason=_("say --source"))
    if top["mode"] != "in-place" and not (destination or drive):
        top["destination"] = next(iter(_asked(_("folder for the sealed copies: "))), None)
    if not (recipients or ui.is_interactive()) and not _has_company():
        raise InvalidRequest(reason=_("say --recipient; nothing can be sealed for nobody"))
    given = {
        "": {key: value for key, value in top.items() if value not in (None, [], ())},
        "schedule": {"at": more["at"]} if more["at"] else {},
    }
    text = job_text(given)
    folder = finding.SYSTEM_FOLDER if system else user_folder()
    path = os.path.join(folder, name + SUFFIX)
    parse_job(text.encode(), path)  # what is written can be read
    try:
        path = finding.write_job(text, folder, name, force=force)
    except FileExistsError:
        raise JobExists(path=path) from None
    except OSError as error:
        raise storage_error(error, path) from None
    if not quiet:
        ui.message(_("wrote {path}").format(path=path))
        ui.hint(f"encvault job check {name}")
    return 0


def _absolute(paths: tuple[str, ...]) -> list[str]:
    return [os.path.abspath(path) for path in paths]


def _place(text: str) -> str:
    return text if "://" in text else os.path.abspath(text)


def _recipients(given: tuple[str, ...]) -> list[str]:
    return [one if one.startswith("encvault1-") else os.path.abspath(one) for one in given]


def _asked(question: str) -> list[str]:
    """A folder that is typed, if there is a person to ask."""
    if not ui.is_interactive():
        return []
    answer = click.prompt(question.removesuffix(": "), prompt_suffix=": ", err=True)
    return [os.path.abspath(os.path.expanduser(answer))] if answer else []


def _has_company() -> bool:
    """Whether the configuration names recipients, for whom everything is sealed."""
    from encvault import config  # noqa: PLC0415 - nearly always a recipient is named
    from encvault.cli.options import config_files  # noqa: PLC0415 - likewise

    return bool(config.load(config_files()).recipients)


@click.command(
    "check",
    help=_(
        "See whether a job would work: its file, its sources, its keys, its destination.\n\n"
        "Run it as the user who will run the job. Nothing is sealed; the destination is written "
        "to and left as it was."
    ),
)
@click.argument("name", metavar="NAME", required=False)
@click.option("--schema", is_flag=True, help=_("Print the JSON Schema of job files, for editors."))
@click.option("--as", "user", metavar="USER", help=_("As root: look at it as this user would."))
@quiet_option
@json_option
def check_command(
    name: str | None, *, schema: bool, user: str | None, quiet: bool, as_json: bool
) -> int:
    """See the command's help."""
    if schema:
        ui.show_json(job_schema())
        return 0
    if name is None:
        raise InvalidRequest(reason=_("say which job"))
    job = finding.find_job(name, job_folders())
    if user is not None:
        # a job that is not in his home is the machine's, as for `job install --as`
        base = None if _is_in_home(job, user) else STATE_BASE
        return as_user(
            user, base, lambda: _check(job, quiet=quiet, as_json=as_json, command=COMMAND)
        )
    if (found := owner_beside_root(job)) is None or not owners.is_known(found.uid):
        return _check(job, quiet=quiet, as_json=as_json)  # which refuses what is somebody's
    # as root it would look well that he cannot use, and what root remembers there he could not read
    name = owners.name_of(found.uid)
    text = _("{path} belongs to the user {user}, as whom the job is looked at")
    ui.message(text.format(path=found.path, user=name))
    base = os.path.dirname(state_of(job))
    return as_user(name, base, lambda: _check(job, quiet=quiet, as_json=as_json, command=COMMAND))


def _is_in_home(job: Job, user: str) -> bool:
    home = os.path.expanduser(f"~{user}")
    # a service that has none of its own is often given /, in which everything is
    is_own = os.path.isabs(home) and home.strip("/")
    return bool(is_own) and job.path.startswith(os.path.join(home, ""))


def _check(job: Job, *, quiet: bool, as_json: bool, command: Sequence[str] = ()) -> int:
    refuse_root(job, "check")
    found = list(
        checking.check_job(
            job,
            lambda: prompter_of(job),
            state_of(job),
            lambda: prompter_of(job).defaults.register(state_of(job)),
            datetime.now().astimezone(),
            command,
        )
    )
    if as_json:
        records = Records.of(job, state_of(job)).folder
        findings = [_json(one) for one in found]
        ui.show_json({"job": job.name, "path": job.path, "records": records, "findings": findings})
    else:
        width = max(ui.cells(_(text)) for text in _LEVELS.values()) + 2
        for one in found:
            if not quiet or one.level != "ok":
                told = _("{name}: {reason}").format(name=_(one.what), reason=one.text)
                ui.result(f"{ui.column(_(_LEVELS[one.level]), width)}{told}")
    error = worst([one.error for one in found if one.error is not None])
    if error is None:
        return 0
    if error.hint and not as_json:
        ui.hint(error.hint)
    return error.exit_code


# what is looked at, here so that the catalog has it
_WHAT = (
    N_("file"),
    N_("program"),
    N_("records"),
    N_("source"),
    N_("keys"),
    N_("destination"),
    N_("vault"),
    N_("hook"),
    N_("metrics"),
    N_("schedule"),
)


def _json(one: Finding) -> dict[str, Any]:
    return {
        "what": one.what,
        "level": one.level,
        "text": english(one.text),
        "error": None if one.error is None else ui.error_json(one.error),
    }
