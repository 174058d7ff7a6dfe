"""Which drives came and went, by what is there at each look."""

from __future__ import annotations

from pathlib import Path

import pytest
import pyudev
from drivefs import STICK
from serving import until

from encvault.errors import UdevAbsent
from encvault.fs.mounts import Mount
from encvault.usb import udev
from encvault.usb.arrivals import Arrivals
from encvault.usb.drives import Drive
from encvault.usb.udev import Monitor

MOUNT = Mount("/media/stick", "exfat", "/dev/sdb1", (8, 17), "/")
BARE = Drive(STICK, None, "")
MOUNTED = Drive(STICK, MOUNT, "a" * 26)


def arrivals() -> Arrivals:
    """After a first look, at which nothing was there."""
    found = Arrivals()
    assert found.look([], (), 0.0).come == []
    return found


def test_who_is_there_already_is_told_at_once() -> None:
    assert Arrivals().look([BARE], (), 0.0).come == [BARE]


def test_a_drive_is_told_when_it_is_mounted() -> None:
    seen = arrivals()
    assert seen.look([BARE], (), 1.0).come == []
    assert seen.look([MOUNTED], (), 2.0).come == [MOUNTED]
    assert seen.look([MOUNTED], (), 9.0).come == []
    assert seen.look([BARE], (), 10.0).come == []  # unmounted, and still there
    assert seen.look([MOUNTED], (), 11.0).come == []
    gone = seen.look([], (), 12.0)
    assert (gone.gone, gone.come) == ([MOUNTED], [])
    assert seen.look([], (), 13.0).gone == []


def test_a_drive_that_nobody_mounts_is_told_after_a_while() -> None:
    seen = arrivals()
    assert seen.look([BARE], (), 1.0).come == []
    assert seen.look([BARE], (), 4.9).come == []
    assert seen.look([BARE], (), 5.0).come == [BARE]
    assert seen.look([BARE], (), 6.0).come == []
    assert seen.look([MOUNTED], (), 7.0).come == [MOUNTED]  # more is known


def test_a_disk_that_turns_out_to_have_partitions_is_not_told() -> None:
    disk = Drive(STICK._replace(name="sdb", node="/dev/sdb"), None, "")
    seen = arrivals()
    assert seen.look([disk], (), 1.0).come == []
    found = seen.look([MOUNTED], (), 1.2)
    assert (found.gone, found.brief, found.come) == ([], [], [MOUNTED])


def test_pulled_and_plugged_in_between_two_looks() -> None:
    seen = arrivals()
    seen.look([MOUNTED], (), 1.0)
    again = seen.look([MOUNTED], {"sdb1"}, 2.0)
    assert (again.gone, again.come) == ([MOUNTED], [MOUNTED])


@pytest.mark.parametrize("fact", ["serial", "size", "number", "vendor_id", "product_id"])
def test_another_drive_that_got_the_name_unheard(fact: str) -> None:
    value = {"size": 7, "number": (8, 33)}.get(fact, "ffff")
    other = Drive(STICK._replace(**{fact: value}), MOUNT, "b" * 26)
    seen = arrivals()
    seen.look([MOUNTED], (), 1.0)
    found = seen.look([other], (), 2.0)
    assert (found.gone, found.come) == ([MOUNTED], [other])


def test_a_drive_that_is_pulled_out_before_it_is_told_is_told_all_the_same() -> None:
    seen = arrivals()
    assert seen.look([BARE], (), 1.0).brief == []
    found = seen.look([], (), 2.0)
    assert (found.brief, found.come, found.gone) == ([BARE], [], [])
    assert seen.look([], (), 3.0).brief == []
    seen.look([BARE], (), 4.0)
    again = seen.look([BARE], {"sdb1"}, 5.0)
    assert (again.brief, again.come) == ([BARE], [])


def test_a_drive_that_is_locked_the_first_time_is_told_with_its_id() -> None:
    seen = arrivals()
    plain = MOUNTED._replace(id="")
    assert seen.look([plain], (), 1.0).come == [plain]
    assert seen.look([MOUNTED], (), 2.0).come == [MOUNTED]
    assert seen.look([plain], (), 3.0).come == []  # it cannot be read: it is being pulled out
    assert seen.look([], (), 4.0).gone == [MOUNTED]


def test_events_that_were_lost_end_nothing() -> None:
    """The kernel's own events, since a mocked udev has no buffer that overflows. Needs root."""
    monitor = Monitor.__new__(Monitor)
    monitor._monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
    monitor._monitor.filter_by("block")
    monitor._monitor.set_receive_buffer_size(4096)
    monitor._monitor.start()
    for _number in range(3000):
        Path("/sys/block/loop0/uevent").write_text("change")
    with pytest.raises(OSError, match="Error while polling"):
        monitor._monitor.poll(0)
    assert monitor.removed() == set()
    Path("/sys/block/loop1/uevent").write_text("remove")
    heard: set[str] = set()
    until(lambda: heard.update(monitor.removed()) or heard, "the event")
    assert heard == {"loop1"}


def test_another_error_is_no_reason_to_go_on() -> None:
    class Broken:
        def poll(self, timeout: float) -> None:
            assert timeout == 0
            raise OSError("broken")

    monitor = Monitor.__new__(Monitor)
    monitor._monitor = Broken()
    monitor._clear_error = lambda: False  # type: ignore[method-assign]
    with pytest.raises(OSError, match="broken"):
        monitor.removed()


def test_without_udev(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udev, "_CONTROL", "/nonexistent/control")
    with pytest.raises(UdevAbsent):
        Monitor()
