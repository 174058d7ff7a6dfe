"""Requests that make no sense, questions that must be asked, and vaults that do not fit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from helpers import RECIPIENT, SEED, everything, keys, seal, snapshot, unseal, write_tree

from encvault import operations
from encvault.crypto import hpke
from encvault.crypto.kdf import CHEAPEST
from encvault.crypto.suite import Suite
from encvault.errors import (
    AlreadyAVault,
    ConfirmationNeeded,
    Declined,
    DestinationExists,
    EncvaultError,
    InvalidRequest,
    KeyRequired,
    LayoutMismatch,
    NestedVault,
    NotARecipient,
    SourceMissing,
    StateUnavailable,
    SuiteMismatch,
)
from encvault.keyslots import (
    KeyIdentity,
    PasswordIdentity,
    PasswordRecipient,
    PublicKeyRecipient,
    encode_password,
)
from encvault.secret import Secret
from encvault.vault.known import KnownVaults
from encvault.vault.vault import find_vault

if TYPE_CHECKING:
    from pathlib import Path

STRANGER = PublicKeyRecipient(hpke.public_key(bytes(32)))
NO_CONSENT = operations.Answers(recipients_given=(RECIPIENT,))
NOBODY_GIVEN = operations.Answers(consent=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    write_tree(root)
    return root


def ask(path: Path | str, answers: operations.Prompter, **options: Any) -> Any:
    return operations.seal(operations.SealRequest(paths=(str(path),), **options), answers)


class Person:
    """Answers questions and remembers them."""

    def __init__(self, *, says: bool) -> None:
        self.says = says
        self.questions: list[str] = []

    def recipients(self, what: str) -> list[Any]:
        return [RECIPIENT]

    def given_recipients(self) -> list[Any]:
        return []

    def identities(self, what: str) -> list[Any]:
        return [KeyIdentity(Secret(SEED))]

    def known_vaults(self) -> KnownVaults:
        return KnownVaults()

    def access_log(self) -> None:
        return None

    def company_keys(self) -> tuple[bytes, ...]:
        return ()

    def slots_made(self) -> None:
        pass

    def has_keys(self) -> bool:
        return False

    def confirm(self, question: str) -> bool:
        self.questions.append(question)
        return self.says


# -- requests -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "options"),
    [
        (("docs",), {"to": "x", "archive": "y"}),
        (("docs",), {"to": "x", "output": "y"}),
        (("docs",), {"archive": "x", "output": "y"}),
        (("docs",), {"output": "y"}),
        (("docs/empty", "docs/sparse"), {"output": "y"}),
        (("docs", "docs/src"), {"to": "x"}),
        (("docs", "docs/empty"), {"to": "x"}),
        (("docs",), {"delete": True}),
        (("docs/empty",), {"to": "x", "delete": True}),
        (("docs/empty",), {"archive": "x"}),
        (("docs", "docs/empty"), {"archive": "x"}),
        (("docs",), {"archive": "docs/src/a.sealed"}),
        (("docs/src", "docs"), {"archive": "docs/src/a.sealed"}),
        (("docs",), {"to": "docs"}),
        (("docs",), {"to": "docs/inside"}),
        (("docs/src",), {"to": "docs"}),
        (("docs",), {"to": "."}),
        (("docs",), {"to": "x", "keep": True}),
        (("docs",), {"to": "link-to-docs/inside"}),
        (("link-to-docs/src",), {"to": "docs"}),
    ],
)
def test_a_request_that_makes_no_sense_changes_nothing(
    tree: Path, monkeypatch: pytest.MonkeyPatch, paths: tuple[str, ...], options: dict[str, Any]
) -> None:
    monkeypatch.chdir(tree.parent)
    (tree.parent / "link-to-docs").symlink_to("docs")
    before = everything(tree.parent)
    with pytest.raises(InvalidRequest) as caught:
        operations.seal(operations.SealRequest(paths=paths, **options), keys())
    assert caught.value.exit_code == 2
    assert caught.value.reason
    assert everything(tree.parent) == before


def test_one_missing_path_stops_the_request_before_it_begins(tree: Path) -> None:
    request = operations.SealRequest(paths=(str(tree / "empty"), str(tree / "missing")))
    before = everything(tree)
    with pytest.raises(SourceMissing):
        operations.seal(request, keys())
    assert everything(tree) == before


def test_a_sealed_vault_is_not_mirrored(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    with pytest.raises(InvalidRequest, match="sealed already"):
        seal(tree, to=str(tmp_path / "mirror"))
    assert not (tmp_path / "mirror").exists()


def test_a_vault_with_nothing_sealed_may_be_mirrored(tree: Path, tmp_path: Path) -> None:
    operations.init_vault(str(tree), keys())
    assert seal(tree, to=str(tmp_path / "mirror")).files == 8
    assert (tree / "empty").exists()


def test_the_vaults_own_folder_is_not_sealed(tree: Path) -> None:
    seal(tree)
    before = everything(tree)
    for path in (tree / ".encvault", tree / ".encvault" / "keys"):
        with pytest.raises(InvalidRequest, match="belongs to the vault itself"):
            seal(path)
    assert everything(tree) == before


def test_several_files_are_sealed_and_a_bad_one_stops_none(tree: Path, tmp_path: Path) -> None:
    os.mkfifo(tree / "fifo")
    (tree / "sparse.sealed").write_text("precious")
    paths = [str(tree / name) for name in ("empty", "fifo", "sparse", "src/run.sh")]
    report = operations.seal(operations.SealRequest(paths=tuple(paths)), keys())
    assert report.files == 2
    assert {type(problem).__name__ for problem in report.problems} == {
        "SpecialFile",
        "DestinationExists",
    }
    assert (tree / "empty.sealed").exists()
    assert (tree / "src" / "run.sh.sealed").exists()
    assert (tree / "sparse.sealed").read_text() == "precious"
    with pytest.raises(DestinationExists):
        seal(tree / "sparse")


def test_files_are_sealed_to_another_folder_and_stay(tree: Path, tmp_path: Path) -> None:
    before = everything(tree)
    paths = (str(tree / "empty"), str(tree / ("n" * 255)))
    request = operations.SealRequest(paths=paths, to=str(tmp_path / "new" / "deep"))
    assert operations.seal(request, keys()).files == 2
    assert everything(tree) == before
    for sealed in (tmp_path / "new" / "deep").iterdir():
        unseal(sealed)
    assert sorted(path.name for path in (tmp_path / "new" / "deep").iterdir()) == [
        "empty",
        "n" * 255,
    ]


# -- questions ------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["/", "/usr", "/etc/ssl", "/home", "/var/lib", "/run/user"])
def test_folders_that_the_machine_needs_are_asked_about(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_arguments: object, **_options: object) -> None:
        raise AssertionError("sealing: went on without consent")

    monkeypatch.setattr("encvault.operations.sealing.Vault.create", never)
    monkeypatch.setattr("encvault.operations.sealing.Vault.load", never)
    if not os.path.isdir(where):
        pytest.skip(f"{where} is not there")
    with pytest.raises(ConfirmationNeeded):
        ask(where, NO_CONSENT)
    person = Person(says=False)
    with pytest.raises(Declined):
        ask(where, person)
    assert len(person.questions) == 1
    assert os.path.realpath(where) in person.questions[0]


@pytest.mark.parametrize("where", ["home", ".", "home/../home"])
def test_the_home_folder_and_what_holds_it_are_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".profile").write_text("x")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = everything(tmp_path)
    path = f"{tmp_path}/{where}"
    with pytest.raises(ConfirmationNeeded) as caught:
        ask(path, NO_CONSENT)
    assert caught.value.exit_code == 2
    with pytest.raises(Declined):
        ask(path, Person(says=False))
    assert everything(tmp_path) == before
    person = Person(says=True)
    assert ask(path, person).problems == []
    assert len(person.questions) == 1
    assert (tmp_path / "home" / ".profile.sealed").exists()


def test_an_ordinary_folder_is_sealed_without_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("home", "homestead"):
        (tmp_path / name / "docs").mkdir(parents=True)
    for path in ("home/docs", "homestead"):
        person = Person(says=False)
        ask(tmp_path / path, person)
        assert person.questions == []
        assert find_vault(str(tmp_path / path)) == str(tmp_path / path)
    # once it is a vault nobody asks again
    monkeypatch.setenv("HOME", str(tmp_path / "homestead"))
    person = Person(says=False)
    ask(tmp_path / "homestead", person)
    assert person.questions == []


def test_a_folder_inside_a_vault_is_asked_about(tree: Path) -> None:
    seal(tree)
    (tree / "src" / "new").write_text("x")
    before = everything(tree)
    with pytest.raises(ConfirmationNeeded):
        ask(tree / "src", NO_CONSENT)
    person = Person(says=False)
    with pytest.raises(Declined):
        ask(tree / "src", person)
    assert str(tree) in person.questions[0]
    assert everything(tree) == before
    (tree / "elsewhere").write_text("x")
    report = ask(tree / "src", Person(says=True))
    assert (report.files, report.problems) == (1, [])
    assert (tree / "src" / "new.sealed").exists()
    assert (tree / "elsewhere").exists()
    assert not (tree / "src" / ".encvault").exists()


def test_a_file_in_a_vault_is_sealed_into_it_unless_the_keys_are_for_others(tree: Path) -> None:
    seal(tree)
    partner = operations.Answers(recipients_given=(STRANGER,))
    both = operations.Answers(recipients_given=(RECIPIENT, STRANGER))
    for name, answers, kind in (
        ("one", Person(says=True), "sealed file in a vault"),
        ("two", keys(), "sealed file in a vault"),
        ("three", partner, "sealed file"),
        ("four", both, "sealed file"),
    ):
        (tree / "src" / name).write_text(name)
        ask(tree / "src" / name, answers)
        assert operations.info(str(tree / "src" / f"{name}.sealed")).kind == kind
    # what was sealed for others lies beside and is opened by them
    stranger = operations.Answers(identities_given=(KeyIdentity(Secret(bytes(32))),))
    sealed = str(tree / "src" / "three.sealed")
    assert b"".join(map(bytes, operations.cat(sealed, stranger))) == b"three"


# -- vaults that exist ----------------------------------------------------------------------


def test_a_key_that_cannot_open_the_vault_seals_nothing_into_it(tree: Path) -> None:
    password = encode_password("correct horse")
    slot = PasswordRecipient(password, profile=CHEAPEST)
    both = operations.Answers(recipients_given=(RECIPIENT, slot), consent=True)
    ask(tree, both)
    (tree / "new").write_text("x")
    before = everything(tree)
    wrong = PasswordRecipient(encode_password("wrong"), profile=CHEAPEST)
    for given in ((STRANGER,), (wrong,), (RECIPIENT, STRANGER), (slot, wrong)):
        with pytest.raises(NotARecipient) as caught:
            ask(tree, operations.Answers(recipients_given=given, consent=True))
        assert caught.value.exit_code == 77
    assert everything(tree) == before
    for given in ((RECIPIENT,), (slot,), (slot, RECIPIENT), ()):
        (tree / "new").write_text("x")
        report = ask(tree, operations.Answers(recipients_given=given, consent=True))
        assert (report.files, report.problems) == (1, [])
        (tree / "new.sealed").unlink()


@pytest.mark.parametrize("mode", ["in place", "mirror"])
@pytest.mark.parametrize("suite", Suite)
def test_a_vault_keeps_its_suite_and_its_layout(
    tree: Path, tmp_path: Path, suite: Suite, mode: str
) -> None:
    to = {"to": str(tmp_path / "mirror")} if mode == "mirror" else {}
    top = tmp_path / "mirror" if to else tree
    seal(tree, suite=suite, **to)
    before = everything(top)
    other = next(one for one in Suite if one is not suite)
    with pytest.raises(SuiteMismatch) as caught:
        seal(tree, suite=other, **to)
    assert caught.value.fields() == {"vault_suite": suite.label, "asked_suite": other.label}
    with pytest.raises(LayoutMismatch):
        seal(tree, hide_names=True, **to)
    assert everything(top) == before
    assert seal(tree, suite=suite, **to).problems == []


def test_a_hidden_vault_stays_hidden_without_being_told(tree: Path) -> None:
    seal(tree, hide_names=True)
    (tree / "new").write_text("x")
    seal(tree)
    assert [path.name for path in tree.iterdir()] == [".encvault"]


def test_sealing_a_new_vault_for_nobody_is_refused(tree: Path) -> None:
    before = everything(tree)
    with pytest.raises(KeyRequired):
        ask(tree, NOBODY_GIVEN)
    with pytest.raises(KeyRequired):
        ask(tree / "empty", NOBODY_GIVEN)
    assert everything(tree) == before


# -- mirrors --------------------------------------------------------------------------------


def test_a_destination_that_is_not_empty_keeps_what_it_holds(tree: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "src").mkdir(parents=True)
    (mirror / "notes.txt").write_text("mine")
    (mirror / "src" / "run.sh").write_text("mine too")
    seal(tree, to=str(mirror))
    seal(tree, to=str(mirror), delete=True)
    assert (mirror / "notes.txt").read_text() == "mine"
    assert (mirror / "src" / "run.sh").read_text() == "mine too"
    assert operations.verify(str(mirror), keys()).problems == []


def test_files_of_another_vault_in_the_destination_are_kept(tree: Path, tmp_path: Path) -> None:
    other, mirror = tmp_path / "other", tmp_path / "mirror"
    write_tree(other)
    seal(other)
    (mirror / "src").mkdir(parents=True)
    for name in ("empty.sealed", "src/gone.sealed"):
        source = other / "empty.sealed"
        (mirror / name).write_bytes(source.read_bytes())
    report = seal(tree, to=str(mirror), delete=True)
    assert [type(problem).__name__ for problem in report.problems] == ["NameTaken"]
    for name in ("empty.sealed", "src/gone.sealed"):
        assert (mirror / name).read_bytes() == (other / "empty.sealed").read_bytes()


def test_a_destination_inside_another_vault_is_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "file").write_text("x")
    seal(tmp_path / "vault")
    before = everything(tmp_path)
    with pytest.raises(NestedVault):
        seal(tree, to=str(tmp_path / "vault" / "inside"))
    assert everything(tmp_path) == before


class Slow(Person):
    """Somebody else seals the folder above while this one types a password."""

    def __init__(self, above: Path) -> None:
        super().__init__(says=True)
        self._above = above

    def recipients(self, what: str) -> list[Any]:
        seal(self._above)
        return super().recipients(what)


@pytest.mark.parametrize("is_init", [False, True])
def test_no_vault_is_made_inside_one_that_came_meanwhile(tree: Path, *, is_init: bool) -> None:
    inside, before = tree / "src", snapshot(tree)
    with pytest.raises(NestedVault):
        if is_init:
            operations.init_vault(str(inside), Slow(tree), suite=Suite.AES_256_GCM)  # type: ignore[arg-type]
        else:
            ask(inside, Slow(tree))  # type: ignore[arg-type]
    assert not (inside / ".encvault").exists()
    assert unseal(tree).problems == []
    assert {path: node for path, node in snapshot(tree).items() if path in before} == before


def test_a_destination_that_is_a_vault_already_is_used(tree: Path, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    made = operations.init_vault(str(mirror), keys(), suite=Suite.SM4_GCM, hide_names=True)
    assert seal(tree, to=str(mirror)).problems == []
    assert operations.info(str(mirror)).members["id"] == made.id
    unseal(mirror, to=str(tmp_path / "out"))
    assert snapshot(tmp_path / "out") == snapshot(tree)


def test_a_state_folder_that_cannot_be_used_is_an_error_before_anything(
    tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("a file")
    before = snapshot(tree)
    with pytest.raises(StateUnavailable):
        seal(tree, state_dir=str(tmp_path / "state"))
    assert snapshot(tree) == before


# -- archives -------------------------------------------------------------------------------


def test_an_archive_does_not_replace_a_file(tree: Path, tmp_path: Path) -> None:
    for name in ("file", "dangling"):
        (tmp_path / "file").write_text("precious")
        if name == "dangling":
            (tmp_path / name).symlink_to("nowhere")
        with pytest.raises(DestinationExists):
            seal(tree, archive=str(tmp_path / name))
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(SourceMissing):
        seal(tree, archive=str(tmp_path / "missing" / "a.sealed"))


# -- init -----------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("suite", [None, *Suite])
def test_init_makes_a_vault_and_seals_nothing(
    tree: Path, suite: Suite | None, *, hidden: bool
) -> None:
    before = snapshot(tree)
    record = operations.init_vault(str(tree), keys(), suite=suite, hide_names=hidden)
    assert snapshot(tree)["empty"] == before["empty"]
    facts = operations.info(str(tree)).members
    assert facts["suite"] == (suite.label if suite else "aes-256-gcm")
    assert facts["layout"] == ("hidden" if hidden else "visible")
    assert facts["id"] == record.id
    with pytest.raises(AlreadyAVault):
        operations.init_vault(str(tree), keys())
    assert operations.info(str(tree)).members == facts


def test_init_makes_the_folder_if_it_is_missing(tmp_path: Path) -> None:
    operations.init_vault(str(tmp_path / "a" / "b"), keys())
    assert find_vault(str(tmp_path / "a" / "b")) == str(tmp_path / "a" / "b")


def test_init_inside_a_vault_asks(tree: Path) -> None:
    seal(tree)
    for path in (tree / "src", tree / "new"):
        with pytest.raises(ConfirmationNeeded):
            operations.init_vault(str(path), NO_CONSENT)
        with pytest.raises(Declined):
            operations.init_vault(str(path), Person(says=False))
    assert not (tree / "new").exists()
    assert not (tree / "src" / ".encvault").exists()
    operations.init_vault(str(tree / "new"), Person(says=True))
    assert operations.status(str(tree)).nested == ["new"]


def test_init_on_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(EncvaultError) as caught:
        operations.init_vault(str(tmp_path / "file"), keys())
    assert caught.value.exit_code == 73
    assert (tmp_path / "file").read_text() == "x"


def test_consent_given_beforehand_answers_every_question() -> None:
    assert operations.Answers(consent=True).confirm("sure?")
    with pytest.raises(ConfirmationNeeded, match="sure"):
        operations.Answers().confirm("sure?")
    assert operations.Answers(recipients_given=(RECIPIENT,)).has_keys()
    assert not operations.Answers().has_keys()
    assert PasswordIdentity(encode_password("x")).unwrap([], "x") is None


# -- the input as output, links, the vault's own files --------------------------------------


def test_the_input_itself_is_no_output(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree)
    path = tree / "src" / "run.sh"
    content = path.read_bytes()
    for output in (path, tree / "src" / ".." / "src" / "run.sh", tmp_path / "link/src/run.sh"):
        with pytest.raises(EncvaultError):
            seal(path, output=str(output), force=True)
        assert path.read_bytes() == content


def test_a_folder_given_by_a_link_is_sealed(tree: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tree)
    person = Person(says=True)
    report = ask(f"{link}/", person)
    assert report.files == 8
    assert person.questions == []
    assert operations.status(str(tree)).plain == []


def test_no_vault_is_made_inside_a_vault_by_way_of_a_link(tree: Path, tmp_path: Path) -> None:
    seal(tree)
    (tree / "src" / "deep" / "new").write_text("new")
    (tmp_path / "link").symlink_to(tree / "src")
    ask(tmp_path / "link" / "deep", Person(says=True))
    assert not (tree / "src" / "deep" / ".encvault").exists()
    assert find_vault(str(tree / "src" / "deep")) == str(tree)


@pytest.mark.parametrize("answers", [keys(), operations.Answers(recipients_given=(STRANGER,))])
@pytest.mark.parametrize("name", ["vault.a.json", "lock", "keys/KEY"])
def test_the_vaults_own_files_are_not_sealed(
    tree: Path, answers: operations.Answers, name: str
) -> None:
    seal(tree)
    (key,) = (tree / ".encvault" / "keys").iterdir()
    before = everything(tree)
    with pytest.raises(InvalidRequest):
        ask(tree / ".encvault" / name.replace("KEY", key.name), answers)
    assert everything(tree) == before


def test_an_archive_does_not_lie_in_its_source_by_way_of_a_link(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree)
    before = everything(tree)
    with pytest.raises(InvalidRequest, match="inside what it archives"):
        seal(tree, archive=str(tmp_path / "link" / "a.sealed"))
    assert everything(tree) == before


def test_a_dry_run_of_a_new_vault_remembers_nothing(tree: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    seal(tree, dry_run=True, state_dir=str(state))
    seal(tree, dry_run=True, state_dir=str(state), to=str(tmp_path / "mirror"))
    assert not list(state.rglob("*.sqlite*"))


def test_keys_are_given_when_identities_are() -> None:
    # the protocol: "whether recipients, identities or a password were given explicitly"
    assert operations.Answers(identities_given=keys().identities_given).has_keys()
