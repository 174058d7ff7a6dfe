"""Mount vaults, and unmount them."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from encvault import mount as mounts
from encvault.crypto import selftest
from encvault.errors import (
    EncvaultError,
    FileNotSaved,
    InputOutputError,
    InvalidRequest,
    MountBusy,
    NotMounted,
    NotSaved,
    UnmountedBadly,
    UnmountFailed,
)
from encvault.fs.durable import storage_error
from encvault.fs.mounts import mount_at
from encvault.fs.users import users_text
from encvault.i18n import _
from encvault.mount import fuse, process, table
from encvault.mount.places import Mountpoint, remove_made
from encvault.mount.registry import Registry
from encvault.mount.watch import Watch
from encvault.operations.accesses import Accesses
from encvault.operations.looking import list_mounts
from encvault.operations.places import storage, unlocked
from encvault.operations.recording import recording
from encvault.vault.vault import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from encvault.accesslog.log import AccessLog
    from encvault.mount.registry import Entry, Mounted
    from encvault.mount.verbs import FileSystem
    from encvault.operations.prompter import Prompter
    from encvault.operations.recording import Recorder
    from encvault.vault.report import Observer
    from encvault.vault.vault import Vault

_PATIENCE = 10.0  # seconds
_PAUSE = 0.01  # seconds between two looks whether a process has ended


class MountRequest(NamedTuple):
    """What to mount and how; the fields are the options of ``encvault mount``.

    Attributes:
        vault: the vault's folder.
        mountpoint: an empty folder, or one that does not exist yet.
        state_dir: local state folder.
        read_only: refuse all changes.
        idle_s: unmount after so many seconds without use; None for never.
        allow_other: let other users in.
        foreground: serve in this process, and return when it is unmounted.
    """

    vault: str
    mountpoint: str
    state_dir: str
    read_only: bool = False
    idle_s: int | None = None
    allow_other: bool = False
    foreground: bool = False


# -- mounting -------------------------------------------------------------------------------


def mount(request: MountRequest, prompter: Prompter, observer: Observer | None = None) -> None:
    """Mount a vault; it is mounted on return, or unmounted again if it is served here.

    Raises:
        FuseUnavailable, MountFailed, MountpointUnusable: it cannot be mounted.
        VaultBusy: another run, or another mount, has the vault.
        EncvaultError: it cannot be unlocked; or, served here, not everything could be saved.
    """
    inherited = process.descriptors()
    selftest.run()
    fuse.load()
    if not request.read_only and _is_read_only(request.vault):
        raise InvalidRequest(
            reason=_("{path} is on a file system that is read-only; say --read-only").format(
                path=request.vault
            )
        )
    registry = Registry(request.state_dir)
    with (
        opened_whole(request.vault, prompter, "mount", observer) as (vault, recorder),
        contextlib.ExitStack() as stack,
    ):
        bury(registry, vault, recorder)
        place = stack.enter_context(_mountpoint(request, vault))

        def serve(ready: Callable[[], None]) -> None:
            _serve_at(place, request, registry, vault, recorder, prompter.access_log(), ready)

        def tell() -> None:
            if place.becomes_locked:
                recorder.observer.note(_locked_text(place.path))

        if request.foreground:
            with process.default_signals():
                serve(tell)
        else:
            stack.pop_all()  # the folder is the child's now
            try:
                process.detach(serve, place.path, inherited)
            except BaseException:
                place.leave()
                raise
            place.hand_over()
            tell()


def _is_read_only(path: str) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False  # which is told when it is opened


def _locked_text(path: str) -> str:
    text = _(
        "nobody can write into the folder {path} itself any more, so that nothing is saved there "
        "in the clear while it is not mounted; to undo that: chmod u+w {path}"
    )
    if os.geteuid() == 0:
        text = _(
            "nobody can write into the folder {path} itself any more, so that nothing is saved "
            "there in the clear while it is not mounted; to undo that: chattr -i {path}"
        )
    return text.format(path=path)


@contextlib.contextmanager
def opened_whole(
    path: str, prompter: Prompter, op: str, observer: Observer | None
) -> Iterator[tuple[Vault, Recorder]]:
    """A vault that is unlocked and not held yet, and whoever is told about it."""
    path = os.path.abspath(path)
    with (
        recording(prompter.access_log(), op, path, observer) as recorder,
        storage(path),
        unlocked(path, prompter, recorder.observer.problem) as (vault, inside),
    ):
        if inside:
            reason = _("only a whole vault can be mounted: {path}").format(path=vault.path)
            raise InvalidRequest(reason=reason)
        yield vault, recorder


def _mountpoint(request: MountRequest, vault: Vault) -> Mountpoint:
    path = canonical(request.mountpoint)
    for one in Registry(request.state_dir).all():
        if one.mountpoint == path and not one.is_alive:
            _clear(Registry(request.state_dir), one)  # of another vault
    return Mountpoint(path, vault.path)


def _serve_at(
    place: Mountpoint,
    request: MountRequest,
    registry: Registry,
    vault: Vault,
    recorder: Recorder,
    log: AccessLog | None,
    ready: Callable[[], None],
) -> None:
    """Serve a vault at a folder until it is unmounted; all is saved, or on record, on return."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(vault))
        stack.enter_context(place)
        process.guard(vault)
        process.allow_many_files()
        vault.hold(reading=request.read_only)
        entry = registry.begin(
            mountpoint=place.path,
            vault=vault.path,
            vault_id=vault.record.id,
            hpke_public=vault.record.hpke_public,
            read_only=request.read_only,
            idle_s=request.idle_s,
            made=place.made,
        )
        # who waits for the end of the entry may use the folder and the vault at once
        rest = stack.pop_all()

        def note(text: str) -> None:
            recorder.observer.note(text)
            entry.note_failure(text)  # nobody reads what a process in the background prints

        def mounted(_stop: Callable[[], None]) -> None:
            place.cover()
            ready()

        with (
            ending(entry) as last_words,
            rest,
            view_of(vault, recorder, log, place.path, note, read_only=request.read_only) as view,
        ):
            last_words.callback(lambda: entry.note_unsaved(view.unsaved()))
            serve_watched(view, entry, place.path, mounted, note, allow_other=request.allow_other)


