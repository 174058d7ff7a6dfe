"""Who may do what with a vault's own files: whoever may with the folder that the vault is in."""

from __future__ import annotations

import contextlib
import os
import stat

_ACCESS_LIST = "system.posix_acl_access"  # acl(5)


def share_as(fd: int, folder: int, *, is_written: bool = False) -> None:
    """Let who may look into a folder read a new file or folder in it, whoever made that.

    A vault's own files are wrapped, signed or public. If the umask of a nightly job decided, or
    root made them, people could not open what is theirs. Where there are no modes, nothing is lost.

    Args:
        fd: the file or folder.
        folder: descriptor of the folder that it is in.
        is_written: whether who may write there writes to the file itself. Others are replaced.
    """
    status, above = os.fstat(fd), os.fstat(folder)
    mode = above.st_mode & (0o3777 if stat.S_ISDIR(status.st_mode) else 0o666) | 0o600
    if not (is_written or stat.S_ISDIR(status.st_mode)):
        mode &= ~0o022
    # with an access list, the group's bits are the most that anybody in it may; its own are inside
    if (access := _access_list(folder)) is not None:
        with contextlib.suppress(OSError):
            os.setxattr(fd, _ACCESS_LIST, access)
        if _access_list(fd) is None:
            mode &= ~0o070
    with contextlib.suppress(OSError):
        os.fchmod(fd, mode)
    if (status.st_uid, status.st_gid) != (above.st_uid, above.st_gid):
        with contextlib.suppress(OSError):  # only root may, and a job's unit may forbid even that
            os.fchown(fd, above.st_uid, above.st_gid)


def _access_list(fd: int) -> bytes | None:
    if not hasattr(os, "getxattr"):
        return None
    try:
        return os.getxattr(fd, _ACCESS_LIST)
    except OSError:
        return None
