"""Files and folders: one large file, a tree, the second night, and what a start costs."""

from __future__ import annotations

import shlex
import shutil
import sys
from typing import TYPE_CHECKING

from contest import ENCVAULT, ROOT, Aim, Case, Contender
from inputs import write_random, write_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from compare import Scale

PYTHON = shlex.quote(sys.executable)
_SEAL = f"{ENCVAULT} seal -q"
_OPEN = f"{ENCVAULT} open -q"
# the same command, with the backend that is used where libgcrypt is missing
_PYCA = (
    f"{PYTHON} -c 'import sys; from encvault.crypto import gcrypt; "
    "gcrypt.is_usable = lambda: False; from encvault.cli import main; sys.exit(main())'"
)
_GPG = "gpg --batch --quiet --yes --passphrase x --compress-level 0 --cipher-algo AES256"
_OPENSSL = "openssl enc -pbkdf2 -pass pass:x -aes-256-ctr"
_PEERS = ("age", "gpg", "openssl", "7zz", "rclone crypt")


def _twice_as_fast(than: tuple[str, ...] = _PEERS) -> tuple[Aim, ...]:
    return tuple(Aim("seconds", 0.5, name) for name in than)


def large(work: Path, scale: Scale) -> Iterator[Case]:
    """One large file, sealed and opened."""
    write_random(work / "big", scale.large_mib)
    size = f"{scale.large_mib} MiB"
    clean = "rm -rf out* in in.* big.* copy c s.*"
    again = f"{clean}; cp big in"
    like_cp = (Aim("seconds", 1.15, "cp"), Aim("peak_kib", 150 * 1024))
    faster = Aim("seconds", 0.2, "encvault seal, sm4-gcm by pyca")
    sm4 = "--suite sm4-gcm"
    yield Case(
        "seal a file",
        size,
        [
            Contender("cp", "cp big copy", after=clean),
            Contender("cp, sync", "cp big copy && sync copy", after=clean),
            Contender(
                "encvault seal",
                f"{_SEAL} big -o s.sealed -r me.pub",
                after=clean,
                aims=(*like_cp, *_twice_as_fast()),
            ),
            Contender(
                "encvault seal, in place", f"{_SEAL} in -r me.pub", before=again, after=clean
            ),
            Contender(
                "encvault seal, sm4-gcm",
                f"{_SEAL} big -o s.sealed {sm4} -r me.pub",
                after=clean,
                aims=(faster, Aim("seconds", 1 / 0.85, "libgcrypt alone, two threads")),
            ),
            Contender(
                "encvault seal, sm4-gcm by pyca",
                f"{_PYCA} seal -q big -o s.sealed {sm4} -r me.pub",
                after=clean,
            ),
            Contender(
                "libgcrypt alone, two threads",
                f"{PYTHON} {shlex.quote(str(ROOT / 'bench' / 'sm4.py'))} {scale.large_mib}",
            ),
            Contender("age", "age -R age.pub -o big.age big", ("age", "age-keygen"), after=clean),
            Contender("gpg", f"{_GPG} -c -o big.gpg big", ("gpg",), after=clean),
            Contender("openssl", f"{_OPENSSL} -in big -out big.enc", ("openssl",), after=clean),
            Contender("7zz", "7zz a -bd -y -mx0 -px big.7z big >/dev/null", ("7zz",), after=clean),
            Contender("rclone crypt", "rclone copy big crypt:", ("rclone",), after=clean),
        ],
    )
    yield Case(
        "open a file",
        size,
        [
            Contender("cp", "cp big copy", after=clean),
            Contender("cp, sync", "cp big copy && sync copy", after=clean),
            Contender(
                "encvault open",
                f"{_OPEN} s.sealed -o out -i me.key",
                before=f"{_SEAL} big -o s.sealed -r me.pub",
                after=clean,
                aims=(*like_cp, *_twice_as_fast()),
            ),
            Contender(
                "encvault open, sm4-gcm",
                f"{_OPEN} s.sealed -o out -i me.key",
                before=f"{_SEAL} big -o s.sealed {sm4} -r me.pub",
                after=clean,
            ),
            Contender(
                "age",
                "age -d -i age.key -o out big.age",
                ("age", "age-keygen"),
                before="age -R age.pub -o big.age big",
                after=clean,
            ),
            Contender(
                "gpg",
                f"{_GPG} -d -o out big.gpg 2>/dev/null",
                ("gpg",),
                before=f"{_GPG} -c -o big.gpg big",
                after=clean,
            ),
            Contender(
                "openssl",
                f"{_OPENSSL} -d -in big.enc -out out",
                ("openssl",),
                before=f"{_OPENSSL} -in big -out big.enc",
                after=clean,
            ),
            Contender(
                "7zz",
                "7zz x -bd -y -px -oout big.7z >/dev/null",
                ("7zz",),
                before="7zz a -bd -y -mx0 -px big.7z big >/dev/null",
                after=clean,
            ),
            Contender(
                "rclone crypt",
                "rclone copy crypt:big out",
                ("rclone",),
                before="rclone copy big crypt:",
                after=clean,
            ),
        ],
    )
    (work / "big").unlink()