def serve_watched(
    view: FileSystem,
    entry: Entry,
    mountpoint: str,
    mounted: Callable[[Callable[[], None]], None],
    note: Callable[[str], None],
    *,
    allow_other: bool = False,
) -> None:
    """Serve a view until it is unmounted, with a watch that keeps its entry true.

    Args:
        view: what is shown.
        entry: of the registry.
        mountpoint: where.
        mounted: is called once it is mounted, with what ends the serving.
        note: is told of bugs, of which programs see an input/output error.
        allow_other: whether other users may enter.
    """
    watch = Watch(view, entry)

    def ready(stop: Callable[[], None]) -> None:
        watch.start()
        entry.is_served = True
        mounted(stop)

    try:
        fuse.serve(
            view,
            mountpoint,
            source=entry.mounted.vault,
            allow_other=allow_other,
            ready=ready,
            failed=lambda error: note(repr(error)),
        )
    finally:
        watch.stop()


@contextlib.contextmanager
def ending(entry: Entry) -> Iterator[contextlib.ExitStack]:
    """Take the entry away, unless the mount ended with an error.

    Yields:
        What is called, in case of an error, to complete the entry.
    """
    with contextlib.ExitStack() as last_words:
        try:
            yield last_words
        except BaseException as error:
            if not entry.is_served:
                last_words.pop_all()
                entry.end()
                raise
            with contextlib.suppress(Exception):  # the error itself matters more
                last_words.close()
            entry.note_failure(str(error) or repr(error))
            entry.leave()
            raise
        last_words.pop_all()
    entry.end()


@contextlib.contextmanager
def view_of(
    vault: Vault,
    recorder: Recorder,
    log: AccessLog | None,
    to: str,
    note: Callable[[str], None],
    *,
    read_only: bool,
) -> Iterator[FileSystem]:
    """A vault, which is held, as a file system; recorded before it is, and when it ends."""
    with recorder.inside(vault, to=to):
        recorder.record("mount", path=vault.path, detail="read-only" if read_only else "")
    slot = None if vault.opened_by is None else vault.opened_by.slot_id
    accesses = Accesses(log, vault.path, vault.record.id, slot, note)
    try:
        view = mounts.open_view(
            vault,
            read_only=read_only,
            observer=accesses,
            problem=lambda error: note(_problem_text(error, vault.path)),
        )
        try:
            yield view
        except BaseException:
            with contextlib.suppress(EncvaultError, OSError):  # the first error is told
                view.close()
            raise
        with storage(vault.path):
            view.close()
    finally:
        try:
            accesses.close()
        finally:
            with recording(log, "unmount", vault.path) as last, last.inside(vault, to=to):
                last.record(path=vault.path)


def _problem_text(error: Exception, path: str) -> str:
    if isinstance(error, OSError):
        error = storage_error(error, error.filename or path)
    return str(error)


# -- what dead mounts leave -----------------------------------------------------------------


def bury(registry: Registry, vault: Vault, recorder: Recorder) -> None:
    """Clear away the dead mounts of a vault, and name what they had not saved."""
    for one in registry.all():
        if one.vault_id == vault.record.id and not one.is_alive:
            for name in registry.unsaved(one, vault.hpke_seed):
                path = os.path.join(one.vault, name.lstrip("/"))
                recorder.observer.problem(FileNotSaved(path=path))
            _clear(registry, one)
            registry.forget(one.id)


