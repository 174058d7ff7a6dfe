"""``encvault doctor`` on this machine, and on machines where something is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import NOBODY, everything, in_child

from encvault import i18n
from encvault.accesslog.log import AccessLog
from encvault.cli import options
from encvault.crypto import gcrypt, selftest, speed
from encvault.crypto.suite import Suite
from encvault.errors import SelfTestFailed, SuiteUnavailable
from encvault.i18n import english
from encvault.operations import doctor
from encvault.operations.doctor import Check, Finding, Surroundings, installation, machine

if TYPE_CHECKING:
    from helpers import Command

NAMES = [check.name for check in doctor.CHECKS]


def home(name: str) -> Path:
    """A folder of XDG, whether it exists or not."""
    return Path(os.environ[f"XDG_{name}_HOME"]) / "encvault"


def checks(run: Command, *, code: int = 0) -> dict[str, dict[str, Any]]:
    done = run("doctor", "--json")
    assert done.code == code, done.out
    assert done.err == ""
    found = json.loads(done.out)["checks"]
    assert [one["name"] for one in found] == NAMES
    for one in found:
        assert one.keys() == {"name", "needed", "state", "detail", "fix"}
        assert one["state"] in ("ok", "warn", "missing", "failed")
        assert one["detail"]
        assert one["fix"] is None or one["state"] != "ok"
    return {one["name"]: one for one in found}


def around(root: Path = Path("/"), **changes: Any) -> Surroundings:
    """Surroundings of which a test changes one thing."""
    usual: dict[str, Any] = {
        "state_dir": str(home("STATE")),
        "config_dir": str(home("CONFIG")),
        "config_files": (),
        "identity": str(home("CONFIG") / "identity.key"),
        "search_path": os.defpath,
        "locale": "C.UTF-8",
        "now": 1_795_579_708.0,
        "root": str(root),
    }
    return Surroundings(**usual | changes)


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def program(folder: Path, name: str) -> None:
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)


# -- the table ------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_log(run: Command) -> None:
    shutil.rmtree(os.environ["XDG_STATE_HOME"])


def test_nothing_is_changed_and_all_that_is_needed_works(run: Command) -> None:
    above = home("STATE").parent.parent
    before = everything(above)
    found = checks(run)
    assert everything(above) == before
    needed = [one for one in found.values() if one["needed"]]
    assert {one["state"] for one in needed} == {"ok"}
    assert len(needed) == 7
    assert found["python"]["detail"].startswith(".".join(map(str, sys.version_info[:3])))
    assert "OpenSSL " in found["cryptography"]["detail"]
    assert found["selftest"]["detail"] == f"{selftest.EXPECTED_COUNT + 1} known-answer tests passed"
    for name in ("aes", "sm4"):
        assert re.match(
            r"(fast|slow): \d+ MB/s on one core, by (OpenSSL|libgcrypt)", found[name]["detail"]
        )
    assert found["config"]["detail"] == "no configuration file"
    assert found["identity"]["state"] == "missing"
    assert found["identity"]["fix"] == "encvault key new"


def test_it_works_as_an_ordinary_user(
    run: Command, public_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(public_path / name))
    found = in_child(lambda: checks(run), uid=NOBODY)
    assert found["state-folder"]["state"] == "ok"


def test_in_a_pipe_the_table_is_plain(run: Command) -> None:
    done = run("doctor")
    assert done.code == 0
    lines = done.out.splitlines()
    shown = [line for line in lines if not line.startswith(" ")]
    assert len(shown) == len(NAMES)
    assert "\x1b" not in done.out
    assert "missing  default identity" in done.out
    fixes = [line.strip() for line in lines if line.startswith(" ")]
    assert "fix: encvault key new" in fixes


def test_chinese_columns_are_below_each_other(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    done = run("doctor")
    assert "缺失  默认身份密钥      没有" in done.out
    assert "修复：encvault key new" in done.out


@pytest.mark.parametrize("variable", ["NO_COLOR", "COLUMNS"])
def test_on_a_terminal_the_table_fits(variable: str, tmp_path: Path) -> None:
    script = (
        "import os, pty, sys\n"
        "code = pty.spawn([sys.executable, '-m', 'encvault', 'doctor'])\n"
        "sys.exit(os.waitstatus_to_exitcode(code))\n"
    )
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", variable: "80"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert ("\x1b[32m" in text) == (variable != "NO_COLOR")
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert max(len(line.rstrip()) for line in plain.splitlines()) <= 80
    assert "fix: encvault key new" in plain


# -- what is needed -------------------------------------------------------------------------


def test_a_failing_self_test_is_the_end(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> int:
        raise SelfTestFailed(name="sm4_gcm")

    monkeypatch.setattr(installation.selftest, "run", broken)
    one = checks(run, code=3)["selftest"]
    assert one["state"] == "failed"
    assert one["detail"] == "cryptographic self-test failed: sm4_gcm"
    assert one["fix"] == "reinstall encvault and cryptography"
    done = run("doctor")
    assert done.code == 3
    assert done.err.splitlines() == [
        "encvault: needed and not working: 1",
        "hint: mend what is named above, then run again: encvault doctor",
    ]


def test_a_libgcrypt_that_does_not_work_stops_nothing(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cached in (gcrypt._found, selftest.run):
        cached.cache_clear()
    monkeypatch.setattr(gcrypt, "SONAME", "libc.so.6")  # a library without these functions
    try:
        found = checks(run)
    finally:
        gcrypt._found.cache_clear()
    assert {one["state"] for one in found.values() if one["needed"]} == {"ok"}
    assert re.search(
        r"by OpenSSL .*; libgcrypt is not used: the library does not work \(.*gcry_check_version",
        found["sm4"]["detail"],
    )


def test_a_suite_that_the_libraries_lack_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_args: object) -> object:
        raise speed.UnsupportedAlgorithm("no SM4")

    monkeypatch.setattr(speed.stream, "encryptor", lacking)
    with pytest.raises(SuiteUnavailable, match="sm4-gcm does not work on this machine: no SM4"):
        speed.rate(Suite.SM4_GCM, 0)


@pytest.mark.parametrize(("rate", "word"), [(299e6, "slow"), (301e6, "fast")])
def test_fast_and_slow(monkeypatch: pytest.MonkeyPatch, rate: float, word: str) -> None:
    monkeypatch.setattr(speed, "rate", lambda _suite, _duration: rate)
    assert installation.aes_speed(around()).detail.startswith(f"{word}: {rate / 1e6:.0f} MB/s")


def test_a_wrong_configuration_is_told(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.toml"
    monkeypatch.setattr(options, "SYSTEM_CONFIG", str(path))
    path.write_text("suit = 'sm4-gcm'")
    one = checks(run, code=3)["config"]
    assert one["state"] == "failed"
    assert one["detail"] == f"{path}:1: unknown key suit"
    assert one["fix"] == "did you mean suite?"
    path.write_text("recipients = ['nobody.pub']")
    assert "nobody.pub" in checks(run, code=3)["config"]["detail"]
    (path.parent / "me.pub").write_text(
        run("key", "new", "--no-password", "-o", path.parent / "me.key").out
    )
    path.write_text("recipients = ['me.pub']")
    assert checks(run)["config"]["detail"] == f"{path}; recipients for everything new: 1"


def test_a_state_folder_that_cannot_be_written_to(
    run: Command, public_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public_path.chmod(0o755)
    for name in ("STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(public_path / "deep" / name))
    found = in_child(lambda: checks(run, code=3), uid=NOBODY)
    for name, variable in [
        ("state-folder", "XDG_STATE_HOME"),
        ("config-folder", "XDG_CONFIG_HOME"),
    ]:
        assert found[name]["state"] == "failed"
        assert found[name]["detail"] == f"no right to write to {public_path}"
        assert found[name]["fix"] == f"set {variable} to a folder that you may write to"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_a_folder_that_others_can_write_to_or_own(run: Command) -> None:
    folder = home("STATE")
    assert checks(run)["state-folder"]["detail"] == f"{folder} is made when it is needed"
    folder.mkdir(parents=True, mode=0o700)
    assert checks(run)["state-folder"]["detail"] == str(folder)
    folder.chmod(0o770)
    one = checks(run)["state-folder"]
    assert (one["state"], one["fix"]) == ("warn", f"chmod go-w {folder}")
    folder.chmod(0o700)
    os.chown(folder, NOBODY, NOBODY)
    one = checks(run)["state-folder"]
    assert one["state"] == "warn"
    assert one["detail"] == f"{folder} belongs to user {NOBODY}"


def test_an_access_log_that_cannot_be_written_to(
    run: Command, public_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = checks(run)["access-log"]
    folder = home("STATE") / "log"
    assert (one["state"], one["detail"]) == ("ok", f"{folder} begins with the first access")
    log = AccessLog(str(folder))
    log.begin()
    last = (datetime.now(UTC) + timedelta(days=39)).date()  # as tests have it
    assert checks(run)["access-log"]["detail"] == f"{folder}, keys up to {last}"
    with monkeypatch.context() as later:
        later.setattr("time.time", lambda: 4e9)
        one = checks(run, code=3)["access-log"]
        assert (one["state"], one["detail"]) == ("failed", f"{folder} has keys up to {last} only")
    if os.geteuid() == 0:
        shutil.copytree(folder, public_path / "STATE" / "encvault" / "log")
        for path in (public_path / "STATE").rglob("*"):
            path.chmod(0o755)
        monkeypatch.setenv("XDG_STATE_HOME", str(public_path / "STATE"))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(public_path / "CONFIG"))
        one = in_child(lambda: checks(run, code=3), uid=NOBODY)["access-log"]
        place = public_path / "STATE" / "encvault" / "log"
        assert one["detail"] == f"{place} is not writable"
        assert one["fix"] == f"sudo chown -R nobody {place}"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder.parent.parent))
    (folder / "key").rename(folder / "away")
    assert checks(run, code=3)["access-log"]["detail"] == f"{folder}/key is missing"
    (folder / "away").rename(folder / "key")
    full = os.statvfs_result((4096, 4096, 100, 0, 0, 10, 10, 10, 0, 255))
    with monkeypatch.context() as later:
        later.setattr("os.statvfs", lambda _path: full)
        assert checks(run, code=3)["access-log"]["detail"] == f"no room left for {folder}"
    (folder / "policy").write_text("nonsense")
    assert checks(run, code=3)["access-log"]["detail"] == f"{folder} is no access log"
    shutil.rmtree(folder)
    folder.write_text("in the way")
    assert checks(run, code=3)["access-log"]["detail"] == f"{folder} is no access log"


def test_a_file_in_the_place_of_a_folder(run: Command) -> None:
    home("STATE").parent.mkdir()
    home("STATE").write_text("")
    one = checks(run, code=3)["state-folder"]
    assert one["detail"] == f"{home('STATE')} is no folder"


@pytest.mark.parametrize(
    ("now", "state"),
    [
        (0.0, "failed"),
        (1_767_225_600.0, "failed"),  # 2026-01-01
        (1_767_225_601.0, "ok"),
        (4_102_444_799.0, "ok"),
        (4_102_444_800.0, "failed"),  # 2100-01-01
    ],
)
def test_the_clock(now: float, state: str) -> None:
    found = machine.clock(around(now=now))
    assert found.state == state
    assert bool(found.fix) == (state == "failed")


# -- what one feature needs -----------------------------------------------------------------


def test_the_default_identity(run: Command) -> None:
    assert run("key", "new", "--no-password").code == 0
    path = home("CONFIG") / "identity.key"
    one = checks(run)["identity"]
    assert one["state"] == "ok"
    shown = json.loads(run("key", "show", "-i", path, "--json").out)["fingerprint"]
    assert one["detail"] == f"{shown} {path}"
    path.chmod(0o640)
    one = checks(run)["identity"]
    assert (one["state"], one["fix"]) == ("warn", f"chmod 600 {path}")
    assert "(mode 0640)" in one["detail"]
    path.write_text("nonsense")
    path.chmod(0o600)
    one = checks(run)["identity"]
    assert one["state"] == "failed"
    assert "not a usable identity file" in one["detail"]
    path.unlink()
    os.mkfifo(path)
    assert checks(run)["identity"]["state"] == "failed"
    path.unlink()
    path.mkdir()
    assert checks(run)["identity"]["detail"] == f"{path}: Is a directory"


def test_without_fusermount3(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    one = checks(run)["fuse"]
    assert one == {
        "name": "fuse",
        "needed": False,
        "state": "missing",
        "detail": "the program fusermount3 is missing",
        "fix": "sudo apt install fuse3",
    }


def test_fuse_in_all_its_states(
    public_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = public_path / "fusermount3"
    helper.write_text("#!/bin/sh\n")
    helper.chmod(0o755)
    (public_path / "dev").mkdir()
    where = around(public_path, search_path=str(public_path))
    found = machine.fuse(where)
    assert (found.state, found.fix) == ("missing", "sudo modprobe fuse")
    device = public_path / "dev" / "fuse"
    device.touch(mode=0o600)
    assert machine.fuse(where).state == "ok"
    # the device is for root alone
    if os.geteuid() == 0:
        found = in_child(lambda: machine.fuse(where), uid=NOBODY)
        assert (found.state, found.detail) == ("failed", f"{device}: Permission denied")
        assert found.fix == f"sudo chmod a+rw {device}"
    monkeypatch.setattr(machine, "_FUSE_LIBRARIES", ("libnowhere.so.3",))
    found = machine.fuse(where)
    assert (found.detail, found.fix) == (
        "the library libfuse3 is missing",
        "sudo apt install fuse3",
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    found = machine.fuse(where)
    assert (found.detail, found.fix) == (
        "the package mfusepy is missing",
        "pip install 'encvault[mount]'",
    )


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv", "run/systemd/container"])
def test_in_a_container_the_fix_is_outside_of_it(tmp_path: Path, mark: str) -> None:
    write(tmp_path, mark, "")
    program(tmp_path, "fusermount3")
    where = around(tmp_path, search_path=str(tmp_path))
    assert "container: lock and unlock drives on its host" in machine.udev(where).fix
    assert "container: schedule jobs on its host" in machine.systemd(where).fix
    found = machine.fuse(where)
    assert (found.state, "--device /dev/fuse" in found.fix) == ("missing", True)


def test_what_is_installed_and_does_not_run_is_started(tmp_path: Path) -> None:
    where = around(tmp_path, search_path=str(tmp_path))
    write(tmp_path, "usr/lib/systemd/systemd-udevd", "")
    assert machine.udev(where).fix == "sudo systemctl start systemd-udevd"
    assert machine.systemd(where).fix == "sudo apt install cron"
    program(tmp_path, "crontab")
    assert machine.systemd(where).fix == "crontab -e"


def test_a_keychain_without_a_session_or_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = around(tmp_path, search_path=str(tmp_path))
    detail = "Secret Service: there is no session bus"
    assert machine.keychain(where) == Finding("missing", detail, "sudo apt install gnome-keyring")
    program(tmp_path, "gnome-keyring-daemon")
    fix = "log in to a desktop session, or start one with: dbus-run-session"
    assert machine.keychain(where) == Finding("missing", detail, fix)
    monkeypatch.setattr(sys, "path", [])
    for name in [name for name in sys.modules if name.partition(".")[0] in ("keyring", "jeepney")]:
        monkeypatch.delitem(sys.modules, name)
    assert machine.keychain(where) == Finding(
        "missing", "the package keyring is missing", "pip install keyring"
    )


def test_json_is_english_in_every_language(tmp_path: Path) -> None:
    def refused(_where: Surroundings) -> Finding:
        raise PermissionError(13, "Permission denied", "/x")

    def found() -> list[Finding]:
        (tmp_path / "file").touch()
        program(tmp_path, "fusermount3")
        where = around(
            tmp_path, search_path=str(tmp_path), state_dir=str(tmp_path / "file" / "below")
        )
        checks = (*doctor.CHECKS, Check("x", "x", refused))
        return [finding for _check, finding in doctor.diagnose(where, checks)]

    before = found()
    i18n.activate(["zh_CN"])
    after = found()
    assert before != after
    for one, other in zip(before, after, strict=True):
        if "MB/s" not in one.detail:
            assert [english(other.detail), english(other.fix)] == [one.detail, one.fix]


def test_udev_and_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = around(tmp_path)
    assert machine.udev(where) == Finding(
        "missing", "udev does not run here", "sudo apt install udev"
    )
    assert machine.systemd(where).state == "missing"
    write(tmp_path, "run/udev/control", "")
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert machine.udev(where) == Finding("ok", "runs")
    assert machine.systemd(where) == Finding("ok", "runs")
    monkeypatch.setattr(machine, "_loads", lambda _name: False)
    assert machine.udev(where).fix == "sudo apt install libudev1"
    monkeypatch.setattr(sys, "path", [])
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyudev"]:
        monkeypatch.delitem(sys.modules, name)
    assert machine.udev(where).fix == "pip install pyudev"


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({"LANG": "C"}, "C, "),
        ({"LC_ALL": "POSIX"}, "POSIX, "),
        ({"LANG": "de_DE.ISO-8859-1"}, "de_DE.ISO-8859-1, "),
        ({"LANG": "zh_CN"}, "zh_CN, "),
        ({}, "C, "),
        ({"LANG": "C.UTF-8"}, ""),
        ({"LANG": "de_DE.utf8"}, ""),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, ""),
    ],
    ids=str,
)
def test_a_locale_without_utf_8(environment: dict[str, str], shown: str) -> None:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LC_") and name not in ("LANG", "LANGUAGE")
    }
    done = subprocess.run(
        [sys.executable, "-m", "encvault", "doctor", "--json"],
        env=kept | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    (one,) = [row for row in json.loads(done.stdout)["checks"] if row["name"] == "locale"]
    assert one["state"] == ("warn" if shown else "ok")
    assert one["detail"].startswith(shown)
    assert one["fix"] == ("export LANG=C.UTF-8" if shown else None)


@pytest.mark.parametrize(
    ("ulimit", "limit"),
    [
        ("ulimit -S -c unlimited", 1),  # with 0 Linux calls the program that dumps are piped to
        ("ulimit -c 0", 0),  # for good: it cannot be raised to 1
    ],
)
def test_core_dumps(ulimit: str, limit: int) -> None:
    done = subprocess.run(
        ["sh", "-c", f'{ulimit} && "$0" -m encvault doctor --json', sys.executable],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    (one,) = [row for row in json.loads(done.stdout)["checks"] if row["name"] == "core-dumps"]
    assert (one["state"], one["fix"]) == ("ok", None), "encvault lets none be written"
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    assert one["detail"] == f"limit {limit}, pattern {pattern}"


def test_core_dumps_that_could_be_written(tmp_path: Path) -> None:
    limits = tmp_path / "proc/self/limits"
    limits.parent.mkdir(parents=True)
    limits.write_text("Max core file size        unlimited            unlimited            bytes\n")
    found = machine.core_dumps(around(tmp_path))
    assert (found.state, found.fix) == ("warn", "ulimit -c 0")


def test_core_dumps_where_nothing_can_be_told(tmp_path: Path) -> None:
    assert machine.core_dumps(around(tmp_path)).detail == "limit ?, pattern ?"


SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def swap(root: Path, *devices: str) -> Finding:
    lines = "".join(f"{device}   partition\t1000\t0\t-2\n" for device in devices)
    write(root, "proc/swaps", SWAPS + lines)
    return machine.swap(around(root))


def test_swap(tmp_path: Path) -> None:
    assert machine.swap(around(tmp_path)) == Finding("ok", "none")
    assert swap(tmp_path) == Finding("ok", "none")
    write(tmp_path, "dev/zram0", "")
    write(tmp_path, "dev/dm-0", "")
    write(tmp_path, "dev/dm-1", "")
    write(tmp_path, "dev/dm-2", "")
    write(tmp_path, "sys/class/block/dm-0/dm/uuid", "CRYPT-PLAIN-cryptswap\n")
    # a logical volume on an encrypted disk, and one that reaches over a plain one as well
    write(tmp_path, "sys/class/block/dm-1/dm/uuid", "LVM-abc\n")
    write(tmp_path, "sys/class/block/dm-1/slaves/dm-0", "")
    write(tmp_path, "sys/class/block/dm-2/dm/uuid", "LVM-def\n")
    write(tmp_path, "sys/class/block/dm-2/slaves/dm-0", "")
    write(tmp_path, "sys/class/block/dm-2/slaves/sda3", "")
    (tmp_path / "dev/mapper").mkdir()
    (tmp_path / "dev/mapper/swap").symlink_to("../dm-0")
    found = swap(tmp_path, "/dev/zram0", "/dev/mapper/swap", "/dev/dm-1")
    assert found == Finding("ok", "in memory or encrypted: /dev/zram0, /dev/mapper/swap, /dev/dm-1")
    # names of files prove nothing
    found = swap(tmp_path, "/dev/dm-0", "/dev/dm-2", "/dev/sda2", "/zram0", "/my\\040swap")
    assert found.state == "warn"
    assert found.detail == "not known to be encrypted: /dev/dm-2, /dev/sda2, /zram0, /my swap"
    assert "swapoff" in found.fix


def test_swap_on_devices_that_go_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path, "dev/dm-0", "")
    write(tmp_path, "sys/class/block/dm-0/slaves/dm-0", "")
    assert swap(tmp_path, "/dev/dm-0").state == "warn"


# -- the frame ------------------------------------------------------------------------------


def test_a_check_that_hangs_is_left_behind() -> None:
    forever = threading.Event()

    def hang(_where: Surroundings) -> Finding:
        forever.wait()
        return Finding("ok", "late")

    stuck = Check("stuck", "stuck", hang, needed=True)
    after = Check("after", "after", lambda _where: Finding("ok", "fine"))
    found = list(doctor.diagnose(around(), [stuck, after], limit=0.01))
    forever.set()
    assert found[0][1] == Finding("failed", "no answer within 0.01 s")
    assert found[1][1] == Finding("ok", "fine")
    error = doctor.outcome(found)
    assert error is not None
    assert (error.exit_code, error.fields()) == (3, {"count": 1})


def test_what_is_missing_and_not_needed_is_no_failure() -> None:
    def lacking(_where: Surroundings) -> Finding:
        return Finding("missing", "not there", "get it")

    assert doctor.outcome([(Check("a", "a", lacking), lacking(around()))]) is None
    assert doctor.outcome([(Check("a", "a", lacking, needed=True), lacking(around()))])
    warned = Check("a", "a", lacking, needed=True), Finding("warn", "look")
    assert doctor.outcome([warned]) is None


def test_a_bug_in_a_check_is_not_hidden() -> None:
    def broken(_where: Surroundings) -> Finding:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(doctor.diagnose(around(), [Check("a", "a", broken)]))


def test_what_the_system_refuses_is_a_finding() -> None:
    def refused(_where: Surroundings) -> Finding:
        raise PermissionError(13, "Permission denied", "/x")

    def nameless(_where: Surroundings) -> Finding:
        raise OSError(5, "Input/output error")

    checks = [Check("a", "a", refused), Check("b", "b", nameless)]
    details = [finding.detail for _check, finding in doctor.diagnose(around(), checks)]
    assert details == ["/x: Permission denied", "b: Input/output error"]


def test_names_and_titles_are_of_one_kind() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", name) for name in NAMES)
