"""The vault that files are sealed into: the one that is known, or a new one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import TYPE_CHECKING

from encvault.errors import (
    EncvaultError,
    LayoutMismatch,
    LostVault,
    NestedVault,
    NotARecipient,
    NotAVault,
    SourceMissing,
    SuiteMismatch,
    VaultMissing,
)
from encvault.fs.tree import Tree
from encvault.i18n import _
from encvault.operations.request import SealRequest, all_of
from encvault.vault.inspect import find_orphan
from encvault.vault.vault import Vault, find_vault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.operations.prompter import Prompter
    from encvault.vault.manifest import VaultLayout, VaultRecord
    from encvault.vault.report import Observer


@contextlib.contextmanager
def vault_for_sealing(
    request: SealRequest, path: str, prompter: Prompter, watcher: Observer
) -> Iterator[tuple[Vault, list[EncvaultError]]]:
    """The vault at `path`, made if there is none, held, and what is doubtful about it.

    Raises:
        VaultChanged: it is not the known vault.
        NotARecipient, SuiteMismatch, LayoutMismatch: it is not as it was asked for.
        NestedVault: a new one would lie in another.
    """
    try:
        vault = Vault.load(path)
    except (NotAVault, SourceMissing):
        with _new_vault(request, path, prompter, watcher) as vault:
            yield vault, []
        return
    with vault:
        doubts = _recognise(vault, prompter)
        _check_fits(vault.record, request)
        if not all(one.fits(vault.record.slots, path) for one in prompter.given_recipients()):
            raise NotARecipient(path=path)
        if not request.dry_run:
            vault.hold()
            doubts = _recognise(vault, prompter)  # another may have come before it was held
            _tell(vault, prompter, watcher)
        yield vault, doubts


def _tell(vault: Vault, prompter: Prompter, watcher: Observer) -> None:
    """Tell what is new about a vault that is sealed into, and remember it."""
    known, record = prompter.known_vaults(), vault.record
    expected = known.expected(vault.path)
    if expected and expected != record.fingerprint:
        watcher.note(
            _(
                "the keys of {path} were changed; from now on state its present fingerprint: "
                "{found}"
            ).format(path=vault.path, found=record.fingerprint)
        )
    elif known.is_untold(record):
        watcher.note(
            _("the vault {path} is new to this machine; its fingerprint is {found}").format(
                path=vault.path, found=record.fingerprint
            )
        )
    known.remember(record, vault.path, told=True)


def refuse_lost(path: str) -> None:
    """Refuse to make a vault in a folder with sealed files of one that is gone.

    They would be taken for plain files, and be sealed once more.

    Raises:
        LostVault: there are some.
    """
    with Tree(path) as tree:
        if (file := find_orphan(tree)) is not None:
            raise LostVault(path=path, file=file)


def _recognise(vault: Vault, prompter: Prompter) -> list[EncvaultError]:
    doubt = prompter.known_vaults().check_for_sealing(vault.record, vault.path)
    return [] if doubt is None else [doubt]


@contextlib.contextmanager
def _new_vault(
    request: SealRequest, path: str, prompter: Prompter, watcher: Observer
) -> Iterator[Vault]:
    if expected := prompter.known_vaults().expected(path):
        raise VaultMissing(path=path, expected=expected)
    if request.to is None and not request.force:
        refuse_lost(path)
    layout: VaultLayout = "hidden" if request.hide_names else "visible"
    suite = request.new_suite
    if request.dry_run:
        with tempfile.TemporaryDirectory() as empty:
            real = path if os.path.isdir(path) else empty
            with Vault.imagine(real, suite=suite, layout=layout) as imagined:
                yield imagined
        return
    if (outer := find_vault(os.path.dirname(os.path.abspath(path)))) is not None:
        raise NestedVault(path=outer)
    recipients = prompter.recipients(all_of(request.paths))
    Tree.made(path).close()
    with Vault.create(path, recipients, suite=suite, layout=layout) as vault:
        known = prompter.known_vaults()
        if gone := known.at(path):
            watcher.note(
                _("the vault {gone} that was in {path} is gone; this is a new one").format(
                    gone=gone, path=path
                )
            )
        known.remember(vault.record, path, told=True, made=True)
        prompter.slots_made()
        yield vault


def _check_fits(record: VaultRecord, request: SealRequest) -> None:
    if request.suite is not None and request.suite is not record.suite:
        raise SuiteMismatch(vault_suite=record.suite.label, asked_suite=request.suite.label)
    if request.hide_names and record.layout != "hidden":
        raise LayoutMismatch(vault_layout=record.layout, asked_layout="hidden")
