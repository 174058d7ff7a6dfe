"""Lists on their way between processes: what arrives is what was sent, of the same classes."""

from __future__ import annotations

import pickle
from dataclasses import astuple, dataclass, field
from typing import Any, NamedTuple

import pytest

from encvault.errors import EncvaultError, VaultBusy
from encvault.fs.stamp import Stamp
from encvault.vault.columns import packed, unpacked
from encvault.vault.opening import OpenOutcome, OpenTask
from encvault.vault.sealing import SealTask

STAMP = Stamp(1, 2, 3, 4, 5)


@dataclass
class Single:
    only: object


@dataclass
class Other:
    only: object


@dataclass(frozen=True, slots=True)
class Frozen:
    first: int
    second: list[int] = field(default_factory=list)


class Pair(NamedTuple):
    first: int
    second: int


def sealing(number: int) -> SealTask:
    return SealTask(
        "file",
        "a",
        f"name\udcff{number}",
        STAMP._replace(inode=number),
        0o644,
        (0, 1000),
        (f"{number}",),
        (("a", f"{number}.sealed"),),
        f"a/{number}",
        linked=number == 1,
    )


def opening(number: int) -> OpenTask:
    return OpenTask("a", f"{number}", STAMP, "b", None, "id", renamed="x" if number else None)


LISTS: list[list[Any]] = [
    [sealing(0), sealing(1), sealing(2)],
    [opening(0), opening(1)],
    [OpenOutcome(name="a", lost=["mtime"]), OpenOutcome(same_stamp=STAMP), OpenOutcome()],
    [Single(None)],
    [Single(STAMP), Single(Pair(1, 2))],
    [Single((1, 2)), Single((3,))],
    [Frozen(1), Frozen(2, [3])],
    [Single(1), Other(1)],
    [(), ("a",)],
    [STAMP, STAMP],
    [Single, Single],
    [],
]


def sent(value: Any) -> Any:
    return unpacked(pickle.loads(pickle.dumps(packed(value))))


def kinds(value: Any) -> Any:
    """The classes of what is in a list of objects: a named tuple equals a plain one."""
    if type(value) is type:
        return value
    inner = [getattr(value, name) for name in getattr(value, "__match_args__", ())]
    return type(value), [type(member) for member in inner]


@pytest.mark.parametrize("items", LISTS, ids=range(len(LISTS)))
def test_what_arrives_is_what_was_sent(items: list[Any]) -> None:
    arrived = sent(items)
    assert arrived == items
    assert list(map(kinds, arrived)) == list(map(kinds, items))


@pytest.mark.parametrize("value", [5, None, ("a", "b"), {"a": [1]}, Single(5), "text"])
def test_what_is_no_list_goes_as_it_is(value: object) -> None:
    assert packed(value) is value
    assert sent(value) == value


def test_a_list_does_not_become_that_of_another_object() -> None:
    first, second = sent([OpenOutcome(), OpenOutcome()])
    first.lost.append("owner")
    assert second.lost == []


def test_errors_arrive_with_what_they_say() -> None:
    arrived = sent([OpenOutcome(error=VaultBusy(path="p", holder="h")), OpenOutcome()])
    assert isinstance(arrived[0].error, EncvaultError)
    assert str(arrived[0].error) == str(VaultBusy(path="p", holder="h"))
    assert astuple(arrived[1]) == astuple(OpenOutcome())


def test_columns_are_fewer_bytes_than_objects() -> None:
    tasks = [sealing(number) for number in range(512)]
    assert len(pickle.dumps(packed(tasks))) < 0.8 * len(pickle.dumps(tasks))
