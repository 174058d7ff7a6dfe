"""Entries as events of the Open Cybersecurity Schema Framework, version 1.4.0 (schema.ocsf.io).

The version is the oldest in which every class used has an actor; events of it are valid in later
ones of the same major version. docs/log-export.md has the table of classes for readers.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from encvault.accesslog.words import action_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from encvault.accesslog.events import Entry

NAME = "encvault"  # of vendor and product
VERSION = "1.4.0"
FILE_ACTIVITY = 1001
SCHEDULED_JOB = 1006
AUTHENTICATION = 3002
ENTITY_MANAGEMENT = 3004
APPLICATION_LIFECYCLE = 6002
SCAN_ACTIVITY = 6007
OTHER = 99
REGULAR_FILE, FOLDER = 1, 2

# severity_id and status_id of an outcome
_SEVERITY = {"ok": 1, "failed": 2, "refused": 3}
_SUCCESS, _FAILURE = 1, 2


class _Kind(NamedTuple):
    """What an `op` is in the schema.

    Attributes:
        class_uid, activity_id: of the schema.
        what: `type_id` of the file, or the type of the managed entity.
    """

    class_uid: int
    activity_id: int
    what: Any = REGULAR_FILE


KINDS: Mapping[str, _Kind] = {
    "seal": _Kind(FILE_ACTIVITY, 10),  # Encrypt
    "open": _Kind(FILE_ACTIVITY, 11),  # Decrypt
    "cat": _Kind(FILE_ACTIVITY, 11),
    "share": _Kind(FILE_ACTIVITY, OTHER),
    "reseal": _Kind(FILE_ACTIVITY, 10),
    "read": _Kind(FILE_ACTIVITY, 2),  # Read
    "write": _Kind(FILE_ACTIVITY, 3),  # Update
    "remove": _Kind(FILE_ACTIVITY, 4),  # Delete
    "rename": _Kind(FILE_ACTIVITY, 5),  # Rename
    "init": _Kind(FILE_ACTIVITY, 1, FOLDER),  # Create
    "unlock": _Kind(AUTHENTICATION, 1),  # Logon
    "verify": _Kind(FILE_ACTIVITY, 2, FOLDER),
    "list": _Kind(FILE_ACTIVITY, 8, FOLDER),  # Get Attributes
    "mount": _Kind(FILE_ACTIVITY, 12, FOLDER),  # Mount
    "unmount": _Kind(FILE_ACTIVITY, 13, FOLDER),  # Unmount
    "rekey": _Kind(ENTITY_MANAGEMENT, 3, "vault"),  # Update
    "revoke": _Kind(ENTITY_MANAGEMENT, 4, "keyslot"),  # Delete
    "slot.add": _Kind(ENTITY_MANAGEMENT, 1, "keyslot"),  # Create
    "slot.remove": _Kind(ENTITY_MANAGEMENT, 4, "keyslot"),
    "slot.passwd": _Kind(ENTITY_MANAGEMENT, 3, "keyslot"),
    "recovery.add": _Kind(ENTITY_MANAGEMENT, 1, "keyslot"),
    "key.new": _Kind(ENTITY_MANAGEMENT, 1, "identity"),
    "key.passwd": _Kind(ENTITY_MANAGEMENT, 3, "identity"),
    "usb.lock": _Kind(FILE_ACTIVITY, 10, FOLDER),
    "usb.unlock": _Kind(FILE_ACTIVITY, 11, FOLDER),
    "usb.add": _Kind(ENTITY_MANAGEMENT, 6, "drive"),  # Enroll
    "usb.remove": _Kind(ENTITY_MANAGEMENT, 7, "drive"),  # Unenroll
    "usb.in": _Kind(ENTITY_MANAGEMENT, OTHER, "drive"),
    "usb.out": _Kind(ENTITY_MANAGEMENT, OTHER, "drive"),
    "job.run": _Kind(SCHEDULED_JOB, 6),  # Start
    "scan": _Kind(SCAN_ACTIVITY, 2),  # Completed
    "config": _Kind(ENTITY_MANAGEMENT, 3, "settings"),
    "log.init": _Kind(APPLICATION_LIFECYCLE, OTHER),
    "log.epoch": _Kind(APPLICATION_LIFECYCLE, OTHER),
    "log.clock": _Kind(APPLICATION_LIFECYCLE, OTHER),
    "log.recover": _Kind(APPLICATION_LIFECYCLE, OTHER),
    "log.erase": _Kind(APPLICATION_LIFECYCLE, OTHER),
}
_SCAN_ERROR = 6

# members that have a place of their own in every event
_MAPPED = frozenset(
    {"v", "ts", "op", "outcome", "user", "uid", "host", "pid", "run", "tool", "program"}
)


def event(
    entry: Entry, members: Mapping[str, str | int], *, origin: str, size: int, sentence: str
) -> dict[str, Any]:
    """One entry as an OCSF event.

    Args:
        entry: where the entry stands in the log.
        members: those of its members that docs/log-format.md section 4 knows, fit for UTF-8.
        origin: of the log.
        size: entries of the tree that was verified.
        sentence: the event's message.

    Returns:
        An object for JSON. What has no place in the schema is under ``unmapped``, together with
        ``log_origin``, ``log_index`` and ``log_size``.
    """
    op, outcome = str(members["op"]), str(members["outcome"])
    kind = KINDS.get(op) or _Kind(FILE_ACTIVITY if "path" in members else APPLICATION_LIFECYCLE, 99)
    activity_id = kind.activity_id
    if kind.class_uid == SCAN_ACTIVITY and outcome != "ok":
        activity_id = _SCAN_ERROR
    rest = {name: value for name, value in members.items() if name not in _MAPPED}
    product = _product(str(members["tool"]))
    user = {"name": members["user"], "uid": str(members["uid"])}
    process = {"pid": members["pid"], **_program(members, product)}
    made: dict[str, Any] = {
        "activity_id": activity_id,
        "category_uid": kind.class_uid // 1000,
        "class_uid": kind.class_uid,
        "type_uid": kind.class_uid * 100 + activity_id,
        "severity_id": _SEVERITY.get(outcome, OTHER),
        "status_id": _SUCCESS if outcome == "ok" else _FAILURE,
        "time": milliseconds(str(members["ts"])),
        "message": sentence,
        "metadata": {
            "version": VERSION,
            "profiles": ["host"],  # which adds actor and device where the class has none
            "product": product,
            "log_name": origin,
            "log_version": str(members["v"]),
            "uid": f"{origin}/{entry.index}",
            "sequence": entry.index,
            "original_time": members["ts"],
            "event_code": op,
            "correlation_uid": members["run"],
        },
        "actor": {"user": user, "process": process},
        "device": {"type_id": 0, "name": members["host"], "hostname": members["host"]},
    }
    if activity_id == OTHER:
        made["activity_name"] = action_text(op).english
    if "error" in rest:
        made["status_detail"] = rest.pop("error")
    if "exit_code" in rest:
        made["status_code"] = str(rest.pop("exit_code"))
    made |= _about(kind, op, rest, user, product)
    made["unmapped"] = rest | {
        "log_origin": origin,
        "log_index": entry.index,
        "log_size": size,
    }
    if outcome not in _SEVERITY:
        made["unmapped"]["outcome"] = outcome
    return made


def _program(
    members: Mapping[str, str | int], product: dict[str, str]
) -> dict[str, str | dict[str, str | int]]:
    """What the process runs: encvault itself, unless the entry is about another."""
    if "program" not in members:
        return {"name": product["name"]}
    path = str(members["program"])
    name = _name(path)
    if name == path:  # all that is known of it
        return {"name": name}
    return {"name": name, "file": {"name": name, "path": path, "type_id": REGULAR_FILE}}


def milliseconds(ts: str) -> int:
    """An entry's ``ts`` as milliseconds since 1970, rounded down."""
    return int(datetime.fromisoformat(ts).timestamp() * 1_000_000 + 0.5) // 1000


