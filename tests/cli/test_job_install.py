"""``job install`` and ``job uninstall``: what is shown is what is done."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import NOBODY

from encvault.cli.job import install
from encvault.errors import (
    CronMissing,
    CrontabFailed,
    InvalidRequest,
    NotInstalled,
    ServiceNotEnded,
    ServiceTaken,
    ServiceUserBarred,
    ServiceUserMissing,
    ServiceUserShutOut,
    ServiceUserUnfit,
)
from encvault.jobs import installing
from encvault.jobs.finding import load_job
from encvault.jobs.installing import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from helpers import Command

    from encvault.jobs.jobfile import Job

BODY = 'version = 1\nsources = ["/srv/报价 100%"]\nmode = "mirror"\ndestination = "/mnt/nas"\n'
PING = '[notify]\nping_url = "https://hc.example.com/ping/1"\n'
ON_CHANGE = 'version = 1\nsources = ["/srv/in"]\nmode = "in-place"\ntrigger = "on-change"\n'
COMMAND = (sys.executable, "-P", "-m", "encvault")
NO_SUCH_USER = "encvault-nobody-has-this"
ADDED = "30 2 * * * "


@pytest.fixture
def nightly() -> Path:
    """A job of the user's own."""
    path = Path(os.environ["XDG_CONFIG_HOME"], "encvault", "jobs.d", "nightly.toml")
    path.parent.mkdir(parents=True)
    path.write_text(BODY + PING)
    return path


@pytest.fixture
def units() -> Path:
    return Path(os.environ["XDG_CONFIG_HOME"], "systemd", "user")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose programs are found first."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def systemctl(programs: Path, tmp_path: Path) -> Callable[[], list[list[str]]]:
    """A systemctl that agrees to everything; what it was told."""
    told = tmp_path / "systemctl"
    told.touch()
    program(programs, "systemctl", f'echo "systemctl $*" >> {told}')
    return lambda: [line.split() for line in told.read_text().splitlines()]


@pytest.fixture
def table(programs: Path, tmp_path: Path) -> Path:
    """The table of a program ``crontab`` that behaves as Debian's; there is none yet."""
    path = tmp_path / "table"
    program(
        programs,
        "crontab",
        f'if [ "$1" = -l ]; then cat {path} 2>/dev/null && exit; '
        f'echo "no crontab for x" >&2; exit 1; fi; [ "$1" = - ] && exec cat > {path}',
    )
    return path


@pytest.fixture
def job(tmp_path: Path) -> Job:
    path = tmp_path / "jobs.d" / "nightly.toml"
    path.parent.mkdir()
    path.write_text(BODY + PING)
    return load_job(str(path))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine all of whose files are the test's; root asks."""
    root = tmp_path / "machine"
    (root / "etc" / "cron.d").mkdir(parents=True)
    return Machine(
        command=COMMAND,
        user_units=str(tmp_path / "units"),
        user_credentials=str(tmp_path / "credentials"),
        environment={},
        is_root=True,
        root=str(root),
    )


def files_in(folder: Path) -> dict[str, str]:
    return {str(one): one.read_text() for one in folder.rglob("*") if one.is_file()}


# -- a user's own ---------------------------------------------------------------------------


def test_what_is_shown_is_what_is_written(
    run: Command, nightly: Path, units: Path, systemctl: Callable[[], list[list[str]]]
) -> None:
    shown = run("job", "install", "nightly", "--print")
    told = json.loads(run("job", "install", "nightly", "--print", "--json").out)
    assert told["begun"] is False
    assert not units.exists()
    assert systemctl() == []
    done = run("job", "install", "nightly")
    assert done.code == 0, done.err
    written = files_in(units)
    assert {one["path"]: one["text"] for one in told["files"]} == written
    assert [Path(path).name for path in written if path not in shown.out] == []
    for path, text in written.items():
        assert f"# {path}\n{text}\n" in shown.out
        assert f"{path} is written" in done.err
    lines = "".join(f"{shlex.join(command)}\n" for command in told["commands"])
    # nothing else is shown either
    assert shown.out == "".join(f"# {f['path']}\n{f['text']}\n" for f in told["files"]) + lines
    assert systemctl() == told["commands"]
    assert [Path(path).name for path in sorted(written)] == [
        "encvault-job-nightly.service",
        "encvault-job-nightly.timer",
        "encvault-notify-nightly.service",
    ]
    assert "the job nightly runs next at 20" in done.err
    assert "loginctl enable-linger" in done.err


