"""What works here, what is missing, and the command that mends it. Nothing is changed.

`CHECKS` is the whole table: a part that comes later adds one entry. Each check has a time limit, so
that a dead network drive cannot hold up the others.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from encvault.errors import EncvaultError, PartsMissing
from encvault.i18n import N_, _, system_reason
from encvault.operations.doctor import installation, machine
from encvault.operations.doctor.findings import Check, Finding, State, Surroundings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["CHECKS", "Check", "Finding", "State", "Surroundings", "diagnose", "outcome"]

LIMIT_SECONDS = 5.0

CHECKS: tuple[Check, ...] = (
    Check("encvault", N_("encvault"), installation.program),
    Check("python", N_("Python"), installation.python),
    Check("cryptography", N_("cryptography"), installation.libraries, needed=True),
    Check("selftest", N_("self-test"), installation.self_test, needed=True),
    Check("aes", N_("AES-256-GCM"), installation.aes_speed, needed=True),
    Check("sm4", N_("SM4-GCM"), installation.sm4_speed),
    Check("config", N_("configuration"), installation.configuration, needed=True),
    Check("state-folder", N_("state folder"), installation.state_folder, needed=True),
    Check("access-log", N_("access log"), installation.access_log, needed=True),
    Check("config-folder", N_("configuration folder"), installation.config_folder),
    Check("identity", N_("default identity"), installation.identity),
    Check("clock", N_("clock"), machine.clock, needed=True),
    Check("locale", N_("locale"), machine.locale_name),
    Check("fuse", N_("FUSE (mount)"), machine.fuse),
    Check("udev", N_("udev (drives)"), machine.udev),
    Check("systemd", N_("systemd (jobs)"), machine.systemd),
    Check("keyring", N_("keychain"), machine.keychain),
    Check("core-dumps", N_("core dumps"), machine.core_dumps),
    Check("swap", N_("swap"), machine.swap),
)


def diagnose(
    where: Surroundings, checks: Sequence[Check] = CHECKS, *, limit: float = LIMIT_SECONDS
) -> Iterator[tuple[Check, Finding]]:
    """Run the checks, one after the other, so that none slows down another's measurement.

    Args:
        where: what they look at.
        checks: which ones.
        limit: seconds that each may take; one that takes longer is left behind.
    """
    for check in checks:
        yield check, _limited(check, where, limit)


def outcome(found: Sequence[tuple[Check, Finding]]) -> PartsMissing | None:
    """The error that a diagnosis ends with: None if everything that is needed works."""
    bad = [check for check, one in found if check.needed and one.state in ("missing", "failed")]
    return PartsMissing(count=len(bad)) if bad else None


def _limited(check: Check, where: Surroundings, limit: float) -> Finding:
    answers: list[Finding | Exception] = []

    def work() -> None:
        try:
            answers.append(_guarded(check, where))
        except Exception as error:  # noqa: BLE001 - it is raised where somebody can see it
            answers.append(error)

    # a daemon, for a thread that waits for a dead drive must not keep the process from ending
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(limit)
    if not answers:
        return Finding("failed", _("no answer within {seconds} s").format(seconds=f"{limit:g}"))
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]


def _guarded(check: Check, where: Surroundings) -> Finding:
    try:
        return check.find(where)
    except EncvaultError as error:
        return Finding("failed", str(error), error.hint or "")
    except OSError as error:
        place = error.filename or check.name
        detail = _("{path}: {reason}").format(path=place, reason=system_reason(error))
        return Finding("failed", detail)
