"""A mount beside gocryptfs and a plain folder; what is written is done when it is durable."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from contest import ENCVAULT, Aim, Case, Contender
from inputs import write_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from compare import Scale

_UNTIL_MOUNTED = "for i in $(seq 300); do mountpoint -q {at} && break; sleep 0.05; done"


class _Place:
    """Where the work is done: how it comes to be there, and goes."""

    def __init__(self, name: str, folder: str, backing: str, start: str, stop: str) -> None:
        self.name = name
        self.folder = folder
        self.backing = backing
        self.start = start
        self.stop = stop

    def does(
        self, command: str, *, before: str = "true", cold: bool = False, aims: tuple[Aim, ...] = ()
    ) -> Contender:
        """The contender that does a piece of work here; ``@`` in it is the folder."""
        at = self.folder
        return Contender(
            self.name,
            f"{command.replace('@', at)} && sync {at} && sync -f {self.backing}",
            ("gocryptfs",) if self.name == "gocryptfs" else (),
            before=f"{self.start} && {{ {before.replace('@', at)}; }}",
            after=self.stop,
            serves=f"{self.backing} {at}" if self.name != "plain folder" else "",
            is_cold=cold,
            aims=aims if self.name == "encvault mount" else (),
        )


def _places() -> list[_Place]:
    gocryptfs = "gocryptfs -q -extpass 'echo x'"
    made = (
        f"test -d g.disk || {{ mkdir g.disk && {gocryptfs} -init -scryptn 10 g.disk 2>/dev/null; }}"
    )
    places = [
        _Place("plain folder", "plain", "plain", "mkdir -p plain", "true"),
        _Place(
            "gocryptfs",
            "g",
            "g.disk",
            f"{{ {made}; mkdir -p g && {gocryptfs} g.disk g 2>/dev/null; }}",
            "fusermount3 -u g || fusermount -u g || umount g",
        ),
    ]
    for name, at, option in (
        ("encvault mount", "v", ""),
        ("encvault mount, hidden", "h", "--hide-names"),
    ):
        init = f"test -d {at}.disk || {ENCVAULT} init {at}.disk {option} -r me.pub >/dev/null"
        start = (
            f"{{ {init}; {ENCVAULT} mount -q {at}.disk {at} -i me.key; "
            f"{_UNTIL_MOUNTED.format(at=at)}; }}"
        )
        places.append(_Place(name, at, f"{at}.disk", start, f"{ENCVAULT} unmount -q {at}"))
    return places


def mount(work: Path, scale: Scale) -> Iterator[Case]:
    """One large file, and a tree of source code, through a mount."""
    if not os.path.exists("/dev/fuse"):
        print("  left out: mounts, for there is no /dev/fuse")
        return
    write_source(work / "source", scale.source_files)
    places = _places()
    size, blocks = f"{scale.mounted_mib} MiB", scale.mounted_mib * 8
    read = "dd if=@/big of=/dev/null bs=128k status=none"
    copied = "test -d @/tree || cp -r source @/tree"
    grep = "{ grep -r 'nothing is like this' @/tree >/dev/null; test $? = 1; }"

    def case(name: str, command: str, factor: float, **options: str | bool) -> Case:
        aims = (Aim("seconds", factor, "gocryptfs"), Aim("peak_kib", 150 * 1024))
        return Case(
            f"mount: {name}",
            size if "file" in name else f"{scale.source_files} files",
            [place.does(command, aims=aims, **options) for place in places],  # type: ignore[arg-type]
            leaves_pages=False,
        )

    write = f"dd if=/dev/zero of=@/big bs=128k count={blocks} conv=fsync status=none"
    yield case("write a file", write, 1 / 2, before="rm -f @/big")
    yield case("read a file, cold", read, 1 / 2, cold=True)
    yield case("copy a tree in", "cp -r source @/tree", 1 / 1.5, before="rm -rf @/tree")
    find = "find @/tree -newer source >/dev/null"
    yield case("find, cold", find, 1.0, before=copied, cold=True)
    names = "find @/tree -name 'nothing is like this' >/dev/null"
    yield case("find by name, cold", names, 1.0, before=copied, cold=True)
    yield case("find, warm", find, 1.0, before=f"{copied}; {find}")
    yield case("grep -r, cold", grep, 1.0, before=copied, cold=True)
    yield case("grep -r, warm", grep, 1.0, before=f"{copied}; {grep}")
