"""The main job at the command line."""

from __future__ import annotations

import json
import os
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest
from helpers import NOBODY, Command, in_child, snapshot, write_tree

from encvault.crypto import gcrypt, selftest

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "correct horse 密码"


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\nsecond line\n")
    return path


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    write_tree(tmp_path / "docs")
    return tmp_path / "docs"


@pytest.mark.parametrize("layout", [[], ["--hide-names"]], ids=["visible", "hidden"])
@pytest.mark.parametrize("suite", ["aes-256-gcm", "sm4-gcm"])
def test_a_folder_there_and_back(
    run: Command, docs: Path, password: Path, suite: str, layout: list[str]
) -> None:
    before = snapshot(docs)
    done = run("seal", docs, "--suite", suite, *layout, "--password-file", password)
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("encvault: sealed 8 files, 3.2 MB\n")
    assert run("status", docs).code == 0
    done = run("verify", docs, "--password-file", password)
    assert done.code == 0
    assert "files authentic" in done.out
    done = run("open", docs, "--password-file", password)
    assert (done.code, done.out) == (0, "")
    assert snapshot(docs) == before
    done = run("status", docs)
    assert done.code == 3
    assert f"hint: seal them with: encvault seal {docs}\n" in done.err
    assert run("status", docs / "src").err == done.err


def test_a_file_gets_the_ending_and_loses_it(run: Command, tmp_path: Path, password: Path) -> None:
    quote = tmp_path / "报价单.xlsx"
    quote.write_bytes(b"content")
    quote.chmod(0o640)
    assert run("seal", quote, "--password-file", password).code == 0
    assert not quote.exists()
    sealed = tmp_path / "报价单.xlsx.sealed"
    assert b"content" not in sealed.read_bytes()
    assert run("open", sealed, "--password-file", password).code == 0
    assert quote.read_bytes() == b"content"
    assert quote.stat().st_mode & 0o777 == 0o640
    assert not sealed.exists()


