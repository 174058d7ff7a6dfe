"""What encvault seals, the reader that was written from the page opens, to the same bytes."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conformance import reader
from helpers import RECIPIENT, SEED, Node, snapshot, write_tree
from hypothesis import HealthCheck, given, settings, strategies as st

from encvault import encoding, errors, keyslots, operations
from encvault.crypto import stream
from encvault.crypto.kdf import CHEAPEST
from encvault.crypto.suite import Suite
from encvault.keyslots import (
    IdentityFile,
    KeyIdentity,
    PasswordIdentity,
    PasswordRecipient,
    RecoveryIdentity,
    RecoveryRecipient,
    decode_code,
    encode_code,
    encode_password,
)
from encvault.secret import Secret
from encvault.vault import layout, plan, sealing
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers import Command

PAGE = Path(__file__).parents[2] / "docs" / "format.md"
WORD = "pass\N{LATIN SMALL LETTER E WITH ACUTE}"
SIZES = (0, 1, 5000, 16127, 16128, 16129, 16383, 16384, 16385, 3_000_001)

SUITES = pytest.mark.parametrize("suite", list(Suite), ids=lambda suite: suite.label)
LAYOUTS = pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])
KINDS = pytest.mark.parametrize("kind", ["password", "recipient", "recovery"])


def answers(kind: str) -> operations.Answers:
    """Keys of one kind for encvault."""
    if kind == "recipient":
        identity = KeyIdentity(Secret(SEED))
        return operations.Answers((RECIPIENT,), (identity,), consent=True)
    if kind == "recovery":
        code = Secret(SEED)
        return operations.Answers(
            (RecoveryRecipient(code),), (RecoveryIdentity(code),), consent=True
        )
    recipient = PasswordRecipient(encode_password(WORD), profile=CHEAPEST)
    return operations.Answers(
        (recipient,), (PasswordIdentity(encode_password(WORD)),), consent=True
    )


def keys(kind: str) -> reader.Keys:
    """The same for the reader."""
    if kind == "recipient":
        return reader.Keys(seeds=(SEED,))
    if kind == "recovery":
        return reader.Keys(codes=(encode_code(Secret(SEED)).lower().replace("-", "\n"),))
    return reader.Keys(passwords=("passe\N{COMBINING ACUTE ACCENT}",))  # NFC makes them one


def node(opened: reader.Opened) -> Node:
    record = opened.record
    kind = {"file": "file", "dir": "dir", "symlink": "symlink"}[record["type"]]
    mode = 0 if kind == "symlink" else record["mode"]
    return Node(kind, opened.content, mode, record["mtime_ns"])


def nodes(contents: reader.Contents) -> dict[str, Node]:
    assert contents.faults == {}
    return {os.fsdecode(path): node(opened) for path, opened in contents.files.items()}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with what the page has a word for."""
    root = tmp_path / "docs"
    write_tree(root)
    for size in SIZES:
        path = root / f"of {size} bytes"
        path.write_bytes(os.urandom(size))
        path.chmod(0o4640 if size == 1 else 0o600)
    odd = os.fsencode(root) + b"/caf\xe9"
    Path(os.fsdecode(odd)).write_text("not UTF-8")
    long = os.fsencode(root) + b"/\xe9" + b"x" * 190 + "中".encode() * 20
    Path(os.fsdecode(long)).write_text("long and not UTF-8")
    # the first sorts before the second by code point, and after it by UTF-16
    (root / "full-width \N{FULLWIDTH TILDE}").write_text("x")
    (root / "😀").write_text("\x7f")
    os.utime(root / "😀", ns=(-1_500_000_000, -1_500_000_000))
    return root


# -- trees, files, archives --------------------------------------------------------------------


@SUITES
@LAYOUTS
@KINDS
def test_reader_opens_what_encvault_sealed(
    tree: Path, suite: Suite, kind: str, *, hidden: bool
) -> None:
    before = snapshot(tree)
    request = operations.SealRequest((str(tree),), suite=suite, hide_names=hidden, jobs=1)
    assert operations.seal(request, answers(kind)).problems == []
    vault = reader.Vault(tree, keys(kind))
    assert (vault.record["suite"], vault.record["layout"] == "hidden") == (suite.label, hidden)
    expected = {path: item for path, item in before.items() if hidden or item.kind != "dir"}
    assert nodes(vault.contents()) == expected


