"""Put what was changed into the vault: sealed, durable, then in its place.

A changed file is *prepared* when it is closed: a whole sealed copy lies beside the others, or the
room for it is taken, so that a full disk shows in close(2). It is *committed*, in batches, a moment
later, or at once if somebody calls fsync(2): the copies are made durable, the access log has its
entries, the copies take their names, and those are made durable. A kill or a power failure leaves
the old file or the new one, and never a name without its content.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
from typing import TYPE_CHECKING

from encvault.errors import EncvaultError, SavedAside
from encvault.mount.batch import Events, Ready
from encvault.mount.due import BATCH_NODES, LARGE, SOON, Due
from encvault.mount.layouts import Displaced
from encvault.mount.nodes import FileNode, FolderNode, folders_without_object, set_aside
from encvault.mount.strays import Strays
from encvault.mount.syncing import Syncer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from encvault.mount.content import Content
    from encvault.mount.layouts import Ground, Layout
    from encvault.mount.nodes import Node, Source
    from encvault.mount.observer import MountObserver, SavedEvent
    from encvault.mount.sealing import Prepared, Sealer

_ATTEMPTS = 5
_MOMENT = 0.05  # seconds
_PATIENCE = 20.0  # seconds; on a busy machine many attempts may be in vain
_MAX_WAITING = 4096  # changed files; who closes one more helps to save them


class Saver:
    """See the module.

    Attributes:
        strays: files that lie elsewhere than their records say.

    Args:
        ground, layout, sealer: what it works with.
        view_lock: held while the tree is read or changed; never taken while a node's lock is held.
        observer: is told before a batch takes effect.
        problem: is told what went wrong while nobody waited.
        content_of: the content of a node whose lock is held, opened if it is not.
    """

    def __init__(
        self,
        ground: Ground,
        layout: Layout,
        sealer: Sealer,
        view_lock: threading.RLock,
        observer: MountObserver,
        problem: Callable[[Exception], None],
        content_of: Callable[[FileNode], Content],
    ) -> None:
        self._ground = ground
        self._layout = layout
        self._sealer = sealer
        self._view_lock = view_lock
        self._problem = problem
        self._content_of = content_of
        self._commit_lock = threading.RLock()
        self._due = Due(self._save_due)  # what was closed or changed by name
        self._syncer = Syncer(ground, layout, sealer, view_lock, self._due)
        self._dirty: dict[Node, None] = {}
        self.strays = Strays()
        self._clearing: set[FileNode] = set()  # what waits for a stray
        self._events = Events(self._due, observer)
        # missed, as they were just open again: the next close has a copy made, and that is saved
        self._overdue: set[FileNode] = set()

    # -- what the view tells ----------------------------------------------------------------

    def changed(self, node: Node) -> None:
        """A node is not as the vault has it."""
        node.version += 1
        self._dirty[node] = None

    def released(self, node: FileNode) -> None:
        """Nobody has a changed file open to write any more: save it soon."""
        if node in self._overdue and node.has_closed_copy:
            self._due.put_overdue(node)  # it may be open again when that is looked for
            return
        content = node.content
        is_large = content is not None and content.growing is not None
        self.soon(node, LARGE if is_large else SOON)

    def closed(self, node: FileNode) -> None:
        """A changed file was closed by somebody: see that it can be saved.

        Raises:
            OSError: it cannot, as on a full disk.
        """
        with node.lock:
            content = node.content
            growing = content.growing if content is not None else None
            if growing is not None and growing.is_open and node not in self._overdue:
                growing.reserve()
                return
        self.prepare(node)
        if len(self._due) > _MAX_WAITING:
            failure = self._save_all()
            if failure is not None:
                raise failure

    def soon(self, node: Node, seconds: float = SOON) -> None:
        """Save a node in so many seconds."""
        self._dirty[node] = None
        self._due.put(node, seconds)

    def later(self, node: Node) -> None:
        """Save a node when there is time."""
        self._dirty[node] = None
        self._due.put_later(node)

    def strayed(self, node: FileNode) -> None:
        """A file lies in another place than its record has."""
        self.renamed(node)
        self.later(node)

    def renamed(self, node: FileNode) -> None:
        """What was prepared under another name is not wanted, nor in the way where it lies."""
        self.strays.note(node, self._layout.home(node).text)
        self.changed(node)
        with node.lock:
            self._sealer.drop_copies(node)

    def told(self, event: SavedEvent) -> None:
        """Something took effect at once; it is recorded with the next batch."""
        self._events.add(event)

    def forget(self, node: Node) -> None:
        """A node is gone."""
        self._due.drop(node)
        self._dirty.pop(node, None)
        if isinstance(node, FileNode):
            self.strays.drop(node)
            self._overdue.discard(node)
            with node.lock:
                self._sealer.drop_copies(node)

    def unsaved(self) -> list[str]:
        """Paths of what the vault does not have as it is."""
        with self._view_lock:
            return sorted(node.path for node in self._left() if isinstance(node, FileNode))

    # -- prepare ----------------------------------------------------------------------------

    def prepare(self, node: FileNode, *, asked: bool = True) -> None:
        """Have a sealed copy of a node as it is now.

        Args:
            node: which.
            asked: whether a program wants what it has written by now; else a file that is being
                written stays as it was closed last.

        Raises:
            OSError, EncvaultError: it could not be written.
        """
        with self._view_lock:
            home = self._layout.home(node)
        with node.lock:
            if not node.is_dirty or node.gone or not (asked or node.is_settled):
                return
            ready = node.prepared
            if ready is not None:
                if ready.version == node.version and ready.home == home:
                    return
                node.prepared = None
                if ready is not node.under_way:
                    self._layout.staging(node, ready.ids[0])  # to remove one changes its folder too
                    self._sealer.discard(ready)
            try:
                node.prepared = self._sealer.prepare(node, self._content_of(node), home)
            except Exception as error:
                node.failure = error
                raise
            node.failure = None

    # -- commit -----------------------------------------------------------------------------

    def save(self, nodes: Iterable[Node], *, asked: bool = True) -> None:
        """Have nodes in the vault, durable, on return.

        Args:
            nodes: which.
            asked: see `prepare`.

        Raises:
            OSError, EncvaultError: one could not be saved; the others are.
        """
        wanted = list(dict.fromkeys(nodes))
        folders = [node for node in wanted if isinstance(node, FolderNode)]
        files = [node for node in wanted if isinstance(node, FileNode)]
        begun = {node: node.version for node in files}  # what is written later is not waited for
        failure: Exception | None = None
        deadline = time.monotonic() + _PATIENCE
        for attempt in itertools.count(1):  # a name may change in between
            # before the lock is taken: a large file must not keep others from being saved
            failure = self._prepare_all(files, asked=asked) or failure
            try:
                with self._commit_lock:
                    self._commit([node for node in files if asked or node.is_settled], folders)
            except (OSError, EncvaultError):
                for node in files:
                    if node.is_dirty and not node.gone:
                        self._due.put_off(node)
                raise
            files = [
                node
                for node in files
                if node.saved < begun[node] and not node.gone and (asked or node.is_settled)
            ]
            for node in files:
                failure = failure or node.failure  # another thread may have found it
            files = [node for node in files if node.failure is None]
            if not files or (attempt >= _ATTEMPTS and time.monotonic() > deadline):
                break
            folders = []
        for node in files:
            self.soon(node)
            if asked:
                failure = OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if failure is not None:
            raise failure

    def _prepare_all(self, files: list[FileNode], *, asked: bool) -> Exception | None:
        """Prepare each; what went wrong with one of them, which is tried again later."""
        failure: Exception | None = None
        for node in files:
            try:
                self.prepare(node, asked=asked)
            except Exception as error:  # noqa: BLE001 - one file must not keep others from it
                failure = error
                self._due.put_off(node)
        return failure

    def _commit(self, files: list[FileNode], folders: list[FolderNode]) -> None:
        self._clear_the_way(files)
        # in the visible layout a folder has no object, and none is missing
        above = folders_without_object(files, folders) if self._ground.vault.hidden else []
        if above:
            self._commit_all([self._ready_folder(node) for node in above])
        rest = [node for node in folders if node not in above and node.is_dirty and not node.gone]
        batch = [self._ready_folder(node) for node in rest]
        for node in files:
            with node.lock:
                if node.prepared is not None:
                    node.under_way = node.prepared
                    batch.append(Ready(node, node.prepared))
        self._commit_all(batch)

    def _clear_the_way(self, files: list[FileNode]) -> None:
        """Seal anew whatever would be taken for swapped once these files lie in their places."""
        for node in files:
            if node.prepared is None:
                continue
            stray = self.strays.in_the_way(node, node.prepared.home.text)
            if stray is None or stray in self._clearing:
                continue  # two that exchange their places go together
            self._clearing.add(node)
            try:
                with stray.lock:
                    if not stray.is_dirty:  # it was found under another name than its record's
                        self.changed(stray)
                self.prepare(stray)
                self._commit([stray], [])
            finally:
                self._clearing.discard(node)

    def _ready_folder(self, node: FolderNode) -> Ready:
        with self._view_lock:
            return Ready(node, self._sealer.prepare_folder(node, self._layout.home(node)))

    def _commit_all(self, batch: list[Ready]) -> None:
        try:
            self._commit_batch(batch)
        finally:
            self._syncer.arrived(batch)

    def _commit_batch(self, batch: list[Ready]) -> None:
        lost: Exception | None = None
        if batch:
            self._sealer.check_key()
            batch, lost = self._syncer.sync(batch)
        self._events.tell([one for one in batch if isinstance(one.node, FileNode)])
        taken, failure = self._take_all(batch)
        if taken:
            self._confirm(taken)
        if (failure := failure or lost) is not None:
            raise failure

    def _take_all(self, batch: list[Ready]) -> tuple[list[Ready], Exception | None]:
        """Put sealed copies in their places: those that are there, and what went wrong."""
        taken: list[Ready] = []
        failure: Exception | None = None
        with self._view_lock:
            for one in batch:
                try:
                    if self._take(one):
                        taken.append(one)
                except (OSError, EncvaultError) as error:
                    failure = error
                    self._failed(one.node, error)
            self._layout.settle()
        return taken, failure

    def _confirm(self, taken: list[Ready]) -> None:
        """Make the names durable; what had them before goes only then."""
        self._syncer.sync_taken(taken)
        with self._view_lock:
            self._layout.retire([source for one in taken for source in one.older])
        for node in [one.node for one in taken if not one.node.is_dirty]:
            self._dirty.pop(node, None)
            self._due.drop(node)
            if node.is_dirty and not node.gone:  # by who changed it just now
                self.soon(node)

    def _take(self, one: Ready) -> bool:
        """Put one sealed copy in its place; whether it is there."""
        node = one.node
        if isinstance(node, FolderNode):
            if node.gone:
                self._sealer.discard(one.prepared)
            else:
                self._taken(one, self._layout.take(node, one.prepared))
            return not node.gone
        if not node.lock.acquire(timeout=_MOMENT):
            return False  # it is being sealed anew, and everybody waits for the view
        try:
            return self._take_file(node, one)
        finally:
            node.lock.release()

    def _take_file(self, node: FileNode, one: Ready) -> bool:
        prepared = one.prepared
        if not self._may_take(node, prepared):
            return False
        try:
            source = self._layout.take(node, prepared)
        except Displaced:
            node.writer = one.writer
            self.displaced(node)
            return False
        except FileNotFoundError:
            # somebody removed the folder that it lay in, and the copy with it
            self._sealer.drop_copies(node)
            return False
        except OSError:
            if len(prepared.ids) > 1:  # some of them may have had their names
                self._sealer.drop_copies(node)
            raise
        self._taken(one, source)
        self.strays.drop(node)
        if node.prepared is prepared:
            node.prepared = None
        if node.is_dirty and node.writer is None:
            node.writer = one.writer  # what was written since is to be told as well
        node.under_way = node.failure = None
        self._overdue.discard(node)
        try:
            if node.data_version == prepared.data_version:
                self._ground.rest(node)
        except (EncvaultError, OSError) as error:
            self._problem(error)  # the changes stay in memory; they are in the vault
        return True

    def _taken(self, one: Ready, source: Source) -> None:
        node = one.node
        one.older = [older for older in (node.source, *node.over) if older is not None]
        self._sealer.taken(one.prepared)
        node.source, node.over = source, []
        node.saved = one.prepared.version

    def _may_take(self, node: FileNode, prepared: Prepared) -> bool:
        """Whether it is still wanted, and where.

        A copy that is older than what is prepared by now is: who asked for it has what he wrote in
        the vault, however fast others write.
        """
        stray = self.strays.in_the_way(node, prepared.home.text)
        return (
            node.under_way is prepared  # neither gone nor elsewhere
            and prepared.home == self._layout.home(node)
            and (stray is None or stray in self._clearing)
        )

    def _failed(self, node: Node, error: Exception) -> None:
        if isinstance(node, FileNode):
            node.failure = error
        self._due.put_off(node)
        self._problem(error)

    def displaced(self, node: FileNode) -> None:
        """Somebody else changed the file: both stay, this one under another name."""
        shown = self._ground.vault.tree.show(node.path)
        set_aside(node)
        self._problem(SavedAside(path=shown, name=node.name))
        self.changed(node)
        self.soon(node)

    # -- the background ---------------------------------------------------------------------

    def sync(self) -> None:
        """Have everything that was closed in the vault, durable.

        Raises:
            OSError: something could not be saved.
        """
        failure = self._save_all()
        with self._commit_lock:
            self._events.tell([])
            with self._view_lock:
                self._syncer.sync_all_names()
        if failure is not None:
            raise failure

    def _save_all(self) -> Exception | None:
        """Save everything that was closed; what went wrong."""
        failure: Exception | None = None
        nodes = self._due.nodes()
        for start in range(0, len(nodes), BATCH_NODES):
            try:
                self._save_closed(nodes[start : start + BATCH_NODES])
            except Exception as error:  # noqa: BLE001 - the others are saved whatever happens
                failure = failure or error
        return failure

    def close(self) -> None:
        """Save what is left, and stop.

        Raises:
            OSError: something could not be saved.
        """
        self._due.close()
        has_failed = False
        for _attempt in range(_ATTEMPTS):  # what is displaced is saved under another name
            if not (left := self._left()):
                break
            for node in left:
                self._due.put(node)
            if (failure := self._save_all()) is not None:
                if has_failed:
                    raise failure
                has_failed = True  # what was lost is sealed anew, and that may be well
                self._problem(failure)
        self.sync()
        if self._left():  # never the end without a word
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _left(self) -> list[Node]:
        with self._view_lock:
            return [node for node in list(self._dirty) if node.is_dirty and not node.gone]

    def _save_due(self, nodes: list[Node]) -> None:
        wanted = [node for node in nodes if not self._can_wait(node)]
        try:
            self._save_closed(wanted)
        except Exception as error:  # noqa: BLE001 - the thread goes on whatever happens
            for node in wanted:
                if node.is_dirty and not node.gone:
                    self._due.put_off(node)
            self._problem(error)

    def _can_wait(self, node: Node) -> bool:
        """Whether a file that is open again may be closed before it has to be saved."""
        if not isinstance(node, FileNode) or node.is_settled or self._due.is_late(node):
            return False
        self._due.put_last(node)
        return True

    def _save_closed(self, nodes: list[Node]) -> None:
        """Have nodes in the vault as they were closed last, those as well that are open again.

        Raises:
            OSError, EncvaultError: one could not be saved.
        """
        begun = {node: node.saved for node in nodes if isinstance(node, FileNode)}
        reopened = {node: None for node in begun if node.writers}
        try:
            self.save([node for node in nodes if node not in reopened], asked=False)
        finally:
            with self._commit_lock:
                self._commit([node for node in reopened if node.has_closed_copy], [])
        for node, saved in begun.items():
            if node.is_dirty and not node.gone:
                if node.saved == saved:  # it was being closed, sealed anew, or opened again
                    self._overdue.add(node)
                if node.has_closed_copy:
                    self.released(node)