def test_many_files_take_one_password_and_one_hash(
    run: Command, tmp_path: Path, password: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from encvault.crypto import kdf  # noqa: PLC0415 - one use

    calls = []
    real = kdf.derive_from_password
    monkeypatch.setattr(kdf, "derive_from_password", lambda *a: calls.append(a) or real(*a))
    files = [tmp_path / f"f{index}" for index in range(5)]
    for path in files:
        path.write_text(path.name)
    assert run("seal", *files, "--password-file", password).code == 0
    seal_hashes = sum(args[2].memory_kib == 8 for args in calls)
    calls.clear()
    sealed = [f"{path}.sealed" for path in files]
    assert run("open", *sealed, "--password-file", password).code == 0
    assert seal_hashes == sum(args[2].memory_kib == 8 for args in calls) == 1
    assert [path.read_text() for path in files] == [path.name for path in files]


def test_one_bad_file_of_several_stops_no_other(
    run: Command, tmp_path: Path, password: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        assert run("seal", tmp_path / name, "--password-file", password).code == 0
    (tmp_path / "bad.sealed").write_bytes(b"nonsense")
    paths = [tmp_path / f"{name}.sealed" for name in ("one", "bad", "two", "missing")]
    done = run("open", *paths, "--password-file", password)
    assert done.code == 65
    assert f"{tmp_path}/bad.sealed: not a sealed file" in done.err
    assert f"{tmp_path}/missing.sealed: no such file or folder" in done.err
    assert (tmp_path / "one").read_text() == "one"
    assert (tmp_path / "two").read_text() == "two"


def test_a_wrong_password_and_a_wrong_key_are_one_error(
    run: Command, docs: Path, tmp_path: Path, password: Path
) -> None:
    run("seal", docs, "--password-file", password)
    (tmp_path / "wrong").write_text("wrong\n")
    run("key", "new", "--no-password", "-o", tmp_path / "other.key")
    by_password = run("open", docs, "--password-file", tmp_path / "wrong")
    by_key = run("open", docs, "-i", tmp_path / "other.key")
    assert by_password.code == by_key.code == 77
    assert by_password.err == by_key.err
    assert snapshot(docs) == snapshot(docs)
    assert not [path for path in docs.rglob("*") if path.name == "empty"]


def test_a_mirror_and_a_second_run(run: Command, docs: Path, tmp_path: Path) -> None:
    recipient = run("key", "new", "--no-password", "-o", tmp_path / "me.key").out.strip()
    before = snapshot(docs)
    mirror = tmp_path / "mirror"
    done = run("seal", docs, "--to", mirror, "-r", recipient, "--json")
    assert (done.code, json.loads(done.out)["files"]) == (0, 8)
    assert snapshot(docs) == before
    for path in docs.rglob("*"):
        os.utime(path, ns=(10**18 + 1, 10**18 + 1), follow_symlinks=False)
    run("seal", docs, "--to", mirror, "-r", recipient)
    (docs / "new").write_text("new")
    done = run("seal", docs, "--to", mirror, "-r", recipient, "--dry-run")
    assert "seal    new\n" in done.out
    done = run("open", mirror, "--to", tmp_path / "out", "-i", tmp_path / "me.key")
    assert done.code == 0


def test_keys_for_a_vault_that_exists_must_be_its_own(
    run: Command, docs: Path, tmp_path: Path, password: Path
) -> None:
    run("seal", docs, "--password-file", password)
    other = run("key", "new", "--no-password", "-o", tmp_path / "other.key").out.strip()
    (docs / "later").write_text("later")
    done = run("seal", docs, "-r", other)
    assert done.code == 77
    assert "is not among those who can open it" in done.err
    assert (docs / "later").exists()
    assert run("seal", docs, "--password-file", password).code == 0
    assert run("seal", docs).code == 0


def test_a_file_in_a_vault_goes_into_it_unless_it_is_for_others(
    run: Command, docs: Path, tmp_path: Path, password: Path
) -> None:
    run("seal", docs, "--password-file", password)
    for name in ("a", "b", "c"):
        (docs / name).write_text(name)
    other = run("key", "new", "--no-password", "-o", tmp_path / "other.key").out.strip()
    assert run("seal", docs / "a").code == 0
    assert run("seal", docs / "b", "--password-file", password).code == 0
    assert run("seal", docs / "c", "-r", other).code == 0
    kinds = [
        json.loads(run("info", docs / f"{name}.sealed", "--json").out)["kind"] for name in "abc"
    ]
    assert kinds == ["sealed file in a vault", "sealed file in a vault", "sealed file"]
    done = run("open", docs, "--password-file", password)
    assert done.code == 3
    assert f"hint: open it by itself: encvault open {docs}/c.sealed" in done.err
    assert (docs / "b").read_text() == "b"


def test_an_archive_is_a_plain_tar_inside(
    run: Command, docs: Path, tmp_path: Path, password: Path
) -> None:
    before = snapshot(docs)
    sealed = tmp_path / "docs.sealed"
    done = run("seal", docs, "--archive", sealed, "--password-file", password)
    assert done.code == 0
    assert snapshot(docs) == before
    assert run("open", sealed, "-o", tmp_path / "a.tar", "--password-file", password).code == 0
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert {name for name in tar.getnames() if name} == set(before)
    done = run("open", sealed, "--to", tmp_path / "out", "--password-file", password)
    assert done.code == 0
    assert snapshot(tmp_path / "out") == before
    assert sealed.exists()
    again = ("open", sealed, "--to", tmp_path / "out", "--password-file", password)
    assert run(*again).code == 0  # all of it is there already
    (tmp_path / "out" / "empty").write_text("mine")
    assert run(*again).code == 73
    assert (tmp_path / "out" / "empty").read_text() == "mine"
    assert run("open", sealed, "--password-file", password).code == 0
    assert (tmp_path / "docs.tar").exists()


def test_a_dry_run_prints_the_exact_plan(run: Command, docs: Path, tmp_path: Path) -> None:
    before = snapshot(docs)
    done = run("seal", docs, "--dry-run", "--exclude", "src")
    planned = {line.split(maxsplit=1)[1] for line in done.out.splitlines()}
    assert (done.code, snapshot(docs)) == (0, before)
    assert planned == {
        name for name, node in before.items() if node.kind != "dir" and not name.startswith("src")
    }
    done = run("seal", docs, "--dry-run", "--json")
    plan = json.loads(done.out)["plan"]
    assert {"action": "seal", "path": "src/link"} in plan
    assert not (docs / ".encvault").exists()


def test_json_of_a_run(run: Command, docs: Path, password: Path) -> None:
    os.mkfifo(docs / "pipe")
    done = run("seal", docs, "--json", "--password-file", password)
    report = json.loads(done.out)
    assert done.code == 3
    assert report["files"] == 8
    (problem,) = report["problems"]
    assert (problem["error"], problem["exit_code"]) == ("SpecialFile", 3)
    assert problem["path"] == str(docs / "pipe")


def test_json_of_an_error(run: Command, tmp_path: Path) -> None:
    done = run("status", tmp_path, "--json")
    error = json.loads(done.out)
    assert done.code == 66
    assert error["error"] == "NotAVault"
    assert error["hint"].startswith("a vault is the folder with .encvault")
    assert "not a vault" in done.err


def test_sensitive_folders_ask_first(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for folder in ("/", "/home", "/etc", tmp_path / "home", tmp_path):
        done = run("seal", folder)
        assert done.code == 2
        assert "hint: say --yes if you mean it" in done.err
    assert not (tmp_path / "home" / ".encvault").exists()


def test_a_folder_inside_a_vault_asks_first(run: Command, docs: Path, password: Path) -> None:
    run("seal", docs, "--password-file", password)
    (docs / "src" / "new").write_text("new")
    assert run("seal", docs / "src").code == 2
    assert run("seal", docs / "src", "--yes").code == 0
    assert (docs / "src" / "new.sealed").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["seal"], 2, "missing argument"),
        (["frobnicate"], 2, "no such command"),
        (["seal", "x", "--frobnicate"], 2, "no such option"),
        (["seal", "x", "--jobs", "many"], 2, "many"),
        (["seal", "x", "--suite", "des"], 2, "des"),
        (["verify", ".", "--sample", "some"], 2, "not a percentage"),
        (["seal", "missing"], 66, "missing: no such file or folder"),
        (["open", "missing"], 66, "missing: no such file or folder"),
        (["key", "export", "-i", "missing"], 66, "missing: no such file or folder"),
    ],
)
def test_usage_errors(
    run: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.code == code
    assert text in done.err.lower()
    assert done.err.startswith("encvault: ")
    assert done.out == ""


def test_verbose_tells_the_library_and_each_file(
    run: Command, docs: Path, password: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [one for one in docs.rglob("*") if one.is_symlink() or not one.is_dir()]
    names = {str(one.relative_to(docs)) for one in files}
    done = run("seal", "-v", "--yes", "--password-file", password, docs)
    assert "sm4-gcm: libgcrypt 1." in done.err
    assert "libgcrypt is not used" not in done.err
    told = [line for line in done.err.splitlines() if line.startswith("encvault: seal  ")]
    assert {line.removeprefix("encvault: seal  ") for line in told} == names
    monkeypatch.setattr(
        gcrypt, "status", lambda: gcrypt.Status(reason="the library is not installed")
    )
    monkeypatch.setattr(gcrypt, "is_usable", lambda: False)
    done = run("open", "-v", "--password-file", password, docs)
    assert "sm4-gcm: OpenSSL" in done.err
    assert "libgcrypt is not used: the library is not installed" in done.err
    assert sum(line.startswith("encvault: open  ") for line in done.err.splitlines()) == len(names)
    for options in (("-v", "-q"), ("--quiet", "--verbose")):
        done = run("seal", *options, docs)
        assert (done.code, "exclude each other" in done.err) == (2, True)


@pytest.mark.parametrize("suite", ["aes-256-gcm", "sm4-gcm"])
def test_a_libgcrypt_that_does_not_work_stops_nothing(
    suite: str, run: Command, docs: Path, password: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cached in (gcrypt._found, selftest.run):
        cached.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(gcrypt, "SONAME", "libc.so.6")  # a library without these functions
        done = run("seal", "-v", "--yes", "--suite", suite, "--password-file", password, docs)
        gcrypt._found.cache_clear()
    assert done.code == 0, done.err
    assert "libgcrypt is not used: the library does not work (" in done.err
    done = run("open", "-v", "--password-file", password, docs)
    assert done.code == 0, done.err
    assert "libgcrypt is not used" not in done.err


def test_verbose_tells_the_members_of_an_archive(
    run: Command, docs: Path, password: Path, tmp_path: Path
) -> None:
    names = {str(one.relative_to(docs)) for one in docs.rglob("*")}
    sealed = tmp_path / "docs.sealed"
    done = run("seal", "-v", docs, "--archive", sealed, "--password-file", password)
    told = [line for line in done.err.splitlines() if line.startswith("encvault: seal  ")]
    assert {line.removeprefix("encvault: seal  ") for line in told} == {*names, str(docs)}
    done = run("open", "-v", sealed, "--to", tmp_path / "out", "--password-file", password)
    told = [line for line in done.err.splitlines() if line.startswith("encvault: open  ")]
    assert {line.removeprefix("encvault: open  ") for line in told} >= names
    assert len(told) == len(names) + 1


@pytest.mark.parametrize("kind", ["device", "pipe", "link"])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_no_output_takes_the_place_of_a_device_or_pipe(
    run: Command, docs: Path, password: Path, tmp_path: Path, kind: str, force: list[str]
) -> None:
    secret, output = ("--password-file", password), tmp_path / "out"
    note = tmp_path / "note"
    note.write_text("content")
    assert run("seal", note, "--keep", *secret).code == 0
    if kind == "pipe":
        os.mkfifo(output)
    elif kind == "link":
        output.symlink_to("/dev/null")
    else:
        os.mknod(output, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    before = output.lstat()
    for command in (
        ["open", f"{note}.sealed", "-o", output],
        ["seal", note, "-o", output],
        ["seal", docs, "--archive", output],
    ):
        done = run(*command, *force, *secret)
        assert done.code == 73
        assert "no place for a file" in done.err
        assert (output.lstat().st_ino, output.lstat().st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("command", [["seal", "note"], ["open", "note.sealed"]])
def test_a_stroke_is_no_name_of_an_output(
    run: Command,
    password: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note").write_text("content")
    assert run("seal", "note", "--keep", "--password-file", password).code == 0
    done = run(*command, "-o", "-", "--password-file", password)
    assert done.code == 2
    assert not (tmp_path / "-").exists()
    assert run(*command, "-o", "./-", "--password-file", password).code == 0
    assert (tmp_path / "-").exists()


IDLE = [
    (["file", "--hide-names"], "a single file"),
    (["file", "--exclude", "*.tmp"], "a single file"),
    (["file", "-o", "out", "--hide-names"], "a single file"),
    (["file", "--to", "out", "--exclude", "*.tmp"], "a single file"),
    (["docs", "--archive", "out", "--hide-names"], "an archive"),
    (["docs", "--archive", "out", "--keep"], "an archive"),
    (["-", "--hide-names"], "a stream"),
    (["-", "--exclude", "*.tmp"], "a stream"),
    (["-", "--dry-run"], "a stream"),
    (["-", "--keep"], "a stream"),
    (["-", "--force"], "a stream"),
    (["-", "--delete"], "a stream"),
    (["-", "-o", "out", "--jobs", "2"], "a stream"),
]


@pytest.mark.parametrize(("arguments", "what"), IDLE)
def test_an_option_that_can_have_no_effect_is_refused(
    run: Command,
    docs: Path,
    tmp_path: Path,
    password: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    what: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("content")
    before = snapshot(tmp_path)
    done = run("seal", *arguments, "--password-file", password)
    assert done.code == 2
    assert f"has no effect on {what}; leave it out" in done.err
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["docs", "file", "--hide-names", "--jobs", "2"],
        ["docs", "--archive", "out", "--exclude", "*.py"],
        ["docs", "--keep", "--exclude", "*.py"],
        ["-", "-o", "password", "--force"],
        ["vault/new", "--exclude", "*.tmp", "--jobs", "2"],
    ],
    ids=" ".join,
)
def test_an_option_that_has_an_effect_is_taken(
    run: Command,
    docs: Path,
    tmp_path: Path,
    password: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("content")
    (tmp_path / "vault").mkdir()
    assert run("init", "vault", "--password-file", password).code == 0
    (tmp_path / "vault" / "new").write_text("new")
    assert run("seal", *arguments, "--password-file", password).code == 0


def test_init_then_seal(run: Command, docs: Path, password: Path) -> None:
    done = run("init", docs, "--hide-names", "--suite", "sm4-gcm", "--password-file", password)
    assert done.code == 0
    assert "fingerprint" in done.err
    assert run("init", docs, "--password-file", password).code == 2
    assert run("seal", docs).code == 0
    assert sorted(path.name for path in docs.iterdir()) == [".encvault"]
    made = run("init", docs.parent / "new", "--json", "--password-file", password)
    assert json.loads(made.out)["kind"] == "vault"


def test_status_of_what_cannot_be_read(run: Command, public_path: Path) -> None:
    docs = public_path / "docs"
    docs.mkdir()
    recipient = run("key", "new", "--no-password", "-o", public_path / "me.key").out.strip()
    assert run("seal", docs, "-r", recipient).code == 0
    (docs / "closed").mkdir(mode=0)

    done = in_child(lambda: run("status", docs), uid=NOBODY)
    assert done.code == 3
    assert done.err == (
        "encvault: folders and files that cannot be read: 1\n"
        "hint: make them readable, or run this as a user who may read them\n"
    )
    assert in_child(lambda: run("status", docs, "--json"), uid=NOBODY).code == 3
    (docs / "plain").write_text("x")
    done = in_child(lambda: run("status", docs), uid=NOBODY)
    assert done.err.startswith("encvault: files not sealed: 1\n")
    (docs / "closed").chmod(0o755)


def test_names_cannot_forge_messages(run: Command, docs: Path, password: Path) -> None:
    (docs / "a\nhint: run rm -rf\x1b[2J").write_text("x")
    run("seal", docs, "--password-file", password)
    listed = run("ls", docs, "--password-file", password)
    assert "a\\nhint: run rm -rf\\x1b[2J\n" in listed.out
    assert "\x1b" not in listed.out
    assert "\nhint: run" not in run("status", docs).out


def test_the_vault_of_a_killed_run_is_cleaned(run: Command, docs: Path, password: Path) -> None:
    run("seal", docs, "--password-file", password)
    left = docs / f".encvault-{'a' * 26}.tmp"
    left.write_text("half")
    assert run("status", docs).code == 3
    assert run("seal", docs).code == 0
    assert not left.exists()