@LAYOUTS
def test_reader_and_encvault_call_the_attributes_alike(tmp_path: Path, *, hidden: bool) -> None:
    root = tmp_path / "docs"
    root.mkdir()
    path = root / "labelled"
    path.write_text("x")
    os.setxattr(path, "user.note", b"\x00\xff")
    os.setxattr(path, "user.\N{FULLWIDTH TILDE}", b"1")
    os.setxattr(path, "user.😀", b"2")
    owner = path.stat()
    request = operations.SealRequest((str(root),), hide_names=hidden, jobs=1)
    operations.seal(request, answers("recipient"))
    (opened,) = reader.Vault(root, keys("recipient")).contents().files.values()
    xattrs = {name: reader.b64(text) for name, text in opened.record["xattrs"].items()}
    assert xattrs == {"user.note": b"\x00\xff", "user.\N{FULLWIDTH TILDE}": b"1", "user.😀": b"2"}
    assert (opened.record["uid"], opened.record["gid"]) == (owner.st_uid, owner.st_gid)


@SUITES
@KINDS
@pytest.mark.parametrize("size", SIZES)
def test_reader_opens_a_file_on_its_own(tmp_path: Path, suite: Suite, kind: str, size: int) -> None:
    path = tmp_path / "报价单.xlsx"
    path.write_bytes(content := os.urandom(size))
    path.chmod(0o640)
    os.utime(path, ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
    operations.seal(operations.SealRequest((str(path),), suite=suite), answers(kind))
    data = (tmp_path / "报价单.xlsx.sealed").read_bytes()
    opened = reader.open_alone(data, keys(kind))
    assert node(opened) == Node("file", content, 0o640, 1_600_000_000_123_456_789)
    assert opened.record.path == "报价单.xlsx".encode()
    assert opened.header.suite.name == suite.label


@SUITES
def test_reader_opens_a_stream(tmp_path: Path, suite: Suite) -> None:
    content = os.urandom(40_000)
    source = tmp_path / "source"
    source.write_bytes(content)
    output = tmp_path / "out.sealed"
    request = operations.SealRequest((), suite=suite, output=str(output))
    with source.open("rb") as file:
        operations.seal_from_stream(file.fileno(), request, answers("password"), sys.stdout.fileno)
    opened = reader.open_alone(output.read_bytes(), keys("password"))
    assert opened.content == content
    assert opened.record["size"] is None


def test_reader_unpacks_an_archive(tree: Path, tmp_path: Path) -> None:
    before = snapshot(tree)
    output = tmp_path / "tree.sealed"
    request = operations.SealRequest((str(tree),), archive=str(output))
    assert operations.seal(request, answers("password")).problems == []
    opened = reader.open_alone(output.read_bytes(), keys("password"))
    members = reader.check_archive(opened.content)
    assert {os.fsdecode(path) for path in members} == before.keys()
    for path, info in members.items():
        expected = before[os.fsdecode(path)]
        assert info.issym() or info.mode == expected.mode
        assert info.mtime == pytest.approx(expected.mtime_ns / 1e9)


@pytest.mark.parametrize("size", [600_000, 600_001, 1_200_000, 1_500_000])
def test_reader_joins_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for module in (plan, sealing):
        monkeypatch.setattr(module, "PART_SIZE", 600_000)
    root = tmp_path / "docs"
    root.mkdir()
    (root / "big").write_bytes(os.urandom(size))
    before = snapshot(root)
    request = operations.SealRequest((str(root),), hide_names=True, jobs=1)
    operations.seal(request, answers("recipient"))
    objects = list((root / ".encvault" / "objects").glob("*/*"))
    assert len(objects) == -(-size // 600_000)
    assert nodes(reader.Vault(root, keys("recipient")).contents()) == before


def test_reader_takes_moved_copied_and_renamed_files(tree: Path) -> None:
    before = snapshot(tree)
    operations.seal(operations.SealRequest((str(tree),), jobs=1), answers("recipient"))
    (tree / "elsewhere").mkdir()
    (tree / "empty.sealed").rename(tree / "elsewhere" / "blank.sealed")
    copied = (tree / "src" / "run.sh.sealed").read_bytes()
    (tree / "elsewhere" / "run.sh.sealed").write_bytes(copied)
    found = nodes(reader.Vault(tree, keys("recipient")).contents())
    assert found["elsewhere/blank"] == before["empty"]
    assert found["elsewhere/run.sh"] == found["src/run.sh"] == before["src/run.sh"]
    request = operations.OpenRequest((str(tree),), jobs=1)
    assert operations.open_paths(request, answers("recipient")).problems == []
    opened = {path: item for path, item in snapshot(tree).items() if item.kind != "dir"}
    assert opened == found


# -- the page's numbers ------------------------------------------------------------------------


def worked_sizes() -> Iterator[tuple[int, int, int, int]]:
    """Content, plaintext, chunks and sealed size of each line of section 4's table."""
    table = PAGE.read_text().partition("Worked sizes")[2].partition("## 5.")[0]
    for line in re.findall(r"^\| ([0-9].*) \|$", table, re.MULTILINE):
        content, plain, chunks, sealed = line.replace(",", "").split(" | ")
        size = 1 << 30 if content == "1 GiB" else int(content)
        yield size, int(plain), int(chunks.split()[0]), int(sealed.split()[-1])


@pytest.mark.parametrize("row", list(worked_sizes()), ids=lambda row: str(row[0]))
def test_worked_sizes(row: tuple[int, int, int, int], tmp_path: Path) -> None:
    content, plain, chunks, sealed = row
    assert plain == 256 + content
    assert chunks == plain // 16384 + 1
    assert sealed == 129 + 56 + plain + 16 * chunks
    assert 129 + stream.body_size(plain) == sealed
    if content > 1 << 20:
        return  # the formula is the same, and a GiB is not worth the time
    root = tmp_path / "docs"
    root.mkdir()
    (root / "a").write_bytes(bytes(content))
    operations.seal(operations.SealRequest((str(root),), jobs=1), answers("recipient"))
    data = (root / "a.sealed").read_bytes()
    header = reader.read_header(data)
    assert (len(header.raw), header.metadata_size, len(data)) == (129, 256, sealed)


def test_the_table_of_worked_sizes_was_found() -> None:
    assert [row[0] for row in worked_sizes()] == [0, 1, 5000, 16128, 1 << 30]


# -- names and keys ----------------------------------------------------------------------------


def test_reader_names_keys_alike(tmp_path: Path, run: Command) -> None:
    secret = tmp_path / "word"
    secret.write_text(WORD)
    path = tmp_path / "me.key"
    ran = run("key", "new", "-o", path, "--name", "me", "--password-file", secret)
    seed = reader.identity_seed(path.read_bytes(), WORD)
    public = reader.Pair(seed).public
    assert ran.out.strip() == reader.recipient_line(public)
    assert reader.recipient_key(ran.out.strip()) == public
    assert keyslots.fingerprint(public) == reader.fingerprint(public)
    plain = IdentityFile("me", public, keyslots.now_text(), seed=Secret(seed)).encode()
    assert reader.identity_seed(plain) == seed


def test_reader_gives_a_vault_the_same_fingerprint(tmp_path: Path) -> None:
    root = tmp_path / "docs"
    root.mkdir()
    (root / "a").touch()
    operations.seal(operations.SealRequest((str(root),), jobs=1), answers("recipient"))
    record = reader.Vault(root, keys("recipient")).record
    whole = record["id"].encode() + reader.b64(record["sign_public"])
    expected = reader.fingerprint(whole, "encvault/vault-fingerprint@v1")
    with Vault.load(str(root)) as vault:
        assert vault.record.fingerprint == expected


NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name
)


@given(NAMES | st.text("中é😀a", min_size=60, max_size=84).map(str.encode))
def test_reader_shortens_names_alike(name: bytes) -> None:
    sealed = reader.sealed_name(name)
    assert os.fsencode(layout.sealed_name(os.fsdecode(name))) == sealed
    assert len(sealed) <= 255


# -- canonical JSON ----------------------------------------------------------------------------

INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    INTEGERS | st.booleans() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=4)


