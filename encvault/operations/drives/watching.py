"""Watch drives come and go, and tell and record what should be known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from encvault.errors import AccessLogError, DrivePulledUnlocked, DriveUnregistered
from encvault.i18n import _
from encvault.operations.drives.found import ENCRYPTED, standing_of
from encvault.operations.drives.glance import Seen, state_at_a_glance
from encvault.operations.recording import recording
from encvault.usb.arrivals import Look, follow
from encvault.usb.register import Standing
from encvault.usb.udev import Monitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from encvault.errors import EncvaultError
    from encvault.operations.prompter import Prompter
    from encvault.usb.drives import Drive
    from encvault.vault.report import Observer

_PERIOD_S = 2.0

EventKind = Literal["present", "in", "out"]


class DriveEvent(NamedTuple):
    """A drive that is there, came, or went.

    Attributes:
        kind: ``present`` when watching begins, ``in`` or ``out``. A drive that is mounted some time
            after it came has a second ``in``.
        at: when it was seen, in UTC.
        drive: which.
        state: as of `DriveStatus`, of what a glance at it shows; of one that went, at last.
        standing: whether it is one of the company's.
        warning: what somebody should look after, or None.
    """

    kind: EventKind
    at: datetime
    drive: Drive
    state: str
    standing: Standing
    warning: EncvaultError | None = None


@dataclass(slots=True)
class _Watcher:
    """What is remembered between two looks.

    Attributes:
        register_path: of the company's drives.
        state_dir: local state folder.
        seen: state and standing of each drive at the last look, by the kernel's name.
        folders: what was seen in the folders of each that stayed since, as it is mounted.
    """

    register_path: str
    state_dir: str
    seen: dict[str, tuple[str, Standing]] = field(default_factory=dict)
    folders: dict[Drive, Seen] = field(default_factory=dict)

    def events(self, look: Look, *, is_first: bool) -> list[DriveEvent]:
        """What a look means."""
        self.folders = {
            one: Seen() if one in look.come else self.folders.get(one, Seen()) for one in look.there
        }
        events = [self._gone(drive) for drive in look.gone]
        for drive in look.brief:
            events += [self._come(drive, self._state(drive), is_first=False), self._gone(drive)]
        states = {one.device.name: self._state(one) for one in look.there}
        events += [
            self._come(drive, states[drive.device.name], is_first=is_first) for drive in look.come
        ]
        self.seen = {
            name: (state, self.seen[name][1]) for name, state in states.items() if name in self.seen
        }
        return events

    def _state(self, drive: Drive) -> str:
        """Its state; of one that is being pulled out, and cannot be read any more, the last one."""
        before = self.seen.get(drive.device.name, ("", None))[0]
        state = state_at_a_glance(drive, self.state_dir, self.folders.get(drive))
        # nor does it change while it is not mounted
        is_told = before and state in ("", "plain", "unmounted")
        return before if is_told else state or "unreadable"

    def _come(self, drive: Drive, state: str, *, is_first: bool) -> DriveEvent:
        standing = standing_of(drive, self.register_path)
        self.seen[drive.device.name] = (state, standing)
        warning = None
        if (
            drive.mount is not None
            and state not in ENCRYPTED.values()
            and standing.state != "registered"
        ):
            warning = DriveUnregistered(drive=drive.name, standing=standing.text)
        kind: EventKind = "present" if is_first else "in"
        return DriveEvent(kind, datetime.now(UTC), drive, state, standing, warning)

    def _gone(self, drive: Drive) -> DriveEvent:
        state, standing = self.seen.pop(drive.device.name, ("unmounted", Standing("unregistered")))
        warning = DrivePulledUnlocked(drive=drive.name) if state == "unlocked" else None
        return DriveEvent("out", datetime.now(UTC), drive, state, standing, warning)


def watch(
    register_path: str, state_dir: str, prompter: Prompter, observer: Observer
) -> Iterator[DriveEvent]:
    """Tell of each drive that comes and goes, for ever; each is recorded before it is told.

    Args:
        register_path: of the company's drives; it is read again for each drive that comes.
        state_dir: local state folder.
        prompter: has the log.
        observer: is told what cannot be recorded or read; watching goes on.

    Raises:
        UdevAbsent: nobody tells of drives here.
    """
    monitor = Monitor()
    watcher = _Watcher(register_path, state_dir)
    is_first = True
    for look in follow(monitor, _PERIOD_S):
        for event in watcher.events(look, is_first=is_first):
            try:
                _record(event, prompter)
            except AccessLogError as error:
                observer.problem(error)
            yield event
        if is_first:
            observer.note(_("drives are watched from now on; none is kept out"))
        is_first = False


def _record(event: DriveEvent, prompter: Prompter) -> None:
    drive = event.drive
    device = drive.device
    words = (event.kind, event.state, event.standing.state)
    hardware = filter(None, (device.vendor_id, device.product_id, device.serial))
    op = "usb.out" if event.kind == "out" else "usb.in"
    with recording(prompter.access_log(), op, "") as recorder:
        recorder.record(
            path=device.node if drive.mount is None else drive.mount.path,
            vault=drive.id,
            label=device.content.label,
            detail=" ".join((*words, ":".join(hardware))).strip(),
        )
