"""What is done under fault, and the one invariant that must hold whatever happens.

A `Scene` is a command in a small world: a folder with a few files, one of them large, an empty
one, a link and nested folders. `violations` is the invariant, the same line for every scene:

*at any moment, and after running the same command again, each file exists as its original bytes,
or as an authentic sealed file that opens to its original bytes, or as both; no file exists with
other bytes; no temporary file stays after the second run; the second run finishes the work.*
"""

from __future__ import annotations

import io
import os
import random
import re
import shutil
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from helpers import SEED, keys, seal, unseal

from encvault import operations
from encvault.crypto import hpke
from encvault.errors import Conflict, EncvaultError
from encvault.fs import durable
from encvault.keyslots import IdentityFile, encode_recipient, now_text
from encvault.secret import Secret
from encvault.vault.catalog import read_catalog
from encvault.vault.layout import SUFFIX, object_path, plain_name
from encvault.vault.manifest import FOLDER, RECORD_FILES
from encvault.vault.report import Report
from encvault.vault.sealed import Buffers, SealedReader
from encvault.vault.single import SlotKeyring
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from encvault.envelope import Record
    from encvault.vault.report import Observer
    from encvault.vault.sealed import Keyring

BIG_SIZE = 1_100_000  # above the 512 KiB piece, and two parts of the hidden layout
PART_SIZE = 600_000  # what the fixtures set, so that a part is a matter of kilobytes
BATCH_FILES = 3  # likewise, so that a small tree is several batches

STATE = "state"


@dataclass(frozen=True)
class Item:
    """A file's bytes, or a link's target."""

    kind: Literal["file", "symlink"]
    content: bytes = field(repr=False)


Items = dict[str, Item]


