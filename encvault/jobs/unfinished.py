"""What must not be sealed yet: the temporary files of programs, and what is still being written."""

from __future__ import annotations

import fcntl
import fnmatch
import os
import re
import signal
import stat
from typing import TYPE_CHECKING

from encvault.fs import calls
from encvault.fs.durable import is_temporary
from encvault.fs.mounts import kind_of
from encvault.fs.tree import split

if TYPE_CHECKING:
    from encvault.fs.tree import Tree

# Patterns for names in lower case, and who gives them. What keeps such a name is never sealed; what
# is renamed at the end is sealed then.
TEMPORARIES = {
    "~$*": "Microsoft Office: who has the document open",
    ".~lock.*#": "LibreOffice: who has the document open",
    "*.tmp": "Microsoft Office, LibreOffice and others: a document that is being saved",
    "*.temp": "likewise, other programs",
    "*.part": "Firefox, KDE, BitTorrent clients: a download",
    "*.partial": "Internet Explorer and Edge: a download",
    "*.crdownload": "Chromium and its relatives: a download",
    "*.download": "Safari: a download, which is a folder",
    "*.filepart": "WinSCP: a transfer",
    "*.aria2": "aria2: what it knows of a download",
    "*.swp": "Vim: the swap file",
    "*.swo": "Vim: the swap file where there is one",
    "*.swx": "Vim: to try out whether it may write a swap file",
    "4913": "Vim: to try out whether the folder takes new files",
    "*~": "Vim, Emacs, gedit and others: the text as it was before",
    ".#*": "Emacs: who has the text open",
    "#*#": "Emacs: what was not saved yet",
    ".goutputstream-*": "GLib, so GNOME: a file that is being written",
    ".fuse_hidden*": "FUSE: removed while it was open",
    ".nfs????????????????*": "NFS: removed while it was open",
    ".sb-*": "macOS: a document that is being saved",
}
# rsync: a transfer, named by mkstemp(3). Six small letters are rather the ending of a hidden file
_OF_RSYNC = re.compile(r"\..+\.(?![a-z]{6}$)[A-Za-z0-9]{6}", re.ASCII)
_OF_OTHERS = re.compile("|".join(map(fnmatch.translate, TEMPORARIES)))

# changes that another machine makes there are not told here
_REMOTE = {"9p", "afs", "ceph", "cifs", "fuse", "glusterfs", "lustre", "nfs", "nfs4", "smb3"}
_HARMLESS_SIGNAL = signal.SIGURG  # ignored unless somebody asks for it


def is_name_of_temporary(name: str) -> bool:
    """Whether a program gives such a name to a file or folder that is not finished."""
    return (
        is_temporary(name)
        or _OF_RSYNC.fullmatch(name) is not None
        or _OF_OTHERS.match(name.lower()) is not None
    )


def is_remote(device: int) -> bool:
    """Whether a file system may change without this machine's doing.

    Args:
        device: as `os.stat` gives it.
    """
    kind = kind_of(device)
    return kind in _REMOTE or kind.startswith("fuse.")


def is_being_written(tree: Tree, path: str) -> bool:
    """Whether anybody has a file open for writing, or mapped so, as far as that can be seen.

    The kernel refuses a lease for reading on such a file (fcntl(2), F_SETLEASE). It gives one only
    to the file's owner and to who has CAP_LEASE; of any other file this says no.

    Args:
        tree: not on a share, where a refusal means nothing; nor is what is mounted inside asked.
        path: in it.
    """
    folder, name = split(path)
    try:
        fd = calls.open_read(tree.folder(folder), name)
    except OSError:
        return False  # who seals it is told why not
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_dev != os.fstat(tree.fd).st_dev:
            return False
        # who opens the file in this moment waits for us to close it, and we get a signal, which
        # by default would end us
        fcntl.fcntl(fd, fcntl.F_SETSIG, _HARMLESS_SIGNAL)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False
