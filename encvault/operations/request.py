"""What can be asked of `seal`, and what of it makes no sense."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from encvault.crypto.suite import Suite
from encvault.errors import InvalidRequest
from encvault.fs.tree import join
from encvault.i18n import _, ngettext
from encvault.vault.selection import SealOptions
from encvault.vault.vault import find_vault

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_SUITE = Suite.AES_256_GCM


class SealRequest(NamedTuple):
    """What to seal and how; the fields are the options of ``encvault seal``.

    Attributes:
        paths: files and folders.
        to: folder for a sealed mirror; the sources stay untouched.
        archive: file for one sealed archive; the sources stay untouched.
        output: file for one sealed file.
        suite: cipher suite of new vaults and files, which one that exists must have; None for
            whatever it has.
        default_suite: of new vaults and files, where `suite` is None.
        hide_names: layout of a new vault.
        keep, force, delete, exclude, jobs: see `SealOptions`.
        leave: paths within the one folder that is sealed, which are left out.
        only: paths within the one folder that is sealed, which alone are; empty for all of it.
            One that is not there is no error.
        reads_back: see `seal_archive`, and of a mirror `SealOptions`.
        dry_run: tell the plan and do nothing.
        state_dir: local state folder, or None to remember nothing.
    """

    paths: tuple[str, ...]
    to: str | None = None
    archive: str | None = None
    output: str | None = None
    suite: Suite | None = None
    default_suite: Suite = DEFAULT_SUITE
    hide_names: bool = False
    keep: bool = False
    force: bool = False
    delete: bool = False
    exclude: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    jobs: int = 0
    reads_back: bool = False
    dry_run: bool = False
    state_dir: str | None = None

    @property
    def new_suite(self) -> Suite:
        """The cipher suite of what is new."""
        return self.suite or self.default_suite

    def options(self, inside: str = "") -> SealOptions:
        """The options of a run over a tree.

        Args:
            inside: where in the tree is what is sealed, or "".
        """
        only = tuple(join(inside, path) for path in self.only) or tuple(filter(None, [inside]))
        return SealOptions(
            keep=self.keep,
            force=self.force,
            delete=self.delete,
            exclude=self.exclude,
            own=self.leave,
            only=only,
            reads_back=self.reads_back,
            jobs=self.jobs,
        )


def all_of(paths: Sequence[str]) -> str:
    """What a password is asked for: it is the same for all that one command seals."""
    if len(paths) == 1:
        return paths[0]
    return ngettext("{count} path", "{count} paths", len(paths)).format(count=len(paths))


def check_request(request: SealRequest) -> None:
    """Refuse what makes no sense before anything is touched.

    Raises:
        InvalidRequest: options that exclude each other, or that cannot have their effect.
    """
    _refuse_idle_options(request)
    places = [request.to, request.archive, request.output]
    if sum(place is not None for place in places) > 1:
        raise InvalidRequest(reason=_("--to, --archive and --output exclude each other"))
    folders = [path for path in request.paths if os.path.isdir(path)]
    if request.output is not None and (len(request.paths) > 1 or folders):
        raise InvalidRequest(reason=_("--output takes one file; for a folder use --archive"))
    if request.to is not None and folders and len(request.paths) > 1:
        raise InvalidRequest(reason=_("--to mirrors one folder; run it once for each"))
    if request.delete and (request.to is None or not folders):
        raise InvalidRequest(reason=_("--delete belongs to --to"))
    if request.archive is not None and len(folders) != len(request.paths):
        raise InvalidRequest(reason=_("--archive takes folders; seal a file with --output"))


def _refuse_idle_options(request: SealRequest) -> None:
    """Refuse an option that cannot do what its user wants from it."""
    given = [option for option, value in _options(request) if value]
    if request.paths == ("-",):
        idle = [option for option in given if option != "--force" or request.output is None]
        reason = _("{option} has no effect on a stream; leave it out")
    elif request.archive is not None:
        idle = [option for option in given if option in ("--hide-names", "--keep")]
        reason = _("{option} has no effect on an archive; leave it out")
    elif not any(_is_of_a_folder(request, path) for path in request.paths):
        idle = [option for option in given if option in ("--hide-names", "--exclude")]
        reason = _("{option} has no effect on a single file; leave it out")
    else:
        return
    if idle:
        raise InvalidRequest(reason=reason.format(option=idle[0]))


def _options(request: SealRequest) -> list[tuple[str, object]]:
    return [
        ("--hide-names", request.hide_names),
        ("--keep", request.keep),
        ("--delete", request.delete),
        ("--exclude", request.exclude),
        ("--force", request.force),
        ("--dry-run", request.dry_run),
        ("--jobs", request.jobs),
    ]


def _is_of_a_folder(request: SealRequest, path: str) -> bool:
    """Whether a path is a folder, or a file that may be sealed as part of the vault around it."""
    elsewhere = request.to is not None or request.output is not None
    if not os.path.lexists(path):
        return True  # which is what the user must be told first
    folder = os.path.dirname(os.path.abspath(path))
    return os.path.isdir(path) or (not elsewhere and find_vault(folder) is not None)
