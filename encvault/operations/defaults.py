"""What the configuration adds to what a user asks for: recipients, and rules for passwords."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any, NamedTuple

from encvault import config
from encvault.errors import EncvaultError, InvalidSetting, StrengthUnmeasured, WeakPassword
from encvault.i18n import N_, _
from encvault.keyslots import (
    MAX_RECIPIENT_FILE_SIZE,
    PublicKeyRecipient,
    decode_recipient,
    decode_recipient_file,
    fingerprint,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from encvault.config import Config, Given, PasswordPolicy
    from encvault.secret import Secret

_MAX_RECIPIENTS = 32  # half of a header's slots; the other half is for whom the user names
_MEASURED = 72  # characters; zxcvbn refuses more, for its time grows with their square

# what zxcvbn found most of a password to be, in our words
_PATTERNS = {
    "passwords": N_("it is, or resembles, a password that is tried first"),
    "dictionary": N_("most of it is a common word or name"),
    "spatial": N_("most of it is a row of keys on the keyboard"),
    "repeat": N_("most of it is a repetition"),
    "sequence": N_("most of it is a sequence such as abc or 4321"),
    "date": N_("most of it is a date"),
    "regex": N_("most of it is a year"),
    "bruteforce": N_("it has too few characters"),
}


class CompanyRecipient(NamedTuple):
    """A recipient that the configuration adds to everything new.

    Attributes:
        public: its public key, 1,216 bytes.
        given: the line or path that names it, with the file that does.
    """

    public: bytes
    given: Given[str]

    @property
    def fingerprint(self) -> str:
        """Of its public key."""
        return fingerprint(self.public)

    def recipient(self) -> PublicKeyRecipient:
        """What can wrap for it."""
        return PublicKeyRecipient(self.public, label=self.fingerprint)


def company_recipients(settings: Config) -> list[CompanyRecipient]:
    """The recipients that the configuration names, each once.

    Raises:
        InvalidSetting: one cannot be used; it names the configuration file.
        UntrustedConfig: others can change the file of one.
    """
    found: dict[bytes, CompanyRecipient] = {}
    for given in settings.recipients:
        for public in _public_keys(given):
            found.setdefault(public, CompanyRecipient(public, given))
        if len(found) > _MAX_RECIPIENTS:
            reason = _("more than {count} recipients").format(count=_MAX_RECIPIENTS)
            raise InvalidSetting(
                place=given.source or "", key="recipients", reason=reason, page=config.PAGE
            )
    return list(found.values())


def _public_keys(given: Given[str]) -> list[bytes]:
    text, source = given.value, given.source or ""
    if text.startswith("encvault1-"):
        name = text[:24] + "…"
        try:
            return [decode_recipient(text, name)]
        except EncvaultError as error:
            raise InvalidSetting(
                place=source, key="recipients", reason=str(error), page=config.PAGE
            ) from None
    data = config.read(text, MAX_RECIPIENT_FILE_SIZE)
    if data is None:
        reason = _("{path}: no such file or folder").format(path=text)
        raise InvalidSetting(place=source, key="recipients", reason=reason, page=config.PAGE)
    try:
        return decode_recipient_file(data, text)
    except EncvaultError as error:
        raise InvalidSetting(
            place=source, key="recipients", reason=str(error), page=config.PAGE
        ) from None


def check_password(password: Secret, policy: PasswordPolicy) -> None:
    """Refuse a new password that the configuration does not allow.

    Neither its length nor its score is told, for messages end in the logs of jobs.

    Raises:
        WeakPassword: too short, or too easy to guess.
        StrengthUnmeasured: what measures it is not installed.
    """
    text = password.reveal().decode(errors="surrogateescape")
    counted = _counted(text)
    if policy.min_length > 1:
        if len(counted) < policy.min_length:
            reason = _("it must have at least {count} characters").format(count=policy.min_length)
            raise WeakPassword(reason=reason)
        if len(set(counted)) == 1:
            raise WeakPassword(reason=_("it is one character over and over"))
    if policy.min_strength == 0:
        return
    try:
        from zxcvbn import zxcvbn  # noqa: PLC0415 - its word lists take 30 ms
    except ImportError:
        raise StrengthUnmeasured(package="zxcvbn") from None
    measured = zxcvbn(text[:_MEASURED])
    if measured["score"] < policy.min_strength:
        raise WeakPassword(reason=_(_pattern(measured["sequence"])))


def _counted(text: str) -> str:
    """The characters that count: a row of blanks as one, none at the ends, and no invisible one."""
    seen = "".join(
        " " if char.isspace() else char
        for char in text
        if char.isspace() or unicodedata.category(char) not in ("Cc", "Cf")
    )
    return " ".join(seen.split())


def check_no_password(policy: PasswordPolicy) -> None:
    """Refuse to leave a private key in the clear where passwords have a rule to keep.

    Raises:
        WeakPassword: they have.
    """
    if policy.min_length > 1 or policy.min_strength > 0:
        raise WeakPassword(reason=_("there is none, and the configuration has a rule for it"))


def _pattern(sequence: Sequence[Any]) -> str:
    """The message for the longest part of a password."""
    longest = max(sequence, key=lambda match: len(match["token"]))
    if longest.get("dictionary_name") == "passwords":
        return _PATTERNS["passwords"]
    return _PATTERNS[longest["pattern"]]
