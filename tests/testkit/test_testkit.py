"""Every broken file is refused, by encvault and by the reader, for the reason in its name.

Each case goes through encvault in every way that a file can be opened, and through the reader that
was written from the page. Neither may release a byte that the index does not allow.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conformance import reader
from testkit import generate, writer

from encvault import errors, operations
from encvault.keyslots import KeyIdentity, PasswordIdentity, encode_password
from encvault.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers import Command, Ran

KIT = Path(__file__).parent
PAGE = KIT.parents[1] / "docs" / "format.md"
NOTHING = hashlib.sha256(b"").hexdigest()
GOOD = hashlib.sha256(b"good\n").hexdigest()  # the member that every archive begins with


@dataclass(frozen=True)
class Case:
    """An entry of the index."""

    name: str
    values: dict[str, Any]

    @property
    def path(self) -> Path:
        return KIT / str(self.values["path"])

    @property
    def error(self) -> set[str]:
        return set(self.values["error"].split())

    @property
    def exit_code(self) -> int:
        return max((getattr(errors, name).exit_code for name in self.error), default=0)

    @property
    def told(self) -> tuple[set[str], int]:
        """The errors, and a loss that is no fault by the format: all that is there opens."""
        if self.name.endswith(("hidden-parent-missing", "hidden-parent-of-folder-missing")):
            return {"FolderMissing"}, 3
        return self.error, self.exit_code

    @property
    def unpacks(self) -> bool:
        return bool(self.values.get("unpacks"))

    @property
    def password(self) -> str:
        return str(self.values.get("password", writer.PASSWORD))

    @property
    def keys(self) -> reader.Keys:
        if self.password:
            return reader.Keys(passwords=(self.password,))
        return reader.Keys(seeds=(writer.SEED,))

    @property
    def answers(self) -> operations.Answers:
        """The same keys, for encvault's operations."""
        if self.password:
            return operations.Answers(
                identities_given=(PasswordIdentity(encode_password(self.password)),)
            )
        return operations.Answers(identities_given=(KeyIdentity(Secret(writer.SEED)),))

    def options(self, folder: Path) -> list[object]:
        """The same keys, for the command line."""
        if not self.password:
            return ["--identity", KIT / "identity.json"]
        path = folder / "password"
        path.write_text(self.password)
        return ["--password-file", path]

    def released(self, data: bytes) -> bool:
        """Whether `data` is exactly what the index allows."""
        size = self.values.get("released_size", 0)
        return (len(data), digest(data)) == (size, self.values.get("released", NOTHING))


INDEX = tomllib.loads((KIT / "testkit.toml").read_text())
CASES = [Case(name, values) for name, values in INDEX.items()]


def of_kind(kind: str) -> list[Case]:
    found = [case for case in CASES if case.values["path"].startswith(kind)]
    assert found
    return found


def cases(kind: str) -> pytest.MarkDecorator:
    found = of_kind(kind)
    return pytest.mark.parametrize("case", found, ids=[case.name for case in found])


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def reported(ran: Ran) -> set[str]:
    """The errors' class names that a command with --json reports."""
    value = json.loads(ran.out)
    if "error" in value:
        return {value["error"]}
    return {problem["error"] for problem in value["problems"]}


