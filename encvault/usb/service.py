"""A service of systemd that watches drives while its user is logged in."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

from encvault.fs import calls, durable
from encvault.fs.tree import Tree
from encvault.i18n import _
from encvault.vault.manifest import new_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME = "encvault-usb-watch.service"
_PATIENCE_S = 30.0


def unit(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """The text of the unit; systemd.service(5), systemd.exec(5).

    Args:
        command: what watches, and its arguments.
        environment: variables that it needs.
    """
    set_variables = "".join(
        # systemd.exec(5): a dollar means nothing there
        f"Environment={_quoted(f'{name}={value}').replace('$$', '$')}\n"
        for name, value in environment.items()
    )
    return f"""\
[Unit]
Description=encvault: watch removable drives

[Service]
ExecStart={" ".join(map(_quoted, command))}
{set_variables}# without udev (69) or with a broken configuration (78) it would only fail again
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=69 78
SuccessExitStatus=130 143
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


def _quoted(word: str) -> str:
    """A word as systemd reads it back: systemd.syntax(7), and no specifiers or variables in it."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"'


def install(text: str, folder: str) -> tuple[str, str | None]:
    """Write the unit, durable on return, and have systemd begin it if it answers.

    Args:
        text: see `unit`.
        folder: of the user's units.

    Returns:
        The path of the unit, and why systemd has not begun it, or None.

    Raises:
        OSError: it cannot be written.
    """
    with Tree.made(folder) as tree:
        data = text.encode()
        durable.write_file(tree, "", NAME, data, file_id=new_id(), mode=0o644, replace=True)
        path = tree.show(NAME)
    # one that runs already, with other commands, has to begin anew
    failed = (
        _systemctl("daemon-reload") or _systemctl("enable", NAME) or _systemctl("restart", NAME)
    )
    return path, failed


def uninstall(folder: str) -> str | None:
    """End the service and remove its unit; the path of the unit, or None if there is none."""
    path = os.path.join(folder, NAME)
    if not os.path.lexists(path):
        return None
    _systemctl("disable", "--now", NAME)
    with Tree(folder) as tree, contextlib.suppress(FileNotFoundError):
        calls.unlink(tree.fd, NAME)
    _systemctl("daemon-reload")
    return path


def _systemctl(*arguments: str) -> str | None:
    """Ask the user's systemd; why it did not do it, or None."""
    try:
        done = subprocess.run(  # noqa: S603 - no shell
            ["systemctl", "--user", *arguments],  # noqa: S607 - wherever the system has it
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_PATIENCE_S,
        )
    except OSError:
        return _("the program {name} is missing").format(name="systemctl")
    except subprocess.TimeoutExpired:
        return _("no answer in {seconds} seconds").format(seconds=int(_PATIENCE_S))
    if done.returncode == 0:
        return None
    return done.stderr.decode(errors="replace").strip() or f"systemctl: {done.returncode}"
