"""``make demo``: the main job on two small folders, with the commands that a person would type.

It writes a folder of sales documents and a source tree, seals both, looks at them, opens them and
compares what came back with what was there, byte for byte, with modes and times.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_DOCUMENTS = {
    "2026/报价单 华东区.csv": "客户,型号,单价\n上海远洋,EV-200,1280.00\n杭州明远,EV-350,2150.00\n",
    "2026/customers.csv": "name,contact,discount\nAcme,li@acme.example,12%\n",
    "2026/合同草案.txt": "甲方:……\n乙方:……\n" * 200,
    "price-list.txt": "EV-200 1280\nEV-350 2150\n" * 50,
}
_SOURCES = {
    "src/app/__init__.py": "",
    "src/app/main.py": "def main() -> None:\n    print('hello')\n" * 100,
    "build.sh": "#!/bin/sh\nexec python -m app\n",
    "README": "the company's product\n",
}


def main() -> int:
    """Run the demonstration; 0 if everything came back as it was."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="encvault-demo-") as name:
        top = Path(name)
        demo = _Demo(top)
        _write(top / "sales", _DOCUMENTS)
        _write(top / "product", _SOURCES)
        (top / "product/build.sh").chmod(0o755)
        (top / "product/latest").symlink_to("src/app/main.py")
        (top / "sales/scan.bin").write_bytes(os.urandom(3_000_000))
        before = _snapshot(top / "sales"), _snapshot(top / "product")
        (top / "password").write_text("correct horse battery staple\n")

        demo.say("a key pair for the colleague who may open the source code as well")
        recipient = demo.run("key new --no-password --name colleague -o colleague.key")
        (top / "colleague.pub").write_text(recipient)

        demo.say("sales documents: AES-256-GCM, names stay readable")
        demo.run("seal sales --password-file password")
        demo.say("source code: SM4-GCM, names hidden as well")
        demo.run(
            "seal product --suite sm4-gcm --hide-names --password-file password -r colleague.pub"
        )
        demo.say("what lies on the disk now")
        _show_tree(top / "sales")
        _show_tree(top / "product")

        for folder in ("sales", "product"):
            demo.run(f"status {folder}")
            demo.run(f"verify {folder} --password-file password")
        demo.run("ls -l product -i colleague.key")
        demo.run("cat sales/price-list.txt --password-file password", lines=2)

        demo.say("open both and compare")
        demo.run("open sales --password-file password")
        demo.run("open product -i colleague.key")
        after = _snapshot(top / "sales"), _snapshot(top / "product")
    if before != after:
        print("FAILED: what was opened is not what was sealed")
        return 1
    files = sum(len(tree) for tree in after)
    print(f"\nall {files} files, folders and links came back bit for bit,")
    print(f"with their modes and times, in {time.monotonic() - started:.1f} s")
    return 0


class _Demo:
    def __init__(self, top: Path) -> None:
        self._top = top
        self._environment = os.environ | {
            "HOME": str(top / "home"),
            "XDG_STATE_HOME": str(top / "home/state"),
            "XDG_CONFIG_HOME": str(top / "home/config"),
        }

    def say(self, text: str) -> None:
        print(f"\n# {text}")

    def run(self, command: str, *, lines: int = 40) -> str:
        print(f"$ encvault {command}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "encvault", *shlex.split(command)],
            cwd=self._top,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        shown = done.stdout.splitlines()
        for line in shown[:lines]:
            print(f"  {line[:100]}{'…' if len(line) > 100 else ''}")
        if len(shown) > lines:
            print(f"  … {len(shown) - lines} more lines")
        if done.returncode:
            raise SystemExit(f"FAILED: exit code {done.returncode}")
        return shown[-1] if shown else ""


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _show_tree(root: Path) -> None:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            print(f"  {path.relative_to(root.parent)}  {path.stat().st_size}")


def _snapshot(root: Path) -> dict[str, tuple[int, int, str]]:
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith(".encvault"):
            continue
        status = path.lstat()
        content = b""
        if stat.S_ISLNK(status.st_mode):
            content = os.fsencode(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        found[name] = (status.st_mode, status.st_mtime_ns, digest)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
