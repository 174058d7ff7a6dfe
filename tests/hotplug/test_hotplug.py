"""A USB stick in a running system: plugged in, locked, pulled out, and plugged in again."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hotplug.conftest import MARK

if TYPE_CHECKING:
    from helpers import Ran
    from hotplug.conftest import Files
    from hotplug.guest import Guest
    from hotplug.stick import Stick

DRIVE = "/mnt/stick"
KEY = ("-i", "/run/key")
# of the writes of a lock: while it seals, while it goes to the stick, while originals are removed
MOMENTS = (0.1, 0.5, 0.9)

pytestmark = pytest.mark.timeout(1200)  # a machine in software


def usb(guest: Guest, command: str, *arguments: object) -> Ran:
    return guest.encvault("usb", command, DRIVE, *arguments)


def done(ran: Ran) -> Ran:
    assert ran.code == 0, ran
    return ran


def mount(guest: Guest, stick: Stick) -> None:
    guest.sh(f"mount {stick.node} {DRIVE}")


def fill(guest: Guest, stick: Stick, files: Files) -> None:
    stick.plug(guest)
    mount(guest, stick)
    guest.sh(f"cp -r {files.path}/. {DRIVE} && sync")


def listed(guest: Guest) -> dict[str, Any]:
    [one] = json.loads(done(guest.encvault("usb", "list", "--json")).out)["drives"]
    return one  # type: ignore[no-any-return]  # as JSON is


def digests(guest: Guest, folder: str) -> dict[str, str]:
    """Of the files below a folder, but for those that encvault and fsck(8) put there."""
    out = guest.sh(
        f"cd {folder} && find . -name .encvault -prune -o -type f ! -name HOW-TO-OPEN.txt "
        "! -iname 'fsck*.rec' -exec sha256sum {} +"
    )
    return dict(reversed(line.split("  ./", 1)) for line in out.splitlines())  # type: ignore[misc]  # pairs


def test_a_stick_is_found_locked_opened_and_ejected(
    guest: Guest, stick: Stick, files: Files, recipient: str
) -> None:
    stick.plug(guest)
    found = listed(guest)
    known = guest.sh(f"udevadm info --query=property {stick.node}").splitlines()
    assert f"ID_FS_TYPE={stick.kind}" in known
    assert (found["state"], found["path"]) == ("unmounted", None)
    assert found["device"]["serial"] == stick.serial
    assert found["device"]["filesystem"] == stick.kind
    assert found["device"]["label"] == stick.label
    assert found["device"]["size"] == stick.size << 20
    mount(guest, stick)
    guest.sh(f"cp -r {files.path}/. {DRIVE}")
    found = listed(guest)
    assert (found["state"], found["path"]) == ("plain", DRIVE)

    done(usb(guest, "lock", "-r", recipient, "--yes"))
    done(usb(guest, "status"))
    assert sorted(guest.sh(f"ls -A {DRIVE}").split()) == [".encvault", "HOW-TO-OPEN.txt"]
    assert guest.run("grep", "-rqF", MARK.decode().strip(), DRIVE).code == 1
    done(usb(guest, "verify", *KEY))
    done(usb(guest, "unlock", "--to", "/run/copy", *KEY))
    assert digests(guest, "/run/copy") == files.digests
    guest.sh("rm -r /run/copy")

    done(guest.encvault("usb", "eject", stick.label))
    assert guest.run("mountpoint", "-q", DRIVE).code != 0
    stick.pull(guest)
    assert usb(guest, "status").code == 2  # the folder is there, and no drive


def test_a_stick_that_is_pulled_out_while_it_is_locked_loses_nothing(
    guest: Guest, stick: Stick, files: Files, recipient: str
) -> None:
    fill(guest, stick, files)
    before = stick.writes(guest)
    done(usb(guest, "lock", "-r", recipient, "--yes"))
    whole = stick.writes(guest) - before
    codes = []
    for moment in MOMENTS:
        done(usb(guest, "unlock", "--in-place", *KEY))
        assert digests(guest, DRIVE) == files.digests
        codes.append(lock_pulled_out(guest, stick, round(whole * moment)))
        stick.plug(guest)
        mount(guest, stick)
        repair(guest, stick)
        done(usb(guest, "verify", *KEY))
    assert 74 in codes  # else no moment was one
    done(usb(guest, "unlock", "--to", "/run/copy", *KEY))
    assert digests(guest, "/run/copy") == files.digests
    guest.sh("rm -r /run/copy")


def lock_pulled_out(guest: Guest, stick: Stick, writes: int) -> int:
    """Pull it out after so many writes of a lock; how that ended."""
    before = stick.writes(guest)
    number = guest.begin("usb", "lock", DRIVE)
    while guest.is_running(number) and stick.writes(guest) - before < writes:
        time.sleep(0.01)
    stick.pull(guest)
    ran = guest.ended(number)
    assert ran.code in (0, 74), ran
    assert ("the drive went away" in ran.err) == (ran.code == 74)
    assert "Traceback" not in ran.err
    guest.sh(f"umount -l {DRIVE}")
    assert guest.sh(f"ls -A {DRIVE}") == ""  # nothing went to the folder beneath
    return ran.code


def repair(guest: Guest, stick: Stick) -> None:
    consent: tuple[str, ...] = ()
    if stick.kind == "vfat":
        ran = usb(guest, "repair", *KEY)
        # without a journal it can be inconsistent now, and writing to it would destroy more
        assert (ran.code, "fsck.vfat -a" in ran.err) == (2, True), ran
        guest.sh(f"umount {DRIVE}")
        check(guest, stick)
        mount(guest, stick)
        consent = ("--yes",)
    done(usb(guest, "repair", *KEY, *consent))
    done(usb(guest, "lock", *consent))  # nothing of the lock may have got to the stick


def check(guest: Guest, stick: Stick) -> None:
    """Repair its file system: fsck.vfat does it bit by bit, and is done when it finds nothing."""
    for _turn in range(4):
        ran = guest.run(f"fsck.{stick.kind}", "-a", stick.node)
        guest.note(f"fsck.{stick.kind} {ran.code}")
        if ran.code == 0:
            return
    pytest.fail(f"cannot be repaired: {ran}")


def test_a_stick_that_is_pulled_out_while_it_is_unlocked_hangs_nobody(
    guest: Guest, stick: Stick, files: Files, recipient: str
) -> None:
    fill(guest, stick, files)
    guest.sh("echo correct horse battery staple > /run/password")
    password = ("--password-file", "/run/password")
    done(usb(guest, "lock", "-r", recipient, "--yes", *password))
    opened = json.loads(done(usb(guest, "unlock", "--json", *password)).out)["path"]
    assert digests(guest, opened) == files.digests
    guest.sh("echo 3 > /proc/sys/vm/drop_caches")  # what is in memory can be read for ever
    stick.pull(guest)
    for command in (["ls", opened], ["cat", f"{opened}/large.bin"]):
        ran = guest.run("timeout", "60", *command)
        guest.note(f"{' '.join(command)}: {ran.code}  {(ran.err or ran.out).strip()}")
        assert ran.code != 124, ran  # it hung
    assert ran.code == 1
    done(guest.encvault("unmount", "--all"))
    assert guest.run("mountpoint", "-q", opened).code != 0
    guest.sh(f"umount -l {DRIVE}")
    stick.plug(guest)
    mount(guest, stick)
    done(usb(guest, "verify", *KEY))