@given(OBJECTS)
def test_reader_encodes_alike(value: dict[str, object]) -> None:
    encoded = reader.canonical(value)
    assert encoding.encode_json(value) == encoded
    assert encoding.decode_json(encoded) == reader.decode(encoded, reader.MalformedHeader) == value


@given(OBJECTS, st.data())
def test_reader_refuses_alike(value: dict[str, object], data: st.DataObject) -> None:
    encoded = bytearray(reader.canonical(value))
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(encoded) - 1))
        cut = data.draw(st.integers(index, index + 1))
        encoded[index:cut] = data.draw(
            st.sampled_from([b'"', b"0", b"\\", b" ", b".", b"-", b"e", b",", b""])
        )
        if not encoded:
            break
    ours: object = None
    theirs: object = None
    with contextlib.suppress(reader.MalformedHeader):
        ours = reader.decode(bytes(encoded), reader.MalformedHeader)
    with contextlib.suppress(ValueError):
        theirs = encoding.decode_json(bytes(encoded))
    assert ours == (theirs if isinstance(theirs, dict) else None)


# -- damage ------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=list(Suite), ids=lambda suite: suite.label)
def sealed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file on its own with a password and a recipient, of two chunks."""
    path = tmp_path_factory.mktemp("sealed") / "file"
    path.write_bytes(os.urandom(20_000))
    both = operations.Answers((*answers("password").recipients_given, RECIPIENT))
    operations.seal(operations.SealRequest((str(path),), suite=request.param), both)
    return path.with_name("file.sealed")


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reader_and_encvault_name_any_damage_alike(
    sealed: Path, tmp_path: Path, data: st.DataObject
) -> None:
    whole = sealed.read_bytes()
    header = 20 + int.from_bytes(whole[16:20])
    place = st.integers(0, len(whole) - 1) | st.integers(0, header + 60)
    index = data.draw(place, "place")
    how = data.draw(st.sampled_from(["flip", "cut", "insert", "delete"]), "how")
    bit = 1 << data.draw(st.integers(0, 7), "bit")
    damaged = {
        "flip": whole[:index] + bytes([whole[index] ^ bit]) + whole[index + 1 :],
        "cut": whole[:index],
        "insert": whole[:index] + bytes([bit]) + whole[index:],
        "delete": whole[:index] + whole[index + 1 :],
    }[how]
    path = tmp_path / "damaged.sealed"
    path.write_bytes(damaged)
    released = bytearray()
    with pytest.raises(reader.Fault) as ours:
        reader.open_alone(damaged, keys("recipient"), released.extend)
    given_out = bytearray()
    with pytest.raises(errors.EncvaultError) as theirs:
        for piece in operations.cat(str(path), answers("recipient")):
            given_out += piece
    assert type(theirs.value).__name__ == type(ours.value).__name__
    assert released.startswith(given_out)


# -- independence ------------------------------------------------------------------------------


def test_reader_shares_nothing_with_encvault() -> None:
    found = set()
    for item in ast.walk(ast.parse(Path(reader.__file__).read_text())):
        if isinstance(item, ast.Import):
            found |= {name.name for name in item.names}
        elif isinstance(item, ast.ImportFrom):
            found.add(str(item.module))
    foreign = {name for name in found if name.partition(".")[0] not in sys.stdlib_module_names}
    assert all(name.startswith(("cryptography.", "argon2.")) for name in foreign)
    assert not any("cobblestone" in name for name in found)
    assert stat.S_ISREG(Path(reader.__file__).stat().st_mode)


@given(code=st.binary(min_size=32, max_size=32), place=st.integers(0, 64))
def test_both_read_a_recovery_code_alike(code: bytes, place: int) -> None:
    text = encode_code(Secret(code))
    assert reader.recovery_code(text) == code
    symbols = text.replace("-", "")
    for symbol in "01Z*":
        typed = symbols[:place] + symbol + symbols[place + 1 :]
        try:
            ours: bytes | None = bytes(decode_code(typed).reveal())
        except errors.MistypedRecoveryCode:
            ours = None
        try:
            theirs: bytes | None = reader.recovery_code(typed)
        except reader.MistypedRecoveryCode:
            theirs = None
        assert ours == theirs
