"""The vault that files are sealed into: the one that is known, or a new one."""

from __future__ import annotations

import contextlib
import os
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

    from encvault.crypto.suite import Suite
    from encvault.operations.prompter import Prompter
    from encvault.operations.recording import Recorder
    from encvault.vault.manifest import VaultLayout, VaultRecord
    from encvault.vault.report import Observer


@contextlib.contextmanager
def vault_for_sealing(
    request: SealRequest, path: str, prompter: Prompter, watcher: Recorder
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


def _tell(vault: Vault, prompter: Prompter, watcher: Recorder) -> None:
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


def refuse_new(path: str, prompter: Prompter, *, over_sealed: bool) -> None:
    """Refuse to make a vault where there must be another one.

    Args:
        path: the folder, which may be missing.
        prompter: knows which vault is expected there.
        over_sealed: whether sealed files of a vault that is gone are no reason. They would be
            taken for plain files, and be sealed once more.

    Raises:
        VaultMissing: a vault of another fingerprint is expected.
        LostVault: there are sealed files of one that is gone.
    """
    if expected := prompter.known_vaults().expected(path):
        raise VaultMissing(path=path, expected=expected)
    if over_sealed or not os.path.isdir(path):
        return
    with Tree(path) as tree:
        if (file := find_orphan(tree)) is not None:
            raise LostVault(path=path, file=file)


def _recognise(vault: Vault, prompter: Prompter) -> list[EncvaultError]:
    doubt = prompter.known_vaults().check_for_sealing(vault.record, vault.path)
    return [] if doubt is None else [doubt]


@contextlib.contextmanager
def _new_vault(
    request: SealRequest, path: str, prompter: Prompter, watcher: Recorder
) -> Iterator[Vault]:
    refuse_new(path, prompter, over_sealed=request.to is not None or request.force)
    layout: VaultLayout = "hidden" if request.hide_names else "visible"
    suite = request.new_suite
    if request.dry_run:
        import tempfile  # noqa: PLC0415 - rarely needed, and every command would pay for it

        with tempfile.TemporaryDirectory() as empty:
            real = path if os.path.isdir(path) else empty
            with Vault.imagine(real, suite=suite, layout=layout) as imagined:
                yield imagined
        return
    if (outer := find_vault(os.path.dirname(os.path.abspath(path)))) is not None:
        raise NestedVault(path=outer)
    with made_vault(
        path, prompter, watcher, asking=all_of(request.paths), suite=suite, layout=layout
    ) as vault:
        watcher.record("init", path=path, vault=vault.record.id)
        yield vault


@contextlib.contextmanager
def made_vault(
    path: str,
    prompter: Prompter,
    watcher: Observer,
    *,
    asking: str,
    suite: Suite,
    layout: VaultLayout,
) -> Iterator[Vault]:
    """A vault that is made, and its folder if it is missing; durable, held and remembered.

    Args:
        path: the folder.
        prompter: is asked for whom.
        watcher: hears of a vault that was here before.
        asking: what a password is asked for.
        suite: of all its files, for good.
        layout: likewise.

    Raises:
        NestedVault: a folder above became a vault meanwhile, and its run may seal what is here.
    """
    above = os.path.dirname(os.path.abspath(path))
    outer = find_vault(above)
    recipients = prompter.recipients(asking)
    if (now := find_vault(above)) != outer and now is not None:
        raise NestedVault(path=now)  # it was made while somebody typed a password here
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
