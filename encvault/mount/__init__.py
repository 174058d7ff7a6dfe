"""A vault as a file system.

``view`` and what it stands on are a pure tree of files; ``fuse`` is the thin adapter to the kernel,
and the only importer of mfusepy; the rest are the processes, folders and records around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from encvault.mount.observer import MountObserver
    from encvault.mount.view import View
    from encvault.vault.vault import Vault


def open_view(
    vault: Vault,
    *,
    read_only: bool,
    observer: MountObserver,
    problem: Callable[[Exception], None],
) -> View:
    """The files of a vault, which is unlocked and held, as a file system.

    Args:
        vault: stays the caller's, and is closed after the view.
        read_only: whether to refuse all changes.
        observer: is told of accesses and changes.
        problem: is told what goes wrong and no program hears of.

    Raises:
        OSError, EncvaultError: the vault cannot be read.
    """
    from encvault.mount.view import View  # noqa: PLC0415 - who lists mounts needs no view

    view = View(vault, is_read_only=read_only, observer=observer, problem=problem)
    if vault.was_interrupted:
        view.find_strays()
        if vault.hidden:  # the view has removed what was left, wherever it was
            vault.cleaned_up()
    return view
