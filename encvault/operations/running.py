"""Run a command that sees a vault's plain files, which nobody else does."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from encvault.crypto import selftest
from encvault.errors import EncvaultError, FileNotSaved, NotSaved
from encvault.mount import fuse, private, process
from encvault.mount.registry import Registry
from encvault.operations.mounting import bury, ending, opened_whole, serve_watched, view_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from encvault.accesslog.log import AccessLog
    from encvault.mount.registry import Entry
    from encvault.mount.verbs import FileSystem
    from encvault.operations.prompter import Prompter
    from encvault.operations.recording import Recorder
    from encvault.vault.report import Observer
    from encvault.vault.vault import Vault


class RunRequest(NamedTuple):
    """What to run on what; the fields are the options of ``encvault run``.

    Attributes:
        vault: the vault's folder; the command sees the plain files there.
        command: its words, at least one.
        state_dir: local state folder.
        read_only: refuse all changes.
    """

    vault: str
    command: tuple[str, ...]
    state_dir: str
    read_only: bool = False


def run(request: RunRequest, prompter: Prompter, observer: Observer | None = None) -> int:
    """Run a command that sees the plain files in place of the vault; nobody else does.

    Returns:
        The command's exit code; 128 and the number of the signal if one ended it.

    Raises:
        CommandNotFound, CommandNotRunnable: nothing was run.
        NamespacesUnavailable, FuseUnavailable, MountFailed: it cannot be mounted.
        EncvaultError: the vault cannot be unlocked; or not everything could be saved.
    """
    selftest.run()
    fuse.load()
    with opened_whole(request.vault, prompter, "mount", observer) as (vault, recorder):
        folder = os.path.realpath(vault.path)
        log, registry = prompter.access_log(), Registry(request.state_dir)
        bury(registry, vault, recorder)

        def serve(ready: Callable[[Callable[[], None]], None]) -> None:
            with contextlib.closing(vault):
                vault.hold(reading=request.read_only)
                process.guard(vault)
                process.allow_many_files()
                entry = registry.begin(
                    mountpoint="",  # nobody else sees where
                    vault=vault.path,
                    vault_id=vault.record.id,
                    hpke_public=vault.record.hpke_public,
                    read_only=request.read_only,
                    idle_s=None,
                    made=False,
                )
                with ending(entry) as last_words:
                    _serve_here(request, folder, vault, recorder, log, entry, last_words, ready)

        return private.run(request.command, folder, serve, vault.close)


def _serve_here(
    request: RunRequest,
    folder: str,
    vault: Vault,
    recorder: Recorder,
    log: AccessLog | None,
    entry: Entry,
    last_words: contextlib.ExitStack,
    ready: Callable[[Callable[[], None]], None],
) -> None:
    """Serve a vault in place of its own folder until the command has ended.

    Raises:
        NotSaved: not everything could be saved; each file was named.
    """
    note = recorder.observer.note
    kept: FileSystem | None = None
    try:
        with view_of(vault, recorder, log, folder, note, read_only=request.read_only) as view:
            kept = view
            last_words.callback(lambda: entry.note_unsaved(view.unsaved()))
            serve_watched(view, entry, folder, ready, note)
    except EncvaultError as error:
        lost = kept.unsaved() if kept is not None else []
        if not lost:
            raise
        # there is no mount that stays, and to run the command again does not bring them back
        recorder.observer.problem(error)
        for name in lost:
            recorder.observer.problem(FileNotSaved(path=os.path.join(folder, name)))
        raise NotSaved(path=folder, count=len(lost)) from error
