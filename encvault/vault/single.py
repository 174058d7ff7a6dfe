"""Files on their own, with their keyslots inline, and streams.

The same workers as for a vault do the sealing and the opening; this module makes the one task,
gives the one name and removes the one original, in the order of `encvault.vault.seal`.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING, Self

from encvault.crypto.suite import KEY_SIZE
from encvault.envelope import Header, InlineKeyInfo, Record
from encvault.errors import (
    DestinationExists,
    EncvaultError,
    ForeignFile,
    KeyRequired,
    MalformedHeader,
    NameEscaped,
    SourceChanged,
    SpecialFile,
)
from encvault.fs import calls, durable
from encvault.fs.durable import copy_error, storage_error
from encvault.fs.entries import file_kind
from encvault.fs.rules import Keeping, TargetNames
from encvault.fs.stamp import Stamp
from encvault.fs.syncing import sync_files
from encvault.fs.tree import Tree
from encvault.i18n import _
from encvault.keyslots import check_slots, unwrap_any
from encvault.secret import Secret
from encvault.vault.layout import plain_name, sealed_name
from encvault.vault.manifest import new_id
from encvault.vault.opening import OpenContext, OpenTask, is_still_there, open_batch
from encvault.vault.output import folder_of, publish, refuse_special, split_path
from encvault.vault.pool import default_jobs
from encvault.vault.report import Event, Observer, Report
from encvault.vault.sealed import Buffers, SealedReader, SealWriter
from encvault.vault.sealing import SealContext, SealTask, seal_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from encvault.crypto.suite import Suite
    from encvault.envelope import Layout
    from encvault.keyslots import Identity, Recipient, Slot


class SlotKeyring:
    """Keys from the slots inside the sealed files themselves.

    Args:
        identities: tried in order. A password is asked for only when a slot needs it, if the
            identity is lazy (`encvault.cli.secrets`).
    """

    layout: Layout = "alone"

    def __init__(self, identities: Sequence[Identity]) -> None:
        self._identities = identities

    def key_for(self, header: Header, path: str) -> Secret:
        """See `Keyring`.

        Raises:
            ForeignFile: the file needs its vault.
            MalformedHeader, WorkFactorTooLarge: its slots break a rule.
            NoMatchingKeyslot: no identity opens one.
        """
        return unwrap_any(inline_slots(header, path), self._identities, path).secret


def inline_slots(header: Header, path: str) -> tuple[Slot, ...]:
    """The keyslots of a file on its own.

    Raises:
        ForeignFile: the file needs its vault.
        MalformedHeader, WorkFactorTooLarge: the slots break a rule.
    """
    info = header.key_info
    if not isinstance(info, InlineKeyInfo):
        raise ForeignFile(path=path, vault=info.vault)
    try:
        return check_slots(info.slots, path)
    except ValueError as error:
        raise MalformedHeader(path=path, reason=_(str(error))) from None


def make_key(recipients: Sequence[Recipient], what: str) -> tuple[Secret, tuple[Slot, ...]]:
    """A fresh key for one file, and the slots that wrap it.

    Raises:
        KeyRequired: no recipient.
    """
    if not recipients:
        raise KeyRequired(what=what)
    key = Secret(bytearray(os.urandom(KEY_SIZE)))
    return key, tuple(recipient.wrap(key) for recipient in recipients)


def seal_file(
    path: str,
    output: str | None,
    recipients: Sequence[Recipient],
    *,
    suite: Suite,
    keep: bool = False,
    force: bool = False,
    jobs: int = 0,
    observer: Observer | None = None,
) -> str:
    """Seal one file on its own.

    Args:
        path: the file; a symbolic link is sealed as a link.
        output: where to, or None for the same name with ``.sealed``.
        recipients: at least one.
        suite: cipher suite.
        keep: leave the original, which otherwise is removed once the sealed copy is proved.
        force: replace an existing output.
        jobs: worker processes for a large file; 0 is one per processor.
        observer: is told what happens.

    Returns:
        The sealed file's path.
    """
    watcher = observer or Observer()
    folder, name = split_path(path)
    if output:
        refuse_special(output)
    output = output or os.path.join(folder, sealed_name(name))
    output_folder, output_name = split_path(output)
    with folder_of(folder, path) as source, folder_of(output_folder, output) as target:
        status = _plain_status(source, name, path)
        # made again, and then replaced, if it is a killed run's copy of this very original
        force = force or (
            _is_own(target, output_name)
            and status.st_ctime_ns <= _status(target, output_name).st_ctime_ns
        )
        if not force and calls.exists(target.fd, output_name):
            raise DestinationExists(path=output)
        if watcher.wants_total:
            watcher.total(1, status.st_size)
        key, slots = make_key(recipients, path)
        task = SealTask(
            type="symlink" if stat.S_ISLNK(status.st_mode) else "file",
            dir="",
            name=name,
            stamp=Stamp.of(status),
            mode=stat.S_IMODE(status.st_mode),
            owner=(status.st_uid, status.st_gid),
            ids=(new_id(),),
            places=(("", output_name),),
            path=name,
            temporary_id=durable.own_temporary(target, output_name),
            linked=status.st_nlink > 1,
            seen_ns=None if Keeping().our_clock(status.st_dev) else time.monotonic_ns(),
        )
        context = SealContext(
            source=source,
            target=target,
            suite=suite,
            key=key,
            slots=slots,
            check=not keep,
            jobs=jobs or default_jobs(),
        )
        context.tick = lambda size: watcher.progress(0, size)
        with key:
            (answer,) = seal_batch(context, [task])
        if isinstance(answer, EncvaultError):
            raise answer
        temporary = task.temporaries[0]
        if keep:
            try:
                _sync(target, temporary, output)
            except BaseException:
                durable.discard(target.fd, temporary)
                raise
            publish(target, temporary, output_name, output, force=force)
        else:
            _publish_twice(target, temporary, output_name, output, force=force)
        watcher.before_release([Event("seal", path, task.ids[0], status.st_size)])
        if not keep:
            try:
                _drop(source, name, task.is_of, path)
            except BaseException:
                # it stays: then the sealed copy does not, unless another one was replaced by it
                if not force and calls.exists(source.fd, name):
                    durable.discard(target.fd, output_name)
                durable.discard(target.fd, temporary)
                raise
            _forget_temporary(target, temporary, output)
        watcher.progress(1, 0)
    return output


def open_file(
    path: str,
    output: str | None,
    identities: Sequence[Identity],
    *,
    to: str | None = None,
    keep: bool = False,
    force: bool = False,
    jobs: int = 0,
    observer: Observer | None = None,
) -> Report:
    """Open one file that was sealed on its own.

    Args:
        path: the sealed file.
        output: where to, or None for the name it had.
        identities: tried in order.
        to: folder for the opened file, or None for the sealed file's own.
        keep: leave the sealed file. With `output` or `to` it always stays.
        force: replace an existing output.
        jobs: worker processes for a large file; 0 is one per processor.
        observer: is told what happens.

    Returns:
        One file, and what could not be restored of it.
    """
    watcher = observer or Observer()
    folder, name = split_path(path)
    if output:
        refuse_special(output)
    output_folder, output_name = split_path(output) if output else (to or folder, None)
    drops = not keep and output is None and to is None
    with (
        _Remembering(SlotKeyring(identities)) as keyring,
        folder_of(folder, path) as source,
        Tree.made(to) if to is not None else folder_of(output_folder, path) as target,
    ):
        status = _plain_status(source, name, path)
        if watcher.wants_total:
            watcher.total(1, status.st_size)
        context = OpenContext(
            tree=source,
            keyring=keyring,
            target=target,
            names=None if output else TargetNames(target),
            force=force,
            check=drops,
            jobs=jobs or default_jobs(),
        )
        context.tick = lambda size: watcher.progress(0, size)
        stamp = Stamp.of(status)
        task = OpenTask("", name, stamp, "", output_name, durable.own_temporary(target, name))
        (outcome,) = open_batch(context, [task])
        opened = os.path.join(output_folder, outcome.name)
        if outcome.error is not None:
            raise outcome.error
        in_place = output is None and to is None
        plain = opened if in_place else os.path.join(folder, plain_name(name))
        try:
            if outcome.same == drops:
                _sync(target, outcome.name if outcome.same else task.temporary[1], opened)
            watcher.before_release(
                [Event("open", plain, outcome.file, outcome.size, outcome.sealed_as)]
            )
        except BaseException:
            durable.discard(target.fd, task.temporary[1])  # it is plaintext
            raise
        if not outcome.same:
            publish(target, task.temporary[1], outcome.name, opened, force=force)
        if drops and not is_still_there(target, task, outcome):
            raise SourceChanged(path=opened)
        if drops:
            _drop(source, name, lambda status: Stamp.of(status) == stamp, path)
        watcher.progress(1, 0)
        report = Report(files=1, size=outcome.size)
        if outcome.name != outcome.wanted:
            wanted = os.path.join(output_folder, outcome.wanted)
            report.doubt([NameEscaped(path=wanted, saved_as=outcome.name)], watcher)
        report.note_lost(outcome.lost, watcher)
    return report


class _Remembering:
    """Unwraps a file's key once, though the file is read twice: Argon2 is slow on purpose."""

    layout: Layout = "alone"

    def __init__(self, inner: SlotKeyring) -> None:
        self._inner = inner
        self._keys: dict[str, Secret] = {}

    def key_for(self, header: Header, path: str) -> Secret:
        encoded = header.encode().hex()
        if encoded not in self._keys:
            self._keys[encoded] = self._inner.key_for(header, path)
        return self._keys[encoded]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        for key in self._keys.values():
            key.wipe()


