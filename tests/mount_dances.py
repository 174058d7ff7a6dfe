"""How programs save a file, call by call.

A dance begins with a file that has an old content, in a folder of its own, and ends with the new
content in it, as after a save and the end of the program. Where its calls are known from stands
beside each.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    # folder, name, new content -> what the folder has to hold afterwards
    Dance = Callable[[Path, str, bytes], dict[str, bytes]]

PAGE = 4096
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
NEW_BOTH = os.O_RDWR | os.O_CREAT | os.O_EXCL
AGAIN = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
SHM_SIZE = 32_768
PENDING_BYTE = 0x4000_0000  # where SQLite's locks begin

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


@contextlib.contextmanager
def opened(path: Path, flags: int, mode: int = 0o644) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def put(fd: int, data: bytes, size: int = 8192) -> None:
    """Write in pieces, as buffered output does."""
    for start in range(0, len(data), size):
        assert os.write(fd, data[start : start + size]) == len(data[start : start + size])


def create(path: Path, data: bytes, *, flags: int = NEW, mode: int = 0o644) -> None:
    with opened(path, flags, mode) as fd:
        put(fd, data)


def sync_folder(folder: Path) -> None:
    with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)


# -- office programs ------------------------------------------------------------------------


def word(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # Microsoft, "Description of how Word creates temporary files" (article 211632)
    owner = folder / f"~${name[2:]}"
    create(owner, b"\x05admin".ljust(162, b"\0"))
    with opened(folder / name, os.O_RDWR):
        create(folder / "~WRD0001.tmp", new)
    os.rename(folder / name, folder / "~WRL0003.tmp")
    os.rename(folder / "~WRD0001.tmp", folder / name)
    os.unlink(folder / "~WRL0003.tmp")
    os.unlink(owner)
    return {name: new}


def excel(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # Microsoft, "Description of the way that Excel saves files" (article 214073)
    owner = folder / f"~${name}"
    create(owner, b"\x05admin".ljust(165, b"\0"))
    with opened(folder / "5C8B1D00", NEW_BOTH) as fd:
        # a package of parts: its directory is at the end, and sizes are filled in afterwards
        os.pwrite(fd, new[PAGE:], PAGE)
        os.pwrite(fd, new[:PAGE], 0)
        os.fsync(fd)
    os.rename(folder / name, folder / "7A2E4F10.tmp")
    os.rename(folder / "5C8B1D00", folder / name)
    os.unlink(folder / "7A2E4F10.tmp")
    os.unlink(owner)
    return {name: new}


def libreoffice(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # LibreOffice, sfx2/source/doc/docfile.cxx and svl/source/misc/lockfilecommon.cxx
    lock = folder / f".~lock.{name}#"
    create(lock, b",admin,desk,20.11.2026 10:00,file:///home/admin/.config/libreoffice/4;")
    with opened(folder / "lu84214ab3t.tmp", NEW_BOTH, 0o600) as fd:
        put(fd, new, 32_768)
        os.fsync(fd)
    os.chmod(folder / "lu84214ab3t.tmp", 0o644)
    os.rename(folder / "lu84214ab3t.tmp", folder / name)
    os.unlink(lock)
    return {name: new}


def libreoffice_in_place(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # as before, where the file itself is written to because a rename would lose its attributes
    lock = folder / f".~lock.{name}#"
    create(lock, b",admin,desk,20.11.2026 10:00,file:///home/admin/.config/libreoffice/4;")
    with opened(folder / name, os.O_RDWR) as fd:
        os.read(fd, 1 << 20)
        os.lseek(fd, 0, os.SEEK_SET)
        os.ftruncate(fd, 0)
        put(fd, new, 32_768)
        os.fsync(fd)
    os.unlink(lock)
    return {name: new}


# -- editors --------------------------------------------------------------------------------


def vim(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # Vim, src/memline.c (swap file) and src/bufwrite.c with 'backupcopy' no
    swap = folder / f".{name}.swp"
    with opened(swap, NEW_BOTH, 0o600):
        create(folder / f".{name}.swx", b"", mode=0o600)
        os.unlink(folder / f".{name}.swx")
    os.unlink(swap)
    with opened(swap, NEW_BOTH, 0o600) as fd:
        for page in (0, 2, 1):
            os.pwrite(fd, b"b0VIM 9.0".ljust(PAGE, b"\0"), page * PAGE)
        os.fsync(fd)
        # can a file be made here, with this owner and mode?
        with opened(folder / "4913", NEW | os.O_NOFOLLOW) as probe:
            os.fchown(probe, os.getuid(), os.getgid())
        os.unlink(folder / "4913")
        os.rename(folder / name, folder / f"{name}~")
        with opened(folder / name, os.O_WRONLY | os.O_CREAT) as file:
            put(file, new)
            os.fsync(file)
        os.chmod(folder / name, 0o644)
        os.unlink(folder / f"{name}~")
    os.unlink(swap)
    return {name: new}


def vim_copy(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # as before with 'backupcopy' yes: the file keeps its inode
    with opened(folder / name, os.O_RDONLY) as source:
        create(folder / f"{name}~", os.read(source, 1 << 20))
    os.utime(folder / f"{name}~", ns=(10**18, 10**18))
    with opened(folder / name, AGAIN) as file:
        put(file, new)
        os.fsync(file)
    os.unlink(folder / f"{name}~")
    return {name: new}


def emacs(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # GNU Emacs, src/filelock.c (the link), lisp/files.el backup-buffer and save-buffer
    lock, kept, old = folder / f".#{name}", folder / f"#{name}#", (folder / name).read_bytes()
    os.symlink("admin@desk.4711:1700000000", lock)
    assert os.readlink(lock) == "admin@desk.4711:1700000000"
    create(kept, new[: len(new) // 2], flags=AGAIN, mode=0o600)
    create(kept, new, flags=AGAIN, mode=0o600)
    os.rename(folder / name, folder / f"{name}~")
    with opened(folder / name, AGAIN) as file:
        put(file, new)
        os.fsync(file)
    os.chmod(folder / name, 0o644)
    os.unlink(kept)
    os.unlink(lock)
    return {name: new, f"{name}~": old}  # one backup stays, as people expect


def vscode(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # Visual Studio Code, src/vs/platform/files/node/diskFileSystemProvider.ts
    with opened(folder / name, AGAIN) as fd:
        for start in range(0, len(new), 65_536):
            os.pwrite(fd, new[start : start + 65_536], start)
        os.fdatasync(fd)
    return {name: new}


def glib(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # GLib, glib/gfileutils.c g_file_set_contents_full
    temporary = folder / f"{name}.KX5AS2"
    with opened(temporary, NEW_BOTH, 0o666) as fd:
        os.posix_fallocate(fd, 0, len(new))
        put(fd, new, len(new))
        os.fsync(fd)
    os.rename(temporary, folder / name)
    return {name: new}


def gio(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # GLib, gio/glocalfileoutputstream.c handle_overwrite_open: gedit and others
    temporary = folder / ".goutputstream-1QK6S2"
    with opened(folder / name, os.O_RDWR), opened(temporary, NEW_BOTH, 0o666) as fd:
        os.fchown(fd, os.getuid(), os.getgid())
        os.fchmod(fd, 0o644)
        put(fd, new)
        os.fsync(fd)
        os.rename(temporary, folder / name)
    return {name: new}


def sed(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # GNU sed, sed/execute.c open_next_file and output_file
    temporary = folder / "sedHJ3k2a"
    with opened(folder / name, os.O_RDONLY), opened(temporary, NEW_BOTH, 0o600) as fd:
        put(fd, new, PAGE)
        os.fchown(fd, os.getuid(), os.getgid())
        os.fchmod(fd, 0o644)
    os.rename(temporary, folder / name)
    return {name: new}


# -- copying and unpacking ------------------------------------------------------------------


def rsync(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # rsync, receiver.c and rsync.c finish_transfer
    temporary = folder / f".{name}.t0XdZ8"
    with opened(folder / name, os.O_RDONLY), opened(temporary, NEW_BOTH, 0o600) as fd:
        put(fd, new, 32_768)
        os.fchmod(fd, 0o600)
    os.utime(temporary, ns=(10**18, 10**18 + 123_456_789))
    os.chmod(temporary, 0o644)
    os.rename(temporary, folder / name)
    assert os.stat(folder / name).st_mtime_ns == 10**18 + 123_456_789
    return {name: new}


def dpkg(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # dpkg, src/main/archives.c tarobject and tar_deferred_extract
    temporary = folder / f"{name}.dpkg-new"
    with opened(temporary, NEW, 0) as fd:
        put(fd, new, 32_768)
    with opened(temporary, os.O_WRONLY) as fd:
        os.fsync(fd)
    os.chown(temporary, os.getuid(), os.getgid())
    os.chmod(temporary, 0o644)
    os.utime(temporary, ns=(10**18, 10**18))
    os.rename(temporary, folder / name)
    sync_folder(folder)
    return {name: new}


def chromium(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # Chromium, components/download/internal/common/base_file.cc
    large = new * (3 * 1024 * 1024 // len(new))
    temporary = folder / f"{name}.crdownload"
    with opened(temporary, os.O_RDWR | os.O_CREAT) as fd:
        put(fd, large, 32_768)
        digest = hashlib.sha256()
        for start in range(0, len(large), 65_536):
            digest.update(os.pread(fd, 65_536, start))
        assert digest.digest() == hashlib.sha256(large).digest()
    os.rename(temporary, folder / name)
    os.setxattr(folder / name, "user.xdg.origin.url", b"https://example.com/a")
    return {name: large}


def firefox(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # Firefox, toolkit/components/downloads/DownloadCore.sys.mjs: an empty file keeps the name free
    temporary = folder / f"{name}.part"
    create(folder / name, b"", flags=AGAIN)
    create(temporary, new[:PAGE], mode=0o600)
    with opened(temporary, os.O_WRONLY | os.O_APPEND) as fd:
        put(fd, new[PAGE:], 32_768)
    os.chmod(temporary, 0o644)
    os.rename(temporary, folder / name)
    return {name: new}


# -- repositories and databases -------------------------------------------------------------


def git(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # Git, object-file.c finalize_object_file and lockfile.c; the file plays the index
    objects = folder / "ab"
    os.mkdir(objects)
    create(objects / "tmp_obj_Kx3aQ1", new, flags=NEW_BOTH, mode=0o444)
    try:
        os.link(objects / "tmp_obj_Kx3aQ1", objects / "cdef")
    except OSError as error:
        assert error.errno in NO_LINKS  # noqa: PT017 - where there are no hard links, git renames
        os.rename(objects / "tmp_obj_Kx3aQ1", objects / "cdef")
    else:
        os.unlink(objects / "tmp_obj_Kx3aQ1")
    with opened(folder / f"{name}.lock", NEW_BOTH, 0o666) as fd:
        put(fd, new)
        os.fsync(fd)
    os.rename(folder / f"{name}.lock", folder / name)
    return {name: new, "ab/cdef": new}


def sqlite_journal(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # SQLite, "Atomic Commit In SQLite" (sqlite.org/atomiccommit.html), section 3
    journal = folder / f"{name}-journal"
    with opened(folder / name, os.O_RDWR | os.O_CREAT) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX, 512, PENDING_BYTE)
        old = os.pread(fd, 1 << 20, 0)
        with opened(journal, os.O_RDWR | os.O_CREAT) as log:
            os.pwrite(log, bytes(512), 0)
            for start in range(0, len(old), PAGE):
                os.pwrite(log, old[start : start + PAGE], 512 + start)
            os.fsync(log)
            os.pwrite(log, b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7", 0)  # it counts from now on
            os.fsync(log)
            sync_folder(folder)
            for start in range(0, len(new), PAGE):
                os.pwrite(fd, new[start : start + PAGE], start)
            os.ftruncate(fd, len(new))
            os.fsync(fd)
        os.unlink(journal)
        sync_folder(folder)
        fcntl.lockf(fd, fcntl.LOCK_UN, 512, PENDING_BYTE)
    return {name: new}


def sqlite_wal(folder: Path, name: str, new: bytes) -> dict[str, bytes]:
    # SQLite, "WAL-mode File Format", at sqlite.org/walformat.html
    wal, shm = folder / f"{name}-wal", folder / f"{name}-shm"
    with (
        opened(folder / name, os.O_RDWR | os.O_CREAT) as fd,
        opened(wal, os.O_RDWR | os.O_CREAT) as log,
        opened(shm, os.O_RDWR | os.O_CREAT) as index,
    ):
        os.ftruncate(index, SHM_SIZE)
        with mmap.mmap(index, SHM_SIZE) as mapped, mmap.mmap(index, SHM_SIZE) as other:
            pages = range(0, len(new), PAGE)
            for number, start in enumerate(pages):
                os.pwrite(log, new[start : start + PAGE], 32 + number * (PAGE + 24) + 24)
                mapped[136 + 4 * number : 140 + 4 * number] = number.to_bytes(4, "little")
                # a second process sees it at once
                assert other[136 + 4 * number] == number % 256
            os.fsync(log)
            for number, start in enumerate(pages):
                size = len(new[start : start + PAGE])
                frame = os.pread(log, size, 32 + number * (PAGE + 24) + 24)
                os.pwrite(fd, frame, start)
            os.ftruncate(fd, len(new))
            os.fsync(fd)
            os.ftruncate(log, 0)
    os.unlink(shm)
    os.unlink(wal)
    return {name: new}


DANCES: list[Dance] = [
    word,
    excel,
    libreoffice,
    libreoffice_in_place,
    vim,
    vim_copy,
    emacs,
    vscode,
    glib,
    gio,
    sed,
    rsync,
    dpkg,
    chromium,
    firefox,
    git,
    sqlite_journal,
    sqlite_wal,
]
