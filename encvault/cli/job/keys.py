"""The keys of a job, from where its file says, without anybody to ask."""

from __future__ import annotations

import os
import shlex
import stat
from typing import TYPE_CHECKING

from encvault.cli.job.group import state_of
from encvault.cli.options import config_files
from encvault.cli.secrets import CommandLinePrompter, SecretOptions
from encvault.cli.sources import Source
from encvault.errors import PasswordSourceFailed
from encvault.i18n import _, system_reason

if TYPE_CHECKING:
    from encvault.jobs.jobfile import Job, Secret

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def prompter_of(job: Job) -> CommandLinePrompter:
    """Who answers for a job. Nobody is asked; what is missing is an error (78).

    Raises:
        PasswordSourceFailed: others may read the secret, or it is not there.
    """
    secret = job.secret
    return CommandLinePrompter(
        SecretOptions(
            recipients=job.recipients,
            identity_files=(_private(secret.identity_file),) if secret.identity_file else (),
            password=_source(secret),
            keyring=secret.keyring,
            fingerprint=job.fingerprint or "",
            state_dir=state_of(job),
            config_files=config_files(),
            no_input=True,
            quiet=True,
        )
    )


def _source(secret: Secret) -> Source:
    if secret.password_command:
        return Source(command=shlex.join(secret.password_command))
    if secret.credential:
        # as systemd.exec(5) says of credentials
        folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
        if not folder:
            source = _("the credential {name}").format(name=secret.credential)
            reason = _("systemd gives it to the service only")
            raise PasswordSourceFailed(source=source, reason=reason)
        return Source(file=os.path.join(folder, secret.credential))
    if secret.password_file:
        return Source(file=_private(secret.password_file))
    return Source()


def _private(path: str) -> str:
    """A file that nobody else may read; a secret that others know is none."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise PasswordSourceFailed(source=path, reason=system_reason(error)) from None
    if mode & _OTHERS:
        raise PasswordSourceFailed(source=path, reason=_("others may read it"))
    return path
