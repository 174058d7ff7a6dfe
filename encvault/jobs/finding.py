"""Where job files lie, and which one a name means."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from encvault import config
from encvault.errors import EncvaultError, NoSuchJob
from encvault.fs import durable
from encvault.fs.tree import Tree
from encvault.jobs.jobfile import MAX_SIZE, SUFFIX, is_name, parse_job
from encvault.vault.manifest import new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.jobs.jobfile import Job

FOLDER = "jobs.d"
SYSTEM_FOLDER = "/etc/encvault/jobs.d"
SYSTEM_STATE = "/var/lib/encvault"  # as the unit has it, and nobody's home


class Listed(NamedTuple):
    """A job file that was found.

    Attributes:
        name: of the job.
        path: of the file.
        job: what it describes, or None.
        error: why it describes none, or None.
    """

    name: str
    path: str
    job: Job | None = None
    error: EncvaultError | None = None


def load_job(path: str) -> Job:
    """The job that a file describes.

    Raises:
        NoSuchJob: there is no such file.
        ConfigError: it is not usable, or others can change it.
    """
    path = os.path.abspath(path)
    data = config.read(path, MAX_SIZE)
    if data is None:
        raise NoSuchJob(name=os.path.basename(path), folders=os.path.dirname(path))
    return parse_job(data, path)


def find_job(name: str, folders: Sequence[str]) -> Job:
    """The job of a name, or of a file that is named by its path.

    Args:
        name: with a ``/`` in it or ``.toml`` at its end, the path of a file.
        folders: with job files; the first that has it counts.

    Raises:
        NoSuchJob: there is none.
        ConfigError: its file is not usable.
    """
    if os.sep in name or name.endswith(SUFFIX):
        return load_job(name)
    for folder in folders if is_name(name) else ():
        path = os.path.join(folder, name + SUFFIX)
        if os.path.lexists(path):
            return load_job(path)
    raise NoSuchJob(name=name, folders=", ".join(folders))


def list_jobs(folders: Sequence[str]) -> list[Listed]:
    """Every job, by name; of two with one name the one that its name means."""
    found: dict[str, Listed] = {}
    for folder in folders:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for file in names:
            name, path = file.removesuffix(SUFFIX), os.path.join(folder, file)
            if name == file or not is_name(name) or name in found:
                continue
            try:
                found[name] = Listed(name, path, load_job(path))
            except EncvaultError as error:
                found[name] = Listed(name, path, None, error)
    return [found[name] for name in sorted(found)]


def write_job(text: str, folder: str, name: str, *, force: bool = False) -> str:
    """Write a new job file, durable on return; its path.

    One of the machine can be read by all, for another user runs it; no secret is in it.

    Raises:
        FileExistsError: there is one, and not `force`.
        OSError: it cannot be written.
    """
    with Tree.made(folder, 0o755) as tree:  # one that others may write to is refused
        file = name + SUFFIX
        mode = 0o644 if folder == SYSTEM_FOLDER else 0o600
        durable.write_file(
            tree, "", file, text.encode(), file_id=new_id(), mode=mode, replace=force
        )
        return tree.show(file)
