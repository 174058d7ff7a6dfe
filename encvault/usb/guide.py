"""The page in the clear on a locked drive, for who finds it or was given it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from encvault.about import __version__
from encvault.fs import calls, durable
from encvault.vault.manifest import new_id

if TYPE_CHECKING:
    from encvault.fs.tree import Tree

NAME = "HOW-TO-OPEN.txt"
_MAX_SIZE = 65_536  # bytes; the page of any version has fewer

_TEXT = """\
This drive is locked by encvault {version}.  本盘已由 encvault {version} 加锁。

What is on it can be read only with its password or another of its keys.
Nobody can reset the password, and a program that says it can is lying.

    1. Install Python 3.11 or newer, then:   pip install encvault
    2. Plug the drive in, then:              encvault open --to FOLDER DRIVE
       where DRIVE is its folder, such as    /media/you/STICK
       On Linux, without copying anything:   encvault usb unlock DRIVE

Found it? Please give it back to whoever lost it. Number of the drive: {drive}

盘上的内容只有凭密码或它的其他密钥才能读取。
没有人能重置密码；声称能够重置的程序都是骗人的。

    1. 安装 Python 3.11 或更新的版本，然后：  pip install encvault
    2. 插入本盘，然后：                       encvault open --to 文件夹 盘
       “盘”是它的文件夹，例如                 /media/you/STICK
       在 Linux 上不复制、直接使用：          encvault usb unlock 盘

捡到本盘？请归还失主。本盘编号：{drive}
"""


def is_there(tree: Tree) -> bool:
    """Whether the page lies at the top of a drive; one that somebody has changed is his."""
    try:
        return _OURS.fullmatch(_read(tree)) is not None
    except OSError:
        return False


def write(tree: Tree, drive: str) -> bool:
    """Put the page at the top of a drive, durable on return.

    Args:
        tree: the drive.
        drive: its id.

    Returns:
        False if the user has a file of that name, which stays.

    Raises:
        OSError: it could not be written.
    """
    page = _page(drive)
    is_ours = is_there(tree)
    if not is_ours and tree.exists(NAME):
        return False
    if not is_ours or _read(tree) != page:
        durable.write_file(tree, "", NAME, page, file_id=new_id(), mode=0o644, replace=is_ours)
    return True


def remove(tree: Tree) -> None:
    """A drive in the clear must not say that it is locked.

    Raises:
        OSError: the page cannot be removed.
    """
    if is_there(tree):
        calls.unlink(tree.fd, NAME)


def _read(tree: Tree) -> bytes:
    return durable.read_file(tree, NAME, _MAX_SIZE)


def _page(drive: str) -> bytes:
    """With a mark by which Windows knows it to be UTF-8."""
    text = _TEXT.format(version=__version__, drive=drive)
    return text.replace("\n", "\r\n").encode("utf-8-sig")


def _pattern() -> re.Pattern[bytes]:
    """Of the page by any version that has this text, for any drive."""
    page = re.escape(_TEXT.format(version="\x01", drive="\x02").replace("\n", "\r\n"))
    page = page.replace(re.escape("\x01"), r"[\w.+-]{1,40}").replace(
        re.escape("\x02"), "[a-z2-7]{26}"
    )
    return re.compile(page.encode("utf-8-sig"))


_OURS = _pattern()
