"""What a file is called where its own name cannot be used."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, strategies as st

from encvault.fs.names import KINDS, Rules, fitted, is_harmless

WINDOWS = Rules(size=1023, windows=True, folds=True)
ASCII = Rules(frozenset({"\udcff", "é", "中", "😀"}), windows=True, folds=True)
RULES = [Rules(), WINDOWS, ASCII, Rules(frozenset(KINDS)), Rules(size=143), Rules(folds=True)]

characters = st.characters(exclude_characters="/\0", exclude_categories=["Cs"])
names = (
    st.binary(min_size=1, max_size=300)
    .filter(lambda name: b"/" not in name and b"\0" not in name)
    .map(os.fsdecode)
    | st.text(characters, min_size=1, max_size=300)
    | st.text("aA:.% é中(2)~", min_size=1, max_size=6)
    | st.sampled_from(
        ["con", "CON", "Aux.txt", "lpt9 .x", "nul.", "a" * 255, "A" * 255, "中" * 250]
    )
).filter(lambda name: name not in (".", "..") and len(os.fsencode(name)) <= 1023)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a:b.txt", "a%3Ab.txt"),
        ('"*:<>?\\|', "%22%2A%3A%3C%3E%3F%5C%7C"),
        ("line\nfeed", "line%0Afeed"),
        ("dot.", "dot%2E"),
        ("..x..", "..x.%2E"),
        ("space ", "space%20"),
        ("CON", "%43ON"),
        ("aux.txt", "%61ux.txt"),
        ("nul .tar.gz", "%6Eul .tar.gz"),
        ("com¹", "%63om¹"),
        ("console.txt", "console.txt"),
        ("100%.txt", "100%.txt"),
        ("报价单.xlsx", "报价单.xlsx"),
    ],
)
def test_a_name_that_windows_cannot_open_is_escaped(name: str, expected: str) -> None:
    assert WINDOWS.legal(name) == expected
    assert fitted([name], WINDOWS) == ({} if name == expected else {name: expected})


def test_what_is_not_refused_is_kept() -> None:
    names = ["CON", "a:b", "dot.", "space ", "A", "a", "\udcff", "x" * 255, "中" * 85]
    assert fitted(names, Rules()) == {}
    assert Rules(frozenset({"\udcff", ":"})).legal("a:\udcff?") == "a%3A%FF?"
    assert ASCII.legal("é中") == "%C3%A9%E4%B8%AD"


def test_a_long_name_is_cut_and_keeps_its_extension() -> None:
    long = "😀" * 120 + ".txt"
    new = Rules().legal(long)
    assert new.startswith("😀" * 50)
    assert new.endswith(".txt")
    assert len(os.fsencode(new)) <= 255
    assert new != Rules().legal("😀" * 121 + ".txt")
    assert WINDOWS.legal(long) == long
    assert WINDOWS.legal("😀" * 130) != "😀" * 130  # of 260 units
    assert not WINDOWS.legal("x." + "y" * 400).endswith("y")


def test_names_that_differ_only_in_case_get_numbers() -> None:
    found = fitted(["Report.TXT", "report.txt", "REPORT.txt", "report (2).txt"], WINDOWS)
    assert found == {"Report.TXT": "Report (3).TXT", "report.txt": "report (4).txt"}
    assert fitted(["straße", "STRASSE"], WINDOWS) == {}
    assert fitted(["É", "é"], WINDOWS) == {"é": "é (2)"}


def test_who_may_keep_his_name_does() -> None:
    assert fitted(['a"', "a%22"], WINDOWS) == {'a"': "a%22 (2)"}


@given(st.lists(names, unique=True, max_size=8), st.sampled_from(RULES))
def test_new_names_can_be_used_and_differ(given_names: list[str], rules: Rules) -> None:
    found = fitted(given_names, rules)
    assert found == fitted(given_names[::-1], rules)
    result = [found.get(name, name) for name in given_names]
    assert all(map(rules.takes, result))
    assert len({rules.key(name) for name in result}) == len(given_names)
    for name, new in found.items():
        assert name != new
        assert "/" not in new
        assert "\0" not in new
        assert new not in ("", ".", "..")
    keys = [rules.key(name) for name in given_names]
    for name, key in zip(given_names, keys, strict=True):
        if rules.takes(name) and keys.count(key) == 1:
            assert name not in found


@given(names, st.sampled_from(RULES))
def test_a_harmless_name_is_taken_by_all(name: str, rules: Rules) -> None:
    if is_harmless(name):
        assert rules.takes(name)
