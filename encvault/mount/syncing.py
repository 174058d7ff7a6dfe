"""Make sealed copies and names durable; what may be lost is not asked again, and never used.

The kernel tells of a write that failed once: to who syncs the file, and to who syncs its file
system. The next sync is a success, whatever is on the disk. So a copy that may be lost is removed,
and its node is sealed anew, to another file, from what there was before: the changes in memory, the
sealed file in its place, or the file that it was sealed to as it came, each chunk of which is
authenticated while it is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from encvault.errors import EncvaultError
from encvault.mount.nodes import FileNode, FolderNode

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

    from encvault.mount.batch import Ready
    from encvault.mount.due import Due
    from encvault.mount.layouts import Ground, Layout
    from encvault.mount.nodes import Source
    from encvault.mount.sealing import Prepared, Sealer


class Syncer:
    """See the module. Its methods are called with the saver's lock held.

    Args:
        ground, layout, sealer, view_lock: as the saver has them.
        due: is told to try again with what may be lost.
    """

    def __init__(
        self,
        ground: Ground,
        layout: Layout,
        sealer: Sealer,
        view_lock: threading.RLock,
        due: Due,
    ) -> None:
        self._ground = ground
        self._layout = layout
        self._sealer = sealer
        self._view_lock = view_lock
        self._due = due
        self._names_failed: OSError | None = None  # which nobody was told who asked for all names

    def sync(self, batch: list[Ready]) -> tuple[list[Ready], OSError | None]:
        """Make a batch durable.

        Returns:
            What is durable, and why the rest may be lost. That is removed, and sealed anew later.
        """
        durable: list[Ready] = []
        failure: OSError | None = None
        # what is in a folder that has no object yet must not come before it
        missing: dict[FolderNode | None, OSError] = {}
        for one, told in zip(batch, self._ask(batch), strict=True):
            reason = told or missing.get(one.node.parent)
            if reason is None:
                durable.append(one)
                continue
            if isinstance(one.node, FileNode):
                reason = self._named(reason, one.node)
                self._lose_file(one.node, one.prepared, reason)
            else:
                if one.node.source is None:
                    missing[one.node] = reason
                self._due.put_off(one.node)
            failure = failure or reason
        return durable, failure

    def _ask(self, batch: list[Ready]) -> list[OSError | None]:
        """Of each why it may be lost, or None."""
        # a failure may have told of copies that were there already and had not been asked
        since = self._ground.vault.tree.failed_at
        together = [one.prepared for one in batch if one.prepared.begun > since]
        told = iter(self._sealer.sync(together))
        return [
            next(told) if one.prepared.begun > since else self._ask_alone(one.prepared)
            for one in batch
        ]

    def _ask_alone(self, copy: Prepared) -> OSError | None:
        """Ask each object by itself: their file system may have told of them already."""
        for file, staging in zip(copy.ids, copy.staging, strict=True):
            part = dataclasses.replace(copy, ids=(file,), staging=(staging,))
            if (reason := self._sealer.sync([part])[0]) is not None:
                return reason
        return None

    def _lose_file(self, node: FileNode, copy: Prepared, reason: OSError) -> None:
        with node.lock:
            if node.under_way is not copy:
                return  # it was removed, or got another name, and the copy went with that
            node.under_way = None
            with contextlib.suppress(OSError, EncvaultError):
                self._layout.staging(node, copy.ids[0])  # to remove one changes its folder too
            self._sealer.discard(copy)
            if node.prepared is not copy:
                return  # it was changed, and that is sealed already
            node.prepared, node.failure = None, reason
        self._due.put_off(node)

    def _named(self, reason: OSError, node: FileNode) -> OSError:
        return OSError(reason.errno, reason.strerror, self._ground.vault.tree.show(node.path))

    def arrived(self, batch: list[Ready]) -> None:
        """Nothing of a batch is under way any more: it was taken, or waits, or is not wanted."""
        for one in batch:
            node, copy = one.node, one.prepared
            if isinstance(node, FolderNode):  # the next copy is made when it is wanted
                if node.source is None or node.source.file != copy.ids[0]:
                    self._sealer.discard(copy)
                continue
            with node.lock:
                if node.under_way is copy:
                    node.under_way = None
                    if node.prepared is not copy:
                        self._sealer.discard(copy)

    def sync_taken(self, taken: list[Ready]) -> None:
        """Make the names of copies that were just taken durable.

        Raises:
            OSError: they may not be. What has them is sealed anew later.
            KeysMissing: nothing would open them; likewise.
        """
        try:
            self._sync_names([source for one in taken if (source := one.node.source) is not None])
            self._sealer.check_key()  # once more: that and the log may have taken long
        except (OSError, EncvaultError) as error:
            for one in taken:
                if self._ground.vault.hidden:  # else this copy has their name already
                    with self._view_lock:
                        one.node.over += one.older  # they go with the next copy
                one.node.saved = -1
                if isinstance(one.node, FileNode):
                    one.node.failure = error
                self._due.put_off(one.node)
            raise

    def _sync_names(self, sources: Iterable[Source]) -> None:
        try:
            self._layout.sync(sources)
        except OSError as error:
            self._names_failed = error
            raise

    def sync_all_names(self) -> None:
        """Make what was done to names durable.

        A folder cannot be made anew, so a second sync is no proof. It is all that can be done; but
        who asks for all names hears as well of what has failed since the last one asked.

        Raises:
            OSError: some may not be, or may not have been.
        """
        failed = self._names_failed
        try:
            self._sync_names([])
        finally:
            self._names_failed = None  # it is told, whatever it is
        if failed is not None:
            raise OSError(failed.errno, failed.strerror)
