"""Signed notes, proofs and policies of transparency logs."""

from __future__ import annotations

from encvault.errors.base import EncvaultError
from encvault.errors.data import FormatError, IntegrityError
from encvault.errors.usage import ConfigError
from encvault.i18n import N_


class TrustError(EncvaultError):
    """Well formed, perhaps genuine, but not signed by whom we trust."""

    exit_code = 77
    message = N_("the signatures are not those that are trusted")


class MalformedNote(FormatError):
    """Bytes that are no signed note, or a note whose text is no checkpoint."""

    message = N_("{place}: not a well-formed signed note: {reason}")
    place: str
    reason: str


class ForgedNote(IntegrityError):
    """A signature line names a known key and was not made by it."""

    message = N_("{place}: the signature of {name} does not authenticate")
    advice = N_("get another copy of it; if that has the same fault, somebody changed it")
    place: str
    name: str


class UnknownSigner(TrustError):
    """No signature line is of a known key."""

    message = N_("{place}: not signed by a key that is known here")
    advice = N_("see whether the policy is that of the same log")
    place: str


class MalformedProof(FormatError):
    """Bytes that are no ``.tlog-proof`` file."""

    message = N_("{place}: not a well-formed proof: {reason}")
    place: str
    reason: str


class ProofWrong(IntegrityError):
    """A well-formed proof that does not lead to the signed root."""

    message = N_("{place}: the proof does not lead to the signed root")
    advice = N_("ask for another proof; if that has the same fault, the entry is not in the log")
    place: str


class MalformedPolicy(ConfigError):
    """A policy file that cannot be followed to the letter is not followed at all."""

    message = N_("{place}: not a well-formed policy: {reason}")
    advice = N_("restore it from a copy: a part of a policy is not used")
    place: str
    reason: str


class MalformedVerifierKey(ConfigError):
    """Text that is no verifier key, or one of a kind that is not used here."""

    message = N_("{place}: not a usable verifier key: {reason}")
    place: str
    reason: str


class QuorumMissing(TrustError):
    """The log has signed it; of the witnesses, fewer have than the policy asks for."""

    message = N_("{place}: too few witnesses of the policy have cosigned it")
    advice = N_("ask for a copy that more witnesses have cosigned")
    place: str
