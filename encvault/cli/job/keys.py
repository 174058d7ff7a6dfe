"""The keys of a job, from where its file says, without anybody to ask."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from typing import TYPE_CHECKING

from encvault.cli import ui
from encvault.cli.job.group import COMMAND, state_of
from encvault.cli.options import config_files
from encvault.cli.secrets import CommandLinePrompter, SecretOptions
from encvault.cli.sources import Source
from encvault.errors import EncvaultError, InvalidRequest, JobOfAnother, PasswordSourceFailed
from encvault.i18n import _, system_reason
from encvault.jobs import owners
from encvault.jobs.records import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from encvault.jobs.jobfile import Job, Secret
    from encvault.jobs.owners import Owned

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def owner_beside_root(job: Job) -> Owned | None:
    """The folder of somebody else that a job's records are in, if it is root who asks."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return None
    state = state_of(job)
    return owners.not_roots(state, Records.of(job, state).folder)


def refuse_root(job: Job, command: str) -> None:
    """Refuse to work as root in a folder that belongs to somebody else, before anything is made.

    He could have put links there that lead root elsewhere, and could not use what root leaves.

    Args:
        job: which.
        command: of ``encvault job``, which is to be run as that user.

    Raises:
        JobOfAnother: it does.
    """
    found = owner_beside_root(job)
    if found is not None:
        words = [*COMMAND, "job", command, job.path]
        line = _as_that_user(found.uid, os.path.dirname(state_of(job)), words)
        raise JobOfAnother(path=found.path, user=owners.name_of(found.uid), command=line)


def _as_that_user(uid: int, state_base: str, words: Sequence[str]) -> str:
    """What root may type to run something as a user, who finds what he finds at night."""
    import pwd  # noqa: PLC0415 - POSIX only

    try:
        user = pwd.getpwuid(uid)
        who = f"--reuid {shlex.quote(user.pw_name)} --regid {user.pw_gid} --init-groups"
        home = user.pw_dir
    except KeyError:  # of whom the machine knows no groups
        who, home = f"--reuid {uid} --regid {uid} --clear-groups", "/"
    variables = shlex.join([f"HOME={home}", f"XDG_STATE_HOME={state_base}"])
    return f"setpriv {who} env -u XDG_CONFIG_HOME {variables} {shlex.join(words)}"


def as_user(name: str, state_base: str | None, work: Callable[[], int]) -> int:
    """What a command ends with if another user does it; only root may ask.

    Args:
        name: of the user.
        state_base: where his local state is; None for his home.
        work: is done in a process of his.

    Raises:
        InvalidRequest: there is no such user, or nobody but root may become him.
    """
    import pwd  # noqa: PLC0415 - POSIX only

    try:
        user = pwd.getpwnam(name)
    except KeyError:
        reason = _("there is no user {user} on this machine").format(user=name)
        raise InvalidRequest(reason=reason) from None
    if os.geteuid() != 0:
        raise InvalidRequest(reason=_("only root can look at it as another user"))
    if user.pw_uid == os.geteuid():
        return work()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.initgroups(name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            os.environ["HOME"] = user.pw_dir
            for variable in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):  # of root
                os.environ.pop(variable, None)
            if state_base is not None:
                os.environ["XDG_STATE_HOME"] = state_base
            code = work()
        except EncvaultError as error:
            code = ui.fail(error)
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def prompter_of(job: Job, *, yes: bool = False) -> CommandLinePrompter:
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
            yes=yes,
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
        status = os.lstat(path)
    except OSError as error:
        raise PasswordSourceFailed(source=path, reason=system_reason(error)) from None
    if not stat.S_ISREG(status.st_mode):
        raise PasswordSourceFailed(source=path, reason=_("not a regular file"))
    if status.st_mode & _OTHERS:
        raise PasswordSourceFailed(source=path, reason=_("others may read it"))
    if hasattr(os, "geteuid") and status.st_uid not in (0, os.geteuid()):
        reason = _("{place} belongs to user {uid}").format(place=path, uid=status.st_uid)
        raise PasswordSourceFailed(source=path, reason=reason)
    return path