def tree(work: Path, scale: Scale) -> Iterator[Case]:
    """Many small files: sealed in place, as a mirror, as an archive, and opened."""
    write_tree(work / "tree", scale.files)
    size = f"{scale.files} files"
    clean = "rm -rf out* in copy c mirror* t.* state/encvault/vaults"
    again = f"{clean}; cp -a tree in"
    peers = [
        Contender("7zz", "7zz a -bd -y -mx0 -px t.7z tree >/dev/null", ("7zz",), after=clean),
        _in_gocryptfs("cp -r tree p/tree", clean),
        Contender("rclone crypt", "rclone copy tree crypt:", ("rclone",), after=clean),
        Contender(
            "restic, first backup",
            "restic backup --quiet tree",
            ("restic",),
            before="rm -rf restic cache; restic init --quiet",
        ),
    ]
    plain = "cp -r, rm -r, sync"
    yield Case(
        "seal a tree",
        size,
        [
            Contender(
                plain, "cp -r in copy && rm -r in && sync -f copy", before=again, after=clean
            ),
            Contender(
                "encvault seal, in place",
                f"{_SEAL} in --yes -r me.pub",
                before=again,
                after=clean,
                aims=(
                    Aim("seconds", 1.3, plain),
                    *(Aim("seconds", 1 / 3, one.name) for one in peers[:3]),
                    Aim("peak_kib", 150 * 1024),
                ),
            ),
            Contender(
                "encvault seal, in place, hidden",
                f"{_SEAL} in --yes --hide-names -r me.pub",
                before=again,
                after=clean,
            ),
            Contender("encvault seal --to", f"{_SEAL} tree --to mirror -r me.pub", after=clean),
            *peers,
        ],
    )
    yield Case(
        "archive a tree",
        size,
        [
            Contender(
                "tar | age",
                "tar c tree | age -R age.pub -o t.age && sync t.age",
                ("age",),
                after=clean,
            )
            if shutil.which("age")
            else Contender("tar", "tar cf t.tar tree && sync t.tar", after=clean),
            Contender(
                "encvault seal --archive",
                f"{_SEAL} tree --archive t.sealed -r me.pub",
                after=clean,
                aims=(Aim("seconds", 1.0, "tar | age"), Aim("peak_kib", 150 * 1024)),
            ),
        ],
    )
    yield Case(
        "open a tree",
        size,
        [
            Contender("cp -r", "cp -r in copy", before=again, after=clean),
            Contender(
                "encvault open, in place",
                f"{_OPEN} in -i me.key",
                before=f"{again}; {_SEAL} in --yes -r me.pub",
                after=clean,
                aims=(Aim("seconds", 1.3, "cp -r"),),
            ),
            Contender(
                "encvault open --to",
                f"{_OPEN} mirror --to out -i me.key",
                before=f"{clean}; {_SEAL} tree --to mirror -r me.pub",
                after=clean,
                aims=(Aim("seconds", 1.3, "cp -r"),),
            ),
        ],
    )


