"""The group ``encvault job``, and where its files are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from encvault.cli.lazy import LazyGroup
from encvault.cli.options import config_dir, state_dir
from encvault.errors import HomeUnknown
from encvault.i18n import _
from encvault.jobs import finding

if TYPE_CHECKING:
    from encvault.jobs.jobfile import Job

_COMMANDS = {
    "new": "encvault.cli.job.keep",
    "check": "encvault.cli.job.keep",
    "run": "encvault.cli.job.run",
    "watch": "encvault.cli.job.watch",
    "list": "encvault.cli.job.look",
    "show": "encvault.cli.job.look",
    "status": "encvault.cli.job.look",
    "logs": "encvault.cli.job.look",
    "notify": "encvault.cli.job.run",
    "install": "encvault.cli.job.install",
    "uninstall": "encvault.cli.job.install",
}

job_command = LazyGroup(
    _COMMANDS,
    name="job",
    help=_(
        "Seal at night, without anybody there and without a password on the machine.\n\n"
        "A job is a file of its own; NAME is that of the file, or its path. Start with: "
        "encvault job new NAME --source DIR --destination DIR --mode mirror --recipient FILE"
    ),
    short_help=_("Seal unattended: nightly jobs."),
)


def state_of(job: Job) -> str:
    """The local state folder of a job: those of the machine have one for whoever looks at them."""
    if os.path.dirname(job.path) == finding.SYSTEM_FOLDER:
        return finding.SYSTEM_STATE
    return state_dir()


def user_folder() -> str:
    """Where the user's own jobs are."""
    return os.path.join(config_dir(), finding.FOLDER)


def job_folders() -> list[str]:
    """Where jobs are looked for: the user's first."""
    try:
        return [user_folder(), finding.SYSTEM_FOLDER]
    except HomeUnknown:  # a service without a home has the machine's
        return [finding.SYSTEM_FOLDER]
