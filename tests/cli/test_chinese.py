"""The command line in Chinese: every screen, and nothing that scripts rely on."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tools.reference import commands

from encvault import cli, i18n
from encvault.cli import secrets
from encvault.cli.formatter import Formatter
from encvault.cli.ui import cells

if TYPE_CHECKING:
    from collections.abc import Iterator

    from helpers import Command, Ran

HAN = re.compile("[\u4e00-\u9fff]")
CLOSING = tuple("，。；：！？、）”》")
NAMES = [name.split()[1:] for name, _context in commands()]
SYNTAX = re.compile(r"  (-\S.*?|[a-z]+)(?:  +(.*))?")
COMMAND = re.compile(r"encvault[ \w\[\].-]*")


@pytest.fixture(autouse=True)
def _fresh_commands() -> Iterator[None]:
    """Help is translated when a command's module is imported, which happens once in a process."""
    names = [name for name in sys.modules if name.startswith("encvault.cli.")]
    kept = {name: sys.modules.pop(name) for name in names if name not in STABLE}
    yield
    for name in [name for name in sys.modules if name.startswith("encvault.cli.")]:
        if name not in STABLE:
            del sys.modules[name]
    for name, module in kept.items():
        sys.modules[name] = module
        setattr(cli, name.rpartition(".")[2], module)


# these translate when they are called, and other tests hold on to them
STABLE = {f"encvault.cli.{name}" for name in ("formatter", "process", "run", "secrets", "ui")}


@pytest.fixture(autouse=True)
def _in_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    speak(monkeypatch, LANG="zh_CN.UTF-8")


def speak(monkeypatch: pytest.MonkeyPatch, **environ: str) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE"):
        monkeypatch.setenv(name, environ.get(name, ""))


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Command) -> Path:
    """A vault ``报价`` for the key ``k``, with one sealed file."""
    monkeypatch.chdir(tmp_path)
    assert run("key", "new", "--no-password", "-o", "k").code == 0
    Path("k.pub").write_text(run("key", "export", "-i", "k").out, encoding="utf-8")
    Path("报价").mkdir()
    Path("报价", "价格.csv").write_text("1,2\n", encoding="utf-8")
    assert run("seal", "-r", "k.pub", "报价").code == 0
    return Path("报价")


# -- help -----------------------------------------------------------------------------------


def described(page: str) -> list[str]:
    """A help page by its parts, the syntax of options and commands left out."""
    parts = [""]
    for line in page.splitlines():
        match = SYNTAX.fullmatch(line)
        if not line.strip():
            parts.append("")
        elif match:
            parts.append(match[2] or "")
        else:
            parts[-1] += " " + line.strip()
    return list(filter(None, parts))


