"""A thread beside a mount: keeps the registry's entry true, and unmounts what nobody uses."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from encvault.errors import EncvaultError
from encvault.fs.durable import storage_error
from encvault.mount import table

if TYPE_CHECKING:
    from encvault.mount.registry import Entry
    from encvault.mount.verbs import FileSystem

_BEAT = 1.0  # seconds between two looks


class Watch:
    """Watches a mount until it is stopped.

    Args:
        view: what is mounted.
        entry: of the registry.
    """

    def __init__(self, view: FileSystem, entry: Entry) -> None:
        self._view = view
        self._entry = entry
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin; the process forks no more from here on."""
        self._thread.start()

    def stop(self) -> None:
        """End, and leave the entry as it is."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:  # noqa: BLE001 - it is on record, and the mount lives on
            self._entry.note_failure(repr(error))

    def _watch(self) -> None:
        mounted = self._entry.mounted
        patience: float | None = mounted.idle_s
        while not self._stopped.wait(_beat(mounted.idle_s)):
            self._entry.note_unsaved(self._view.unsaved())
            idle = self._view.idle_seconds()
            if mounted.idle_s is None or patience is None:
                continue
            if idle is None or idle < mounted.idle_s:
                patience = mounted.idle_s  # it was used
            elif idle >= patience:
                if self._unmount():
                    return
                # a working directory in there keeps it busy, and is no use
                patience = idle + mounted.idle_s

    def _unmount(self) -> bool:
        try:
            self._view.sync()
            table.unmount(self._entry.mounted.mountpoint)
        except OSError as error:
            self._entry.note_failure(str(storage_error(error, self._entry.mounted.vault)))
        except EncvaultError as error:
            self._entry.note_failure(str(error))
        else:
            return True
        return False


def _beat(idle_s: int | None) -> float:
    return _BEAT if idle_s is None else min(_BEAT, idle_s / 2)
