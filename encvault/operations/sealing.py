"""Make vaults; seal folders, files and streams."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from encvault.crypto import selftest
from encvault.errors import (
    AlreadyAVault,
    DestinationExists,
    InvalidRequest,
    SourceMissing,
)
from encvault.fs.tree import Tree
from encvault.i18n import _
from encvault.operations.places import (
    each,
    is_same_file,
    refuse_fingerprint,
    storage,
    within,
)
from encvault.operations.prompter import Prompter, confirm
from encvault.operations.recording import Recorder, recording
from encvault.operations.request import DEFAULT_SUITE, SealRequest, all_of, check_request
from encvault.operations.target import made_vault, refuse_new, vault_for_sealing
from encvault.usb import guide
from encvault.vault.inspect import holds_sealed_files, inspect_status
from encvault.vault.layout import STREAM_NAME, SUFFIX, sealed_name
from encvault.vault.ledger import ledger_of
from encvault.vault.manifest import FOLDER as VAULT_FOLDER
from encvault.vault.output import OutputFile, refuse_special
from encvault.vault.report import Observer, Report
from encvault.vault.seal import plan_seal, seal_tree
from encvault.vault.vault import Vault, canonical, find_vault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from encvault.crypto.suite import Suite
    from encvault.vault.ledger import Ledger
    from encvault.vault.manifest import VaultLayout, VaultRecord
    from encvault.vault.selection import SealOptions


# the Filesystem Hierarchy Standard 3.0, section 3, and macOS
_SYSTEM_FOLDERS = {"bin", "boot", "dev", "etc", "lib", "lib64", "proc", "sbin", "sys", "usr"}
_SYSTEM_FOLDERS |= {"Applications", "Library", "System"}
_HOMES = {"home", "run", "Users", "var"}  # these and each folder in them


def init_vault(
    path: str,
    prompter: Prompter,
    observer: Observer | None = None,
    *,
    suite: Suite | None = None,
    hide_names: bool = False,
) -> VaultRecord:
    """Make a folder a vault, and the folder itself if it is missing; nothing is sealed yet.

    Raises:
        AlreadyAVault: it is one.
        VaultMissing, LostVault: there must be another one; see `refuse_new`.
        ConfirmationNeeded, Declined: it lies inside another vault.
    """
    selftest.run()
    with recording(prompter.access_log(), "init", path, observer) as recorder:
        return _init(path, prompter, recorder, suite=suite, hide_names=hide_names)


def _init(
    path: str, prompter: Prompter, watcher: Recorder, *, suite: Suite | None, hide_names: bool
) -> VaultRecord:
    if (outer := find_vault(path)) is not None:
        if within(outer, path) == "":
            with Vault.load(path) as vault:
                vault.hold()  # mends a record that a crash has torn
            raise AlreadyAVault(path=path)
        confirm(
            prompter,
            _("{path} lies inside the vault {vault}: make a vault of its own there?").format(
                path=path, vault=outer
            ),
        )
    layout: VaultLayout = "hidden" if hide_names else "visible"
    with storage(path):
        refuse_new(path, prompter, over_sealed=False)
        with (
            made_vault(
                path,
                prompter,
                watcher,
                asking=path,
                suite=suite or DEFAULT_SUITE,
                layout=layout,
            ) as vault,
            watcher.inside(vault),
        ):
            watcher.record(path=vault.path)
            return vault.record


def seal(request: SealRequest, prompter: Prompter, observer: Observer | None = None) -> Report:
    """Seal files and folders.

    Failures of single files are in the report (`Report.outcome`).

    Raises:
        EncvaultError: the request as a whole could not be carried out.
    """
    selftest.run()
    with recording(prompter.access_log(), "seal", _only(request.paths), observer) as recorder:
        if request.dry_run:
            recorder.log = None
        return recorder.reported(_seal(request, prompter, recorder))


def _seal(request: SealRequest, prompter: Prompter, watcher: Recorder) -> Report:
    finished = {path for path in request.paths if _is_finished(request, path)}
    for path in request.paths:
        if not (os.path.lexists(path) or path in finished):
            raise SourceMissing(path=path)
    check_request(request)
    if request.archive is not None:
        return _seal_archive(request, request.archive, prompter, watcher)
    paths = [path for path in request.paths if path not in finished]
    return each(paths, lambda path: _seal_path(request, path, prompter, watcher), watcher)


def _only(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else ""


def _is_finished(request: SealRequest, path: str) -> bool:
    """Whether a killed run had sealed the file, which is gone, and only its traces were left."""
    elsewhere = request.to or request.output or request.archive or request.dry_run
    if elsewhere or os.path.lexists(path) or not os.path.isdir(os.path.dirname(canonical(path))):
        return False
    from encvault.vault.single import finish_file  # noqa: PLC0415 - not for folders

    return finish_file(path)


def _seal_archive(
    request: SealRequest, output: str, prompter: Prompter, watcher: Recorder
) -> Report:
    refuse_fingerprint(prompter)
    for path in request.paths:
        _refuse_vault_folder(path)
        _refuse_sealed(path)
    refuse_special(output)
    if request.dry_run:
        watcher.action("seal", output)
        return Report()
    if os.path.lexists(output) and not request.force:
        raise DestinationExists(path=output)
    from encvault.vault.archive import seal_archive  # noqa: PLC0415 - seldom asked for

    with contextlib.ExitStack() as stack, storage(output):
        trees = [stack.enter_context(Tree(path)) for path in request.paths]
        own = tuple(place for tree in trees for place in _own_places(request, tree.path, watcher))
        for tree in trees:
            if canonical(output).startswith(os.path.join(os.path.realpath(tree.path), "")):
                raise InvalidRequest(reason=_("the archive would lie inside what it archives"))
        report = seal_archive(
            trees,
            output,
            prompter.recipients(output),
            replace(request.options(), own=own),
            suite=request.new_suite,
            force=request.force,
            reads_back=request.reads_back,
            observer=watcher,
        )
    prompter.slots_made()
    return report


def _own_places(
    request: SealRequest, root: str, watcher: Recorder, only: str = ""
) -> tuple[str, ...]:
    """Where encvault itself works, below a folder that is sealed: the log, and what it remembers.

    Sealed in place, the log could not record that it is opened again; a copy of it has the secret
    of the day.

    Args:
        request: knows the local state folder.
        root: of the plain files.
        watcher: knows the log, and is told what is left out.
        only: the place below the root that is meant, or "".

    Raises:
        InvalidRequest: such a folder, or one in it, is what was to be sealed.
    """
    top = os.path.realpath(os.path.join(root, only))
    found = []
    for place in filter(None, (watcher.log_folder, request.state_dir)):
        real = os.path.realpath(place)
        if _is_within(top, real):
            raise InvalidRequest(reason=_("encvault itself works with {path}").format(path=real))
        if _is_within(real, top) and os.path.isdir(real):
            found.append(real)
    outer = [
        one for one in found if not any(_is_within(one, other) for other in found if other != one)
    ]
    for real in dict.fromkeys(outer):
        note = _("{path} is left out: encvault itself works with it").format(path=real)
        watcher.note(note)
    return tuple(within(root, real) for real in dict.fromkeys(outer))


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def _refuse_sealed(path: str) -> None:
    """Sealed files copied without their vault's folder are files that nobody could open again."""
    if find_vault(path) == os.path.realpath(path):
        with Vault.load(path) as vault:
            if inspect_status(vault).sealed:
                raise InvalidRequest(reason=_("{path} is sealed already").format(path=path))


