"""Open vaults, files, archives and streams."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from encvault.crypto import selftest
from encvault.errors import InvalidRequest
from encvault.fs import calls
from encvault.fs.tree import Tree, join, split
from encvault.i18n import _
from encvault.operations.places import (
    each,
    header_of,
    is_alone,
    is_same_file,
    not_in_vault,
    refuse_fingerprint,
    storage,
    unlocked,
)
from encvault.operations.recording import Recorder, recording
from encvault.vault.catalog import read_catalog
from encvault.vault.extract import extract_archive
from encvault.vault.layout import (
    STREAM_NAME,
    SUFFIX,
    object_path,
    opened_name,
    opened_place,
    sealed_path,
)
from encvault.vault.ledger import ledger_of
from encvault.vault.manifest import OBJECTS_FOLDER
from encvault.vault.open import open_tree
from encvault.vault.opentasks import OpenOptions
from encvault.vault.output import OutputFile
from encvault.vault.parts import all_parts
from encvault.vault.report import Event, Observer, Report
from encvault.vault.sealed import Buffers, SealedReader, open_sealed
from encvault.vault.single import (
    SlotKeyring,
    open_file,
    open_stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from encvault.accesslog.log import AccessLog
    from encvault.envelope import Header, Record
    from encvault.errors import EncvaultError
    from encvault.keyslots import Identity
    from encvault.operations.prompter import Prompter
    from encvault.vault.vault import Vault


class OpenRequest(NamedTuple):
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
    selftest.run()
    if request.to == "":  # of a variable that is not set
        raise InvalidRequest(reason=_("--to needs a folder"))
    if request.output is not None and (len(request.paths) > 1 or request.to is not None):
        raise InvalidRequest(reason=_("--output takes one file and excludes --to"))
    paths = request.paths
    with recording(
        prompter.access_log(), "open", paths[0] if len(paths) == 1 else "", observer
    ) as recorder:
        report = each(paths, lambda path: _open_path(request, path, prompter, recorder), recorder)
        return recorder.reported(report)


def _open_path(request: OpenRequest, path: str, prompter: Prompter, watcher: Recorder) -> Report:
    watcher.turns_to(path)
    if is_alone(path):
        return _open_alone(request, path, prompter, watcher)
    return _open_in_vault(request, path, prompter, watcher)


def _open_alone(request: OpenRequest, path: str, prompter: Prompter, watcher: Recorder) -> Report:
    header_of(path)
    refuse_fingerprint(prompter)
    if request.output is not None and is_same_file(request.output, path):
        raise InvalidRequest(reason=_("the output is the input itself"))
    watcher.ready()
    identities = prompter.identities(path)
    if (elsewhere := request.output or request.to) is not None:
        watcher.goes_to(elsewhere)
    if request.to is not None:
        report = _extract(request, path, request.to, identities, watcher)
        if report is not None:
            return report
    return open_file(
        path,
        request.output,
        identities,
        to=request.to,
        keep=request.keep,
        force=request.force,
        jobs=request.jobs,
        observer=watcher,
    )


def _extract(
    request: OpenRequest,
    path: str,
    to: str,
    identities: Sequence[Identity],
    watcher: Recorder,
) -> Report | None:
    """Unpack a sealed archive into a folder; None if the file is none."""
    with Tree.made(to) as target, open(path, "rb", buffering=0) as file:
        reader = SealedReader(file.fileno(), path, Buffers())
        record, pieces = reader.open(SlotKeyring(identities))
        if record.type != "archive":
            return None
        event = Event("open", path.removesuffix(SUFFIX), reader.header.key_info.file, None)
        return extract_archive(
            pieces, target, path, force=request.force, observer=watcher, event=event
        )


def _open_in_vault(
    request: OpenRequest, path: str, prompter: Prompter, watcher: Recorder
) -> Report:
    if request.output is not None:
        return _open_to_output(request, request.output, path, prompter, watcher)
    doubts: list[EncvaultError] = []
    with unlocked(path, prompter, doubts.append) as (vault, inside):
        vault.hold(reading=request.to is not None)
        only = (inside,) if inside else ()
        base, is_new = "", False
        if request.to is not None:
            base = _folder_of(vault, inside, request.jobs)
            _check_target(vault, request.to)
            is_new = not os.path.lexists(request.to)
        options = OpenOptions(
            keep=request.keep,
            force=request.force,
            only=only,
            base=base,
            is_closed=is_new and bool(base),
            jobs=request.jobs,
        )
        with contextlib.ExitStack() as stack:
            target = vault.tree
            if request.to is not None:
                if is_new:  # of what stands, nothing above need be readable
                    Tree.made(os.path.dirname(os.path.abspath(request.to))).close()
                target = Tree.made(request.to, 0o700 if options.is_closed else 0o777)
                stack.enter_context(target)
            ledger = stack.enter_context(ledger_of(request.state_dir, vault, ""))
            stack.enter_context(watcher.inside(vault, to=request.to))
            report = open_tree(vault, target, options, ledger=ledger, observer=watcher)
    report.doubt(doubts, watcher)
    if (
        inside
        and not (report.files or report.folders or report.problems)
        and not os.path.isdir(path)
    ):
        raise not_in_vault(path)
    return report


def _open_to_output(
    request: OpenRequest, output: str, path: str, prompter: Prompter, watcher: Recorder
) -> Report:
    """One file of a vault to a file of any name; the sealed file stays."""
    size = 0
    doubts: list[EncvaultError] = []
    with (
        unlocked(path, prompter, doubts.append) as (vault, inside),
        contextlib.ExitStack() as stack,
    ):
        stack.enter_context(watcher.inside(vault, to=output))
        sealed = _sealed_path(vault, inside, path, _not_to_print)
        if is_same_file(output, vault.tree.show(sealed)):
            raise InvalidRequest(reason=_("the output is the input itself"))
        file = stack.enter_context(OutputFile(output, force=request.force, mode=0o600))
        fd = file.open()
        found = stack.enter_context(_opened_in_vault(vault, inside, path, _not_to_print))
        watcher.before_release([found.event("open")])
        for piece in found.pieces:
            calls.write(fd, piece)
            size += len(piece)
        file.publish()
    report = Report(files=1, size=size)
    report.doubt(doubts, watcher)
    return report


def _check_target(vault: Vault, to: str) -> None:
    target = os.path.join(os.path.realpath(to), "")
    if target.startswith(os.path.join(os.path.realpath(vault.path), "")):
        raise InvalidRequest(reason=_("--to names a folder inside the vault; leave it out"))


def _folder_of(vault: Vault, inside: str, jobs: int) -> str:
    """The path itself if it is a folder, else the folder it is in."""
    if not inside:
        return ""
    if vault.hidden:
        is_folder = inside in read_catalog(vault, jobs).folders
    else:
        is_folder = os.path.isdir(os.path.join(vault.path, inside))
    return inside if is_folder else inside.rpartition("/")[0]


def cat(
    path: str, prompter: Prompter, observer: Observer | None = None
) -> Iterator[memoryview | bytes]:
    """The content of one sealed file, authenticated piece by piece.

    The whole is genuine only if the iterator ends without an error. `path` may be a sealed file,
    the plain path of a file in a vault, or a sealed archive (its tar).
    """
    selftest.run()
    with (
        recording(prompter.access_log(), "cat", path, observer) as recorder,
        storage(path),
        opened_file(path, prompter, recorder, recorder.problem, _not_to_print) as found,
    ):
        recorder.before_release([found.event("cat")])
        yield from found.pieces


def _not_to_print(path: str) -> EncvaultError:
    return InvalidRequest(reason=_("{path} is a folder; cat prints files").format(path=path))


class OpenedFile(NamedTuple):
    """One sealed file, its record authenticated and its content ready to be read once.

    Attributes:
        path: of the plain file in its vault; of a file on its own, where it would be opened.
        name: what it is called when it is opened here.
        header: of its first object.
        record: its metadata.
        pieces: the authenticated content; whole only if the iterator ends without an error.
        sealed_as: see `Event`.
    """

    path: str
    name: str
    header: Header
    record: Record
    pieces: Iterator[memoryview]
    sealed_as: str = ""

    def event(self, action: str) -> Event:
        """What to tell of it before it is given out."""
        return Event(action, self.path, self.file, self.record.size, self.sealed_as)

    @property
    def file(self) -> str:
        """Its file id."""
        return self.header.key_info.file


@contextlib.contextmanager
def opened_file(
    path: str,
    prompter: Prompter,
    recorder: Recorder,
    doubt: Callable[[EncvaultError], None],
    refusal: Callable[[str], EncvaultError],
) -> Iterator[OpenedFile]:
    """One sealed file, on its own or in a vault.

    Args:
        path: a sealed file, or the plain path of a file in a vault.
        prompter: is asked for what opens it.
        recorder: hears which vault it is in.
        doubt: see `unlocked`.
        refusal: makes the error for a path that is a folder.

    Raises:
        NotSealed, SourceMissing: nothing is sealed there.
        FormatError, IntegrityError: its header or its record is damaged.
    """
    if not is_alone(path):
        with (
            unlocked(path, prompter, doubt) as (vault, inside),
            recorder.inside(vault),
            _opened_in_vault(vault, inside, path, refusal) as found,
        ):
            yield found
        return
    refuse_fingerprint(prompter)
    recorder.ready()
    with open(path, "rb", buffering=0) as file:
        header, record, pieces = open_stream(file.fileno(), path, prompter.identities(path))
        name = opened_name(os.path.basename(path), record.name)
        plain = os.path.join(os.path.dirname(path), name)
        sealed_as = record.name if name != record.name and record.type != "archive" else ""
        yield OpenedFile(plain, name, header, record, pieces, sealed_as)


@contextlib.contextmanager
def _opened_in_vault(
    vault: Vault, inside: str, path: str, refusal: Callable[[str], EncvaultError]
) -> Iterator[OpenedFile]:
    sealed = _sealed_path(vault, inside, path, refusal)
    fd = open_sealed(vault.tree, sealed)
    try:
        reader = SealedReader(fd, vault.tree.show(sealed), Buffers())
        record, pieces = reader.open(vault)
        name, moved = opened_place(vault.tree, sealed, reader.header, record, vault.layout)
        if record.type in ("dir", "part"):
            raise refusal(path)
        content = all_parts(vault.tree, vault, reader.header.key_info.file, record, pieces)
        plain = inside if vault.hidden else join(split(sealed)[0], name)
        sealed_as = record.name if moved or split(plain)[1] != record.name else ""
        yield OpenedFile(plain, name, reader.header, record, content, sealed_as)
    finally:
        os.close(fd)


def _sealed_path(
    vault: Vault, inside: str, path: str, refusal: Callable[[str], EncvaultError]
) -> str:
    if os.path.isdir(path):
        raise refusal(path)
    if inside.startswith(OBJECTS_FOLDER + "/") and vault.tree.exists(inside):
        return inside
    if vault.hidden:
        catalog = read_catalog(vault)
        found = catalog.files.get(inside)
        if found is not None:
            return object_path(found.file)
        if inside in catalog.folders:
            raise refusal(path)
        # an object whose record cannot be read may be this file: it is not known to be missing
        raise next(iter(catalog.unread), not_in_vault(path))
    if inside.endswith(SUFFIX) and vault.tree.exists(inside):
        return inside
    sealed = sealed_path(inside)
    if not vault.tree.exists(sealed):
        raise not_in_vault(path)
    return sealed


def open_from_stream(
    source: int,
    prompter: Prompter,
    observer: Observer | None = None,
    *,
    name: str = STREAM_NAME,
) -> Iterator[memoryview]:
    """The content of a sealed stream, authenticated piece by piece.

    Args:
        source: descriptor, read from where it stands.
        prompter: is asked for what opens it.
        observer: is told before anything is given out.
        name: what messages call the stream.
    """
    selftest.run()
    log = prompter.access_log()
    with recording(log, "open", "", observer) as recorder, storage(name):
        recorder.ready()
        header, record, pieces = open_stream(source, name, prompter.identities(name))
        event = Event("open", name, header.key_info.file, record.size)
        recorder.observer.before_release([event])
        members: dict[str, str | int] = {"file": header.key_info.file, "name": record.name}
        if record.size is not None:
            members["size"] = record.size
        recorder.record(detail="stream", **members)
    return _from_stream(pieces, name, log)


def _from_stream(
    pieces: Iterator[memoryview], name: str, log: AccessLog | None
) -> Iterator[memoryview]:
    with recording(log, "open", ""), storage(name):
        yield from pieces