def _product(tool: str) -> dict[str, str]:
    name, _space, version = tool.partition(" ")
    product = {"name": name or NAME, "vendor_name": NAME}
    return product | ({"version": version} if version else {})


def _about(
    kind: _Kind,
    op: str,
    rest: dict[str, str | int],
    user: dict[str, Any],
    product: dict[str, str],
) -> dict[str, Any]:
    """The object that the event is about; what it says is taken out of `rest`."""
    match kind.class_uid:
        case 1001:
            made: dict[str, Any] = {"file": _file(kind.what, rest)}
            if "to" in rest and "path_key" not in rest:
                path = str(rest.pop("to"))
                made["file_result"] = {"name": _name(path), "path": path, "type_id": kind.what}
            return made
        case 1006:
            file = _file(REGULAR_FILE, rest)
            return {"job": {"name": str(rest.pop("detail", file["name"])), "file": file}}
        case 3002:
            vault = str(rest.pop("vault", rest.get("path", "")))
            return {"user": user, "service": {"name": f"{NAME} vault", "uid": vault}}
        case 3004:
            uid = rest.pop("slot", "") or rest.get("vault") or rest.get("path") or op
            return {"entity": {"type": kind.what, "type_id": OTHER, "uid": str(uid)}}
        case 6007:
            return {"scan": {"name": f"{NAME} scan", "type_id": OTHER}}
        case _:
            return {"app": product}


def _file(type_id: int, rest: dict[str, str | int]) -> dict[str, Any]:
    """The file, from the members ``path``, ``file`` and ``size``."""
    file: dict[str, Any] = {"type_id": type_id}
    if "path" not in rest:
        file["name"] = str(rest.get("file") or rest.get("vault") or "-")
    elif "path_key" in rest:  # a digest is a name, but not the path of anything
        file["name"] = str(rest.pop("path"))
    else:
        file["path"] = str(rest.pop("path"))
        file["name"] = _name(file["path"])
    if "file" in rest:
        file["uid"] = str(rest.pop("file"))
    if type_id == REGULAR_FILE and "size" in rest:
        file["size"] = rest.pop("size")
    return file


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2] or path
