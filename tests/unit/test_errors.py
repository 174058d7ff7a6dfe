"""The error tree keeps its promises."""

from __future__ import annotations

import os
import pickle
import string
import subprocess

import pytest

from encvault import errors
from encvault.cli.ui import harmless
from encvault.errors import EncvaultError

CODES = {1, 2, 3, 65, 66, 69, 73, 74, 75, 77, 78, 124, 126, 127}


def classes(root: type[EncvaultError] = EncvaultError) -> list[type[EncvaultError]]:
    return [root, *(found for sub in root.__subclasses__() for found in classes(sub))]


def sample(cls: type[EncvaultError]) -> EncvaultError:
    numbers = {"index", "offset", "size", "version", "suite", "flags", "memory_kib", "passes"}
    integers = {"UnknownSuite": numbers}.get(cls.__name__, numbers - {"suite"})
    return cls(**{name: 7 if name in integers else "text" for name in cls.field_names()})


@pytest.mark.parametrize("cls", classes())
def test_a_class_is_consistent(cls: type[EncvaultError]) -> None:
    assert cls.exit_code in CODES
    assert cls.__doc__
    placeholders = {name for _, name, _, _ in string.Formatter().parse(cls.message) if name}
    advice = {name for _, name, _, _ in string.Formatter().parse(cls.advice) if name}
    assert placeholders | advice <= cls.field_names()
    assert cls.message[0] == "{" or not cls.message[0].isupper()
    assert not cls.message.endswith(".")
    error = sample(cls)
    assert "{" not in str(error)
    assert error.hint is None or "{" not in error.hint
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert copy.fields() == error.fields()


def test_names_are_unique() -> None:
    names = [cls.__name__ for cls in classes()]
    assert len(names) == len(set(names))


def test_wrong_fields_are_a_bug() -> None:
    with pytest.raises(AssertionError):
        errors.NotSealed(file="x")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "path",
    [
        "/srv/plain-1.0_a,b:c@d%e+f=g",
        "/srv/报价",
        "my docs",
        "a'b",
        "$HOME",
        "x;rm",
        "~",
        "",
        "a\tb",
        "n\nl",
        "it's\n1\\2",
        "\x1b[31m7",
        "报价\u3000 二",
        "\udcff7",
    ],
)
def test_a_path_in_a_hint_is_one_word(path: str) -> None:
    hint = errors.NotAVault(path=path).hint
    assert hint is not None
    command = harmless(hint).partition("encvault seal ")[2]
    # what a shell makes of it, and nothing quoted that needs no quotes
    told = subprocess.run(["bash", "-c", f"printf %s {command}"], capture_output=True, check=True)
    assert os.fsdecode(told.stdout) == path
    assert (command == path) == (path.startswith("/srv/"))


def test_a_path_in_a_hint_is_no_option() -> None:
    assert str(errors.NotAVault(path="-r").hint).endswith("encvault seal ./-r")