def _bytes(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


ORIGINALS: Items = {
    "a.txt": Item("file", b"the first file\n" * 40),
    "big.bin": Item("file", _bytes(BIG_SIZE, 1)),
    "empty": Item("file", b""),
    "src/deep/main.py": Item("file", b"print('deep')\n" * 2000),
    "src/link": Item("symlink", b"../nowhere/at all"),
    "src/run.sh": Item("file", b"#!/bin/sh\n"),
    "z.txt": Item("file", _bytes(5000, 2)),
}
EDITED: Items = ORIGINALS | {
    "a.txt": Item("file", b"the first file, edited\n" * 30),
    "big.bin": Item("file", _bytes(BIG_SIZE - 7, 3)),
}
UPDATED: Items = {name: item for name, item in EDITED.items() if name != "z.txt"} | {
    "src/new": Item("file", b"new")
}
LETTER: Items = {"letter.txt": Item("file", _bytes(3000, 4))}
LARGE_LETTER: Items = {"letter.txt": Item("file", _bytes(700_000, 5))}


def write(root: Path, items: Items) -> None:
    """Make exactly these files below `root`, old enough to be settled."""
    root.mkdir(exist_ok=True)
    for path in list(root.iterdir()):
        if path.name != FOLDER and not path.name.endswith(SUFFIX):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for number, (name, item) in enumerate(items.items()):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if item.kind == "symlink":
            path.symlink_to(os.fsdecode(item.content))
        else:
            path.write_bytes(item.content)
        # the size tells the versions apart as well: edited files must not look unchanged
        when = 1_600_000_000_123_456_789 + number + len(item.content)
        os.utime(path, ns=(when, when), follow_symlinks=False)


# -- scenes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Goal:
    """What a finished command has made.

    Attributes:
        items: the files.
        plain, sealed: the folders that hold all of them, and no other may hold any.
        vault: a folder that is a vault, with both copies of its record.
    """

    items: Items
    plain: tuple[str, ...] = ()
    sealed: tuple[str, ...] = ()
    vault: str | None = None


@dataclass(frozen=True)
class Scene:
    """A command and the world it works in.

    Attributes:
        name: for test ids.
        prepare: makes the world in an empty folder.
        command: runs the command in that folder, with an observer and a number of workers; run
            again, it finishes the work.
        goal: of a finished run.
        kept: folders that the command must leave as they are.
        older: earlier versions that a sealed copy may still hold.
        forced: the command with --force, for where a ledger is lost and a question is asked.
    """

    name: str
    prepare: Callable[[Path], None]
    command: Callable[..., Report]
    goal: Goal
    kept: tuple[str, ...] = ()
    older: Items = field(default_factory=dict)
    forced: Callable[[Path, Observer | None], Report] | None = None

    def __repr__(self) -> str:
        return self.name

    @property
    def hidden(self) -> bool:
        """Whether the vault hides its names."""
        return "hidden" in self.name


def _state(top: Path) -> str:
    return str(top / STATE / "encvault")  # where the command line has it, see `arguments`


def _seal_in_place(*, hidden: bool) -> Scene:
    def run(top: Path, observer: Observer | None, jobs: int = 1, *, force: bool = False) -> Report:
        return seal(
            top / "docs", observer, hide_names=hidden, jobs=jobs, state_dir=_state(top), force=force
        )

    return Scene(
        name=f"seal-{_layout(hidden=hidden)}",
        prepare=lambda top: write(top / "docs", ORIGINALS),
        command=run,
        goal=Goal(ORIGINALS, sealed=("docs",), vault="docs"),
        forced=lambda top, observer: run(top, observer, force=True),
    )


def _seal_edited(*, hidden: bool) -> Scene:
    """Sealed with --keep, then edited, then sealed: the new version takes the old one's place."""

    def prepare(top: Path) -> None:
        write(top / "docs", ORIGINALS)
        seal(top / "docs", hide_names=hidden, keep=True, jobs=1, state_dir=_state(top))
        write(top / "docs", EDITED)

    in_place = _seal_in_place(hidden=hidden)
    return Scene(
        name=f"seal-edited-{_layout(hidden=hidden)}",
        prepare=prepare,
        command=in_place.command,
        goal=Goal(EDITED, sealed=("docs",), vault="docs"),
        older=ORIGINALS,
        forced=in_place.forced,
    )


def _mirror(*, hidden: bool) -> Scene:
    def run(top: Path, observer: Observer | None, jobs: int = 1) -> Report:
        return seal(
            top / "docs",
            observer,
            to=str(top / "mirror"),
            hide_names=hidden,
            delete=True,
            jobs=jobs,
            state_dir=_state(top),
        )

    return Scene(
        name=f"mirror-{_layout(hidden=hidden)}",
        prepare=lambda top: write(top / "docs", ORIGINALS),
        command=run,
        goal=Goal(ORIGINALS, plain=("docs",), sealed=("mirror",), vault="mirror"),
        kept=("docs",),
    )


def _mirror_update(*, hidden: bool) -> Scene:
    first = _mirror(hidden=hidden)

    def prepare(top: Path) -> None:
        first.prepare(top)
        first.command(top, None)
        write(top / "docs", UPDATED)

    return Scene(
        name=f"mirror-update-{_layout(hidden=hidden)}",
        prepare=prepare,
        command=first.command,
        goal=Goal(UPDATED, plain=("docs",), sealed=("mirror",), vault="mirror"),
        kept=("docs",),
        older=ORIGINALS,
    )


def _sealed_world(top: Path, *, hidden: bool) -> None:
    write(top / "docs", ORIGINALS)
    seal(top / "docs", hide_names=hidden, jobs=1)


def _open_in_place(*, hidden: bool) -> Scene:
    return Scene(
        name=f"open-{_layout(hidden=hidden)}",
        prepare=lambda top: _sealed_world(top, hidden=hidden),
        command=lambda top, observer, jobs=1: unseal(
            top / "docs", observer, jobs=jobs, state_dir=_state(top)
        ),
        goal=Goal(ORIGINALS, plain=("docs",), vault="docs"),
    )


def _open_elsewhere(*, hidden: bool) -> Scene:
    return Scene(
        name=f"open-to-{_layout(hidden=hidden)}",
        prepare=lambda top: _sealed_world(top, hidden=hidden),
        command=lambda top, observer, jobs=1: unseal(
            top / "docs", observer, to=str(top / "out"), jobs=jobs, state_dir=_state(top)
        ),
        goal=Goal(ORIGINALS, plain=("out",), sealed=("docs",), vault="docs"),
        kept=("docs",),
    )


def _init(*, hidden: bool) -> Scene:
    def run(top: Path, _observer: Observer | None, _jobs: int = 1) -> Report:
        operations.init_vault(str(top / "docs"), keys(), hide_names=hidden)
        return Report()

    return Scene(
        name=f"init-{_layout(hidden=hidden)}",
        prepare=lambda top: write(top / "docs", LETTER),
        command=run,
        goal=Goal(LETTER, plain=("docs",), vault="docs"),
        kept=("docs",),
    )


def _seal_one(name: str, items: Items) -> Scene:
    return Scene(
        name=f"seal-one-{name}",
        prepare=lambda top: write(top / "alone", items),
        command=lambda top, observer, _jobs=1: seal(top / "alone" / "letter.txt", observer),
        goal=Goal(items, sealed=("alone",)),
        forced=lambda top, observer: seal(top / "alone" / "letter.txt", observer, force=True),
    )


def _open_one(name: str, items: Items) -> Scene:
    def prepare(top: Path) -> None:
        write(top / "alone", items)
        seal(top / "alone" / "letter.txt")

    return Scene(
        name=f"open-one-{name}",
        prepare=prepare,
        command=lambda top, observer, _jobs=1: unseal(
            top / "alone" / "letter.txt.sealed", observer
        ),
        goal=Goal(items, plain=("alone",)),
    )


def _seal_archive() -> Scene:
    def prepare(top: Path) -> None:
        write(top / "docs", ORIGINALS)
        (top / "kept").mkdir()

    return Scene(
        name="archive",
        prepare=prepare,
        command=lambda top, observer, jobs=1: seal(
            top / "docs", observer, archive=str(top / "kept" / "docs.sealed"), jobs=jobs
        ),
        goal=Goal(ORIGINALS, plain=("docs",), sealed=("kept",)),
        kept=("docs",),
    )


def _extract() -> Scene:
    archive = _seal_archive()

    def prepare(top: Path) -> None:
        archive.prepare(top)
        archive.command(top, None)
        shutil.rmtree(top / "docs")

    return Scene(
        name="extract",
        prepare=prepare,
        command=lambda top, observer, _jobs=1: unseal(
            top / "kept" / "docs.sealed", observer, to=str(top / "out")
        ),
        goal=Goal(ORIGINALS, plain=("out",), sealed=("kept",)),
        kept=("kept",),
    )


def _layout(*, hidden: bool) -> str:
    return "hidden" if hidden else "visible"


_VAULT_SCENES = [
    make(hidden=hidden)
    for make in (
        _seal_in_place,
        _seal_edited,
        _mirror,
        _mirror_update,
        _open_in_place,
        _open_elsewhere,
        _init,
    )
    for hidden in (False, True)
]
SCENES = {
    scene.name: scene
    for scene in (
        *_VAULT_SCENES,
        _seal_one("small", LETTER),
        _seal_one("large", LARGE_LETTER),
        _open_one("small", LETTER),
        _open_one("large", LARGE_LETTER),
        _seal_archive(),
        _extract(),
    )
}


def arguments(scene: Scene, top: Path, jobs: int = 1) -> list[str]:
    """The scene's command as a user would type it; `write_identity` has made the key."""
    docs = str(top / "docs")
    sealing = ["-r", RECIPIENT_LINE, "--yes"]
    opening = ["-i", str(top.parent / IDENTITY)]
    many = ["--jobs", str(jobs)]
    hide = ["--hide-names"] if scene.hidden else []
    seal_tree = ["seal", docs, *sealing, *many, *hide]
    open_tree = ["open", docs, *opening, *many]
    mirror = [*seal_tree, "--to", str(top / "mirror"), "--delete"]
    archive, letter, out = top / "kept" / "docs.sealed", top / "alone" / "letter.txt", top / "out"
    return {
        "seal": seal_tree,
        "seal-edited": seal_tree,
        "mirror": mirror,
        "mirror-update": mirror,
        "open": open_tree,
        "open-to": [*open_tree, "--to", str(out)],
        "init": ["init", docs, *sealing, *hide],
        "seal-one": ["seal", str(letter), *sealing],
        "open-one": ["open", f"{letter}.sealed", *opening],
        "archive": ["seal", docs, "--archive", str(archive), *sealing, *many],
        "extract": ["open", str(archive), "--to", str(out), *opening],
    }[scene.name if scene.name in SCENES_WITHOUT_VARIANT else scene.name.rsplit("-", 1)[0]]


SCENES_WITHOUT_VARIANT = ("archive", "extract")
RECIPIENT_LINE = encode_recipient(hpke.public_key(SEED))
IDENTITY = "identity"


def write_identity(base: Path) -> None:
    """The private key that the command line opens with."""
    identity = IdentityFile("test", hpke.public_key(SEED), now_text(), seed=Secret(SEED))
    (base / IDENTITY).write_bytes(identity.encode())


# -- the world ------------------------------------------------------------------------------


class World:
    """The folder a scene happens in, always at the same path, for the ledger knows paths.

    Args:
        base: an empty folder, best in memory.
    """

    def __init__(self, base: Path) -> None:
        self.top = base / "world"
        self._templates = base / "templates"
        self._templates.mkdir()
        write_identity(base)

    def reset(self, scene: Scene) -> Path:
        """The world before the scene's command; made once, copied after that."""
        self.clear()
        template = self._templates / scene.name
        if not template.exists():
            scene.prepare(self.top)
            # a copy must have the times of the original, so the original becomes a copy as well
            self.top.rename(template)
        shutil.copytree(template, self.top, symlinks=True, dirs_exist_ok=True)
        return self.top

    def clear(self) -> Path:
        """An empty world."""
        shutil.rmtree(self.top, ignore_errors=True)
        self.top.mkdir()
        return self.top


@dataclass
class Survey:
    """Every copy of every file in a world.

    Attributes:
        plain, sealed: contents found, by top folder and path in it.
        damaged: sealed files under their final names that do not open, and why.
        temporary: temporary files.
        stray: objects of a hidden vault that nothing needs: superseded ones and lone parts.
        records: how many of the two vault records are good, by folder.
    """

    plain: dict[tuple[str, str], Item] = field(default_factory=dict)
    sealed: dict[tuple[str, str], list[Item]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    temporary: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    records: dict[str, int] = field(default_factory=dict)

    def add_sealed(self, root: str, path: str, item: Item) -> None:
        """Note one copy; a path may have several."""
        self.sealed.setdefault((root, path), []).append(item)

    def sealed_in(self, root: str) -> dict[str, list[Item]]:
        """The sealed copies in one top folder."""
        return {path: found for (where, path), found in self.sealed.items() if where == root}

    def plain_in(self, root: str) -> Items:
        """The plain copies in one top folder."""
        return {path: item for (where, path), item in self.plain.items() if where == root}


_BUFFERS = Buffers()  # two megabytes, not to be made anew for each of many thousand files


def survey(top: Path) -> Survey:
    """Look at everything with eyes of our own; only the opening of one sealed file is theirs."""
    found = Survey()
    for root in sorted(path for path in top.iterdir() if path.name != STATE):
        _survey_root(root, found)
    return found


def _survey_root(root: Path, found: Survey) -> None:
    present = sum((root / name).exists() for name in RECORD_FILES)
    if not present:
        _survey_files(root, SlotKeyring(keys().identities_given), found)
        return
    found.records[root.name] = present
    try:
        vault = Vault.load(str(root))
    except EncvaultError as error:
        found.damaged.append(f"{root.name}: {error}")
        _survey_files(root, SlotKeyring(keys().identities_given), found)
        return
    with vault:
        vault.unlock(keys().identities_given)
        _survey_files(root, vault, found)
        if vault.hidden:
            _survey_objects(root, vault, found)


def _survey_files(root: Path, keyring: Keyring, found: Survey) -> None:
    objects = root / FOLDER / "objects"
    for path in _walk(root):
        name = str(path.relative_to(root))
        if durable.is_temporary(path.name) or any(
            durable.is_temporary(part) for part in Path(name).parts
        ):
            found.temporary.append(f"{root.name}/{name}")
        elif path.is_relative_to(root / FOLDER):
            if objects in path.parents and not (root / RECORD_FILES[0]).exists():
                found.damaged.append(f"{root.name}/{name}: an object without a vault")
        elif path.name.endswith(SUFFIX):
            try:
                record, content = _open_sealed(path, keyring)
            except (EncvaultError, OSError) as error:
                found.damaged.append(f"{root.name}/{name}: {error}")
                continue
            if record.type == "archive":
                for inner, item in _members(content):
                    found.add_sealed(root.name, inner, item)
            else:
                kind: Literal["file", "symlink"] = "symlink" if record.type == "symlink" else "file"
                found.add_sealed(root.name, plain_name(name), Item(kind, content))
        else:
            found.plain[root.name, name] = read_item(path)


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            yield Path(folder, name)
        for name in folders:
            if Path(folder, name).is_symlink():
                yield Path(folder, name)


def read_item(path: Path) -> Item:
    """A plain file or link."""
    if stat.S_ISLNK(path.lstat().st_mode):
        return Item("symlink", os.readlink(os.fsencode(path)))
    return Item("file", path.read_bytes())


def _open_sealed(path: Path, keyring: Keyring) -> tuple[Record, bytes]:
    with path.open("rb", buffering=0) as file:
        reader = SealedReader(file.fileno(), str(path), _BUFFERS)
        record, pieces = reader.open(keyring)
        return record, b"".join(map(bytes, pieces))


def _members(content: bytes) -> Iterator[tuple[str, Item]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            if member.issym():
                yield member.name, Item("symlink", os.fsencode(member.linkname))
            elif member.isreg():
                file = tar.extractfile(member)
                assert file is not None
                yield member.name, Item("file", file.read())


def _survey_objects(root: Path, vault: Vault, found: Survey) -> None:
    catalog = read_catalog(vault, jobs=1)
    # what others miss is counted below: a stray object, and a file in another place
    found.damaged += [f"{root.name}: {error}" for error in catalog.unread]
    needed = set()
    superseded = {item.file for item in catalog.superseded}
    for item in (*catalog.files.values(), *catalog.superseded):
        if item.record.type == "dir":
            continue
        parts = [item.file, *item.record.parts]
        if item.file not in superseded:
            needed.update(parts)
        try:
            opened = [_open_sealed(root / object_path(part), vault) for part in parts]
        except (EncvaultError, OSError) as error:
            found.damaged.append(f"{root.name}/{item.path}: {error}")
            continue
        for index, (record, _content) in enumerate(opened[1:], start=1):
            if record.part_of != (item.file, index):
                found.damaged.append(f"{root.name}/{item.path}: part {index} is another's")
        content = b"".join(content for _record, content in opened)
        kind: Literal["file", "symlink"] = "symlink" if item.record.type == "symlink" else "file"
        found.add_sealed(root.name, item.path, Item(kind, content))
    found.stray += sorted(superseded | (catalog.parts.keys() - needed))


# -- the invariant --------------------------------------------------------------------------


def violations(
    top: Path,
    scene: Scene,
    *,
    finished: bool = False,
    ledger_lost: bool = False,
    power_cut: bool = False,
) -> list[str]:
    """Everything in a world that breaks the invariant; empty if nothing is lost.

    Args:
        top: the world.
        scene: what was done there.
        finished: whether the command was run again, and must have finished its work.
        ledger_lost: whether the local state was lost between. Then a sealed copy whose origin
            nobody knows any more may stay beside the new one.
        power_cut: whether the lock's content may be lost, which tells the next run to look for
            temporary files among the vault's own. Those are sealed: nothing plain stays.
    """
    found = survey(top)
    wrong = [f"damaged: {text}" for text in found.damaged]
    wrong += _wrong_copies(found, scene, ledger_lost=ledger_lost)
    wrong += _touched(found, scene)
    if finished:
        if power_cut:
            found.temporary = [name for name in found.temporary if f"/{FOLDER}/" not in name]
        wrong += _unfinished(found, scene, ledger_lost=ledger_lost)
    return wrong


def _wrong_copies(found: Survey, scene: Scene, *, ledger_lost: bool) -> list[str]:
    """Files that are nowhere, and copies that are nobody's."""
    goal = scene.goal
    copies: dict[str, list[Item]] = {}
    for (_root, path), item in found.plain.items():
        copies.setdefault(path, []).append(item)
    for (_root, path), items in found.sealed.items():
        copies.setdefault(path, []).extend(items)
    wrong = [
        f"lost: {path}" for path, item in goal.items.items() if item not in copies.get(path, ())
    ]
    for path, items in copies.items():
        allowed = [kind[path] for kind in (goal.items, scene.older) if path in kind]
        if ledger_lost and path.startswith("lost+found/"):
            # its folder's object was not durable yet, the file itself was
            allowed = [*goal.items.values(), *scene.older.values()]
        wrong += [f"other bytes: {path}" for item in items if item not in allowed]
    return wrong + [
        f"not the original: {root}/{path}"
        for (root, path), item in found.plain.items()
        if item != goal.items.get(path)
    ]


def _touched(found: Survey, scene: Scene) -> list[str]:
    """What the command must leave, or may only replace, and did not."""
    goal, wrong = scene.goal, []
    for root in scene.kept:
        if root in goal.plain and found.plain_in(root) != goal.items:
            wrong.append(f"changed, though only read: {root}")
        if root in goal.sealed and found.sealed_in(root).keys() != goal.items.keys():
            wrong.append(f"sealed files missing, though only read: {root}")
    if scene.name.startswith("mirror-update"):
        stay = scene.older.keys() & goal.items.keys()
        wrong += [
            f"gone from the mirror: {path}" for path in stay - found.sealed_in("mirror").keys()
        ]
    return wrong


def _unfinished(found: Survey, scene: Scene, *, ledger_lost: bool) -> list[str]:
    goal = scene.goal
    wrong = [f"temporary file stayed: {name}" for name in found.temporary]
    if not ledger_lost:
        wrong += [f"stray object: {name}" for name in found.stray]
    roots = {root for root, _path in (*found.plain, *found.sealed)} | {*goal.plain, *goal.sealed}
    for root in sorted(roots):
        plain = goal.items if root in goal.plain else {}
        if found.plain_in(root) != plain:
            names = sorted(set(found.plain_in(root)) ^ set(plain)) or sorted(plain)
            wrong.append(f"plain files not as they must be: {root}: {names}")
        sealed = found.sealed_in(root)
        wanted = goal.items if root in goal.sealed else {}
        if ledger_lost and scene.hidden and root in goal.sealed:
            # what is superseded, or gone from the source, is known to the lost ledger alone
            sealed = {path: items for path, items in sealed.items() if path in wanted}
        if sealed.keys() != wanted.keys():
            wrong.append(f"sealed files not as they must be: {root}: {sorted(sealed)}")
        for path, items in sealed.items():
            if path in wanted and (
                wanted[path] not in items or (len(items) > 1 and not ledger_lost)
            ):
                wrong.append(f"sealed in an old version, or twice: {root}/{path}")
    if goal.vault is not None and found.records.get(goal.vault) != len(RECORD_FILES):
        wrong.append(f"the vault's record is not there twice: {found.records}")
    return wrong


def run_again(
    top: Path, scene: Scene, *, ledger_lost: bool = False, power_cut: bool = False
) -> list[str]:
    """Run the scene's command again; everything that is not as it must be afterwards.

    An error is no failure in itself: "exists already" is right if everything exists.
    """
    try:
        report = scene.command(top, None)
        told = [repr(problem) for problem in report.problems]
        asked = {type(problem) for problem in report.problems} == {Conflict}
    except EncvaultError as error:
        told, asked = [repr(error)], False
    if asked and ledger_lost and scene.forced is not None:
        # both copies stayed and the user was asked; the answer finishes the work
        if wrong := violations(top, scene, ledger_lost=True):
            return [*wrong, *told]
        scene.forced(top, None)
    wrong = violations(top, scene, finished=True, ledger_lost=ledger_lost, power_cut=power_cut)
    return [*wrong, *told] if wrong else []


def summary(failures: list[tuple[str, list[str]]]) -> str:
    """Failures for people: those of one kind once, with the first occasion and their number."""
    kinds: dict[str, list[str]] = {}
    for occasion, wrong in failures:
        text = "; ".join(wrong)
        kind = re.sub(r"/\S*/world/", "", _ID.sub("ID", text))
        kinds.setdefault(kind, []).append(occasion)
    lines = [f"{len(found)} times, first {found[0]}: {kind}" for kind, found in kinds.items()]
    return "\n".join([f"{len(failures)} occasions:", *lines[:12]])


_ID = re.compile(r"\b[a-z2-7]{26}\b|objects/[a-z2-7]{2}\b")