@pytest.mark.parametrize("words", NAMES, ids=" ".join)
def test_help_is_chinese_and_fits_the_terminal(
    words: list[str], run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in (80, 60):
        monkeypatch.setenv("COLUMNS", str(columns))
        done = run(*words, "--help")
        assert done.code == 0
        parts = described(done.out)
        assert parts[0].startswith(" 用法：encvault")
        for part in parts:
            assert HAN.search(part), part
            assert not re.search(r"[A-Za-z]+ [a-z]+ [a-z]+", COMMAND.sub("", part)), part
        for line in done.out.splitlines():
            assert cells(line) <= columns
            assert not line.strip().startswith(CLOSING), line


def test_help_uses_the_width_there_is(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(cells, run("seal", "--help").out.splitlines())) > 74


def test_a_bare_call_prints_help(run: Command) -> None:
    done = run()
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("用法：encvault ")
    assert "加密文件和文件夹。" in done.err


def test_words_and_marked_paragraphs_stay_whole() -> None:
    formatter = Formatter(width=20)
    formatter.write_text(
        "运行 encvault_with_a_long_name 即可。\n\n\b\n例子：\n  原样的一行，不折行不折行不折行"
    )
    assert formatter.getvalue().splitlines() == [
        "运行",
        "encvault_with_a_long_name",
        "即可。",
        "",
        "例子：",
        "  原样的一行，不折行不折行不折行",
    ]


# -- messages -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("opne", "没有命令 'opne'"),
        ("key nwe", "没有命令 'nwe'。相近的有：'new'"),
        ("seal", "缺少参数 'PATH...'"),
        ("key export", "缺少选项 '-i' / '--identity'"),
        ("seal x --jobs 99", "'--jobs' 的值无效：99 不在范围 0<=x<=64 内"),
        ("seal x --jobs x", "'--jobs' 的值无效：'x' 不是有效的整数"),
        ("seal x --suite x", "'--suite' 的值无效：'x' 不可用，可选值为 'aes-256-gcm', 'sm4-gcm'"),
        ("seal x --forze", "没有选项 '--forze'。相近的有：'--force'"),
        ("status a b", "多余的参数：b"),
        ("verify --sample x", "无效的值：不是百分比：x"),
    ],
)
def test_usage_errors(line: str, expected: str, run: Command) -> None:
    done = run(*line.split())
    command = " ".join(["encvault", *line.split()[: 2 if line.startswith("key e") else 1]])
    see = {"opne": "encvault"}.get(line, command)
    assert done.code == 2
    assert done.err.splitlines() == [f"encvault: {expected}", f"提示：参见 {see} --help"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [("seal x --jobs", "选项 '--jobs' 需要 1 个值"), ("seal x --yes=1", "选项 '--yes' 不带值")],
)
def test_usage_errors_without_a_hint(line: str, expected: str, run: Command) -> None:
    assert run(*line.split()).err.splitlines()[0] == f"encvault: {expected}"


def test_errors_and_hints(vault: Path, run: Command) -> None:
    assert run("info", "没有").err == "encvault: 没有：没有此文件或文件夹\n"
    done = run("cat", vault / "价格.csv", "-i", "k.pub")
    assert done.err == "encvault: k.pub：不是可用的身份密钥文件：不是 JSON\n"
    done = run("seal", "--suite", "sm4-gcm", vault)
    assert done.err.splitlines() == [
        "encvault: 该保险库使用 aes-256-gcm，不是 sm4-gcm",
        "提示：请去掉 --suite，或新建保险库：encvault init --suite sm4-gcm",
    ]
    assert run("key", "new", "-o", "k2").err.splitlines() == [
        "提示：要生成没有密码的密钥，请加 --no-password",
        "encvault: k2：需要密码，但没有可供询问的终端",
        "提示：请使用 --password-file、--password-fd、--password-command、--keyring 或 --identity",
    ]


