"""One function per intention of a user: what the command line, the jobs and programs call.

An operation finds out what a path is (a folder, a vault, a place inside one, a sealed file), asks
the `Prompter` for keys and consent where it needs them, and calls the layer below. It neither
prints nor reads the environment.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from encvault.crypto import selftest
from encvault.crypto.suite import Suite
from encvault.envelope import InlineKeyInfo
from encvault.errors import (
    AlreadyAVault,
    ConfirmationNeeded,
    Declined,
    DestinationExists,
    EncvaultError,
    InvalidRequest,
    LayoutMismatch,
    NestedVault,
    NotAVault,
    NotSealed,
    SourceMissing,
    SuiteMismatch,
)
from encvault.fs import calls
from encvault.fs.durable import storage_error
from encvault.fs.tree import Tree
from encvault.i18n import _
from encvault.keyslots import IdentityFile, describe
from encvault.vault.archive import extract_archive, seal_archive
from encvault.vault.catalog import read_catalog
from encvault.vault.inspect import Listed, VaultStatus, inspect_status, list_vault, verify_vault
from encvault.vault.layout import SUFFIX, object_path, sealed_name
from encvault.vault.ledger import Ledger
from encvault.vault.open import OpenOptions, open_tree
from encvault.vault.opening import open_sealed, read_part
from encvault.vault.plan import SealOptions
from encvault.vault.report import Event, Observer, Report
from encvault.vault.seal import plan_seal, seal_tree
from encvault.vault.sealed import Buffers, SealedReader, read_header
from encvault.vault.single import (
    STREAM_NAME,
    OutputFile,
    SlotKeyring,
    open_file,
    open_stream,
    seal_file,
    seal_stream,
)
from encvault.vault.vault import Vault, find_vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from encvault.crypto.kdf import KdfProfile
    from encvault.keyslots import Identity, Recipient
    from encvault.secret import Secret
    from encvault.vault.manifest import Layout, VaultRecord

DEFAULT_SUITE = Suite.AES_256_GCM


class Prompter(Protocol):
    """Whom an operation asks. Every method may raise a `ConfigError` instead of answering."""

    def recipients(self, what: str) -> Sequence[Recipient]:
        """For whom to seal `what`; a new password is asked for twice."""

    def identities(self, what: str) -> Sequence[Identity]:
        """What to open `what` with."""

    def has_keys(self) -> bool:
        """Whether recipients, identities or a password were given explicitly."""

    def confirm(self, question: str) -> bool:
        """Whether the user means it."""


@dataclass(frozen=True, slots=True)
class Answers:
    """A prompter for programs, with all answers given beforehand.

    Attributes:
        recipients_given: for sealing.
        identities_given: for opening.
        consent: the answer to every question.
    """

    recipients_given: tuple[Recipient, ...] = ()
    identities_given: tuple[Identity, ...] = ()
    consent: bool = False

    def recipients(self, what: str) -> Sequence[Recipient]:  # noqa: ARG002 - see Prompter
        """See `Prompter`."""
        return self.recipients_given

    def identities(self, what: str) -> Sequence[Identity]:  # noqa: ARG002 - see Prompter
        """See `Prompter`."""
        return self.identities_given

    def has_keys(self) -> bool:
        """See `Prompter`."""
        return bool(self.recipients_given)

    def confirm(self, question: str) -> bool:
        """See `Prompter`."""
        if not self.consent:
            raise ConfirmationNeeded(question=question)
        return True


@contextlib.contextmanager
def _storage(path: str) -> Iterator[None]:
    """The last border for what the operating system reports."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, error.filename or path) from error


# -- init -----------------------------------------------------------------------------------


