"""Jobs: their files, their runs, and where they go."""

from __future__ import annotations

from encvault.errors.base import EncvaultError
from encvault.errors.storage import SkippedError
from encvault.errors.usage import ConfigError
from encvault.i18n import N_


class JobError(EncvaultError):
    """A job could not do what it is for."""

    message = N_("the job failed")


class NoSuchJob(ConfigError):
    """No file describes a job of this name."""

    message = N_("there is no job {name} in {folders}")
    advice = N_("see them with: encvault job list; make one with: encvault job new NAME")
    name: str
    folders: str


class JobExists(JobError):
    """A new job has the name of one that is there."""

    exit_code = 73
    message = N_("{path}: there is a job of this name")
    advice = N_("take another name, or replace it with --force")
    path: str


class JobRunning(JobError):
    """Another run of the job has not ended."""

    exit_code = 75
    message = N_("the job {name} is running already")
    advice = N_("see it with: encvault job status {name}")
    name: str


class JobOfAnother(ConfigError):
    """Root would work in the state folder of another user."""

    message = N_("{path} belongs to the user {user}, and root does not work in it")
    advice = N_("run it as that user: {command}")
    path: str
    user: str
    command: str


class JobTimedOut(JobError):
    """A run took longer than its job allows."""

    exit_code = 124
    message = N_("the job {name} was ended after {after}")
    advice = N_("the next run goes on where it stopped; or give it more time: timeout in {path}")
    name: str
    after: str
    path: str


class DestinationAbsent(JobError):
    """Where a job's copies go is not there, and the job takes that for a failure."""

    exit_code = 66
    message = N_("{place}: the destination is not there: {reason}")
    advice = N_("mount it or plug it in; if it was never used before, make its folder first")
    place: str
    reason: str


class DestinationAway(JobError):
    """The same, where the job only waits for another time."""

    exit_code = 75
    message = N_("{place}: skipped, for the destination is not there: {reason}")
    advice = N_("mount it or plug it in; the next run does the work")
    place: str
    reason: str


class SourceEmpty(JobError):
    """A folder that is to be sealed has no files; so has one that is not mounted."""

    exit_code = 66
    message = N_("{path}: there are no files; is it mounted?")
    advice = N_("mount it, or take it out of the job if it is meant to be empty")
    path: str


class JobNotWell(SkippedError):
    """A job has not done its work lately; what a dead-man switch is for."""

    message = N_("{name}: {reason}")
    advice = N_("see what happened with: encvault job logs {name}")
    name: str
    reason: str


class RunSkipped(JobError):
    """A program that runs before a job says that now is not the time."""

    exit_code = 75
    message = N_("{command} says that the job is to be skipped now")
    command: str


class RunRefused(JobError):
    """A program that runs before a job failed."""

    message = N_("{command} failed before the job: {reason}")
    command: str
    reason: str


class JobRecordsUnusable(ConfigError):
    """What is known of a job's runs cannot be read or written."""

    message = N_("{path}: cannot use the records of the job: {reason}")
    advice = N_("set XDG_STATE_HOME to a folder that you may write to")
    path: str
    reason: str


class JobRecordsOfAnother(ConfigError):
    """Who runs a job cannot use what another user, such as root, has made among its records."""

    message = N_("{path} belongs to the user {owner}, and the user {user} cannot use it")
    advice = N_("as root, give that user what is there: chown -hR {account} {place}")
    path: str
    owner: str
    user: str
    account: str
    place: str


class CopyChanged(EncvaultError):
    """A sealed copy is not, byte for byte, what an earlier run had there."""

    exit_code = 65
    message = N_("{path}: not what was sealed there")
    advice = N_("move it aside; the next run seals a mirror's anew from the source")
    path: str


class CopyLost(EncvaultError):
    """A sealed file of a mirror that is carried to a server is damaged or gone on this machine."""

    exit_code = 65
    message = N_("{path}: damaged or gone here; what the server has of it stays")
    advice = N_("copy it back from the server to this place")
    path: str


class RemoteUnavailable(JobError):
    """What is needed to reach a server is not installed."""

    exit_code = 69
    message = N_("{place} cannot be reached: the package {package} is missing")
    advice = N_("install it: pip install 'encvault[remote]'")
    place: str
    package: str


class RemoteFailed(JobError):
    """A server did not do what it was asked for."""

    exit_code = 74
    message = N_("{place}: {reason}")
    advice = N_("see whether it can be reached, and what may be written there: encvault job check")
    place: str
    reason: str


class RemoteRefused(RemoteFailed):
    """A server did not do it with one file; it does go on with others."""


class ForeignCopy(RemoteFailed):
    """A file on a server has the name of one that is to go there, and is not of this job."""

    advice = N_("move it away, or name another destination in the job file: encvault job show")


class OtherVaultThere(RemoteFailed):
    """A mirror would go where another vault is."""

    advice = N_("name another destination in the job file; see it with: encvault job show")


class HostUnknown(RemoteFailed):
    """Nobody has said that this key is the server's; it could be anyone's."""

    message = N_("{place}: nobody here has vouched for this server: {reason}")
    advice = N_(
        "compare it with what its owner says, then: ssh-keyscan {scan} >> ~/.ssh/known_hosts"
    )
    scan: str


class HostChanged(RemoteFailed):
    """A server has another key than the one that is known; someone may be in between."""

    message = N_("{place}: this is not the server that is known here: {reason}")
    advice = N_(
        "ask its owner whether the key was changed; only if so: ssh-keygen -R {name}, and then "
        "ssh-keyscan {scan} >> ~/.ssh/known_hosts"
    )
    name: str
    scan: str


class AddressUnusable(ConfigError):
    """A destination on a server is not written as one, or has a password in it."""

    message = N_("{place}: {reason}")
    advice = N_("{fix}")
    place: str
    reason: str
    fix: str


class WatcherUnavailable(JobError):
    """A folder cannot be watched."""

    exit_code = 69
    message = N_("cannot watch {path}: {reason}")
    advice = N_("{fix}")
    path: str
    reason: str
    fix: str


class NotTold(JobError):
    """A service that is to hear how a run ended did not."""

    exit_code = 69
    message = N_("could not tell how {name} ended: {reason}")
    advice = N_("see whether ping_url in its file is right, and whether there is a network")
    name: str
    reason: str