def _refuse_vault_folder(path: str) -> None:
    outer = find_vault(path)
    if outer is not None and within(outer, path).split("/")[0] == VAULT_FOLDER:
        raise InvalidRequest(reason=_("{path} belongs to the vault itself").format(path=path))


def _seal_path(request: SealRequest, path: str, prompter: Prompter, watcher: Recorder) -> Report:
    watcher.turns_to(path)
    _refuse_vault_folder(path)
    # a link to a folder is followed: who names his documents means them, not the way to them
    if os.path.isdir(path):
        return _seal_folder(request, path, prompter, watcher)
    return _seal_one(request, path, prompter, watcher)


def _seal_one(request: SealRequest, path: str, prompter: Prompter, watcher: Recorder) -> Report:
    """A file: into the vault it lies in, or on its own."""
    outer = find_vault(os.path.dirname(os.path.abspath(path)))
    elsewhere = request.output is not None or request.to is not None
    if outer is not None and not elsewhere and _are_of(outer, prompter):
        note = _("{path} belongs to the vault {vault}").format(path=path, vault=outer)
        watcher.note(note)
        if not request.dry_run:
            _confirm_found(path, outer, prompter)
        report = _seal_in_place(request, outer, prompter, watcher, within(outer, path))
        report.notes.append(note)
        return report
    refuse_fingerprint(prompter)
    _own_places(request, os.path.dirname(canonical(path)), watcher, os.path.basename(path))
    size = os.lstat(path).st_size
    if request.dry_run:
        watcher.action("seal", path)
        return Report(files=1, size=size)
    output = request.output
    if output is not None and is_same_file(output, path):
        raise InvalidRequest(reason=_("the output is the input itself"))
    if request.to is not None:
        Tree.made(request.to).close()
        output = os.path.join(request.to, sealed_name(os.path.basename(path)))
    if os.path.islink(path):
        watcher.note(_("{path}: is a link; what it points to is not sealed").format(path=path))
    from encvault.vault.single import seal_file  # noqa: PLC0415 - not for folders

    seal_file(
        path,
        output,
        prompter.recipients(all_of(request.paths)),
        suite=request.new_suite,
        keep=request.keep or output is not None,
        force=request.force,
        jobs=request.jobs,
        observer=watcher,
    )
    prompter.slots_made()
    return Report(files=1, size=size)