def test_installed_again_it_is_the_same(
    run: Command, nightly: Path, units: Path, systemctl: Callable[[], list[list[str]]]
) -> None:
    assert json.loads(run("job", "install", "nightly", "--json").out)["begun"] is True
    before = files_in(units)
    told = json.loads(run("job", "install", str(nightly), "--json").out)
    assert (told["removed"], files_in(units)) == ([], before)


def test_what_a_job_no_longer_has_goes(
    run: Command, nightly: Path, units: Path, systemctl: Callable[[], list[list[str]]]
) -> None:
    assert run("job", "install", "nightly", "-q").err == ""
    nightly.write_text(ON_CHANGE)
    shown = run("job", "install", "nightly", "--print").out
    done = run("job", "install", "nightly")
    assert list(files_in(units)) == [str(units / "encvault-job-nightly.service")]
    for name in ("encvault-job-nightly.timer", "encvault-notify-nightly.service"):
        assert f"# {units / name}: removed\n" in shown
        assert f"{units / name} is removed" in done.err
    assert "watches from now on" in done.err
    ended = ["systemctl", "--user", "disable", "--now", "encvault-job-nightly.timer"]
    assert ended in systemctl()
    assert systemctl()[-1] == ["systemctl", "--user", "restart", "encvault-job-nightly.service"]


def test_it_is_taken_away_whole(
    run: Command, nightly: Path, units: Path, systemctl: Callable[[], list[list[str]]]
) -> None:
    assert run("job", "install", "nightly").code == 0
    (units / "other.service").write_text("[Unit]\n")
    installed = files_in(units)
    nightly.unlink()
    done = run("job", "uninstall", "nightly", "--json")
    told = json.loads(done.out)
    assert done.code == 0
    gone = {one["path"]: one["text"] for one in told["files"]}
    assert gone == {path: text for path, text in installed.items() if "encvault" in path}
    assert list(files_in(units)) == [str(units / "other.service")]
    for path in gone:
        assert f"{path} is removed" in done.err
    assert systemctl()[-2:] == told["commands"]
    assert told["commands"][0][-1] == "encvault-job-nightly.timer"
    again = run("job", "uninstall", "nightly")
    assert (again.code, "is not installed" in again.err) == (66, True)


def test_without_systemd_the_files_are_written_and_the_commands_told(
    run: Command, nightly: Path, units: Path
) -> None:
    done = run("job", "install", "nightly")
    assert done.code == 69
    assert f"{units / 'encvault-job-nightly.service'} is written, and not begun" in done.err
    assert "systemctl --user enable encvault-job-nightly.timer && systemctl" in done.err
    assert len(files_in(units)) == 3
    done = run("job", "install", "nightly", "--json")
    assert (done.code, json.loads(done.out)["begun"]) == (69, False)
    assert (
        run("job", "uninstall", "nightly", "--user").code == 0
    )  # nothing runs, so nothing is left
    assert files_in(units) == {}


