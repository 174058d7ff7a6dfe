"""What a path is: a vault, a place inside one, a sealed file on its own."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from encvault.envelope import InlineKeyInfo, VaultKeyInfo
from encvault.errors import (
    AwayFromVault,
    EncvaultError,
    InvalidRequest,
    LostVault,
    NotAVault,
    NotSealed,
    PlainSide,
    SealedBelow,
    SourceMissing,
    StateUnavailable,
)
from encvault.fs.durable import storage_error
from encvault.fs.tree import Tree
from encvault.i18n import _
from encvault.vault.inspect import glimpse_orphan
from encvault.vault.report import Report
from encvault.vault.sealed import read_header
from encvault.vault.vault import Vault, canonical, find_vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from encvault.envelope import Header
    from encvault.operations.prompter import Prompter
    from encvault.vault.report import Observer


def each(paths: Sequence[str], operate: Callable[[str], Report], observer: Observer) -> Report:
    """Do the same for every path; with several, one that fails as a whole stops no other."""
    report = Report()
    for path in paths:
        try:
            with storage(path):
                report.add(operate(path))
        except EncvaultError as error:
            if len(paths) == 1:
                raise
            report.problems.append(error)
            observer.problem(error)
    return report


def is_same_file(one: str, other: str) -> bool:
    """Whether two paths lead to the same name of a file, which need not exist."""
    return canonical(one) == canonical(other)


@contextlib.contextmanager
def storage(path: str) -> Iterator[None]:
    """The last border for what the operating system reports."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, error.filename or path) from error


def within(vault: str, path: str) -> str:
    """A path relative to a vault's top, ``/`` between names."""
    inside = os.path.relpath(canonical(path), os.path.realpath(vault)).replace(os.sep, "/")
    return "" if inside == "." else inside


def top_of(path: str) -> str:
    """The folder of the vault that `path` is or lies in.

    Raises:
        NotAVault, SourceMissing: there is none.
    """
    top = find_vault(path)
    if top is None:
        raise no_vault(path)
    return top


@contextlib.contextmanager
def unlocked(
    path: str, prompter: Prompter, doubt: Callable[[EncvaultError], None]
) -> Iterator[tuple[Vault, str]]:
    """The vault that `path` is or lies in, unlocked, and the path within it.

    Args:
        path: the vault, or what is in it.
        prompter: is asked for keys, and for what is known of the vault.
        doubt: is told if an older state of the vault was put back, and if this machine cannot
            remember the vault; it is read nonetheless.

    Raises:
        VaultChanged: it is not the known vault; no password was asked for.
    """
    top = top_of(path)
    with Vault.load(top) as vault:
        unlock(vault, prompter, doubt)
        yield vault, within(top, path)


def unlock(vault: Vault, prompter: Prompter, doubt: Callable[[EncvaultError], None]) -> None:
    """Unlock a vault that is the known one; see `unlocked`."""
    log = prompter.access_log()
    if log is not None and log.required:
        log.ready()  # or passwords could be tried that nobody hears of
    known = prompter.known_vaults()
    rolled_back = known.check(vault.record, vault.path)
    vault.unlock(prompter.identities(vault.path))
    if rolled_back is not None:
        doubt(rolled_back)
    try:
        known.remember(vault.record, vault.path, told=False)
    except StateUnavailable as error:
        doubt(error)


def refuse(error: EncvaultError) -> None:
    """Take a doubt about a vault for a reason to stop."""
    raise error


def refuse_fingerprint(prompter: Prompter) -> None:
    """Refuse a stated fingerprint where there is no vault that could have it.

    Raises:
        InvalidRequest: one was stated.
    """
    if prompter.known_vaults().stated:
        raise InvalidRequest(reason=_("--fingerprint is of a vault, and this is none"))


def no_vault(path: str) -> EncvaultError:
    """What is wrong with a path that is no vault and in none."""
    if not os.path.lexists(path):
        return SourceMissing(path=path)
    if os.path.isdir(path):
        from encvault.mount.table import vault_at  # noqa: PLC0415 - only on the way to an error

        vault = vault_at(canonical(path))
        return _no_vault_of_files(path) if vault is None else PlainSide(path=path, vault=vault)
    try:
        header = header_of(path)
    except EncvaultError as error:
        return error
    if isinstance(header.key_info, VaultKeyInfo):
        return AwayFromVault(path=path)
    return InvalidRequest(
        reason=_("{path} is a sealed file on its own; see it with: encvault info {path}").format(
            path=path
        )
    )


def _no_vault_of_files(path: str) -> EncvaultError:
    """What is wrong with a folder: its own .encvault may be what is missing."""
    with contextlib.suppress(OSError), Tree(path) as tree:
        if (found := glimpse_orphan(tree)) is not None:
            if found.is_own:
                return LostVault(path=path, file=found.file)
            return SealedBelow(path=path, file=found.file)
    return NotAVault(path=path)


def not_in_vault(path: str) -> EncvaultError:
    """What is wrong with a path in a vault at which nothing is sealed."""
    if os.path.lexists(path) and not os.path.isdir(path):
        return NotSealed(path=path)
    return SourceMissing(path=path)


def is_alone(path: str) -> bool:
    """Whether a path is a sealed file with its own keyslots."""
    if not os.path.isfile(path):
        return False
    try:
        header = header_of(path)
    except EncvaultError:
        return find_vault(path) is None
    return isinstance(header.key_info, InlineKeyInfo)


def header_of(path: str) -> Header:
    """The header of a sealed file, checked."""
    with storage(path):
        # whoever names a FIFO must not wait for its writer
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise NotSealed(path=path)
            return read_header(fd, path)
        finally:
            os.close(fd)
