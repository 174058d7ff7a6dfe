"""What a check says, and what it may look at."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

State = Literal["ok", "warn", "missing", "failed"]


class Finding(NamedTuple):
    """The answer of one check.

    Attributes:
        state: ``ok``; ``warn``: works, but worth a look; ``missing``: not there; ``failed``: there,
            and does not work.
        detail: what was found.
        fix: the command or step that mends it, or "".
    """

    state: State
    detail: str
    fix: str = ""


class Check(NamedTuple):
    """One line of the table.

    Attributes:
        name: for scripts; never changes.
        title: for people, marked for translation.
        find: looks, and changes nothing.
        needed: whether encvault as a whole needs it. What only one feature needs does not change
            the exit code: a server without FUSE is no broken server.
    """

    name: str
    title: str
    find: Callable[[Surroundings], Finding]
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the checks look at; whoever calls knows the environment, the checks do not.

    Attributes:
        state_dir: local state folder.
        config_dir: the user's configuration folder.
        config_files: the company's and the user's.
        identity: the default identity file.
        search_path: folders of programs, as in PATH.
        locale: the name that the environment asks for, such as ``zh_CN.UTF-8``.
        now: seconds since 1970, by this machine's clock.
        session: variables of the session, by which the keychain is found.
        root: where the system's own files are looked for.
    """

    state_dir: str
    config_dir: str
    config_files: tuple[str, ...]
    identity: str
    search_path: str
    locale: str
    now: float
    session: Mapping[str, str] = field(default_factory=dict)
    root: str = "/"

    @property
    def in_container(self) -> bool:
        """Whether this is a container, by what Docker, podman and systemd leave in one."""
        marks = (".dockerenv", "run/.containerenv", "run/systemd/container")
        return any(map(os.path.exists, map(self.at, marks)))

    def at(self, path: str) -> str:
        """A place of the system, given without its leading slash."""
        return os.path.join(self.root, path)

    def read(self, path: str) -> str:
        """A small file of the system; empty if there is none, or it cannot be read."""
        try:
            with open(self.at(path), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""