def plain(folder: Path) -> dict[str, str]:
    """What was opened into a folder; also what should not be there, such as temporary files."""
    return {
        str(path.relative_to(folder)): digest(path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and ".encvault" not in path.parts and not path.name.endswith(".sealed")
    }


def read(case: Case, data: bytes) -> tuple[bytes, set[str]]:
    """What the reader releases of a file on its own, and what it raises."""
    released = bytearray()
    try:
        opened = reader.open_alone(data, case.keys, released.extend)
        if opened.record["type"] == "archive":
            reader.check_archive(opened.content)
    except reader.Fault as fault:
        return bytes(released), {type(fault).__name__}
    return bytes(released), set()


# -- files on their own ------------------------------------------------------------------------


def test_reader_names_the_fault_of_each_file() -> None:
    wrong = {}
    for case in of_kind("files/"):
        released, error = read(case, case.path.read_bytes())
        if error != case.error or not case.released(released):
            wrong[case.name] = error
    assert wrong == {}


@cases("files/")
def test_encvault_names_the_fault_of_a_file(case: Case, run: Command, tmp_path: Path) -> None:
    sealed = tmp_path / "case.sealed"
    shutil.copy(case.path, sealed)
    options = case.options(tmp_path)

    ran = run("verify", sealed, "--json", *options)
    in_body = (set(), 0) if case.unpacks else (case.error, case.exit_code)
    assert (reported(ran), ran.code) == in_body

    dest = tmp_path / "dest"
    ran = run("open", sealed, "--to", dest, "--json", *options)
    assert (reported(ran), ran.code) == (case.error, case.exit_code)
    if not case.error:
        expected = [GOOD] if case.unpacks else [case.values["released"]]
    else:
        expected = [GOOD] if case.error == {"SpecialFile"} else []
    assert list(plain(dest).values()) == expected if dest.exists() else not expected
    assert sealed.read_bytes() == case.path.read_bytes()


@cases("files/")
def test_encvault_releases_only_what_is_allowed(
    case: Case, run: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    in_body = set() if case.unpacks else case.error
    allowed = read(case, case.path.read_bytes())[0]
    for pieces in (
        operations.cat(str(case.path), case.answers),
        streamed(case.path.read_bytes(), case.answers),
    ):
        released = bytearray()
        error = set()
        try:
            for piece in pieces:
                released += piece
        except errors.EncvaultError as raised:
            error = {type(raised).__name__}
        assert error == in_body
        assert allowed.startswith(released)
        assert in_body or case.released(bytes(released))


def streamed(data: bytes, answers: operations.Answers) -> Iterator[memoryview | bytes]:
    """The content of a sealed file that comes through a pipe."""
    read_end, write_end = os.pipe()
    try:
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.write(write_end, data)
        os.close(write_end)
        yield from operations.open_from_stream(read_end, answers)
    finally:
        os.close(read_end)


def test_info_shows_each_file_or_names_the_fault(run: Command) -> None:
    wrong = {}
    for case in of_kind("files/"):
        ran = run("info", case.path, "--json")
        told = (reported(ran), ran.code) if ran.code and ran.out else (set(), ran.code)
        if told not in ((set(), 0), (case.error, case.exit_code)):
            wrong[case.name] = told
    assert wrong == {}


@pytest.mark.parametrize("case", list(generate.at_limits()), ids=lambda case: case.name)
def test_what_is_at_a_limit_opens(case: generate.Case, tmp_path: Path) -> None:
    assert isinstance(case.data, bytes)
    path = tmp_path / "case.sealed"
    path.write_bytes(case.data)
    known = Case(case.name, {})
    assert read(known, case.data) == (case.released, set())
    assert b"".join(operations.cat(str(path), known.answers)) == case.released


# -- vaults ------------------------------------------------------------------------------------


def lay_out(case: Case, folder: Path) -> Path:
    """The case's vault: the good one it differs from, and what differs."""
    root = folder / "vault"
    shutil.copytree(KIT / case.values["base"], root)
    if case.path.exists():
        shutil.copytree(case.path, root, dirs_exist_ok=True)
    for path in case.values.get("absent", ()):
        (root / path).unlink()
    return root


@pytest.fixture
def vault(case: Case, tmp_path: Path) -> Path:
    return lay_out(case, tmp_path)


def read_vault(case: Case, vault: Path) -> tuple[dict[str, str], set[str]]:
    """What the reader finds in a vault, and what it raises."""
    try:
        contents = reader.Vault(vault, case.keys).contents()
    except reader.Fault as fault:
        return {}, {type(fault).__name__}
    found = {
        os.fsdecode(path): digest(opened.content)
        for path, opened in contents.files.items()
        if opened.record["type"] != "dir"
    }
    return found, {type(fault).__name__ for fault in contents.faults.values()}


def test_reader_names_the_fault_of_each_vault(tmp_path: Path) -> None:
    wrong = {}
    for case in of_kind("vaults/"):
        found, error = read_vault(case, lay_out(case, tmp_path / case.name))
        if (found, error) != (case.values["opens"], case.error):
            wrong[case.name] = found, error
    assert wrong == {}


@cases("vaults/")
def test_encvault_names_the_fault_of_a_vault(
    case: Case, vault: Path, run: Command, tmp_path: Path
) -> None:
    options = case.options(tmp_path)
    ran = run("verify", vault, "--jobs", 1, "--json", *options)
    if case.error:
        assert (reported(ran), ran.code) == (case.error, case.exit_code)
    elif case.name.startswith(("vault-record-", "succession-good-outnumbered")):
        # one copy of the record is damaged, or older: the vault opens, and verify says so
        assert ran.code != 0 or "older than the other copy" in ran.err
    else:
        assert (reported(ran), ran.code) == case.told
    dest = tmp_path / "dest"
    ran = run("open", vault, "--to", dest, "--jobs", 1, "--json", *options)
    assert (reported(ran), ran.code) == case.told
    assert (plain(dest) if dest.exists() else {}) == case.values["opens"]


@cases("vaults/")
def test_encvault_leaves_what_is_broken(
    case: Case, vault: Path, run: Command, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in vault.rglob("*") if path.is_file()}
    sealed = {path for path in before if path.name.endswith(".sealed") or "objects" in path.parts}
    ran = run("open", vault, "--jobs", 1, "--json", *case.options(tmp_path))
    assert (reported(ran), ran.code) == case.told
    assert plain(vault) == case.values["opens"]
    left = {path for path in sealed if path.exists()}
    assert all(path.read_bytes() == before[path] for path in left)
    if case.error:
        assert left or not sealed


@cases("vaults/")
def test_cat_gives_nothing_but_what_opens(case: Case, vault: Path) -> None:
    names = ("a.txt", "sub/b.txt", "c.txt", "big", "c", "d", "dir", "lost+found/c.txt")
    paths = {vault / name for name in names} | set(vault.rglob("*.sealed"))
    for path in paths:
        try:
            content = b"".join(operations.cat(str(path), case.answers))
        except errors.EncvaultError:
            continue
        assert digest(content) in case.values["opens"].values()


# -- identities --------------------------------------------------------------------------------


def test_reader_names_the_fault_of_each_identity() -> None:
    wrong = {}
    for case in of_kind("identities/"):
        error = set()
        try:
            assert reader.identity_seed(case.path.read_bytes(), case.password) == writer.SEED
        except reader.Fault as fault:
            error = {type(fault).__name__}
        if error != case.error:
            wrong[case.name] = error
    assert wrong == {}


@cases("identities/")
def test_encvault_names_the_fault_of_an_identity(case: Case, run: Command, tmp_path: Path) -> None:
    sealed = KIT / "files" / "good-recipient.sealed"
    dest = tmp_path / "dest"
    options = ["--identity", case.path, *case.options(tmp_path)]
    ran = run("open", sealed, "--to", dest, "--json", *options)
    assert (reported(ran), ran.code) == (case.error, case.exit_code)
    found = list(plain(dest).values()) if dest.exists() else []
    assert found == ([] if case.error else [digest(generate.ALPHA)])


# -- the kit itself ----------------------------------------------------------------------------


def test_kit_is_what_the_generator_makes() -> None:
    made = generate.files()
    kept = {
        str(path.relative_to(KIT)): path.read_bytes()
        for folder in ("files", "vaults", "identities")
        for path in (KIT / folder).rglob("*")
        if path.is_file()
    }
    for name in ("identity.json", "password.txt", "testkit.toml"):
        kept[name] = (KIT / name).read_bytes()
    assert sorted(kept) == sorted(made)
    assert [name for name in made if made[name] != kept[name]] == []


def test_every_error_of_the_page_is_in_the_kit() -> None:
    table = PAGE.read_text().partition("## 10.")[2]
    named = {
        name
        for row in re.findall(r"^\|.*\|(.*)\|$", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert len(named) > 15
    assert named <= set().union(*(case.error for case in CASES))
    assert set().union(*(case.error for case in CASES)) <= named


def test_the_kit_is_small() -> None:
    assert (
        sum(
            path.stat().st_size
            for path in KIT.rglob("*")
            if path.suffix != ".pyc" and path.is_file()
        )
        < 2_300_000
    )
