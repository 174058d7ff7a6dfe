"""Files that lie in the vault elsewhere, or are called otherwise, than here.

A file that was renamed is sealed anew, with its new path in its record, a moment later. Until then
its sealed file still belongs to the old path. If another file were put there first, a crash would
leave two that claim one place: in the visible layout the first would count as swapped and be
refused (docs/format.md section 6.1), in the hidden one as an older version of the second (6.2). So
whatever comes to such a place has to wait until the stray is sealed anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.mount.nodes import FileNode


class Strays:
    """Knows them by the places that their records name (`encvault.mount.sealing.Home.text`)."""

    def __init__(self) -> None:
        self._nodes: dict[str, FileNode] = {}
        self._homes: dict[FileNode, set[str]] = {}

    def note(self, node: FileNode, home: str) -> None:
        """A file, or one that it is to replace and that still lies there, may have strayed.

        Args:
            node: which.
            home: where it belongs now.
        """
        for source in (node.source, *node.over):
            if source is not None and source.home != home:
                self._nodes[source.home] = node
                self._homes.setdefault(node, set()).add(source.home)

    def drop(self, node: FileNode) -> None:
        """A file lies where its record says, or nowhere."""
        for home in self._homes.pop(node, ()):
            if self._nodes.get(home) is node:
                del self._nodes[home]

    def in_the_way(self, node: FileNode, home: str) -> FileNode | None:
        """What would lose its place if this node came to lie there."""
        stray = self._nodes.get(home)
        return None if stray is node else stray

    def at_or_below(self, path: str) -> Iterator[FileNode]:
        """What would if something, a folder perhaps, came to lie at a path; visible layout."""
        for home, node in list(self._nodes.items()):
            if home == path or home.startswith(path + "/"):
                yield node
