"""When what was changed is saved."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from encvault.mount import due

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

    from encvault.mount.nodes import Node

NODE = cast("Node", "a node")


@contextlib.contextmanager
def dues(save: Callable[[list[Any]], None]) -> Iterator[due.Due]:
    found = due.Due(save)
    try:
        yield found
    finally:
        found.close()


def test_what_is_put_off_again_and_again_is_saved_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a log that a program appends to every few milliseconds."""
    monkeypatch.setattr(due, "_LONGEST", 0.3)
    saved: list[float] = []
    begun = time.monotonic()
    with dues(lambda nodes: saved.append(time.monotonic()) if nodes else None) as found:
        while len(saved) < 3 and time.monotonic() - begun < 20:
            found.put(NODE)
            time.sleep(due.SOON / 5)
    assert len(saved) >= 3
    assert saved[0] - begun >= due.SOON


def test_what_failed_is_tried_again_later_and_not_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "_RETRY", 0.5)
    monkeypatch.setattr(due, "_LONGEST", 0.0)
    tried: list[float] = []
    twice = threading.Event()

    def fail(nodes: list[Any]) -> None:
        tried.append(time.monotonic())
        if len(tried) == 2:
            twice.set()
        else:
            for node in nodes:
                found.put_off(node)

    with dues(fail) as found:
        found.put(NODE, 0.0)
        assert twice.wait(20)
    assert tried[1] - tried[0] >= 0.45


def test_what_fails_again_and_again_is_tried_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(due, "_RETRY", 0.1)
    monkeypatch.setattr(due, "_LONGEST_RETRY", 0.4)
    monkeypatch.setattr(due, "_LONGEST", 0.0)
    tried: list[float] = []
    often = threading.Event()

    def fail(nodes: list[Any]) -> None:
        tried.append(time.monotonic())
        if len(tried) == 5:
            found.drop(NODE)
        if len(tried) == 6:
            often.set()
        else:
            for node in nodes:
                found.put_off(node)

    with dues(fail) as found:
        found.put(NODE, 0.0)
        assert often.wait(20)
    waited = [after - before for before, after in itertools.pairwise(tried)]
    least = [0.1, 0.2, 0.4, 0.4, 0.1]  # it was saved before the last
    assert all(one > 0.9 * wanted for one, wanted in zip(waited, least, strict=True))
    assert waited[-1] < 0.4


def test_what_is_said_often_to_have_failed_is_tried_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(due, "_RETRY", 0.2)
    monkeypatch.setattr(due, "_LONGEST", 0.0)
    tried = threading.Event()
    with dues(lambda _nodes: tried.set()) as found:
        for _time in range(3000):
            found.put_off(NODE)
        assert found._waits[NODE] == 0.4, "it is one try"
        assert tried.wait(20)


def test_an_error_that_nobody_has_thought_of_does_not_end_the_saving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(due, "_RETRY", 0.1)
    monkeypatch.setattr(due, "_LONGEST", 0.0)
    tried: list[list[Any]] = []
    again = threading.Event()

    def fail(nodes: list[Any]) -> None:
        tried.append(nodes)
        if len(tried) == 1:
            raise OverflowError("int too large to convert to float")
        again.set()

    with dues(fail) as found:
        found.put(NODE, 0.0)
        assert again.wait(20)
    assert tried == [[NODE], [NODE]]


def test_where_there_is_no_thread_to_be_had_the_next_one_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    refused: list[str] = []
    saved = threading.Event()

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "saver" and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with dues(lambda _nodes: saved.set()) as found:
        found.put(NODE, 0.0)
        assert refused
        found.put(NODE, 0.0)
        assert saved.wait(20)
    with dues(lambda _nodes: None) as found:
        refused.clear()
        found.put(NODE, 0.0)
        found.close()  # what is due stays
        assert found.nodes() == [NODE]


def test_what_changes_while_it_is_saved_is_saved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "LATER", 0.1)
    begun, go_on, again = (threading.Event() for _event in range(3))

    def save(_nodes: list[Any]) -> None:
        if begun.is_set():
            again.set()
        begun.set()
        assert go_on.wait(20)

    with dues(save) as found:
        found.put(NODE, 0.0)
        assert begun.wait(20)
        found.put_later(NODE)
        go_on.set()
        assert again.wait(20)
