"""Seals the golden files of a format version: run once when the version is released.

    PYTHONPATH=tests python -m golden.make

What is there is never made again: a reader of today must open what was sealed then.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from unittest import mock

from helpers import snapshot

from encvault import operations
from encvault.crypto.kdf import CHEAPEST
from encvault.crypto.suite import Suite
from encvault.keyslots import PasswordRecipient, PublicKeyRecipient, encode_password
from encvault.vault import plan, sealing

GOLDEN = Path(__file__).parent / "v1"
PASSWORD = "golden 密码"
PART_SIZE = 1000


def write_tree(root: Path, *, hidden: bool) -> None:
    (root / "文档" / "deep").mkdir(parents=True)
    (root / "empty").touch()
    (root / "报价单.txt").write_text("一二三\n" * 100)
    (root / "文档" / "run.sh").write_text("#!/bin/sh\n")
    (root / "文档" / "run.sh").chmod(0o755)
    (root / "文档" / "deep" / "chunks").write_bytes(bytes(range(256)) * 80)
    (root / ("n" * 255)).write_text("long name")
    if hidden:  # a checkout could not hold these
        (root / "hollow").mkdir(0o700)
        (root / "link").symlink_to("文档/run.sh")
        (root / os.fsdecode(b"caf\xe9")).write_text("not UTF-8")
    for index, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        if path.is_file() and not path.stat().st_mode & 0o100:
            path.chmod(0o640)
        when = 1_600_000_000_123_456_789 + index
        os.utime(path, ns=(when, when), follow_symlinks=False)


def describe(root: Path, *, folders: bool) -> dict[str, dict[str, object]]:
    """What must come out, with names as bytes in hexadecimal: not all of them are text."""
    return {
        os.fsencode(path).hex(): {
            "kind": node.kind,
            "mode": node.mode,
            "mtime_ns": node.mtime_ns,
            "sha256": hashlib.sha256(node.content).hexdigest(),
        }
        for path, node in snapshot(root).items()
        if folders or node.kind != "dir"
    }


def main() -> None:
    if GOLDEN.exists():
        sys.exit(f"{GOLDEN} exists, and stays as it is")
    GOLDEN.mkdir()
    (GOLDEN / "password.txt").write_text(PASSWORD + "\n")
    password = encode_password(PASSWORD)
    name = str(GOLDEN / "identity.key")
    identity = operations.new_identity(name, "golden", password, profile=CHEAPEST)
    by_password = PasswordRecipient(password, label="golden", profile=CHEAPEST)
    by_key = PublicKeyRecipient(identity.public, label="golden")
    both = operations.Answers((by_password, by_key))
    expected = {}
    with tempfile.TemporaryDirectory() as folder, mock.patch.multiple(plan, PART_SIZE=PART_SIZE):
        for layout, suite in (("visible", Suite.AES_256_GCM), ("hidden", Suite.SM4_GCM)):
            hidden = layout == "hidden"
            root = Path(folder) / layout
            write_tree(root, hidden=hidden)
            expected[layout] = describe(root, folders=hidden)
            request = operations.SealRequest(
                (str(root),), str(GOLDEN / layout), suite=suite, hide_names=hidden, jobs=1
            )
            with mock.patch.multiple(sealing, PART_SIZE=PART_SIZE):
                if operations.seal(request, both).problems:
                    sys.exit("not everything was sealed")
            (GOLDEN / layout / ".encvault" / "lock").unlink(missing_ok=True)
        root = Path(folder) / "visible"
        file = root / "报价单.txt"
        alone = operations.SealRequest((str(file),), output=str(GOLDEN / "file.sealed"), keep=True)
        operations.seal(alone, both)
        expected["file"] = {"name": expected["visible"][os.fsencode(file.name).hex()]}
        root = Path(folder) / "hidden"
        archive = operations.SealRequest((str(root),), archive=str(GOLDEN / "archive.sealed"))
        operations.seal(archive, both)
        expected["archive"] = describe(root, folders=True)
    (GOLDEN / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
    shutil.rmtree(GOLDEN / "__pycache__", ignore_errors=True)


if __name__ == "__main__":
    main()