def init_vault(
    path: str, prompter: Prompter, *, suite: Suite | None = None, hide_names: bool = False
) -> VaultRecord:
    """Make a folder a vault, and the folder itself if it is missing; nothing is sealed yet.

    Raises:
        AlreadyAVault: it is one.
        ConfirmationNeeded, Declined: it lies inside another vault.
    """
    selftest.run()
    if (outer := find_vault(path)) is not None:
        if os.path.samefile(outer, path) if os.path.exists(path) else False:
            raise AlreadyAVault(path=path)
        _confirm(
            prompter,
            _("{path} lies inside the vault {vault}: make a vault of its own there?").format(
                path=path, vault=outer
            ),
        )
    layout: Layout = "hidden" if hide_names else "visible"
    recipients = prompter.recipients(path)
    with _storage(path):
        os.makedirs(path, exist_ok=True)
        with Vault.create(path, recipients, suite=suite or DEFAULT_SUITE, layout=layout) as vault:
            return vault.record


def _confirm(prompter: Prompter, question: str) -> None:
    if not prompter.confirm(question):
        raise Declined


# -- seal -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SealRequest:
    """What to seal and how; the fields are the options of ``encvault seal``.

    Attributes:
        paths: files and folders.
        to: folder for a sealed mirror; the sources stay untouched.
        archive: file for one sealed archive; the sources stay untouched.
        output: file for one sealed file.
        suite: cipher suite of new vaults and files; None for the default.
        hide_names: layout of a new vault.
        keep, force, delete, exclude, jobs: see `SealOptions`.
        dry_run: tell the plan and do nothing.
        state_dir: local state folder, or None to remember nothing.
    """

    paths: tuple[str, ...]
    to: str | None = None
    archive: str | None = None
    output: str | None = None
    suite: Suite | None = None
    hide_names: bool = False
    keep: bool = False
    force: bool = False
    delete: bool = False
    exclude: tuple[str, ...] = ()
    jobs: int = 0
    dry_run: bool = False
    state_dir: str | None = None

    def options(self, *only: str) -> SealOptions:
        """The options of a run over a tree."""
        return SealOptions(
            keep=self.keep,
            force=self.force,
            delete=self.delete,
            exclude=self.exclude,
            only=only,
            jobs=self.jobs,
        )


def seal(request: SealRequest, prompter: Prompter, observer: Observer | None = None) -> Report:
    """Seal files and folders.

    Failures of single files are in the report (`Report.outcome`).

    Raises:
        EncvaultError: the request as a whole could not be carried out.
    """
    watcher = observer or Observer()
    selftest.run()
    for path in request.paths:
        if not os.path.lexists(path):
            raise SourceMissing(path=path)
    _check_seal_request(request)
    if request.archive is not None:
        return _seal_archive(request, request.archive, prompter, watcher)
    report = Report()
    for path in request.paths:
        with _storage(path):
            if os.path.isdir(path) and not os.path.islink(path):
                report.add(_seal_folder(request, path, prompter, watcher))
            else:
                _seal_one(request, path, prompter, watcher, report)
    return report


def _check_seal_request(request: SealRequest) -> None:
    places = [request.to, request.archive, request.output]
    if sum(place is not None for place in places) > 1:
        raise InvalidRequest(reason=_("--to, --archive and --output exclude each other"))
    folders = [path for path in request.paths if os.path.isdir(path)]
    if request.output is not None and (len(request.paths) > 1 or folders):
        raise InvalidRequest(reason=_("--output takes one file; for a folder use --archive"))
    if request.to is not None and folders and len(request.paths) > 1:
        raise InvalidRequest(reason=_("--to mirrors one folder; run it once for each"))
    if request.delete and (request.to is None or not folders):
        raise InvalidRequest(reason=_("--delete belongs to --to"))
    if request.archive is not None and len(folders) != len(request.paths):
        raise InvalidRequest(reason=_("--archive takes folders; seal a file with --output"))


