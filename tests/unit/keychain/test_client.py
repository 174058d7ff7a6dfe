"""The keychain through its own process: what it may do, and what must not harm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import keyring
import pytest
from desktop import SERVICE, Desktop
from jeepney import new_method_call

from encvault.errors import (
    KeychainError,
    KeychainForgetful,
    KeychainLocked,
    KeychainOccupied,
    KeychainTimeout,
    KeychainUnavailable,
    KeychainUnsafe,
)
from encvault.keychain import Keychain
from encvault.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENT = 30.0  # seconds; a limit that no test of another matter comes to
ACCOUNT = "aaaaaaaaaaaaa"
HEAD = """
import os, sys, time
from keyring.backend import KeyringBackend
from keyring.backends import chainer, null

class Keyring(KeyringBackend):
    priority = 5
    kept = {}
    def get_password(self, service, username):
        return self.kept.get(username)
    def set_password(self, service, username, password):
        self.kept[username] = password
    def delete_password(self, service, username):
        del self.kept[username]
"""


def entries(desktop: Desktop) -> Keychain:
    return Keychain(desktop.environ, timeout_s=PATIENT)


def loaded(keychain: Keychain, *accounts: str) -> dict[str, bytes]:
    return {name: bytes(secret.reveal()) for name, secret in keychain.load(accounts).items()}


@pytest.fixture
def in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts another class where keyring's own back end of the Secret Service is."""

    def install(code: str) -> None:
        source = Path(keyring.__file__).parent
        shutil.copytree(source, tmp_path / "path" / "keyring")
        module = tmp_path / "path" / "keyring" / "backends" / "SecretService.py"
        module.write_text(HEAD + textwrap.dedent(code))
        monkeypatch.syspath_prepend(tmp_path / "path")

    return install


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installs a back end that keeps passwords in the clear, as keyrings.alt does."""
    site = tmp_path / "site"
    (site / "plain_ring-1.0.dist-info").mkdir(parents=True)
    (site / "plain_ring-1.0.dist-info" / "METADATA").write_text("Name: plain-ring\nVersion: 1.0\n")
    (site / "plain_ring-1.0.dist-info" / "entry_points.txt").write_text(
        "[keyring.backends]\nfile = plain_ring.file\n"
    )
    (site / "plain_ring").mkdir()
    (site / "plain_ring" / "__init__.py").touch()
    leak = tmp_path / "leak"
    (site / "plain_ring" / "file.py").write_text(
        HEAD
        + f"open({str(leak)!r}, 'a').write('imported ')\n"
        + textwrap.dedent(f"""
        class PlaintextKeyring(Keyring):
            priority = 9
            def set_password(self, service, username, password):
                open({str(leak)!r}, "a").write(password)
        """)
    )
    monkeypatch.syspath_prepend(site)
    return leak


# -- a keychain that works ------------------------------------------------------------------


def test_a_password_comes_back_from_another_process(desktop: Desktop) -> None:
    keychain = entries(desktop)
    probe = keychain.probe()
    assert (probe.state, probe.backend, probe.detail) == ("usable", "Secret Service", "")
    keychain.check()
    text = "密码 with 'quotes' and\ttabs".encode()
    assert keychain.store(ACCOUNT, Secret(text)) == "Secret Service"
    assert loaded(keychain, "unknown", ACCOUNT) == {ACCOUNT: text}
    assert keychain.holds(["unknown", ACCOUNT]) == {ACCOUNT}
    # an entry is never replaced; what is there already is stored
    with pytest.raises(KeychainOccupied, match="another password under"):
        keychain.store(ACCOUNT, Secret(b"another"))
    assert keychain.store(ACCOUNT, Secret(text)) == "Secret Service"
    assert loaded(keychain, ACCOUNT) == {ACCOUNT: text}
    assert keychain.forget(ACCOUNT)
    assert not keychain.forget(ACCOUNT)
    assert loaded(keychain, ACCOUNT) == {}


def test_another_program_finds_it_under_the_names_that_are_promised(desktop: Desktop) -> None:
    entries(desktop).store(ACCOUNT, Secret(b"one"))
    query = {"service": "encvault", "username": ACCOUNT}
    found = desktop.call(new_method_call(SERVICE, "SearchItems", "a{ss}", (query,)))
    assert len(found) == 1
    assert entries(desktop).forget(ACCOUNT)


def test_the_longest_passwords_fit_and_longer_ones_are_refused(desktop: Desktop) -> None:
    keychain = entries(desktop)
    accounts = [f"slot-{index}" for index in range(8)]
    for account in accounts:
        keychain.store(account, Secret(b"x" * 4096))
    assert {len(text) for text in loaded(keychain, *accounts).values()} == {4096}
    for account in accounts:
        keychain.forget(account)
    with pytest.raises(KeychainUnavailable, match="longer than 4096 bytes"):
        keychain.store(ACCOUNT, Secret(b"x" * 4097))
    assert keychain.holds([ACCOUNT]) == set()


def test_what_is_no_text_is_refused(desktop: Desktop) -> None:
    with pytest.raises(KeychainUnavailable, match="holds text only"):
        entries(desktop).store(ACCOUNT, Secret(b"\xff"))


def test_neither_arguments_nor_environment_hold_the_password(
    desktop: Desktop, in_its_place: Callable[[str], None], tmp_path: Path
) -> None:
    in_its_place(f"""
    for name in ("cmdline", "environ"):
        data = open(f"/proc/self/{{name}}", "rb").read()
        open(os.path.join({str(tmp_path)!r}, name), "wb").write(data)
    """)
    variables = desktop.environ | {
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        "KEYRING_PROPERTY_PREFERRED_COLLECTION": "/elsewhere",
        "SECRET_BACKEND": "file",
        "MY_TOKEN": "x",
    }
    Keychain(variables, timeout_s=PATIENT).store(ACCOUNT, Secret(b"hunter2"))
    for name in ("cmdline", "environ"):
        data = (tmp_path / name).read_bytes()
        assert b"hunter2" not in data
        assert b"KEYRING" not in data
        assert b"SECRET_BACKEND" not in data
        assert b"MY_TOKEN" not in data


def test_without_keyring_installed_all_else_works(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('keyring', 'jeepney', 'secretstorage'):\n"
        "    sys.modules[name] = None\n"
        "from encvault.cli import main\n"
        "sys.exit(main(['key', 'new', '--no-password', '-o', sys.argv[1]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "k"], check=False, capture_output=True
    )
    assert (done.returncode, (tmp_path / "k").exists()) == (0, True), done.stderr


# -- none, or none that may be used ---------------------------------------------------------


def test_without_a_session_there_is_no_keychain(tmp_path: Path) -> None:
    keychain = Keychain({"HOME": str(tmp_path), "PATH": os.environ["PATH"]}, timeout_s=PATIENT)
    assert keychain.probe().state == "unavailable"
    for operate in (
        keychain.check,
        lambda: keychain.load([ACCOUNT]),
        lambda: keychain.holds([ACCOUNT]),
        lambda: keychain.store(ACCOUNT, Secret(b"x")),
        lambda: keychain.forget(ACCOUNT),
    ):
        with pytest.raises(KeychainUnavailable, match="there is no session bus"):
            operate()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["unix:path=/nonexistent", "nonsense", "tcp:host=x,port=1"])
def test_a_bus_that_cannot_be_reached_is_no_keychain(address: str) -> None:
    keychain = Keychain({"DBUS_SESSION_BUS_ADDRESS": address}, timeout_s=PATIENT)
    with pytest.raises(KeychainUnavailable, match="session bus cannot be reached"):
        keychain.load([ACCOUNT])


@pytest.mark.parametrize("chosen_by", ["nothing", "variable", "file"])
def test_a_plaintext_back_end_is_named_and_never_used(
    tmp_path: Path, plugin: Path, chosen_by: str
) -> None:
    variables = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    if chosen_by == "variable":
        variables["PYTHON_KEYRING_BACKEND"] = "plain_ring.file.PlaintextKeyring"
    if chosen_by == "file":
        (tmp_path / ".config" / "python_keyring").mkdir(parents=True)
        (tmp_path / ".config" / "python_keyring" / "keyringrc.cfg").write_text(
            "[backend]\ndefault-keyring=plain_ring.file.PlaintextKeyring\n"
        )
    # keyring itself would write to it: without this, the test would prove nothing
    done = subprocess.run(
        [sys.executable, "-c", "import keyring; keyring.set_password('s', 'u', 'in the clear')"],
        env=variables | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
    )
    assert done.returncode == 0
    assert plugin.read_text().endswith("in the clear")
    plugin.unlink()
    keychain = Keychain(variables, timeout_s=PATIENT)
    probe = keychain.probe()
    assert (probe.state, probe.backend) == ("unsafe", "plain_ring.file")
    with pytest.raises(KeychainUnsafe, match=r"plain_ring\.file is not used"):
        keychain.store(ACCOUNT, Secret(b"hunter2"))
    assert not plugin.exists()


def test_a_plaintext_back_end_that_keyring_would_chain_is_left_out(
    desktop: Desktop, plugin: Path
) -> None:
    keychain = entries(desktop)
    assert keychain.store(ACCOUNT, Secret(b"hunter2")) == "Secret Service"
    assert loaded(keychain, ACCOUNT) == {ACCOUNT: b"hunter2"}
    keychain.forget(ACCOUNT)
    assert not plugin.exists()


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("Keyring = chainer.ChainerBackend", "TypeError"),
        ("Keyring = null.Keyring", "TypeError"),
        ("class Other(Keyring): pass\nKeyring = Other", "TypeError"),
        ("class Keyring:\n    priority = 5", "TypeError"),
        ("Keyring.priority = -1", "RuntimeError"),
        ("del Keyring", "AttributeError"),
        ("raise ImportError", "ImportError"),
        ("os._exit(0)", ""),
        ("os.write(3, b'x')", "OSError"),
    ],
)
def test_what_is_not_the_very_class_is_not_used(
    desktop: Desktop, in_its_place: Callable[[str], None], code: str, cause: str
) -> None:
    in_its_place(code)
    with pytest.raises(KeychainUnavailable) as caught:
        entries(desktop).load([ACCOUNT])
    assert caught.value.fields()["reason"] in (
        f"it does not work ({cause})",
        "it ended without an answer",
    )


def test_a_keychain_that_keeps_nothing_beyond_the_session_is_refused(tmp_path: Path) -> None:
    with Desktop(tmp_path / "desktop") as desktop:
        desktop.log_in()
        alias = ("default", "/org/freedesktop/secrets/collection/session")
        desktop.call(new_method_call(SERVICE, "SetAlias", "so", alias))
        with pytest.raises(KeychainUnsafe, match="when the session ends"):
            entries(desktop).store(ACCOUNT, Secret(b"x"))


# -- locked, slow, broken -------------------------------------------------------------------


def test_a_locked_keychain_says_so_at_once(tmp_path: Path) -> None:
    with Desktop(tmp_path / "desktop") as desktop:
        keychain = entries(desktop.log_in())
        keychain.store(ACCOUNT, Secret(b"x"))
        desktop.lock()
        assert keychain.probe().state == "locked"
        with pytest.raises(KeychainLocked):
            keychain.load([ACCOUNT])
        # with somebody there, its dialogue is tried; here there is no screen for it
        with pytest.raises(KeychainLocked):
            Keychain(desktop.environ, attended=True, timeout_s=PATIENT).load([ACCOUNT])


def test_a_keychain_that_nobody_set_up_is_not_set_up_by_us(tmp_path: Path) -> None:
    with Desktop(tmp_path / "desktop") as desktop:
        desktop.start_keychain()
        with pytest.raises(KeychainUnavailable, match="nobody has set it up yet"):
            entries(desktop).load([ACCOUNT])


def test_no_service_is_started_while_nobody_is_there(tmp_path: Path) -> None:
    with Desktop(tmp_path / "desktop") as desktop:
        with pytest.raises(KeychainUnavailable, match="its service is not running"):
            entries(desktop).load([ACCOUNT])
        # with somebody there it is, and has nothing yet, and no screen to ask for a password on
        with pytest.raises(KeychainUnavailable, match=r"it does not work \(InitError\)"):
            Keychain(desktop.environ, attended=True, timeout_s=PATIENT).load([ACCOUNT])
        with pytest.raises(KeychainUnavailable, match="nobody has set it up yet"):
            entries(desktop).load([ACCOUNT])


def test_a_service_that_never_starts_is_waited_for_no_longer_than_the_limit(
    tmp_path: Path,
) -> None:
    with Desktop(tmp_path / "desktop", service="/bin/sleep 20") as desktop:
        begun = time.monotonic()
        with pytest.raises(KeychainTimeout, match="within 2 s"):
            Keychain(desktop.environ, attended=True, timeout_s=2).load([ACCOUNT])
            assert time.monotonic() - begun < 15  # the bus itself waits for 120


def test_a_service_that_never_answers_is_no_keychain(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from jeepney import message_bus\n"
        "from jeepney.io.blocking import open_dbus_connection\n"
        "connection = open_dbus_connection(sys.argv[1])\n"
        "connection.send_and_get_reply(message_bus.RequestName('org.freedesktop.secrets'))\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    with Desktop(tmp_path / "desktop") as desktop:
        silent = subprocess.Popen(
            [sys.executable, "-c", code, desktop.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with silent:
            assert silent.stdout is not None
            silent.stdout.readline()
            with pytest.raises(KeychainUnavailable, match=r"it does not work \(TimeoutError\)"):
                entries(desktop).load([ACCOUNT])


def test_a_back_end_that_hangs_is_killed_with_all_it_started(
    desktop: Desktop, in_its_place: Callable[[str], None], tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    in_its_place(f"""
    def get_password(self, service, username):
        child = os.fork()
        if child:
            open({str(pids)!r}, "w").write(f"{{os.getpid()}} {{child}}")
        time.sleep(120)
    Keyring.get_password = get_password
    """)
    begun = time.monotonic()
    with pytest.raises(KeychainTimeout) as caught:
        Keychain(desktop.environ, timeout_s=2).load([ACCOUNT])
    assert time.monotonic() - begun < 60
    assert caught.value.exit_code == 69
    for pid in map(int, pids.read_text().split()):
        deadline = time.monotonic() + 30
        while _is_running(pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def _is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"  # killed, and nobody asks how it ended


def test_a_probe_of_what_hangs_is_an_answer(
    desktop: Desktop, in_its_place: Callable[[str], None]
) -> None:
    in_its_place("time.sleep(120)")
    probe = Keychain(desktop.environ, timeout_s=2).probe()
    assert (probe.state, probe.detail) == (
        "unavailable",
        "the keychain did not answer within 2 s",
    )


@pytest.mark.parametrize("error", ["RuntimeError", "OSError", "KeyError", "NotImplementedError"])
def test_an_error_of_any_class_is_an_answer_without_its_text(
    desktop: Desktop, in_its_place: Callable[[str], None], error: str
) -> None:
    in_its_place(f"""
    def fail(self, service, username, password=""):
        raise {error}(password)
    Keyring.get_password = Keyring.set_password = fail
    """)
    keychain = entries(desktop)
    with pytest.raises(KeychainUnavailable, match=rf"it does not work \({error}\)"):
        keychain.load([ACCOUNT])
    with pytest.raises(KeychainError) as caught:
        keychain.store(ACCOUNT, Secret(b"hunter2"))
    assert "hunter2" not in repr(caught.value) + str(caught.value.fields())


@pytest.mark.parametrize("given_back", ["None", "''", "'another'"])
def test_a_keychain_that_does_not_give_back_is_not_believed(
    desktop: Desktop, in_its_place: Callable[[str], None], given_back: str
) -> None:
    in_its_place(f"""
    def set_password(self, service, username, password):
        Keyring.get_password = lambda self, service, username: {given_back}
    Keyring.get_password = lambda self, service, username: None
    Keyring.set_password = set_password
    """)
    with pytest.raises(KeychainForgetful, match="Secret Service"):
        entries(desktop).store(ACCOUNT, Secret(b"x"))


def test_what_a_back_end_prints_does_not_spoil_the_answer(
    desktop: Desktop, in_its_place: Callable[[str], None]
) -> None:
    in_its_place("""
    print("{}", flush=True)
    Keyring.kept["aaaaaaaaaaaaa"] = "one"
    """)
    assert loaded(entries(desktop), ACCOUNT) == {ACCOUNT: b"one"}


def test_more_than_an_answer_holds_is_none(
    desktop: Desktop, in_its_place: Callable[[str], None]
) -> None:
    in_its_place("Keyring.get_password = lambda self, service, username: 'x' * 100_000")
    with pytest.raises(KeychainUnavailable, match="ended without an answer"):
        entries(desktop).load([ACCOUNT])


def test_a_python_that_cannot_be_started_is_an_error(
    desktop: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(KeychainUnavailable, match="No such file or directory"):
        entries(desktop).check()
