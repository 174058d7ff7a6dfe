"""Secrets go from where they are given to where they are used, and show nowhere else."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from encvault import keyslots
from encvault.errors import EncvaultError
from encvault.keyslots import IdentityFile, KeyIdentity, PasswordIdentity
from encvault.operations import revoking
from encvault.secret import Secret
from encvault.vault.vault import Vault

if TYPE_CHECKING:
    from helpers import Command

PASSWORDS = {
    "one": "the first of the words",
    "two": "密码 of the second",
    "three": "third word here",
}


class Evidence:
    """Everything that a person, a log or a disk could get to see."""

    def __init__(self, run: Command) -> None:
        self._run = run
        self.shown: list[str] = []

    def __call__(self, *arguments: object, code: int = 0) -> str:
        done = self._run(*arguments)
        assert done.code == code, done.err
        self.shown += [done.out, done.err]
        return done.out


def forms(secret: bytes) -> list[bytes]:
    """The ways in which bytes are written down."""
    encoded = base64.b64encode(secret).rstrip(b"=")
    urlsafe = base64.urlsafe_b64encode(secret).rstrip(b"=")
    base32 = base64.b32encode(secret).rstrip(b"=")
    return [
        secret,
        secret.hex().encode(),
        encoded,
        urlsafe,
        base32,
        base32.lower(),
        repr(secret)[2:-1].encode(),
    ]


def found_in(places: dict[str, bytes], secrets: dict[str, bytes]) -> list[str]:
    return [
        f"{name} in {place}"
        for name, secret in secrets.items()
        for place, data in places.items()
        if any(form in data for form in forms(secret))
    ]


def test_no_secret_is_shown_or_written(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given"  # what people keep themselves
    given.mkdir()
    for name, words in PASSWORDS.items():
        (given / name).write_text(words + "\n", encoding="utf-8")
    one, two, three = (given / name for name in PASSWORDS)
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "a").write_text("content of a")
    use = Evidence(run)
    me = given / "me.key"
    line = use("key", "new", "-o", me, "--password-file", two).strip()
    plain = given / "plain.key"
    plain_line = run("key", "new", "-o", plain, "--no-password").out.strip()
    use("seal", docs, "--password-file", one, "-r", line, "--json")
    use("slot", "add", docs, "--password-file", one, "-r", plain_line, "--label", "plain", "--json")
    use("slot", "add", docs, "--password-file", one, "--new-password-file", three, "--json")
    code = " ".join(run("recovery", "new", docs, "--password-file", one).out.split())
    (given / "code").write_text(code)

    with Vault.load(str(docs)) as vault:
        vault.unlock([PasswordIdentity(keyslots.encode_password(PASSWORDS["one"]))])
        (key_file,) = (docs / ".encvault" / "keys").iterdir()
        secrets = {
            "the vault secret": bytes(vault.secret.reveal()),
            "a data key": bytes(vault._data_key(key_file.stem, "x").key.reveal()),
        }
    for name, words in PASSWORDS.items():
        secrets[f"the password {name}"] = words.encode()
    identity = IdentityFile.decode(plain.read_bytes(), "plain.key")
    assert identity.seed is not None
    secrets["a private key"] = bytes(identity.seed.reveal())
    with keyslots.decode_code(code) as bits:
        secrets["the recovery code's bits"] = bytes(bits.reveal())
    secrets["the recovery code"] = code.replace(" ", "").encode()

    use("cat", docs / "a", "--password-file", two, code=77)
    use("cat", docs / "a", "--recovery-file", given / "code")
    use("recovery", "test", docs, "--recovery-file", given / "code", "--json")
    (given / "wrong").write_text(code[::-1])
    use("recovery", "test", docs, "--recovery-file", given / "wrong", "--json", code=77)
    use("passwd", docs, "--password-file", three, "--new-password-file", two, "--json")
    use("share", docs / "a", "--password-file", one, "-r", line, "--to", tmp_path / "out", "--json")
    (plain_slot,) = [
        slot["id"]
        for slot in json.loads(use("slot", "list", docs, "--json"))["slots"]
        if slot["label"] == "plain"
    ]
    use("revoke", docs, plain_slot, "--password-file", one, "--yes", "--reseal", "--json")
    use("rekey", docs, "-i", me, "--password-file", two, "--yes", "--json")
    use("info", docs, "--json")
    use("doctor", "--json")
    use("config", "show", "--json")
    use("key", "list", "--json")
    use("key", "passwd", "-i", me, "--password-file", two, "--new-password-file", three)

    def fail(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(revoking, "_finish", fail)  # while all keys are at hand
    assert run("rekey", docs, "-i", me, "--password-file", three, "--yes").code == 1
    use.shown.append(run("rekey", docs, "-i", me, "--password-file", three, "--yes").err)
    assert "a bug" in use.shown[-1]

    places = {"what was shown": "\n".join(use.shown).encode(errors="surrogateescape")}
    for path in tmp_path.rglob("*"):
        if path.is_file() and given not in path.parents:
            places[str(path.relative_to(tmp_path))] = path.read_bytes()
    for variable in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        for path in Path(os.environ[variable]).rglob("*"):
            if path.is_file():
                places[str(path)] = path.read_bytes()
    assert len(places) > 8
    assert found_in({"what is given": (given / "one").read_bytes()}, secrets)  # the search finds
    assert found_in(places, secrets) == []


def test_no_option_takes_a_secret_as_its_value(run: Command) -> None:
    help_texts = [run(*command, "--help").out for command in (["open"], ["slot", "add"], ["seal"])]
    options = set(re.findall(r"--[a-z-]+(?: [A-Z]+)?", "\n".join(help_texts)))
    about = {one for one in options if re.search("password|recovery|secret|pass", one)}
    kinds = {one.partition(" ")[0].rpartition("-")[2] for one in about if " " in one}
    assert kinds <= {"file", "fd", "command"}


def test_a_password_does_not_reach_the_arguments_or_the_environment_of_a_process(
    tmp_path: Path,
) -> None:
    """Every process that a command starts is asked for its own memory of how it was started."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a").write_text("a")
    words = "neither argument nor variable"
    read, write = os.pipe()
    os.write(write, words.encode() + b"\n")
    os.close(write)
    script = (
        "import glob, sys, threading, time\n"
        "from encvault.cli import main\n"
        "seen = set()\n"
        "def look():\n"
        "    while True:\n"
        "        for name in glob.glob('/proc/[0-9]*/cmdline') + ['/proc/self/environ']:\n"
        "            try:\n"
        "                seen.add(open(name, 'rb').read())\n"
        "            except OSError:\n"
        "                pass\n"
        "        time.sleep(0.005)\n"
        "threading.Thread(target=look, daemon=True).start()\n"
        "code = main(sys.argv[1:])\n"
        "sys.stdout.buffer.write(b'\\n'.join(seen))\n"
        "sys.exit(code)\n"
    )
    command = [sys.executable, "-c", script, "seal", "docs", "--password-fd", str(read)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, pass_fds=(read,))
    os.close(read)
    assert done.returncode == 0, done.stderr
    assert b"--password-fd" in done.stdout
    assert words.encode() not in done.stdout


@pytest.mark.parametrize("holder", [Secret(b"words"), KeyIdentity(Secret(bytes(32)))])
def test_a_holder_of_a_secret_does_not_print_it(holder: object) -> None:
    assert "words" not in f"{holder!r} {holder}"
    assert "00000000" not in f"{holder!r}"


def test_errors_have_no_secrets_among_their_fields() -> None:
    def leaves(cls: type[EncvaultError]) -> list[type[EncvaultError]]:
        return [cls, *(one for below in cls.__subclasses__() for one in leaves(below))]

    names = {name for cls in leaves(EncvaultError) for name in cls.__annotations__}
    assert len(names) > 20
    assert names.isdisjoint({"password", "secret", "key_bytes", "seed", "code"})