def _seal_archive(
    request: SealRequest, output: str, prompter: Prompter, watcher: Observer
) -> Report:
    if request.dry_run:
        watcher.action("seal", output)
        return Report()
    if os.path.lexists(output) and not request.force:
        raise DestinationExists(path=output)
    with contextlib.ExitStack() as stack, _storage(output):
        trees = [stack.enter_context(Tree(path)) for path in request.paths]
        for tree in trees:
            if os.path.abspath(output).startswith(tree.path.rstrip("/") + "/"):
                raise InvalidRequest(reason=_("the archive would lie inside what it archives"))
        return seal_archive(
            trees,
            output,
            prompter.recipients(output),
            request.options(),
            suite=request.suite or DEFAULT_SUITE,
            force=request.force,
            observer=watcher,
        )


def _seal_one(
    request: SealRequest, path: str, prompter: Prompter, watcher: Observer, report: Report
) -> None:
    """A file: into the vault it lies in, or on its own."""
    outer = find_vault(os.path.dirname(os.path.abspath(path)))
    alone = prompter.has_keys() or request.output is not None or request.to is not None
    if outer is not None and not alone:
        report.add(_seal_in_place(request, outer, prompter, watcher, _within(outer, path)))
        return
    if request.dry_run:
        watcher.action("seal", path)
        report.files += 1
        return
    output = request.output
    if request.to is not None:
        os.makedirs(request.to, exist_ok=True)
        output = os.path.join(request.to, sealed_name(os.path.basename(path)))
    size = os.lstat(path).st_size
    try:
        seal_file(
            path,
            output,
            prompter.recipients(path),
            suite=request.suite or DEFAULT_SUITE,
            keep=request.keep or output is not None,
            force=request.force,
            observer=watcher,
        )
    except EncvaultError as error:
        if len(request.paths) == 1:
            raise
        report.problems.append(error)
        watcher.problem(error)
        return
    report.files += 1
    report.size += size


def _within(vault: str, path: str) -> str:
    """A path relative to a vault's top, ``/`` between names."""
    folder, name = os.path.split(os.path.abspath(path))
    resolved = os.path.join(os.path.realpath(folder), name)
    inside = os.path.relpath(resolved, os.path.realpath(vault)).replace(os.sep, "/")
    return "" if inside == "." else inside


def _seal_folder(request: SealRequest, path: str, prompter: Prompter, watcher: Observer) -> Report:
    if request.to is not None:
        return _seal_mirror(request, path, request.to, prompter, watcher)
    outer = find_vault(path)
    if outer is None:
        _confirm_sensitive(path, prompter)
        outer = path
    inside = _within(outer, path)
    if inside.split("/", 1)[0] == ".encvault":
        raise InvalidRequest(reason=_("{path} is a vault's own folder").format(path=path))
    if inside and not request.dry_run:
        _confirm(
            prompter,
            _("{path} lies inside the vault {vault}: seal it as part of that vault?").format(
                path=path, vault=outer
            ),
        )
    return _seal_in_place(request, outer, prompter, watcher, inside)


def _confirm_sensitive(path: str, prompter: Prompter) -> None:
    real = os.path.realpath(path)
    if real == os.path.realpath(os.sep):
        _confirm(prompter, _("{path} is the whole system: seal it?").format(path=real))
    elif real == os.path.realpath(os.path.expanduser("~")):
        _confirm(
            prompter,
            _("{path} is your home folder, with the settings of your programs: seal it?").format(
                path=real
            ),
        )


def _seal_in_place(
    request: SealRequest, path: str, prompter: Prompter, watcher: Observer, only: str
) -> Report:
    with (
        _vault_for_sealing(request, path, prompter) as vault,
        _ledger(request.state_dir, vault, "") as ledger,
    ):
        options = request.options(*([only] if only else []))
        run = plan_seal if request.dry_run else seal_tree
        return run(vault, vault.tree, options, ledger=ledger, observer=watcher)


