"""The thin layer between libfuse 3 and a view: C structures in, verbs out, errors as errnos.

The only module that imports mfusepy, and when it does anything at all. mfusepy gives the C
structures of the libfuse that is loaded, whose layout differs between versions. Its class FUSE is
not used: between libfuse and a view there should be as few Python calls as possible, since each
`stat` of a program is one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from encvault.errors import EncvaultError, FuseUnavailable, MountFailed, OutOfSpace
from encvault.i18n import _
from encvault.mount.callbacks import Callbacks, encoded
from encvault.mount.loop import Loop
from encvault.mount.table import SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from encvault.mount.verbs import FileSystem

LIBRARIES = ("libfuse3.so.4", "libfuse3.so.3")  # 3.17 and newer, older
INSTALL_LIBRARY = "sudo apt install fuse3"
INSTALL_PACKAGE = "pip install 'encvault[mount]'"

SUBTYPE = "encvault"

_ERRNOS = {
    65: errno.EIO,
    66: errno.ENOENT,
    75: errno.EBUSY,
    77: errno.EACCES,
    78: errno.EACCES,
}


def load() -> ModuleType:
    """mfusepy, with libfuse 3.

    Raises:
        FuseUnavailable: one of the two is missing.
    """
    if sys.platform != "linux":
        raise FuseUnavailable(reason=_("this works on Linux only"), fix="encvault open")
    library = next(filter(_loads, LIBRARIES), None)
    if library is None:
        reason = _("the library libfuse3 is missing")
        raise FuseUnavailable(reason=reason, fix=INSTALL_LIBRARY)
    try:
        module = _import(library)
    except ImportError:
        reason = _("the package {name} is missing").format(name="mfusepy")
        raise FuseUnavailable(reason=reason, fix=INSTALL_PACKAGE) from None
    except (OSError, AttributeError) as error:
        raise FuseUnavailable(reason=str(error), fix=INSTALL_LIBRARY) from None
    if module.fuse_version_major != 3:  # noqa: PLR2004 - a program loaded it before us, its own way
        reason = _("mfusepy was loaded with libfuse 2 before")
        raise FuseUnavailable(reason=reason, fix="export FUSE_LIBRARY_NAME=fuse3")
    return module


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _import(library: str) -> ModuleType:
    """Import mfusepy; it prefers libfuse 2 unless a variable names the library."""
    variable = "FUSE_LIBRARY_PATH"
    before = os.environ.get(variable)
    os.environ[variable] = library
    try:
        import mfusepy  # noqa: PLC0415 - the rest of encvault works without it
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
    return mfusepy  # type: ignore[no-any-return]  # it has no types


def serve(
    view: FileSystem,
    mountpoint: str,
    *,
    source: str,
    allow_other: bool,
    ready: Callable[[Callable[[], None]], None],
    failed: Callable[[BaseException], None],
) -> None:
    """Show a view at a folder until it is unmounted; signals that end a process unmount it.

    It must be called in the main thread, and what should end it (SIGINT, SIGTERM, SIGHUP) have
    its default action. They are ignored on return, since the view is to be closed then.

    Args:
        view: what is shown.
        mountpoint: an empty folder, absolute.
        source: what mount tables show as the device: the vault's folder.
        allow_other: whether other users may enter.
        ready: is called once it is mounted, with a function that ends the serving from another
            thread, whoever has files open.
        failed: is told of errors that are bugs; programs see an input/output error.

    Raises:
        FuseUnavailable: see `load`.
        MountFailed: libfuse or the kernel refused.
        BaseException: as `ready` raised it.
    """
    fuse = load()
    said = _Said()
    is_mounted = False
    failures: list[BaseException] = []
    loop = Loop(fuse._libfuse._name)  # noqa: SLF001 - as it was found

    def mounted() -> None:
        nonlocal is_mounted
        is_mounted = True
        said.stop()
        try:
            ready(loop.stop)
        except BaseException as error:  # noqa: BLE001 - libfuse is between here and who is told
            failures.append(error)
            loop.stop()

    operations, kept = _operations(fuse, view, mounted, failed)
    options = ["default_permissions", f"fsname={SOURCE}{_escaped(source)}", f"subtype={SUBTYPE}"]
    if view.is_read_only:
        options.append("ro")
    if allow_other:
        options.append("allow_other")
    try:
        loop.serve(encoded(",".join(options)), encoded(mountpoint), operations)
    except RuntimeError as error:  # there is not even one thread
        raise MountFailed(path=mountpoint, reason=str(error)) from None
    finally:
        text = said.stop()
        del kept
    if failures:
        if isinstance(failures[0], RuntimeError):  # no thread was to be had
            raise MountFailed(path=mountpoint, reason=str(failures[0]))
        raise failures[0]
    if not is_mounted:
        reason = text or _("libfuse gives no reason")
        raise MountFailed(path=mountpoint, reason=reason)


class _Said:
    """Catches what libfuse and fusermount3 write to stderr, since they have no other words."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - `stop` closes it
        self._stderr = os.dup(2)
        os.dup2(self._file.fileno(), 2)
        self._text = ""

    def stop(self) -> str:
        """Put stderr back; what was written."""
        if not self._file.closed:
            os.dup2(self._stderr, 2)
            os.close(self._stderr)
            self._file.seek(0)
            lines = self._file.read().decode(errors="replace").splitlines()
            self._text = "; ".join(filter(None, map(str.strip, lines)))
            self._file.close()
        return self._text


def _escaped(text: str) -> str:
    """`text` as the value of a mount option."""
    return text.replace("\\", "\\\\").replace(",", "\\,")


def errno_of(error: Exception) -> int:
    """What a program is told of an error."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    if isinstance(error, OutOfSpace):
        return errno.ENOSPC
    if isinstance(error, EncvaultError):
        return _ERRNOS.get(error.exit_code, errno.EIO)
    return errno.EIO


def _operations(
    fuse: ModuleType,
    view: FileSystem,
    mounted: Callable[[], None],
    failed: Callable[[BaseException], None],
) -> tuple[Any, list[Any]]:
    """The table of callbacks, and what must live as long as it."""
    callbacks = Callbacks(view, fuse.c_stat, fuse._libfuse.fuse_get_context, mounted)  # noqa: SLF001 - mfusepy's own makes a pid no cheaper
    table = fuse.fuse_operations()
    kept = []
    for name, kind in fuse.fuse_operations._fields_:
        function = getattr(callbacks, f"on_{name}", None)
        if function is not None:
            callback = kind(_guarded(function, failed))
            setattr(table, name, callback)
            kept.append(callback)
    return table, kept


def _guarded(
    function: Callable[..., int | None], failed: Callable[[BaseException], None]
) -> Callable[..., int]:
    """A callback that ends with a number, whatever happens."""

    def callback(*arguments: Any) -> int:
        try:
            return function(*arguments) or 0
        except (OSError, EncvaultError) as error:
            return -errno_of(error)
        except BaseException as error:  # noqa: BLE001 - the mount lives on
            with contextlib.suppress(Exception):
                failed(error)
            return -errno.EIO

    return callback
