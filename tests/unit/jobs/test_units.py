"""The units and the line of cron, as systemd and a shell read them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from helpers import NOBODY

from encvault import services
from encvault.errors import InvalidRequest
from encvault.jobs import units
from encvault.jobs.jobfile import Job, parse_job
from encvault.jobs.units import Host

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from encvault.jobs.units import Manager

COMMAND = (sys.executable, "-P", "-m", "encvault")
STATE = {"XDG_STATE_HOME": "/var/lib"}
LOCAL = 'mode = "mirror"\ndestination = "/mnt/nas/vaults"\n'
REMOTE = 'mode = "archive"\ndestination = "sftp://nas/vaults"\n'
ON_CHANGE = 'mode = "in-place"\ntrigger = "on-change"\n'
PING = '[notify]\nping_url = "https://hc.example.com/ping/1"\n'
KINDS = {
    "local": LOCAL,
    "local with a ping": LOCAL + PING,
    "days": LOCAL + '[schedule]\nat = "23:05"\ndays = ["mon", "sun"]\nspread = "0s"\n',
    "remote": REMOTE + PING,
    "in place": 'mode = "in-place"\n',
    "drive": 'mode = "mirror"\ndrive = "abc"\n',
    "sources removed": LOCAL + 'verify = "full"\nremove_sources = true\n',
    "on change": ON_CHANGE + PING,
    "credential": LOCAL + '[secret]\ncredential = "nightly"\n',
    "metrics": LOCAL + '[notify]\nmetrics = "/var/lib/node exporter/encvault.prom"\n',
}
# what some parser between the file and the program makes something else of
ODD = [
    "/srv/a b",
    "/srv/100% %n %%",
    "/srv/$HOME ${HOME} $$",
    '/srv/it\'s "quoted"',
    "/srv/报价　单",
    "/srv/;#!&|<>(){}[]*?~`",
    "/srv/-x=y:z",
]


def job(text: str, path: str = "/etc/encvault/jobs.d/nightly.toml", source: str = "/srv/f") -> Job:
    top = f"version = 1\nsources = [{json.dumps(source, ensure_ascii=False)}]\n"
    return parse_job((top + text).encode(), path)


def host(**options: Any) -> Host:
    known: dict[str, Any] = {
        "command": COMMAND,
        "user": "encvault",
        "environment": STATE,
        "credentials": "/etc/credstore.encrypted/encvault",
    }
    return Host(**known | options)


def written(folder: Path, texts: Mapping[str, str]) -> list[str]:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [str(folder / name) for name in texts]


def verified(folder: Path, texts: Mapping[str, str], manager: Manager) -> tuple[int, str]:
    """What systemd itself has to say of units."""
    paths = written(folder, texts)
    done = subprocess.run(
        ["systemd-analyze", f"--{manager}", "verify", *paths],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
    )
    return done.returncode, done.stderr


def understood(folder: Path, texts: Mapping[str, str]) -> str:
    """The units as systemd has read them, by its own dump of what it would run."""
    written(folder, texts)
    wanted = " ".join(texts)
    (folder / "default.target").write_text(f"[Unit]\nWants={wanted}\n")
    who: dict[str, Any] = {}
    if os.geteuid() == 0:  # systemd does this for nobody who could do harm
        who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    done = subprocess.run(
        ["/lib/systemd/systemd", "--test", "--system"],
        capture_output=True,
        text=True,
        check=True,
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/",
            "XDG_RUNTIME_DIR": str(folder),
            "SYSTEMD_UNIT_PATH": str(folder),
        },
        **who,
    )
    return done.stdout + done.stderr


def setting(dump: str, name: str) -> list[str]:
    return re.findall(rf"^\s*{name}: (.*)$", dump, re.MULTILINE)


# -- systemd --------------------------------------------------------------------------------


@pytest.mark.parametrize("manager", ["system", "user"])
@pytest.mark.parametrize("text", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("read_all", [False, True])
def test_systemd_takes_every_unit(
    tmp_path: Path, text: str, manager: Manager, *, read_all: bool
) -> None:
    texts = units.units(job(text), manager, host(read_all=read_all))
    assert verified(tmp_path / "units", texts, manager) == (0, "")


def test_what_systemd_takes_is_told_apart(tmp_path: Path) -> None:
    texts = units.units(job(LOCAL), "system", host())
    broken = {
        name: text.replace("ReadWritePaths", "ReadwritePaths") for name, text in texts.items()
    }
    assert "Unknown key" in verified(tmp_path / "units", broken, "system")[1]


def exposure(folder: Path, texts: Mapping[str, str], name: str) -> float:
    written(folder, texts)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(folder / name)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"},
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    return float(found[1])


@pytest.mark.parametrize(
    ("text", "most"),
    [(LOCAL, 1.5), (KINDS["in place"], 1.5), (KINDS["drive"], 1.5), (ON_CHANGE, 1.5), (REMOTE, 3)],
)
def test_services_are_little_exposed(tmp_path: Path, text: str, most: float) -> None:
    texts = units.units(job(text + PING), "system", host())
    assert exposure(tmp_path, texts, "encvault-job-nightly.service") <= most
    assert exposure(tmp_path, texts, "encvault-notify-nightly.service") <= 3


def test_reading_everything_is_the_only_right_that_is_added(tmp_path: Path) -> None:
    texts = units.units(job(LOCAL), "system", host(read_all=True))
    assert exposure(tmp_path, texts, "encvault-job-nightly.service") <= 1.5
    plain = units.units(job(LOCAL), "system", host())
    assert "CapabilityBoundingSet=\n" in plain["encvault-job-nightly.service"]
    changed = set(texts["encvault-job-nightly.service"].splitlines()) - set(
        plain["encvault-job-nightly.service"].splitlines()
    )
    assert changed == {
        "AmbientCapabilities=CAP_DAC_READ_SEARCH",
        "CapabilityBoundingSet=CAP_DAC_READ_SEARCH",
    }


@pytest.mark.parametrize("odd", ODD)
def test_systemd_reads_back_odd_paths(public_path: Path, odd: str) -> None:
    text = f"mode = \"in-place\"\n[notify]\nmetrics = '''{odd}/m.prom'''\n"
    one = job(text, f"{odd}/nightly.toml", source=odd)
    command = ("/bin/true", odd)
    texts = units.units(one, "system", host(command=command, environment={"A": odd}))
    dump = understood(public_path / "units", texts)
    words = [*command, "job", "run", f"{odd}/nightly.toml", "--no-input", "--no-ping"]
    [line] = setting(dump, "Command Line")
    read = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, check=True, text=True
    )
    # the dump is before variables, of which a doubled dollar is none
    assert read.stdout.replace("$$", "$").splitlines() == words
    assert f"A={odd}" in setting(dump, "Environment")
    assert setting(dump, "ReadWritePaths") == [f"-{odd} -{odd}"]


def test_a_dollar_in_the_interpreters_path_is_one(tmp_path: Path) -> None:
    program = tmp_path / "a $HOME 100%"
    program.symlink_to("/bin/true")
    texts = units.units(job(LOCAL), "system", host(command=(str(program),)))
    assert verified(tmp_path / "units", texts, "system") == (0, "")


@pytest.mark.parametrize("quote", ["'", '"', "\\"])
def test_an_interpreter_that_systemd_cannot_run(quote: str) -> None:
    with pytest.raises(InvalidRequest, match="no program with quotes"):
        units.units(job(LOCAL), "system", host(command=(f"/opt/{quote}/python",)))


@pytest.mark.parametrize("text", ["a\nb", "a\x1bb", "\udcff", "\x85"])
def test_what_cannot_stand_in_a_unit(text: str) -> None:
    for write in (
        services.quoted,
        services.literal,
        lambda word: services.command_line(["a", word]),
    ):
        with pytest.raises(InvalidRequest, match="only UTF-8"):
            write(text)


def service(text: str, manager: Manager = "system", **options: Any) -> str:
    return units.units(job(text, **options), manager, host())["encvault-job-nightly.service"]


def test_only_what_the_job_writes_can_be_written() -> None:
    for text in KINDS.values():
        assert "\nProtectSystem=strict\nProtectHome=read-only\n" in service(text)
    assert 'ReadWritePaths="-/mnt/nas/vaults"\n' in service(LOCAL)
    assert "/srv/f" not in service(LOCAL)
    assert 'ReadWritePaths="-/srv/f"\n' in service(KINDS["in place"])
    assert 'ReadWritePaths="-/srv/f"\n' in service(KINDS["sources removed"])
    assert 'ReadWritePaths="-/var/lib/node exporter"\n' in service(KINDS["metrics"])
    assert "ReadWritePaths=-/media -/run/media -/mnt\n" in service(KINDS["drive"])
    assert "ReadWritePaths" not in service(REMOTE)


def test_the_network_is_only_there_for_who_needs_it() -> None:
    for text in (LOCAL, KINDS["in place"], KINDS["drive"]):
        assert "PrivateNetwork=yes\n" in service(text)
        assert "RestrictAddressFamilies=AF_UNIX\n" in service(text)
    assert "PrivateNetwork" not in service(REMOTE)
    assert "network-online.target" in service(REMOTE)
    found = units.units(job(KINDS["credential"] + PING), "system", host())
    assert "LoadCredential" in found["encvault-job-nightly.service"]
    notifier = found["encvault-notify-nightly.service"]
    assert "LoadCredential" not in notifier
    assert "PrivateNetwork" not in notifier


def test_a_tmp_of_its_own_hides_nothing_of_the_job() -> None:
    assert "\nPrivateTmp=yes\n" in service(LOCAL)
    assert "\nPrivateTmp=yes\n" not in service(LOCAL, source="/tmp/in")  # noqa: S108 - a path only
    assert "\nPrivateTmp=yes\n" not in service(LOCAL.replace("/mnt/nas", "/var/tmp"))  # noqa: S108 - likewise


def test_a_service_of_a_user_has_what_user_managers_can_do() -> None:
    found = service(LOCAL, "user")
    for name in ("User=", "ProtectSystem", "Private", "CapabilityBoundingSet", "StateDirectory"):
        assert f"\n{name}" not in found
    assert "NoNewPrivileges=yes\n" in found
    assert "LoadCredential=nightly:" in service(KINDS["credential"], "user")
    assert "LoadCredentialEncrypted=nightly:/etc/credstore.encrypted/encvault/nightly\n" in service(
        KINDS["credential"]
    )


def test_systemd_is_more_patient_than_the_job() -> None:
    text = 'mode = "in-place"\ntimeout = "2h"\nlock_wait = "10m"\n'
    hook = '[[hooks]]\nwhen = "before"\nrun = ["/bin/true"]\ntimeout = "5m"\n'
    assert f"TimeoutStartSec={7200 + 600 + 300 + 300}\n" in service(text + hook)


def test_a_watch_is_a_service_that_stays() -> None:
    found = units.units(job(ON_CHANGE), "system", host())
    assert list(found) == ["encvault-job-nightly.service"]
    text = found["encvault-job-nightly.service"]
    assert '"job" "watch" "/etc/encvault/jobs.d/nightly.toml"\n' in text
    assert "TimeoutStartSec" not in text
    assert "WantedBy=multi-user.target" in text
    assert units.begins(job(ON_CHANGE)) == "encvault-job-nightly.service"


def test_the_keychain_is_of_a_user() -> None:
    keyring = job(LOCAL + "[secret]\nkeyring = true\n")
    units.units(keyring, "user", host())
    with pytest.raises(InvalidRequest, match="say --user"):
        units.units(keyring, "system", host())
    with pytest.raises(InvalidRequest, match="say --user"):
        units.cron_entry(keyring, host(), names_user=False)


def test_no_two_jobs_share_a_unit() -> None:
    names = ["a", "a-notify", "notify-a", "a.service", "a.timer", "job-a"]
    every = [unit for name in names for unit in units.unit_names(name)]
    assert len(set(every)) == len(every)


def test_the_timer_is_that_of_the_schedule(public_path: Path) -> None:
    texts = units.units(job(KINDS["days"]), "system", host(command=("/bin/true",)))
    timer = texts["encvault-job-nightly.timer"]
    calendar = re.search("OnCalendar=(.*)", timer)
    assert calendar
    done = subprocess.run(
        ["systemd-analyze", "calendar", calendar[1]], capture_output=True, text=True, check=True
    )
    assert "Normalized form: Mon,Sun *-*-* 23:05:00" in done.stdout
    assert "RandomizedDelaySec=0\n" in timer
    dump = understood(public_path / "units", texts)
    assert "Persistent: yes" in dump
    assert "Triggers: encvault-job-nightly.service" in dump


# -- cron -----------------------------------------------------------------------------------


def as_cron(entry: str, fields: int) -> str:
    """The command that cron makes of a line; crontab(5)."""
    command = entry.split(" ", fields)[fields]
    return re.split(r"(?<!\\)%", command)[0].replace("\\%", "%")


@pytest.mark.parametrize("odd", ODD)
def test_a_shell_reads_back_odd_paths(tmp_path: Path, odd: str) -> None:
    program = tmp_path / f"py {odd.removeprefix('/srv/').replace('/', '_')}"
    told = tmp_path / "told"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$XDG_STATE_HOME" "$@" > {told}\n')
    program.chmod(0o755)
    one = job(LOCAL, f"{odd}/nightly.toml")
    run = host(command=(str(program), "-m"), environment={"XDG_STATE_HOME": odd})
    entry = units.cron_entry(one, run, names_user=False)
    assert entry.startswith("30 2 * * * ")
    done = subprocess.run(
        ["/bin/sh", "-c", as_cron(entry, 5)],
        env={"HOME": "/", "LOGNAME": "x", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"},
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    words = [odd, "-m", "job", "run", f"{odd}/nightly.toml", "--no-input", "--quiet"]
    assert told.read_text().splitlines() == words


def test_the_line_of_cron_finds_encvault_with_nothing_around_it() -> None:
    entry = units.cron_entry(job(LOCAL, "/nonexistent/nightly.toml"), host(), names_user=True)
    command = as_cron(entry, 6).replace("job run", "info")  # what needs no more of a job
    command = re.sub(" --no-input --quiet$", "", command)
    done = subprocess.run(
        ["/usr/bin/env", "-i", "HOME=/", "PATH=/usr/bin:/bin", "sh", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, "/nonexistent/nightly.toml" in done.stderr) == (66, True)
    assert entry.split(" ")[5] == "encvault"


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        (ON_CHANGE, "/a/nightly.toml", "cron keeps nothing running"),
        (KINDS["credential"], "/a/nightly.toml", "cron has none"),
        (LOCAL, "/a\\b/nightly.toml", "backslash"),
        (LOCAL, f"/{'a' * 900}/nightly.toml", "more than 900 bytes"),
        (LOCAL, "/a\nb/nightly.toml", "control characters"),
    ],
)
def test_what_cron_cannot_do(text: str, path: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        units.cron_entry(job(text, path), host(), names_user=False)


def test_a_file_of_cron_has_a_name_that_cron_reads() -> None:
    for name in ("a.b", "A_b-c", "1"):
        assert re.fullmatch("[A-Za-z0-9_-]+", units.cron_file_name(name))