def test_the_system_speaks_chinese(
    vault: Path, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("open", "--password-file", ".", vault)
    assert done.err == "encvault: 无法从 . 读取密码：是一个目录\n"
    Path("not-a-folder").touch()
    monkeypatch.setenv("XDG_STATE_HOME", os.path.abspath("not-a-folder"))
    done = run("seal", vault)
    assert "无法使用本机状态文件夹" in done.err
    assert "：不是目录\n提示：请把 XDG_STATE_HOME 设为一个可写的文件夹" in done.err


def test_a_run_from_seal_to_open(vault: Path, run: Command) -> None:
    Path(vault, "b").write_text("b", encoding="utf-8")
    os.mkfifo(vault / "管道")
    assert run("seal", "-n", vault).out == "加密      b\n"
    done = run("status", vault)
    assert done.out.splitlines()[1:] == ["未加密：1", "  b", "无法加密：1", "  管道"]
    assert done.err == "encvault: 未加密的文件：1 个\n提示：加密命令：encvault seal 报价\n"
    assert run("seal", vault).err.splitlines()[1:] == [
        "encvault: 已加密 1 个文件，1 B；1 个文件未变化",
        "encvault: 保持原样的文件：1 个",
    ]
    assert run("verify", "-i", "k", vault).out == "2 个文件校验通过，5 B\n"
    assert run("open", "-i", "k", vault).err == "encvault: 已解密 2 个文件，5 B\n"


def test_counts_in_both_languages(
    vault: Path, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sealed() -> str:
        return run("status", vault).out.partition(", ")[0].partition("，")[0].strip()

    assert sealed() == "已加密 1 个文件"
    speak(monkeypatch, LANG="C")
    assert sealed() == "1 file sealed"
    Path(vault, "b").touch()
    run("seal", vault)
    assert sealed() == "2 files sealed"
    speak(monkeypatch, LANG="zh_CN.UTF-8")
    assert sealed() == "已加密 2 个文件"


def test_questions(
    vault: Path, run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    answers = iter(["否", "是"])
    monkeypatch.setattr(secrets.ui, "is_interactive", lambda: True)
    monkeypatch.setattr(secrets, "_ask", lambda text: asked.append(text) or next(answers))
    (tmp_path / "报价" / "子").mkdir()
    done = run("init", "-r", "k.pub", "报价/子")
    assert (done.code, done.err) == (2, "encvault: 未做任何操作\n")
    assert asked[0].endswith(" 中：要在那里另建一个保险库吗？[y/N] ")
    assert run("init", "-r", "k.pub", "报价/子").err.startswith("encvault: 已创建保险库 报价/子，")


def test_passwords(run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []
    answers = iter(["not short", "other one", "not short", "not short"])
    monkeypatch.setattr(secrets.ui, "is_interactive", lambda: True)
    monkeypatch.setattr(
        secrets.getpass, "getpass", lambda text: asked.append(text) or next(answers)
    )
    done = run("key", "new", "-o", "k")
    assert asked == ["为 k 设置密码：", "再输入一次密码："] * 2
    assert done.err.startswith("encvault: 两次输入的密码不一致\nencvault: 已写入身份密钥 k，指纹 ")


# -- which language -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "chinese"),
    [
        ({"LANG": "zh_CN.UTF-8"}, True),
        ({"LANG": "zh_CN"}, True),
        ({"LANG": "zh_SG.UTF-8"}, True),
        ({"LANG": "zh_Hans.UTF-8"}, True),
        ({"LANG": "zh_Hans_HK.UTF-8"}, True),
        ({"LC_MESSAGES": "zh_CN.UTF-8", "LANG": "en_US.UTF-8"}, True),
        ({"LC_ALL": "zh_CN.UTF-8", "LANG": "C"}, True),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "zh_CN:en"}, True),
        ({"LANG": "de_DE.UTF-8", "LANGUAGE": "de:zh_CN"}, True),
        ({"LANG": "zh_TW.UTF-8", "LANGUAGE": "zh_TW:zh_CN"}, True),
        ({"LANG": "zh_TW.UTF-8"}, False),
        ({"LANG": "zh_Hant.UTF-8"}, False),
        ({"LANG": "ja_JP.UTF-8"}, False),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "en_US:zh_CN"}, False),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, False),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, False),
        ({"LC_ALL": "C", "LANGUAGE": "zh_CN"}, False),
        ({"LANGUAGE": "zh_CN"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_the_environment_chooses_for_us_and_for_click(
    environ: dict[str, str], *, chinese: bool, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak(monkeypatch, **environ)
    by_click, by_us = run("ls", "--jobs", "99").err.splitlines()
    help_page = run("ls", "--help").out
    if chinese:
        assert by_click == "encvault: '--jobs' 的值无效：99 不在范围 0<=x<=64 内"
        assert by_us == "提示：参见 encvault ls --help"
    else:
        assert by_click.startswith("encvault: Invalid value for '--jobs'")
        assert by_us == "hint: see: encvault ls --help"
    assert [bool(HAN.search(part)) for part in described(help_page)] == [chinese] * len(
        described(help_page)
    )


def test_a_library_speaks_english() -> None:
    i18n.activate([])
    assert i18n._("interrupted") == "interrupted"
    assert i18n._("") == ""
    i18n.activate(["zh_CN"])
    assert i18n._("interrupted") == "已中断"
    assert i18n._("") == ""  # and not the catalog's header


# -- what scripts rely on -------------------------------------------------------------------


def without_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: without_texts(item)
            for key, item in value.items()
            if key not in ("message", "hint")
        }
    return [without_texts(item) for item in value] if isinstance(value, list) else value


def in_both(run: Command, monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[Ran, Ran]:
    speak(monkeypatch, LANG="zh_CN.UTF-8")
    chinese = run(*words)
    speak(monkeypatch, LANG="C")
    return chinese, run(*words)


def test_json_and_codes_are_the_same(
    vault: Path, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(vault, "plain").write_text("x", encoding="utf-8")
    os.link(vault / "plain", "other-name")  # a note
    os.mkfifo(vault / "pipe")  # a problem with a kind
    Path(vault, "b").touch()
    inside = vault / "sub"
    inside.mkdir()
    Path("bad.pub").write_text("x", encoding="utf-8")
    Path("damaged.sealed").write_bytes((vault / "价格.csv.sealed").read_bytes()[:60])
    for words, code in [
        (("info", vault), 0),
        (("info", vault / "价格.csv.sealed"), 0),
        (("key", "show", "-i", "k"), 0),
        (("status", vault), 3),
        (("ls", "-i", "k", vault), 0),
        (("seal", "-n", vault), 3),
        (("verify", "-i", "k", vault), 0),
        (("init", "-r", "bad.pub", "new"), 65),  # a reason
        (("init", "-r", "k.pub", inside), 2),  # a question
        (("info", "damaged.sealed"), 65),
        (("seal", "--to", "a", "--archive", "b", vault), 2),
        (("seal", "a", "b"), 66),
    ]:
        chinese, english = in_both(run, monkeypatch, *words, "--json")
        assert chinese.code == english.code == code, words
        one, other = json.loads(chinese.out), json.loads(english.out)
        assert without_texts(one) == without_texts(other)
        if "error" in one:
            assert HAN.search(one["message"])
            assert not HAN.search(other["message"].replace("报价", ""))


def test_english_reasons_are_in_json(vault: Path, run: Command) -> None:
    os.mkfifo(vault / "pipe")
    problem = json.loads(run("seal", "--json", vault).out)["problems"][0]
    assert problem["kind"] == "fifo"
    assert problem["message"].endswith("/pipe：保持原样，因为它是命名管道")
    Path("bad.pub").write_text("x", encoding="utf-8")
    error = json.loads(run("init", "-r", "bad.pub", "new", "--json").out)
    assert error["reason"] == "does not begin with encvault1-"
    assert error["message"] == "bad.pub：不是可用的接收者：不以 encvault1- 开头"


# -- columns --------------------------------------------------------------------------------


def test_the_values_of_info_are_below_each_other(vault: Path, run: Command) -> None:
    for words in (["info", vault], ["info", vault / "价格.csv.sealed"], ["key", "show", "-i", "k"]):
        lines = [line for line in run(*words).out.splitlines() if "  " in line]
        assert len(lines) > 3
        starts = {cells(re.match(r"\S+ {2,}", line)[0]) for line in lines}  # type: ignore[index]
        assert len(starts) == 1, lines


def test_the_paths_of_lists_are_below_each_other(vault: Path, run: Command) -> None:
    os.symlink("x", vault / "链接")
    run("seal", vault)
    lines = run("ls", "-l", "-i", "k", vault).out.splitlines()
    assert [line.split()[0] for line in lines] == ["文件", "符号链接"]
    assert len({cells(line.rpartition(" ")[0]) for line in lines}) == 1