def _seal_mirror(
    request: SealRequest, path: str, to: str, prompter: Prompter, watcher: Observer
) -> Report:
    source_real, target_real = os.path.realpath(path), os.path.realpath(to)
    if find_vault(path) == os.path.abspath(path):
        raise InvalidRequest(reason=_("{path} is sealed already").format(path=path))
    for one, other in ((source_real, target_real), (target_real, source_real)):
        if os.path.join(one, "").startswith(os.path.join(other, "")):
            raise InvalidRequest(reason=_("a mirror cannot lie inside its source, or around it"))
    if request.keep:
        raise InvalidRequest(reason=_("--to always keeps the source; leave out --keep"))
    with (
        Tree(path) as source,
        _vault_for_sealing(request, to, prompter) as vault,
        _ledger(request.state_dir, vault, source.path) as ledger,
    ):
        run = plan_seal if request.dry_run else seal_tree
        return run(vault, source, request.options(), ledger=ledger, observer=watcher)


@contextlib.contextmanager
def _vault_for_sealing(request: SealRequest, path: str, prompter: Prompter) -> Iterator[Vault]:
    """The vault at `path`, made if there is none, and held."""
    try:
        vault = Vault.load(path)
    except (NotAVault, SourceMissing):
        layout: Layout = "hidden" if request.hide_names else "visible"
        suite = request.suite or DEFAULT_SUITE
        if request.dry_run:
            with tempfile.TemporaryDirectory() as empty:
                real = path if os.path.isdir(path) else empty
                with Vault.imagine(real, suite=suite, layout=layout) as imagined:
                    yield imagined
            return
        _refuse_nested(path)
        recipients = prompter.recipients(path)
        os.makedirs(path, exist_ok=True)
        vault = Vault.create(path, recipients, suite=suite, layout=layout)
    with vault:
        _check_fits(vault.record, request)
        if not request.dry_run:
            vault.hold()
        yield vault


def _refuse_nested(path: str) -> None:
    if (outer := find_vault(os.path.dirname(os.path.abspath(path)))) is not None:
        raise NestedVault(path=outer)


def _check_fits(record: VaultRecord, request: SealRequest) -> None:
    if request.suite is not None and request.suite is not record.suite:
        raise SuiteMismatch(vault_suite=record.suite.label, asked_suite=request.suite.label)
    if request.hide_names and record.layout != "hidden":
        raise LayoutMismatch(vault_layout=record.layout, asked_layout="hidden")


@contextlib.contextmanager
def _ledger(state_dir: str | None, vault: Vault, root: str) -> Iterator[Ledger | None]:
    if state_dir is None:
        yield None
        return
    with Ledger(state_dir, vault.record.id, root) as ledger:
        yield ledger


def seal_from_stream(
    source: int,
    request: SealRequest,
    prompter: Prompter,
    write_to: Callable[[], int],
) -> int:
    """Seal a stream: to ``request.output`` if given, else to what `write_to` returns.

    Returns:
        Bytes of content.
    """
    selftest.run()
    suite = request.suite or DEFAULT_SUITE
    if request.output is None:
        recipients = prompter.recipients(STREAM_NAME)
        return seal_stream(source, write_to, STREAM_NAME, recipients, suite=suite)
    with _storage(request.output), OutputFile(request.output, force=request.force) as file:
        recipients = prompter.recipients(request.output)
        name = os.path.basename(request.output).removesuffix(SUFFIX) or STREAM_NAME
        size = seal_stream(source, file.open, name, recipients, suite=suite)
        file.publish()
    return size


