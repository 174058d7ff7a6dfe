"""Who is told how a run ended: a service that is pinged, and a file for Prometheus.

The address of a ping is all that such a service needs: one that stays away is what it warns of
(https://healthchecks.io/docs/http_api/). Names of files and messages are not sent unless the job
says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from encvault.fs import durable
from encvault.fs.tree import Tree
from encvault.i18n import _, system_reason
from encvault.jobs.records import moment
from encvault.vault.manifest import new_id

if TYPE_CHECKING:
    from encvault.jobs.jobfile import Job
    from encvault.jobs.records import Known, Outcome

_PATIENCE_S = 15.0
_MAX_BODY = 100_000  # what healthchecks keeps


def ping_start(job: Job) -> str | None:
    """Say that a run begins; why it could not be said, or None."""
    return _ping(job, "/start", b"")


def ping_end(job: Job, outcome: Outcome) -> str | None:
    """Say how a run ended; why it could not be said, or None.

    Of one that was skipped nothing is said: if that goes on, silence is what the service warns of.
    """
    if outcome.state == "skipped":
        return None
    body = {
        "state": outcome.state,
        "exit_code": outcome.exit_code,
        "files": outcome.files,
        "unchanged": outcome.unchanged,
        "failed": outcome.failed,
        "size": outcome.size,
        "seconds": round(outcome.seconds, 3),
    }
    if job.notify.send_details:
        body |= {"job": job.name, "errors": list(outcome.errors), "archive": outcome.archive}
    suffix = "" if outcome.is_good else f"/{outcome.exit_code or 1}"
    return _ping(job, suffix, json.dumps(body).encode()[:_MAX_BODY])


def shown(job: Job) -> str:
    """Who is pinged, without what lets others ping as well."""
    return urlsplit(job.notify.ping_url or "").hostname or ""


def _ping(job: Job, suffix: str, body: bytes) -> str | None:
    """Ask for an address, in a process of its own: nothing a server does can keep a run.

    The address goes by stdin, for the arguments of a process are no secret.
    """
    if job.notify.ping_url is None:
        return None
    told = {"url": job.notify.ping_url.rstrip("/") + suffix, "body": body.decode()}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "encvault.jobs.pinging"],
            input=json.dumps(told).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=_PATIENCE_S,
        )
    except subprocess.TimeoutExpired:
        return _("no answer in {seconds} seconds").format(seconds=int(_PATIENCE_S))
    except OSError as error:
        return system_reason(error)
    if done.returncode == 0:
        return None
    text = done.stdout.decode(errors="replace").strip()
    if text.isdigit():
        return _("it answered with {code}").format(code=text)
    return text or _("the connection failed: {name}").format(name=done.returncode)


_METRICS = (
    ("last_success_timestamp_seconds", "when the work was last done"),
    ("last_run_timestamp_seconds", "when the last run ended"),
    ("last_exit_code", "what the last run ended with"),
    ("last_duration_seconds", "how long it took"),
    ("last_size_bytes", "bytes of content that it sealed"),
    ("last_files", "files that it sealed"),
    ("last_files_failed", "files that it left"),
)


def metrics_text(known: Known) -> str:
    """The text for a textfile collector.

    Source: Prometheus, "Text-based format", version 0.0.4.
    """
    last = known.last
    if last is None:
        return ""
    success = moment(known.success.ended_at).timestamp() if known.success is not None else 0.0
    ended = moment(last.ended_at).timestamp() if last.ended_at else 0.0
    figures = (
        success,
        ended,
        last.exit_code,
        last.seconds,
        last.size,
        last.files,
        last.failed,
    )
    lines = []
    for (name, text), figure in zip(_METRICS, figures, strict=True):
        lines += [
            f"# HELP encvault_job_{name} {text}",
            f"# TYPE encvault_job_{name} gauge",
            f'encvault_job_{name}{{job="{last.job}"}} {figure}',
        ]
    return "\n".join(lines) + "\n"


def write_metrics(job: Job, known: Known) -> str | None:
    """Replace the file for Prometheus, which never sees half of it; why not, or None."""
    if job.notify.metrics is None:
        return None
    folder, name = os.path.split(job.notify.metrics)
    try:
        with Tree(folder) as tree:
            data = metrics_text(known).encode()
            durable.write_file(tree, "", name, data, file_id=new_id(), mode=0o644, replace=True)
            os.chmod(name, 0o644, dir_fd=tree.fd)  # whatever the unit's umask is: others read it
    except OSError as error:
        return f"{job.notify.metrics}: {system_reason(error)}"
    return None
