"""The page of the library is what the library does, in both languages."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import encvault
from encvault import keyslots, operations
from encvault.operations import drives

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]
PAGE, PAGE_ZH = ROOT / "docs" / "api.md", ROOT / "docs" / "api.zh-CN.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ROW = re.compile(r"^\| `(\w+)` \| (.+) \|$", re.MULTILINE)

NAMES = [
    "AccessLog",
    "ConfirmationNeeded",
    "DestinationExists",
    "EncvaultError",
    "Event",
    "Identity",
    "IntegrityError",
    "Listed",
    "NoMatchingKeyslot",
    "Observer",
    "PasswordIdentity",
    "PasswordRecipient",
    "Recipient",
    "RecoveryCode",
    "RecoveryIdentity",
    "Rekeyed",
    "Report",
    "SlotInfo",
    "Suite",
    "Vault",
    "load_identity",
    "load_recipients",
    "new_identity",
    "open_bytes",
    "open_file",
    "open_folder",
    "open_stream",
    "seal_bytes",
    "seal_file",
    "seal_folder",
    "seal_stream",
    "share_file",
]


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def public_methods(thing: Any) -> dict[str, Any]:
    """The functions of a class of ours that a program may call."""
    return {
        name: member
        for name, member in inspect.getmembers(thing)
        if not name.startswith("_") and (inspect.isfunction(member) or inspect.ismethod(member))
    }


def functions(name: str) -> dict[str, Any]:
    """Everything that can be called under a public name, by its full name."""
    thing = getattr(encvault, name)
    if inspect.isfunction(thing):
        return {name: thing}
    found = {f"{name}.{method}": value for method, value in public_methods(thing).items()}
    if name in ("PasswordRecipient", "PasswordIdentity", "RecoveryIdentity", "Vault"):
        found[f"{name}.__init__"] = thing.__init__
    return found


def test_the_names_are_pinned() -> None:
    assert encvault.__all__ == NAMES
    assert set(NAMES) <= set(dir(encvault))
    with pytest.raises(AttributeError, match="Nothing"):
        _ = encvault.Nothing  # type: ignore[attr-defined]


def test_a_name_is_imported_when_it_is_used() -> None:
    script = (
        "import sys, encvault\nown = {'encvault', 'encvault.about', 'encvault.lazy'}\n"
        "assert {name for name in sys.modules if name.startswith('encvault')} == own\n"
        "for name in encvault.__all__:\n"
        "    assert getattr(encvault, name) is getattr(encvault, name)\n"
        "slow = {'click', 'rich', 'argon2', 'keyring', 'pyudev', 'encvault.cli'}\n"
        "assert slow.isdisjoint(sys.modules), slow & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", [encvault, keyslots, operations, drives])
def test_the_type_checker_sees_what_a_program_gets(package: ModuleType) -> None:
    """The imports under TYPE_CHECKING and those at run time lead to the same things."""
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        alias.name: node.module
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(imported) == sorted(package.__all__)
    for name, module in imported.items():
        assert module is not None
        assert getattr(package, name) is getattr(sys.modules[module], name)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_types_and_a_docstring(name: str) -> None:
    assert inspect.getdoc(getattr(encvault, name)), name
    for full, function in functions(name).items():
        signature = inspect.signature(function)
        text = inspect.getdoc(
            function if not full.endswith("__init__") else getattr(encvault, name)
        )
        assert text, full
        for parameter in signature.parameters.values():
            if parameter.name not in ("self", "cls"):
                assert parameter.annotation is not parameter.empty, f"{full}: {parameter.name}"
        assert signature.return_annotation is not signature.empty, full


@pytest.mark.parametrize(
    "name", [name for name in NAMES if inspect.isfunction(getattr(encvault, name))]
)
def test_every_parameter_of_a_function_is_told(name: str) -> None:
    text = inspect.getdoc(getattr(encvault, name)) or ""
    for parameter in inspect.signature(getattr(encvault, name)).parameters:
        assert re.search(rf"^ {{4}}(\w+, )*{parameter}(, \w+)*: ", text, re.MULTILINE), parameter
    assert "Raises:" in text
    assert "Returns:" in text


@pytest.mark.parametrize("page", [PAGE, PAGE_ZH], ids=lambda page: page.name)
def test_the_reference_names_all_and_nothing_else(page: Path) -> None:
    rows = dict(ROW.findall(page.read_text(encoding="utf-8")))
    assert list(rows) == NAMES
    told = set(re.findall(r"`(\w+)`", rows["Vault"]))
    assert told == set(public_methods(encvault.Vault))
    for name in NAMES:
        thing = getattr(encvault, name)
        for member in re.findall(r"`(\w+)(?:\(\))?`", rows[name]):
            fields = getattr(thing, "__annotations__", {})
            assert hasattr(thing, member) or member in fields, f"{name}: {member}"


def test_every_error_on_the_page_has_its_code() -> None:
    for page in (PAGE, PAGE_ZH):
        for name, text in ROW.findall(page.read_text(encoding="utf-8")):
            thing = getattr(encvault, name)
            if match := re.search(r"(?:code|退出码) (\d+)", text):
                assert thing.exit_code == int(match[1])


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = blocks(PAGE)
    assert len(code) > 10
    names: dict[str, Any] = {"__name__": "page"}
    for number, block in enumerate(code, start=1):
        exec(compile(block, f"api.md, block {number}", "exec"), names)  # noqa: S102 - our own page
    used = set(re.findall(r"encvault\.(\w+)", "\n".join(code)))
    never_called = {
        "ConfirmationNeeded",
        "EncvaultError",
        "Event",
        "Identity",
        "Listed",
        "Recipient",
        "RecoveryCode",
        "Rekeyed",
        "Report",
        "SlotInfo",
    }
    assert used == set(NAMES) - never_called


def test_both_pages_hold_the_same_code_and_the_same_sections() -> None:
    assert blocks(PAGE) == blocks(PAGE_ZH)

    def shape(page: Path) -> list[str]:
        text = page.read_text(encoding="utf-8")
        parts = re.findall(r"^(#+) |^```(\w+)$|^(\|)|^(- )", text, re.MULTILINE)
        return ["".join(part) for part in parts]

    assert shape(PAGE) == shape(PAGE_ZH)