def test_a_systemd_that_does_not_let_go_is_told(
    nightly: Path, job: Job, machine: Machine, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(programs, "systemctl", "exit 0")
    installing.carry_out(installing.plan(job, "user", machine))
    program(programs, "systemctl", "echo Access denied >&2; exit 4")
    monkeypatch.setattr("encvault.services._BOOTED", "/")
    [plan] = installing.removals("nightly", ["user"], machine)
    with pytest.raises(ServiceNotEnded, match="Access denied") as caught:
        installing.carry_out(plan)
    assert "disable --now encvault-job-nightly.timer && " in str(caught.value.hint)
    assert files_in(Path(machine.user_units)) == {}


def test_files_of_others_are_left(
    run: Command, nightly: Path, units: Path, systemctl: Callable[[], list[list[str]]]
) -> None:
    units.mkdir(parents=True)
    own = units / "encvault-job-nightly.service"
    own.write_text("[Service]\n# by hand\n")
    for arguments in (["--print"], []):
        done = run("job", "install", "nightly", *arguments)
        assert (done.code, "not of the job" in done.err) == (73, True)
    assert run("job", "uninstall", "nightly").code == 66
    assert own.read_text() == "[Service]\n# by hand\n"
    assert systemctl() == []


def test_variables_of_who_asks_are_kept(run: Command, nightly: Path) -> None:
    shown = run("job", "install", "nightly", "--print").out
    assert f'Environment="XDG_STATE_HOME={os.environ["XDG_STATE_HOME"]}"\n' in shown


# -- the machine's --------------------------------------------------------------------------


def test_the_machines_services(
    job: Job, machine: Machine, systemctl: Callable[[], list[list[str]]]
) -> None:
    plan = installing.plan(job, "system", machine)
    installing.carry_out(plan)
    assert files_in(Path(machine.root)) == {one.path: one.text for one in plan.files}
    assert {Path(one.path).parent for one in plan.files} == {
        Path(machine.root, "etc/systemd/system")
    }
    assert systemctl() == [list(command) for command in plan.commands]
    assert "\nUser=encvault\n" in plan.files[0].text
    [removal] = installing.removals("nightly", installing.KINDS, machine)
    assert removal.gone == plan.files
    installing.carry_out(removal)
    assert files_in(Path(machine.root)) == {}
    with pytest.raises(NotInstalled):
        installing.removals("nightly", installing.KINDS, machine)


def test_where_a_job_belongs_by_its_folder(
    run: Command, job: Job, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encvault.jobs.finding.SYSTEM_FOLDER", os.path.dirname(job.path))
    monkeypatch.setattr(install, "_ROOT", machine.root)
    assert f"# {machine.root}/etc/systemd/system/" in run("job", "install", job.path, "--print").out
    done = run("job", "install", job.path, "--user", "--print")
    assert f"# {os.environ['XDG_CONFIG_HOME']}/systemd/user/" in done.out


def test_jobs_of_a_machine_share_a_user(
    job: Job, machine: Machine, programs: Path, systemctl: Callable[[], list[list[str]]]
) -> None:
    installing.carry_out(installing.plan(job, "system", machine, user="backup"))
    installing.plan(job, "system", machine)  # alone, it may have another
    other = Path(job.path).with_name("weekly.toml")
    other.write_text(BODY)
    weekly = load_job(str(other))
    for kind in ("system", "cron"):
        with pytest.raises(InvalidRequest, match="say --as backup"):
            installing.plan(weekly, kind, machine)
    program(programs, "install", "exit 0")
    installing.carry_out(installing.plan(weekly, "cron", machine, user="backup"))
    with pytest.raises(InvalidRequest, match="say --as backup"):
        installing.plan(job, "system", machine)


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("user", {"user": "backup"}, "--as has no effect"),
        ("user", {"read_all": True}, "--read-all is only"),
        ("cron", {"read_all": True}, "--read-all is only"),
        ("system", {"user": "a b"}, "not the name of a user"),
        ("system", {"user": "x\nExecStartPre=/bin/sh"}, "not the name of a user"),
    ],
)
def test_options_without_a_meaning(
    job: Job, machine: Machine, kind: Any, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        installing.plan(job, kind, machine, **options)


def test_who_runs_it_must_be_there_and_able(job: Job, machine: Machine) -> None:
    plan = installing.plan(job, "system", machine)
    with pytest.raises(ServiceUserMissing, match=NO_SUCH_USER):
        installing.check(job, plan, machine, NO_SUCH_USER)
    installing.check(job, plan, machine, "root")
    own = Machine(("/nonexistent/python",), "", "", {}, is_root=True)
    with pytest.raises(ServiceUserUnfit, match="No such file"):
        installing.check(job, plan, own, "root")
    stranger = Machine((sys.executable, "-m", "encvault.nothing"), "", "", {}, is_root=True)
    with pytest.raises(ServiceUserUnfit, match="No module named"):
        installing.check(job, plan, stranger, "root")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_who_runs_it_must_be_let_read_the_job(public_path: Path, machine: Machine) -> None:
    path = public_path / "nightly.toml"
    path.write_text(BODY)
    path.chmod(0o600)
    public_path.chmod(0o755)
    job = load_job(str(path))
    plan = installing.plan(job, "system", machine)
    free = Machine(("/bin/true",), "", "", {}, is_root=True)
    with pytest.raises(ServiceUserBarred) as caught:
        installing.check(job, plan, free, "daemon")
    assert caught.value.hint == (f"let its group read it: chgrp daemon {path} && chmod g+r {path}")
    subprocess.run(str(caught.value.hint).partition(": ")[2], shell=True, check=True)  # noqa: S602 - what people copy
    installing.check(job, plan, free, "daemon")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_job_in_a_closed_home_becomes_one_of_the_machine(
    public_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = public_path / "home of root"
    (home / "jobs.d").mkdir(parents=True)
    path = home / "jobs.d" / "nightly.toml"
    path.write_text(BODY)
    home.chmod(0o700)
    public_path.chmod(0o755)
    system = public_path / "etc" / "encvault" / "jobs.d"
    monkeypatch.setattr("encvault.jobs.finding.SYSTEM_FOLDER", str(system))
    free = Machine(("/bin/true",), "", "", {}, is_root=True)
    job = load_job(str(path))
    plan = installing.plan(job, "system", machine)
    with pytest.raises(ServiceUserShutOut) as caught:
        installing.check(job, plan, free, "daemon")
    assert str(caught.value) == f"the user daemon cannot enter {home}, and {path} is in it"
    made, moved = str(caught.value.hint).split("; or move its file: ")
    assert made == "make it a job of the machine: encvault job new --system nightly"
    subprocess.run(moved, shell=True, check=True)  # noqa: S602 - what people copy
    assert not path.exists()
    installing.check(load_job(str(system / "nightly.toml")), plan, free, "daemon")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("kind", ["system", "cron"])
@pytest.mark.parametrize("top", [0, NOBODY])
def test_what_root_left_is_given_to_who_runs_it(
    job: Job,
    machine: Machine,
    systemctl: Callable[[], list[list[str]]],
    kind: Any,
    top: int,
) -> None:
    state = Path(machine.root, "var/lib/encvault")
    (state / "jobs" / "nightly-1").mkdir(parents=True)
    (state / "jobs" / "nightly-1" / "status.json").write_text("{}")
    (state / "known_vaults.json").write_text("{}")
    foreign = Path(machine.root, "foreign")
    foreign.touch()
    (state / "log").mkdir()
    (state / "log" / "link").symlink_to(foreign)
    (state / ".profile").touch()  # of the home that it may be as well
    os.chown(state, top, top)
    plan = installing.plan(job, kind, machine, user="nobody")
    [gives] = [" ".join(command) for command in plan.commands if command[0] == "chown"]
    assert gives.startswith("chown -hRP nobody ")
    installing.carry_out(plan)
    kept = [path for name in ("jobs", "log") for path in (state / name).rglob("*")]
    for path in (state / "jobs", state / "log", state / "known_vaults.json", *kept):
        assert path.lstat().st_uid == NOBODY, path
    assert [path.stat().st_uid for path in (foreign, state / ".profile")] == [0, 0]
    again = installing.plan(job, kind, machine, user="nobody")
    assert "chown" not in [command[0] for command in again.commands]  # there is nothing to give


# -- cron -----------------------------------------------------------------------------------


def test_a_file_of_cron(job: Job, machine: Machine, programs: Path) -> None:
    program(programs, "install", f'echo "$*" > {programs}/told')
    plan = installing.plan(job, "cron", machine, user="backup")
    installing.carry_out(plan)
    path = Path(machine.root, "etc/cron.d/encvault-job-nightly")
    assert path.stat().st_mode & 0o777 == 0o644
    text = path.read_text()
    assert text == plan.files[0].text
    assert f"\n{ADDED}backup XDG_STATE_HOME=/var/lib {sys.executable} " in text
    assert text.endswith(" --no-input --quiet\n")
    state = f"{machine.root}/var/lib/encvault"
    assert (programs / "told").read_text() == f"-d -m 0750 -o backup {state}\n"
    [removal] = installing.removals("nightly", ["cron"], machine)
    installing.carry_out(removal)
    assert not path.exists()


def test_names_that_are_one_for_cron(job: Job, machine: Machine, programs: Path) -> None:
    program(programs, "install", "exit 0")
    jobs = []
    for name in ("a.b", "a_b"):
        path = Path(job.path).with_name(f"{name}.toml")
        path.write_text(BODY)
        jobs.append(load_job(str(path)))
    installing.carry_out(installing.plan(jobs[0], "cron", machine))
    with pytest.raises(ServiceTaken):
        installing.plan(jobs[1], "cron", machine)
    with pytest.raises(NotInstalled):
        installing.removals("a_b", ["cron"], machine)


def test_without_cron_the_line_is_told(job: Job, machine: Machine) -> None:
    Path(machine.root, "etc/cron.d").rmdir()
    with pytest.raises(CronMissing) as caught:
        installing.plan(job, "cron", machine)
    assert f"the line is: {ADDED}encvault XDG" in str(caught.value.hint)


def as_user(machine: Machine) -> Machine:
    return Machine(
        machine.command,
        machine.user_units,
        machine.user_credentials,
        {},
        is_root=False,
        root=machine.root,
    )


def test_lines_in_the_users_table_come_and_go(job: Job, machine: Machine, table: Path) -> None:
    others = "# mine\n5 4 * * * /bin/true 100\\%\nMAILTO=x\xff\n".encode("latin-1")
    for before in (b"", others, others.rstrip(b"\n")):
        if before:
            table.write_bytes(before)
        plan = installing.plan(job, "cron", as_user(machine))
        installing.carry_out(plan)
        after = table.read_bytes()
        assert plan.files[0].text.encode(errors="surrogateescape") == after
        assert after.startswith(before)
        first, entry, last = after[len(before) :].strip(b"\n").split(b"\n")
        assert first.decode() == f"# encvault job nightly: {job.path}"
        assert entry.startswith(f"{ADDED}{sys.executable} ".encode())
        assert last == b"# end of encvault job nightly"
        installing.carry_out(installing.plan(job, "cron", as_user(machine)))  # again
        assert table.read_bytes() == after
        [removal] = installing.removals("nightly", ["cron"], as_user(machine))
        installing.carry_out(removal)
        assert table.read_bytes().strip(b"\n") == before.strip(b"\n")
        with pytest.raises(NotInstalled):
            installing.removals("nightly", installing.KINDS, as_user(machine))


def test_a_table_that_is_not_as_it_was_is_left(job: Job, machine: Machine, table: Path) -> None:
    installing.carry_out(installing.plan(job, "cron", as_user(machine)))
    moved = Path(job.path).with_name("more") / "nightly.toml"
    moved.parent.mkdir()
    moved.write_text(BODY)
    with pytest.raises(ServiceTaken):
        installing.plan(load_job(str(moved)), "cron", as_user(machine))
    cut = table.read_text().replace("# end of encvault job nightly\n", "0 0 * * * /bin/true\n")
    table.write_text(cut)
    with pytest.raises(CrontabFailed, match="is missing"):
        installing.plan(job, "cron", as_user(machine))
    with pytest.raises(CrontabFailed, match="is missing"):
        installing.removals("nightly", ["cron"], as_user(machine))
    assert table.read_text() == cut


def test_a_table_that_cannot_be_read_is_not_replaced(
    job: Job, machine: Machine, programs: Path
) -> None:
    program(
        programs, "crontab", f'[ "$1" = - ] && touch {programs}/replaced; echo boom >&2; exit 2'
    )
    with pytest.raises(CrontabFailed, match="boom"):
        installing.plan(job, "cron", as_user(machine))
    assert not (programs / "replaced").exists()


def test_a_table_that_is_refused_is_told(job: Job, machine: Machine, table: Path) -> None:
    plan = installing.plan(job, "cron", as_user(machine))
    program(table.parent / "programs", "crontab", 'echo "bad minute" >&2; exit 1')
    with pytest.raises(CrontabFailed, match="bad minute"):
        installing.carry_out(plan)


def test_without_the_program_the_line_is_told(
    job: Job, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "env").symlink_to("/usr/bin/env")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(CronMissing) as caught:
        installing.plan(job, "cron", as_user(machine))
    assert f"the line is: {ADDED}{sys.executable}" in str(caught.value.hint)
    with pytest.raises(NotInstalled):
        installing.removals("nightly", ["cron"], as_user(machine))


def test_cron_is_told_to_forget(
    run: Command, nightly: Path, machine: Machine, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(programs, "install", "exit 0")
    monkeypatch.setattr(install, "_ROOT", machine.root)
    monkeypatch.setattr(install.os, "geteuid", lambda: 0)
    monkeypatch.setattr(installing, "check", lambda *_: None)
    shown = run("job", "install", "nightly", "--cron", "--print").out
    done = run("job", "install", "nightly", "--cron")
    assert done.code == 0, done.err
    [(path, text)] = files_in(Path(machine.root)).items()
    assert shown.startswith(f"# {path}\n{text}\n")
    assert "does not catch up on a run that was missed" in done.err
    look = f"encvault job check {nightly} --as encvault\n"
    assert f"hint: see whether it will work for the user encvault: {look}" in done.err
    assert run("job", "uninstall", "nightly", "--cron").code == 0