# -- streams --------------------------------------------------------------------------------


def seal_stream(
    source: int,
    write_to: Callable[[], int],
    name: str,
    recipients: Sequence[Recipient],
    *,
    suite: Suite,
) -> int:
    """Seal what a descriptor gives until its end.

    Args:
        source: a pipe, a terminal, a file.
        write_to: called once, when the keys are there, for the descriptor to write to.
        name: the name in the record.
        recipients: at least one.
        suite: cipher suite.

    Returns:
        Bytes of content.
    """
    key, slots = make_key(recipients, name)
    buffers = Buffers()
    record = Record(type="file", path=name, sealed_at_ns=time.time_ns()).encode()
    header = Header(suite, len(record), InlineKeyInfo(new_id(), slots)).encode()
    with key:
        writer = SealWriter(write_to(), suite, key, header, record, buffers)
        while count := calls.read_into(source, buffers.input):
            writer.write(buffers.input[:count])
        writer.finish()
    return writer.content_size


def open_stream(
    source: int, path: str, identities: Sequence[Identity]
) -> tuple[Header, Record, Iterator[memoryview]]:
    """Open what a descriptor gives, from where it stands.

    Returns:
        Header, record and the authenticated content; it is whole only if the iterator ends
        without an error.
    """
    reader = SealedReader(source, path, Buffers())
    record, pieces = reader.open(SlotKeyring(identities))
    return reader.header, record, pieces


