"""The group ``encvault job``, and where its files are."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from encvault.cli.lazy import LazyGroup
from encvault.cli.options import config_dir, state_dir
from encvault.errors import HomeUnknown
from encvault.i18n import N_, _
from encvault.jobs import finding

if TYPE_CHECKING:
    from encvault.jobs.jobfile import Job

# how this encvault is run; -P: nothing that lies where it is begun becomes part of it
COMMAND = (sys.executable, "-P", "-m", "encvault")
_COMMANDS = {
    "new": ("encvault.cli.job.keep", N_("Write the file of a new job.")),
    "check": ("encvault.cli.job.keep", N_("See whether a job would work.")),
    "run": ("encvault.cli.job.run", N_("Run jobs now.")),
    "watch": ("encvault.cli.job.watch", N_("Seal what comes to lie in a folder.")),
    "list": ("encvault.cli.job.look", N_("List the jobs.")),
    "show": ("encvault.cli.job.look", N_("Show what a job does.")),
    "status": ("encvault.cli.job.look", N_("Show how the last runs ended.")),
    "logs": ("encvault.cli.job.look", N_("Show a job's runs.")),
    "notify": ("encvault.cli.job.run", N_("Tell the service how the last run ended.")),
    "install": ("encvault.cli.job.install", N_("Have systemd or cron run a job.")),
    "uninstall": ("encvault.cli.job.install", N_("Have a job run no more.")),
}

job_command = LazyGroup(
    _COMMANDS,
    name="job",
    help=_(
        "Seal at night, without anybody there and without a password on the machine.\n\n"
        "A job is a file of its own; NAME is that of the file, or its path. Start with: "
        "encvault job new NAME --source DIR --destination DIR --mode mirror --recipient FILE"
    ),
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