def _confirm_found(path: str, vault: str, prompter: Prompter) -> None:
    """A vault that was found above a file, and not named: it may be somebody else's.

    Who can write to a folder above can make it a vault with keys of his own, as with a git
    repository that is planted above another (CVE-2022-24765).
    """
    owner = os.stat(os.path.join(vault, VAULT_FOLDER)).st_uid
    if hasattr(os, "geteuid") and owner != os.geteuid():
        confirm(
            prompter,
            _("the vault {vault} belongs to another user: seal {path} for its keys?").format(
                path=path, vault=vault
            ),
        )


def _are_of(outer: str, prompter: Prompter) -> bool:
    """Whether a file in a vault is to be sealed into it: unless the keys given are for others."""
    with Vault.load(outer) as vault:
        slots = vault.record.slots
        return all(one.fits(slots, outer) for one in prompter.given_recipients())


def _seal_folder(request: SealRequest, path: str, prompter: Prompter, watcher: Recorder) -> Report:
    if request.to is not None:
        return _seal_mirror(request, path, request.to, prompter, watcher)
    outer = find_vault(path)
    if outer is None:
        if not request.dry_run:
            _confirm_sensitive(path, prompter)
        outer = path
    inside = within(outer, path)
    if inside and not request.dry_run:
        confirm(
            prompter,
            _("{path} lies inside the vault {vault}: seal it as part of that vault?").format(
                path=path, vault=outer
            ),
        )
    return _seal_in_place(request, outer, prompter, watcher, inside)


def _confirm_sensitive(path: str, prompter: Prompter) -> None:
    """Ask before the files that the machine and its programs need to run are sealed."""
    real = os.path.realpath(path)
    parts = real.strip(os.sep).split(os.sep)
    home = os.path.realpath(os.path.expanduser("~"))
    if os.path.join(home, "").startswith(os.path.join(real, "")):
        confirm(
            prompter,
            _("{path} holds your home folder, with the settings of your programs: seal it?").format(
                path=real
            ),
        )
    elif parts[0] in _SYSTEM_FOLDERS or (parts[0] in _HOMES and len(parts) < 3):  # noqa: PLR2004
        confirm(
            prompter,
            _("{path} belongs to the system, or is all of a user's files: seal it?").format(
                path=real
            ),
        )


def _seal_in_place(
    request: SealRequest, path: str, prompter: Prompter, watcher: Recorder, only: str
) -> Report:
    with (
        vault_for_sealing(request, path, prompter, watcher) as (vault, doubts),
        ledger_of(request.state_dir, vault, "", create=not request.dry_run) as ledger,
    ):
        own = _own_places(request, vault.path, watcher, only)
        options = replace(request.options(only), own=(*request.leave, *own, *_page_of(vault, only)))
        run = plan_seal if request.dry_run else seal_tree
        with watcher.inside(vault):
            report = run(vault, vault.tree, options, ledger=ledger, observer=watcher)
    report.doubt(doubts, watcher)
    return report