# -- open -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """What to open and how; the fields are the options of ``encvault open``.

    Attributes:
        paths: vaults, places inside them, sealed files.
        to: folder for what is opened; the sealed files stay.
        output: file for one opened file; the sealed file stays.
        keep, force, jobs: see `OpenOptions`.
        state_dir: local state folder, or None to remember nothing.
    """

    paths: tuple[str, ...]
    to: str | None = None
    output: str | None = None
    keep: bool = False
    force: bool = False
    jobs: int = 0
    state_dir: str | None = None


def open_paths(
    request: OpenRequest, prompter: Prompter, observer: Observer | None = None
) -> Report:
    """Open vaults, parts of them, and sealed files.

    Failures of single files are in the report (`Report.outcome`).

    Raises:
        EncvaultError: the request as a whole could not be carried out.
    """
    watcher, report = observer or Observer(), Report()
    selftest.run()
    if request.output is not None and (len(request.paths) > 1 or request.to is not None):
        raise InvalidRequest(reason=_("--output takes one file and excludes --to"))
    for path in request.paths:
        with _storage(path):
            if _is_alone(path):
                report.add(_open_alone(request, path, prompter, watcher))
            else:
                report.add(_open_in_vault(request, path, prompter, watcher))
    return report


def _is_alone(path: str) -> bool:
    """Whether a path is a sealed file with its own keyslots."""
    if not os.path.isfile(path):
        return False
    try:
        header = _header_of(path)
    except EncvaultError:
        return find_vault(path) is None
    return isinstance(header.key_info, InlineKeyInfo)


def _header_of(path: str) -> Any:
    with _storage(path), open(path, "rb") as file:
        return read_header(file.fileno(), path)


def _open_alone(request: OpenRequest, path: str, prompter: Prompter, watcher: Observer) -> Report:
    _header_of(path)
    identities = prompter.identities(path)
    if request.to is not None:
        os.makedirs(request.to, exist_ok=True)
        report = _extract(request, path, request.to, identities, watcher)
        if report is not None:
            return report
    opened = open_file(
        path,
        request.output,
        identities,
        to=request.to,
        keep=request.keep,
        force=request.force,
        observer=watcher,
    )
    return Report(files=1, size=os.lstat(opened).st_size)


def _extract(
    request: OpenRequest,
    path: str,
    to: str,
    identities: Sequence[Identity],
    watcher: Observer,
) -> Report | None:
    """Unpack a sealed archive into a folder; None if the file is none."""
    with Tree(to) as target, open(path, "rb", buffering=0) as file:
        reader = SealedReader(file.fileno(), path, Buffers())
        record, pieces = reader.open(SlotKeyring(identities))
        if record.type != "archive":
            return None
        event = Event("open", to, reader.header.key_info.file, None)
        return extract_archive(
            pieces, target, path, force=request.force, observer=watcher, event=event
        )


def _open_in_vault(
    request: OpenRequest, path: str, prompter: Prompter, watcher: Observer
) -> Report:
    if request.output is not None:
        return _open_to_output(request, request.output, path, prompter, watcher)
    with _unlocked(path, prompter) as (vault, inside):
        vault.hold()
        only = (inside,) if inside else ()
        base = ""
        if request.to is not None:
            base = inside if _is_folder(vault, inside) else inside.rpartition("/")[0]
            os.makedirs(request.to, exist_ok=True)
        options = OpenOptions(
            keep=request.keep, force=request.force, only=only, base=base, jobs=request.jobs
        )
        with contextlib.ExitStack() as stack:
            target = vault.tree
            if request.to is not None:
                _check_target(vault, request.to)
                target = stack.enter_context(Tree(request.to))
            ledger = stack.enter_context(_ledger(request.state_dir, vault, ""))
            report = open_tree(vault, target, options, ledger=ledger, observer=watcher)
    if inside and not (report.files or report.folders or report.problems):
        if not os.path.lexists(path):
            raise SourceMissing(path=path)
        if os.path.isfile(path):
            raise NotSealed(path=path)
    return report


def _open_to_output(
    request: OpenRequest, output: str, path: str, prompter: Prompter, watcher: Observer
) -> Report:
    """One file of a vault to a file of any name; the sealed file stays."""
    size = 0
    with (
        _unlocked(path, prompter) as (vault, inside),
        OutputFile(output, force=request.force, mode=0o600) as file,
    ):
        fd = file.open()
        for piece in _cat_in_vault(vault, inside, path, watcher):
            calls.write(fd, piece)
            size += len(piece)
        file.publish()
    return Report(files=1, size=size)


def _check_target(vault: Vault, to: str) -> None:
    target = os.path.join(os.path.realpath(to), "")
    if target.startswith(os.path.join(os.path.realpath(vault.path), "")):
        raise InvalidRequest(reason=_("--to names a folder inside the vault; leave it out"))


def _is_folder(vault: Vault, inside: str) -> bool:
    if not vault.hidden:
        return os.path.isdir(os.path.join(vault.path, inside))
    return inside in read_catalog(vault).folders


@contextlib.contextmanager
def _unlocked(path: str, prompter: Prompter) -> Iterator[tuple[Vault, str]]:
    """The vault that `path` is or lies in, unlocked, and the path within it."""
    top = find_vault(path)
    if top is None:
        if not os.path.lexists(path):
            raise SourceMissing(path=path)
        raise NotAVault(path=path)
    with Vault.load(top) as vault:
        vault.unlock(prompter.identities(top))
        yield vault, _within(top, path)


# -- cat ------------------------------------------------------------------------------------


def cat(
    path: str, prompter: Prompter, observer: Observer | None = None
) -> Iterator[memoryview | bytes]:
    """The content of one sealed file, authenticated piece by piece.

    The whole is genuine only if the iterator ends without an error. `path` may be a sealed file,
    the plain path of a file in a vault, or a sealed archive (its tar).
    """
    watcher = observer or Observer()
    selftest.run()
    with _storage(path):
        if _is_alone(path):
            with open(path, "rb", buffering=0) as file:
                _header, _record, pieces = open_stream(
                    file.fileno(), path, prompter.identities(path)
                )
                watcher.before_release([Event("cat", path, _header.key_info.file, _record.size)])
                yield from pieces
            return
        with _unlocked(path, prompter) as (vault, inside):
            yield from _cat_in_vault(vault, inside, path, watcher)


def _cat_in_vault(
    vault: Vault, inside: str, path: str, watcher: Observer
) -> Iterator[memoryview | bytes]:
    sealed, first = _sealed_path(vault, inside, path)
    fd = open_sealed(vault.tree, sealed)
    try:
        reader = SealedReader(fd, vault.tree.show(sealed), Buffers())
        record, pieces = reader.open(vault)
        if first is not None and reader.header.key_info.file != first:
            raise NotSealed(path=path)
        event = Event("cat", inside, reader.header.key_info.file, record.size)
        watcher.before_release([event])
        yield from pieces
    finally:
        os.close(fd)
    for index, file_id in enumerate(record.parts, start=1):
        yield from read_part(vault.tree, vault, record, first, index, file_id)


def _sealed_path(vault: Vault, inside: str, path: str) -> tuple[str, str | None]:
    if vault.hidden:
        found = read_catalog(vault).files.get(inside)
        if found is None:
            raise SourceMissing(path=path)
        return object_path(found.file), found.file
    if inside.endswith(SUFFIX) and vault.tree.exists(inside):
        return inside, None
    folder, _slash, name = inside.rpartition("/")
    sealed = f"{folder}/{sealed_name(name)}" if folder else sealed_name(name)
    if not vault.tree.exists(sealed):
        raise SourceMissing(path=path)
    return sealed, None


def open_from_stream(
    source: int, prompter: Prompter, observer: Observer | None = None
) -> Iterator[memoryview]:
    """The content of a sealed stream, authenticated piece by piece."""
    selftest.run()
    header, record, pieces = open_stream(source, STREAM_NAME, prompter.identities(STREAM_NAME))
    event = Event("open", STREAM_NAME, header.key_info.file, record.size)
    (observer or Observer()).before_release([event])
    return pieces


# -- look -----------------------------------------------------------------------------------


def status(path: str) -> VaultStatus:
    """What is sealed in a vault and what is not; needs no key.

    Raises:
        NotAVault: `path` is no vault and in none.
    """
    top = find_vault(path)
    if top is None:
        if not os.path.lexists(path):
            raise SourceMissing(path=path)
        raise NotAVault(path=path)
    with _storage(path), Vault.load(top) as vault:
        return inspect_status(vault)


def verify(
    path: str,
    prompter: Prompter,
    *,
    sample: float = 100.0,
    jobs: int = 0,
    observer: Observer | None = None,
) -> Report:
    """Read and authenticate a vault's files, or a random share of them, or one sealed file."""
    selftest.run()
    with _storage(path):
        if _is_alone(path):
            return _verify_alone(path, prompter, observer or Observer())
        with _unlocked(path, prompter) as (vault, _inside):
            return verify_vault(vault, sample=sample, jobs=jobs, observer=observer)


