"""Configuration files: what is read, what is refused, and what several say together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import NOBODY, in_child

from encvault import config
from encvault.config.merged import MAX_FILE_SIZE
from encvault.crypto.suite import Suite
from encvault.errors import (
    ConfigMalformed,
    ConfigUnreadable,
    ContradictedPin,
    EncvaultError,
    InvalidSetting,
    UnknownSetting,
    UntrustedConfig,
)

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
PIN = "vp5c-gffw-i6a6-nrvs-w5aa-oyyb-nqf2-5c3b"
OTHER_PIN = "vtfo-zwd6-h7zw-xvsm-bsxz-impc-kdra-4ffm"
FULL = f"""
recipients = [
  "company.pub",          # beside this file
  "../keys/officer.pub",
  "/srv/keys/audit.pub",
  "encvault1-AQWLEeWL",
]
suite = "sm4-gcm"

[password]
min_length = 12
min_strength = 3

[log]
dir = "/var/log/encvault/"

[vaults."/srv/share/sales/"]
fingerprint = "{PIN}"
"""


def parsed(text: str) -> config.Settings:
    return config.parse(text.encode(), "/etc/encvault/config.toml")


def written(folder: Path, **texts: str) -> list[str]:
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [str(folder / name) for name in texts]


# -- one file -------------------------------------------------------------------------------


def test_a_full_file() -> None:
    found = parsed(FULL)
    assert found.recipients == (
        "/etc/encvault/company.pub",
        "/etc/keys/officer.pub",
        "/srv/keys/audit.pub",
        "encvault1-AQWLEeWL",
    )
    assert found.suite == "sm4-gcm"
    assert (found.password.min_length, found.password.min_strength) == (12, 3)
    assert found.log.dir == "/var/log/encvault"
    assert {path: one.fingerprint for path, one in found.vaults.items()} == {
        "/srv/share/sales": PIN
    }


def test_an_empty_file_says_nothing() -> None:
    assert parsed("# nothing yet\n") == config.Settings()
    assert parsed("[password]\n[log]\n[vaults]\n") == config.Settings()


def test_a_byte_order_mark_is_no_mistake() -> None:
    found = config.parse(b"\xef\xbb\xbfsuite = 'sm4-gcm'\n", "/c.toml")
    assert found.suite == "sm4-gcm"
    with pytest.raises(UnknownSetting) as caught:
        config.parse(b"\xef\xbb\xbf# first\nsuit = 1\n", "/c.toml")
    assert caught.value.place == "/c.toml:2"


def test_the_suites_are_those_of_the_program() -> None:
    assert set(config.SUITES) == {suite.label for suite in Suite}


@pytest.mark.parametrize(
    ("text", "line", "key", "suggestion"),
    [
        ("recipient = []", 1, "recipient", "did you mean recipients?"),
        ("\n\nsuit = 'x'", 3, "suit", "did you mean suite?"),
        ("min_length = 3", 1, "min_length", "did you mean password.min_length?"),
        ("[password]\n# rule\nmin_lenght = 3", 3, "password.min_lenght", "password.min_length?"),
        ("[password]\ncolour = 3", 2, "password.colour", "here are: min_length, min_strength"),
        ("password.colour = 3", 1, "password.colour", "here are: min_length, min_strength"),
        ("x = 1", 1, "x", "here are: recipients, suite, password, log, usb, vaults"),
        ('[vaults."/srv/x"]\n\npin = "a"', 3, 'vaults."/srv/x".pin', "here are: fingerprint"),
        ("recipients = [\n  'a',\n  'b',\n]\n[audit]\nx = 1", 5, "audit", "here are: recipients"),
        ("recipients = [\n  'a',\n]\r\naudit = '''\n[log]\n'''", 4, "audit", "here are"),
    ],
)
def test_an_unknown_key_is_named_with_its_line(
    text: str, line: int, key: str, suggestion: str
) -> None:
    with pytest.raises(UnknownSetting) as caught:
        parsed(text)
    assert caught.value.place == f"/etc/encvault/config.toml:{line}"
    assert caught.value.key == key
    assert suggestion in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "line", "key", "reason"),
    [
        ("recipients = 'a'", 1, "recipients", "must be a list of texts"),
        ("recipients = [1]", 1, "recipients", "must be a list of texts"),
        ("recipients = ['']", 1, "recipients", "no path and no recipient"),
        ("suite = 'aes-128-gcm'", 1, "suite", "must be one of aes-256-gcm, sm4-gcm"),
        ("suite = ['sm4-gcm']", 1, "suite", "must be one of"),
        ("password = 12", 1, "password", "must be a table"),
        ("[password]\nmin_length = true", 2, "password.min_length", "from 1 to 128"),
        ("[password]\nmin_length = 0", 2, "password.min_length", "from 1 to 128"),
        ("[password]\nmin_length = 129", 2, "password.min_length", "from 1 to 128"),
        ("[password]\nmin_length = '12'", 2, "password.min_length", "whole number"),
        ("[password]\nmin_strength = 5", 2, "password.min_strength", "from 0 to 4"),
        ("[password]\nmin_strength = 2.5", 2, "password.min_strength", "whole number"),
        ("[log]\ndir = 'log'", 2, "log.dir", "must be an absolute path"),
        ("[log]\ndir = '/log/{user}/../x'", 2, "log.dir", "must have no .. in it"),
        ("[log]\ndir = '/log/{name}'", 2, "log.dir", "no braces but those of {user}"),
        ("[log]\nrequired = 1", 2, "log.required", "must be true or false"),
        ("[log]\npaths = 'none'", 2, "log.paths", "must be one of full, name, hmac"),
        ("[usb]\nregister = 'drives.json'", 2, "usb.register", "must be an absolute path"),
        ("[log]\ndir = 7", 2, "log.dir", "must be an absolute path"),
        ("[vaults.sales]", 1, "vaults.sales", "must be an absolute path"),
        ("vaults = 3", 1, "vaults", "must be a table"),
        ("vaults.'/a' = 3", 1, 'vaults."/a"', "must be a table"),
        ("[vaults.'/a']\n[vaults.'/a/']", 2, 'vaults."/a/"', "names the same vault again"),
        ("[vaults.'/a']\nfingerprint = 'x'", 2, 'vaults."/a".fingerprint', "8 groups of 4"),
        (f"[vaults.'/a']\nfingerprint = '{PIN}-aaaa'", 2, 'vaults."/a".fingerprint', "8 groups"),
        (f"[vaults.'/a']\nfingerprint = '{PIN.upper()}'", 2, 'vaults."/a".fingerprint', "8"),
        ("[vaults.'/a']\nfingerprint = 1", 2, 'vaults."/a".fingerprint', "8 groups"),
    ],
)
def test_a_bad_value_is_named_with_its_line(text: str, line: int, key: str, reason: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        parsed(text)
    assert caught.value.place == f"/etc/encvault/config.toml:{line}"
    assert caught.value.key == key
    assert reason in caught.value.reason


def test_the_line_in_a_very_long_statement_is_left_out() -> None:
    lines = "\n".join(["'a',"] * 200)
    with pytest.raises(InvalidSetting) as caught:
        parsed(f"recipients = [\n{lines}\n1]")
    assert caught.value.place == "/etc/encvault/config.toml"


@pytest.mark.parametrize(
    ("data", "place", "reason"),
    [
        (b"suite = \n", ":1", "Invalid value"),
        (b"a = 1\n\nsuite sm4\n", ":3", "Expected '=' after a key in a key/value pair"),
        (b"a = 1\na = 2\n", ":2", "Cannot overwrite a value"),
        (b"recipients = ['a'\n", "", "Unclosed array"),
        (b"suite = '\xff'\n", "", "not UTF-8"),
        (b"a = " + b"[" * 50_000, "", "too deep"),
        (b"a = " + b"9" * 5_000, "", "digits"),
    ],
)
def test_what_is_no_toml_is_named_with_its_line(data: bytes, place: str, reason: str) -> None:
    with pytest.raises(ConfigMalformed) as caught:
        config.parse(data, "/c.toml")
    assert caught.value.place == f"/c.toml{place}"
    assert reason in caught.value.reason


# -- several files --------------------------------------------------------------------------


def test_without_files_the_defaults_hold(tmp_path: Path) -> None:
    found = config.load([str(tmp_path / "etc"), str(tmp_path / "no" / "home")])
    assert found.files == {str(tmp_path / "etc"): False, str(tmp_path / "no" / "home"): False}
    assert found.recipients == ()
    assert found.suite == config.Given(None)
    assert found.password == config.PasswordPolicy(1, 0)
    assert found.log == config.LogChoice()
    assert found.fingerprints == {}


def test_demands_add_up_and_choices_are_the_last_file_s(tmp_path: Path) -> None:
    paths = written(
        tmp_path,
        etc="recipients = ['/a']\nsuite = 'aes-256-gcm'\n[password]\nmin_length = 12\n"
        "min_strength = 2\n[log]\ndir = '/log'\nrequired = true\n"
        f"[vaults.'/v']\nfingerprint = '{PIN}'\n",
        home="recipients = ['/b']\nsuite = 'sm4-gcm'\n[password]\nmin_length = 4\n"
        "min_strength = 3\n[log]\ndir = '/mine'\npaths = 'hmac'\nrequired = false\n"
        f"[vaults.'/v']\nfingerprint = '{PIN}'\n"
        f"[vaults.'/w']\nfingerprint = '{OTHER_PIN}'\n[vaults.'/x']\n",
    )
    etc, home = paths
    found = config.load(paths)
    assert found.recipients == (config.Given("/a", etc), config.Given("/b", home))
    assert found.suite == config.Given("sm4-gcm", home)
    assert found.min_length == config.Given(12, etc)
    assert found.min_strength == config.Given(3, home)
    assert found.password == config.PasswordPolicy(12, 3)
    # who is recorded does not choose how: the first table counts, with all that it leaves open
    assert found.log == config.LogChoice(
        dir=config.Given("/log", etc), required=config.Given(value=True, source=etc)
    )
    assert found.pins == {"/v": config.Given(PIN, etc), "/w": config.Given(OTHER_PIN, home)}
    assert found.fingerprints == {"/v": PIN, "/w": OTHER_PIN}


def test_a_rule_that_equals_the_default_is_its_file_s(tmp_path: Path) -> None:
    (etc,) = written(tmp_path, etc="[password]\nmin_length = 1\nmin_strength = 0\n")
    found = config.load([etc])
    assert found.min_length == config.Given(1, etc)
    assert found.min_strength == config.Given(0, etc)


def test_a_user_may_not_contradict_the_company_s_pin(tmp_path: Path) -> None:
    paths = written(
        tmp_path,
        etc=f"[vaults.'/v']\nfingerprint = '{PIN}'",
        home=f"[vaults.'/v/']\nfingerprint = '{OTHER_PIN}'",
    )
    with pytest.raises(ContradictedPin) as caught:
        config.load(paths)
    assert caught.value.fields() == {"place": paths[1], "vault": "/v", "other": paths[0]}
    assert caught.value.exit_code == 78


# -- what is not even read ------------------------------------------------------------------


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    (path,) = written(tmp_path, etc="#" * MAX_FILE_SIZE)
    assert config.load([path]).files == {path: True}
    (path,) = written(tmp_path, etc="#" * (MAX_FILE_SIZE + 1))
    with pytest.raises(ConfigUnreadable, match="longer than 65536 bytes"):
        config.load([path])


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").touch()
    for name, reason in [
        ("folder", "not a regular file"),
        ("fifo", "not a regular file"),
        ("dangling", "No such file or directory"),
        ("file/config.toml", "Not a directory"),
    ]:
        with pytest.raises(ConfigUnreadable) as caught:
            config.load([str(tmp_path / name)])
        assert caught.value.reason == reason
        assert caught.value.exit_code == 78


def test_a_file_that_the_storage_does_not_give_is_an_error() -> None:
    with pytest.raises(ConfigUnreadable, match="Input/output error"):
        config.read("/proc/self/mem", 1)


def test_an_unreadable_file_is_an_error(public_path: Path) -> None:
    (path,) = written(public_path, etc="suite = 'sm4-gcm'")
    os.chmod(path, 0o000)
    with pytest.raises(ConfigUnreadable, match="Permission denied"):
        in_child(lambda: config.load([path]), uid=NOBODY)


def refused(action: Callable[[], object]) -> tuple[str, str]:
    """Which place was refused, and why; two empty texts if none was."""
    try:
        action()
    except UntrustedConfig as error:
        return error.place, error.reason
    except EncvaultError as error:  # what else is wrong is another test's
        raise AssertionError(error) from error
    return "", ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
@pytest.mark.parametrize(
    ("owner", "mode", "as_root", "as_owner", "as_stranger"),
    [
        (0, 0o644, "", "", ""),
        (0, 0o664, "others may write", "others may write", "others may write"),
        (0, 0o646, "others may write", "others may write", "others may write"),
        (NOBODY, 0o644, "belongs to user", "", "belongs to user"),
        (NOBODY, 0o664, "belongs to user", "", "belongs to user"),
        (NOBODY, 0o666, "belongs to user", "others may write", "belongs to user"),
    ],
)
def test_a_file_that_others_can_change_is_refused(
    public_path: Path, owner: int, mode: int, as_root: str, as_owner: str, as_stranger: str
) -> None:
    public_path.chmod(0o755)
    (path,) = written(public_path, etc="suite = 'sm4-gcm'")
    os.chown(path, owner, owner)
    os.chmod(path, mode)
    for uid, expected in [(None, as_root), (NOBODY, as_owner), (NOBODY - 1, as_stranger)]:
        place, reason = in_child(lambda: refused(lambda: config.load([path])), uid=uid)
        assert bool(reason) == bool(expected), (uid, reason)
        assert expected in reason
        assert place in ("", path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only for root is the place looked at")
def test_for_root_the_folders_above_must_be_safe_as_well(public_path: Path) -> None:
    public_path.chmod(0o755)
    folder = public_path / "etc"
    folder.mkdir()
    (path,) = written(folder, config="suite = 'sm4-gcm'")

    def found() -> tuple[str, str]:
        return refused(lambda: config.load([path]))

    assert found() == ("", "")
    folder.chmod(0o775)
    assert found() == (str(folder), f"others may write to {folder}")
    folder.chmod(0o1777)  # nobody can exchange the file, but somebody could have put it there
    assert found()[0] == str(folder)
    folder.chmod(0o755)
    os.chown(folder, NOBODY, NOBODY)
    assert found() == (str(folder), f"{folder} belongs to user {NOBODY}")
    os.chown(folder, 0, 0)
    public_path.chmod(0o777)
    assert found()[0] == str(public_path)
    public_path.chmod(0o1777)
    assert found() == ("", "")
    # a link is as safe as the place that it leads to
    public_path.chmod(0o755)
    (public_path / "open").mkdir()
    (public_path / "open").chmod(0o777)
    written(public_path / "open", target="suite = 'sm4-gcm'")
    (folder / "link").symlink_to(public_path / "open" / "target")
    assert refused(lambda: config.load([str(folder / "link")]))[0] == str(public_path / "open")
    # for others than root the place is their own affair
    assert in_child(lambda: refused(lambda: config.load([str(folder / "link")])), uid=NOBODY) == (
        "",
        "",
    )


def test_the_refusal_says_how_to_mend_it(public_path: Path) -> None:
    (path,) = written(public_path, etc="")
    os.chmod(path, 0o666)
    with pytest.raises(UntrustedConfig) as caught:
        config.load([path])
    assert caught.value.exit_code == 78
    owner = "root" if os.geteuid() == 0 else str(os.geteuid())
    assert f"chown {owner} {path} && chmod go-w {path}" in str(caught.value.hint)


# -- the guide ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["docs/config.md", "docs/config.zh-CN.md"])
def test_the_guide_names_every_key_and_its_example_is_valid(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert len(config.setting_names(config.Settings)) == 9
    for name in config.setting_names(config.Settings):
        assert f"`{name}`" in text
    example = text.partition("```toml\n")[2].partition("```")[0]
    found = parsed(example)
    assert found.recipients
    assert found.suite
    assert found.password.min_length
    assert found.password.min_strength
    assert found.log.dir
    assert found.usb.register
    assert found.vaults


def test_the_register_of_the_company_counts(tmp_path: Path) -> None:
    etc, mine = written(
        tmp_path, etc="[usb]\nregister = '/company'\n", home="[usb]\nregister = '/mine'\n"
    )
    assert config.load([etc, mine]).register == config.Given("/company", etc)
    assert config.load([mine]).register == config.Given("/mine", mine)


def test_the_log_of_sound_files_holds_though_another_is_broken(tmp_path: Path) -> None:
    broken, mine = written(tmp_path, etc="x", home="[log]\ndir = '/mine'\n")
    assert config.load_log([broken, mine]) == config.LogChoice(dir=config.Given("/mine", mine))
    etc, broken = written(tmp_path, etc="[log]\ndir = '/log'\npaths = 'name'\n", home="x")
    found = config.load_log([etc, broken])
    assert found == config.LogChoice(config.Given("/log", etc), config.Given("name", etc))
    assert config.load_log([broken]) == config.LogChoice(paths=config.Given("hmac"))