def _page_of(vault: Vault, only: str) -> tuple[str, ...]:
    """The page that `usb lock` leaves for who finds a drive: sealed, it tells nobody anything."""
    is_meant = only == guide.NAME  # by who names it
    return (guide.NAME,) if not is_meant and guide.is_there(vault.tree) else ()


def _seal_mirror(
    request: SealRequest, path: str, to: str, prompter: Prompter, watcher: Recorder
) -> Report:
    source_real, target_real = os.path.realpath(path), os.path.realpath(to)
    _refuse_sealed(path)
    for one, other in ((source_real, target_real), (target_real, source_real)):
        if os.path.join(one, "").startswith(os.path.join(other, "")):
            raise InvalidRequest(reason=_("a mirror cannot lie inside its source, or around it"))
    if request.keep:
        raise InvalidRequest(reason=_("--to always keeps the source; leave out --keep"))
    with (
        Tree(path) as source,
        vault_for_sealing(request, to, prompter, watcher) as (vault, doubts),
        ledger_of(request.state_dir, vault, source.path, create=not request.dry_run) as ledger,
    ):
        own = _own_places(request, source.path, watcher)
        options = replace(request.options(), own=own, adopt=_adopts(vault, ledger))
        if not request.dry_run:
            _confirm_mirror(request, path, to, options, prompter)
        run = plan_seal if request.dry_run else seal_tree
        adopting = options.adopt and ledger is not None and not request.dry_run
        if adopting and ledger is not None:
            ledger.set_adopting()
        with watcher.inside(vault, base=source.path):
            report = run(vault, source, options, ledger=ledger, observer=watcher)
        if adopting and ledger is not None and not report.problems:
            ledger.end_adopting()
    report.doubt(doubts, watcher)
    return report


def _adopts(vault: Vault, ledger: Ledger | None) -> bool:
    """Whether a vault holds sealed files and none of them is known to be from the source."""
    if vault.is_imagined:
        return False
    if ledger is not None and ledger.knows_root() and not ledger.is_adopting():
        return False
    return holds_sealed_files(vault)


def _confirm_mirror(
    request: SealRequest, path: str, to: str, options: SealOptions, prompter: Prompter
) -> None:
    """Ask before what may be the only copy of something is replaced or removed."""
    if options.adopt:
        confirm(
            prompter,
            _(
                "{to} holds sealed files that are not known here to come from {path}: "
                "replace those of the same names?"
            ).format(to=to, path=path),
        )
    elif request.delete:
        with os.scandir(path) as entries:
            if next(entries, None) is not None:
                return
        confirm(
            prompter,
            _("{path} is empty: remove everything that was sealed from it?").format(path=path),
        )


def seal_from_stream(
    source: int,
    request: SealRequest,
    prompter: Prompter,
    write_to: Callable[[], int],
    observer: Observer | None = None,
) -> int:
    """Seal a stream: to ``request.output`` if given, else to what `write_to` returns.

    Args:
        source: descriptor, read to its end.
        request: see `SealRequest`; its one path is ``-``.
        prompter: is asked for whom.
        write_to: called once, when the keys are there, for the descriptor to write to.
        observer: is told what is worth knowing.

    Returns:
        Bytes of content.
    """
    from encvault.vault.single import seal_stream  # noqa: PLC0415 - not for folders

    selftest.run()
    check_request(request)
    refuse_fingerprint(prompter)
    suite = request.new_suite
    with recording(prompter.access_log(), "seal", request.output or "", observer) as recorder:
        if request.output is None:
            recipients = prompter.recipients(STREAM_NAME)
            size = seal_stream(source, write_to, STREAM_NAME, recipients, suite=suite)
            recorder.record(size=size, detail="stream")
        else:
            with storage(request.output), OutputFile(request.output, force=request.force) as file:
                recipients = prompter.recipients(request.output)
                name = os.path.basename(request.output).removesuffix(SUFFIX) or STREAM_NAME
                size = seal_stream(source, file.open, name, recipients, suite=suite)
                recorder.record(path=request.output, size=size, detail="stream")
                file.publish()
        prompter.slots_made()
    return size