def _verify_alone(path: str, prompter: Prompter, watcher: Observer) -> Report:
    report = Report()
    with open(path, "rb", buffering=0) as file:
        reader = SealedReader(file.fileno(), path, Buffers())
        try:
            _record, pieces = reader.open(SlotKeyring(prompter.identities(path)))
            report.size = sum(len(piece) for piece in pieces)
            report.files = 1
        except EncvaultError as error:
            if error.exit_code != 65:  # noqa: PLR2004 - damage is what verify reports
                raise
            report.problems.append(error)
            watcher.problem(error)
    return report


def list_files(
    path: str, prompter: Prompter, *, jobs: int = 0
) -> tuple[list[Listed], list[EncvaultError]]:
    """What a vault holds; the visible layout is listed without a key if none was given."""
    top = find_vault(path)
    if top is None:
        raise NotAVault(path=path) if os.path.lexists(path) else SourceMissing(path=path)
    with _storage(path), Vault.load(top) as vault:
        if vault.hidden or prompter.has_keys():
            vault.unlock(prompter.identities(top))
        listed, problems = list_vault(vault, jobs=jobs)
    inside = _within(top, path)
    if inside:
        listed = [
            item
            for item in listed
            if inside in (item.path, item.sealed_path) or item.path.startswith(inside + "/")
        ]
    return listed, problems