# -- steps ----------------------------------------------------------------------------------


def _plain_status(tree: Tree, name: str, path: str) -> os.stat_result:
    try:
        status = os.stat(name, dir_fd=tree.fd, follow_symlinks=False)
    except OSError as error:
        raise storage_error(error, path) from None
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        raise SpecialFile(path=path, kind=_(file_kind(status.st_mode)))
    return status


def _sync(tree: Tree, name: str, path: str) -> None:
    """Make a new file's content durable.

    Raises:
        EncvaultError: it may be lost; it is told as `path`.
    """
    try:
        sync_files(tree, [("", name)])
    except OSError as error:
        raise copy_error(error, path) from None


def _publish_twice(tree: Tree, temporary: str, name: str, path: str, *, force: bool) -> None:
    """Publish, but leave the temporary name as well until the original is gone.

    By it the next run knows the sealed file for the work of a killed one (`_is_own`).
    """
    linked = False
    second = durable.temporary_name(durable.stable_id(temporary)) if force else name
    try:
        if force:
            durable.discard(tree.fd, second)  # a killed run left it
        calls.fsync_folder(tree.fd)  # no second name may outlive a crash without the first
        if calls.link(tree.fd, temporary, second):
            if force:
                calls.replace(tree.fd, second, name)
            linked = True
            calls.fsync_folder(tree.fd)
            return
    except BaseException as error:
        durable.discard(tree.fd, temporary)
        if force:  # what it has replaced does not come back
            durable.discard(tree.fd, second)
        elif linked:
            durable.discard(tree.fd, name)
        if isinstance(error, OSError):
            raise storage_error(error, path) from None
        raise
    publish(tree, temporary, name, path, force=force)


def _forget_temporary(tree: Tree, temporary: str, path: str) -> None:
    """Take away the second name that `_publish_twice` left."""
    try:
        with contextlib.suppress(FileNotFoundError):  # where files have one name only
            calls.unlink(tree.fd, temporary)
            calls.fsync_folder(tree.fd)
    except OSError as error:
        durable.discard(tree.fd, temporary)
        raise storage_error(error, path) from None


def finish_file(path: str) -> bool:
    """Finish what a killed `seal_file` had all but done: the original is gone already.

    Returns:
        Whether there was anything to finish.
    """
    folder, name = split_path(path)
    output = sealed_name(name)
    with folder_of(folder, path) as tree:
        if calls.exists(tree.fd, name) or not _is_own(tree, output):
            return False
        _forget_temporary(tree, durable.temporary_name(durable.stable_id(output)), path)
    return True


def _is_own(tree: Tree, name: str) -> bool:
    """Whether a file is what a killed run made of the original that is still there."""
    temporary = durable.temporary_name(durable.stable_id(name))
    try:
        return os.path.samestat(_status(tree, name), _status(tree, temporary))
    except OSError:
        return False


def _status(tree: Tree, name: str) -> os.stat_result:
    return os.stat(name, dir_fd=tree.fd, follow_symlinks=False)


def _drop(tree: Tree, name: str, is_unchanged: Callable[[os.stat_result], bool], path: str) -> None:
    """Remove the original, if it is still the one that was read."""
    try:
        status = os.stat(name, dir_fd=tree.fd, follow_symlinks=False)
        if not is_unchanged(status):
            raise SourceChanged(path=path)
        calls.unlink(tree.fd, name)
        calls.fsync_folder(tree.fd)
    except OSError as error:
        raise storage_error(error, path) from None