def _in_gocryptfs(command: str, clean: str) -> Contender:
    return Contender(
        "gocryptfs",
        f"{command} && sync -f p",
        ("gocryptfs",),
        before="mkdir -p c p && gocryptfs -q -init -extpass 'echo x' -scryptn 10 c 2>/dev/null"
        " && gocryptfs -q -extpass 'echo x' c p 2>/dev/null",
        after=f"fusermount3 -u p || fusermount -u p || umount p; rmdir p; {clean}",
        serves=" c p",
    )


def again(work: Path, scale: Scale) -> Iterator[Case]:
    """The second night: nothing has changed, or one file in a hundred."""
    if not (work / "tree").exists():
        write_tree(work / "tree", scale.files)
    (work / "night.toml").write_text(
        f'version = 1\nmode = "mirror"\nsources = ["{work / "tree"}"]\ndelete = true\n'
        f'destination = "{work / "nightly"}"\nrecipients = ["{work / "me.pub"}"]\n'
    )
    change = (
        f'{PYTHON} -c "import os,pathlib,random; '
        "found = sorted(pathlib.Path('tree').rglob('*.dat')); "
        '[one.write_bytes(os.urandom(5000)) for one in random.sample(found, len(found) // 100)]"'
    )
    begun = {
        "encvault seal --to": f"test -d mirror || {_SEAL} tree --to mirror -r me.pub",
        "encvault seal --to, hidden": f"test -d mirror2 || "
        f"{_SEAL} tree --to mirror2 --hide-names -r me.pub",
        "encvault job run": f"test -d nightly || {ENCVAULT} job run night.toml --quiet",
        "restic backup": "test -d restic || { restic init --quiet && restic backup --quiet tree; }",
        "rclone sync crypt": "test -d c || rclone sync tree crypt:",
    }
    work_of = {
        "encvault seal --to": f"{_SEAL} tree --to mirror -r me.pub",
        "encvault seal --to, hidden": f"{_SEAL} tree --to mirror2 --hide-names -r me.pub",
        "encvault job run": f"{ENCVAULT} job run night.toml --quiet",
        "restic backup": "restic backup --quiet tree",
        "rclone sync crypt": "rclone sync tree crypt:",
    }
    aims = (Aim("seconds", 0.4), Aim("seconds", 0.25, "restic backup"))
    for name, changes in (("nothing changed", ""), ("1 % changed", change)):
        contenders = [
            Contender(
                one,
                command,
                tuple({"restic backup": ["restic"], "rclone sync crypt": ["rclone"]}.get(one, ())),
                before=begun[one],
                aims=aims if one == "encvault seal --to" and not changes else (),
            )
            for one, command in work_of.items()
        ]
        yield Case(name, f"{scale.files} files", contenders, each_round=changes)


def start(work: Path, _scale: Scale) -> Iterator[Case]:
    """Starting, and doing little."""
    for number in range(3):
        (work / "small").mkdir(exist_ok=True)
        (work / "small" / f"{number}.txt").write_text("content")
    sealed = f"test -d small/.encvault || {_SEAL} small --yes -r me.pub"
    yield Case(
        "start",
        "CPU counts; the vault has three files",
        [
            Contender("python -c pass", f"{PYTHON} -c pass"),
            Contender(
                "encvault --version", f"{ENCVAULT} --version >/dev/null", aims=(Aim("cpu", 0.06),)
            ),
            Contender("encvault --help", f"{ENCVAULT} --help >/dev/null"),
            Contender(
                "encvault status",
                f"{ENCVAULT} status small >/dev/null",
                before=sealed,
                aims=(Aim("cpu", 0.12),),
            ),
            Contender(
                "encvault cat", f"{ENCVAULT} cat small/0.txt -i me.key >/dev/null", before=sealed
            ),
            Contender("age --version", "age --version >/dev/null", ("age",)),
            Contender("gocryptfs -version", "gocryptfs -version >/dev/null", ("gocryptfs",)),
            Contender("restic version", "restic version >/dev/null", ("restic",)),
        ],
        leaves_pages=False,
    )