@dataclass(slots=True)
class Info:
    """What can be told of a sealed file or a vault without a key.

    Attributes:
        kind: ``vault``, ``sealed file`` or ``sealed file in a vault``.
        members: the facts by name, ready for JSON.
    """

    kind: str
    members: dict[str, Any] = field(default_factory=dict)


def info(path: str) -> Info:
    """A sealed file's header, or a vault's record."""
    if not os.path.lexists(path):
        raise SourceMissing(path=path)
    with _storage(path):
        if not os.path.isdir(path):
            return _file_info(path)
        top = find_vault(path)
        if top is None:
            raise NotAVault(path=path)
        with Vault.load(top) as vault:
            record = vault.record
            return Info(
                "vault",
                {
                    "path": vault.path,
                    "id": record.id,
                    "fingerprint": record.fingerprint,
                    "suite": record.suite.label,
                    "layout": record.layout,
                    "created_at": record.created_at,
                    "generation": record.generation,
                    "slots": describe(record.slots),
                },
            )


def _file_info(path: str) -> Info:
    header = _header_of(path)
    members: dict[str, Any] = {
        "path": path,
        "version": 1,
        "suite": header.suite.label,
        "file": header.key_info.file,
        "sealed_size": os.path.getsize(path),
        "metadata_size": header.metadata_size,
    }
    if isinstance(header.key_info, InlineKeyInfo):
        return Info("sealed file", members | {"slots": describe(header.key_info.slots)})
    members |= {"vault": header.key_info.vault, "key": header.key_info.key}
    return Info("sealed file in a vault", members)


# -- keys -----------------------------------------------------------------------------------


def new_identity(
    output: str, name: str, password: Secret | None, *, profile: KdfProfile | None = None
) -> IdentityFile:
    """Make a key pair and write its identity file, mode 0600, never over an existing file."""
    with _storage(output), OutputFile(output, force=False, mode=0o600) as file:
        if profile is None:
            identity = IdentityFile.generate(name, password)
        else:
            identity = IdentityFile.generate(name, password, profile=profile)
        os.write(file.open(), identity.encode())
        file.publish()
    return identity