def _clear(registry: Registry, dead: Mounted) -> None:
    """Take away what a dead mount has left in the system, and forget it if it lost nothing."""
    is_taken = any(one.is_alive and one.mountpoint == dead.mountpoint for one in registry.all())
    if dead.mountpoint and not is_taken:
        there = mount_at(dead.mountpoint)
        if there is not None and there.kind == table.FILE_SYSTEM:
            table.unmount_dead(dead.mountpoint)
        if dead.made:
            remove_made(dead.mountpoint)
    if dead.unsaved:
        registry.keep_unsaved(dead)
    else:
        registry.forget(dead.id)


# -- unmounting -----------------------------------------------------------------------------


def unmount(path: str, state_dir: str) -> list[str]:
    """Unmount what is mounted at a folder, or every mount of a vault.

    Everything is saved, and whoever served it has ended, on return.

    Args:
        path: the folder, or the vault's.
        state_dir: local state folder.

    Returns:
        The folders.

    Raises:
        NotMounted: there is nothing to unmount.
        MountBusy: programs use it; it stays.
        OthersMount, UnmountFailed: the system lets it stay.
        OutOfSpace, StorageError: not everything can be saved; it stays.
        NotSaved: it was dead, or died, and not everything is saved.
    """
    registry, place = Registry(state_dir), canonical(path)
    found = [one for one in list_mounts(state_dir) if place in (one.mountpoint, one.vault)]
    at_place = [one for one in found if one.mountpoint == place]
    if not found:
        there = mount_at(place)
        if there is None or there.kind != table.FILE_SYSTEM:
            raise NotMounted(path=path)
        _unmount_unknown(place)  # of another user, or with another state folder
        return [place]
    done = []
    for one in _inner_first(at_place or found):
        _unmount(registry, one)
        done.append(one.mountpoint)
    return done


def unmount_all(state_dir: str, problem: Callable[[EncvaultError], None]) -> list[str]:
    """Unmount every mount of this user.

    Args:
        state_dir: local state folder.
        problem: is told of each that stays, or had not saved everything; the others go on.

    Returns:
        The folders that were unmounted.
    """
    registry, done = Registry(state_dir), []
    for one in _inner_first(list_mounts(state_dir)):
        try:
            _unmount(registry, one)
        except EncvaultError as error:
            problem(error)
        else:
            done.append(one.mountpoint)
    return done


def _inner_first(mounts: Iterable[Mounted]) -> list[Mounted]:
    """What is mounted inside another keeps that one busy."""
    return sorted(mounts, key=lambda one: one.mountpoint, reverse=True)


def _unmount(registry: Registry, one: Mounted) -> None:
    if one.is_alive:
        _save(registry, one)
        if registry.is_served(one.id):
            try:
                table.unmount(one.mountpoint)
            except UnmountFailed:
                if registry.is_served(one.id) and mount_at(one.mountpoint) is not None:
                    raise  # else it ended by itself meanwhile
        _wait_for_end(registry, one)
        left = registry.get(one.id)
        if left is None:
            return
        if left.failure and not left.unsaved:
            _clear(registry, left)
            raise UnmountedBadly(path=one.mountpoint, reason=left.failure)
        one = left
    _clear(registry, one)
    if one.unsaved:
        raise NotSaved(path=one.mountpoint, count=one.unsaved)


def _save(registry: Registry, one: Mounted) -> None:
    try:
        _sync(one.mountpoint)
    except InputOutputError:
        # the kernel has one word for all that a file system may say
        if (now := registry.get(one.id)) is not None and now.failure:
            raise InputOutputError(path=one.mountpoint, reason=now.failure) from None
        raise


def _wait_for_end(registry: Registry, one: Mounted) -> None:
    """Wait until all is saved and the process has ended, which programs can put off.

    Raises:
        MountBusy: it was unmounted already, behind the back of those who have files open.
    """
    deadline = time.monotonic() + _PATIENCE
    while registry.is_served(one.id):
        if time.monotonic() > deadline and mount_at(one.mountpoint) is None:
            raise MountBusy(path=one.mountpoint, programs=users_text(one.mountpoint))
        time.sleep(_PAUSE)


def _unmount_unknown(place: str) -> None:
    if _sync(place):
        table.unmount(place)
    else:
        table.unmount_dead(place)


def _sync(place: str) -> bool:
    """Have everything saved that can be, so that what cannot be saved is an error in time.

    Returns:
        False if nobody serves the mount.
    """
    try:
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        # root may not look into others' mounts; the one who serves it saves at the end as well
        return error.errno not in (errno.ENOTCONN, errno.ECONNABORTED)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            return False
        raise storage_error(error, place) from None
    finally:
        os.close(fd)
    return True
