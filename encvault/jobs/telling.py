"""Who is told how a run ended: a service that is pinged, and a file for Prometheus.

The address of a ping is all that such a service needs: one that stays away is what it warns of
(https://healthchecks.io/docs/http_api/). Names of files and messages are not sent unless the job
says so.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from encvault.about import __version__
from encvault.fs import durable
from encvault.fs.tree import Tree
from encvault.i18n import _, system_reason
from encvault.jobs.records import moment
from encvault.vault.manifest import new_id

if TYPE_CHECKING:
    from encvault.jobs.jobfile import Job
    from encvault.jobs.records import Known, Outcome

_PATIENCE_S = 10.0
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


def _ping(job: Job, suffix: str, body: bytes) -> str | None:
    if job.notify.ping_url is None:
        return None
    import urllib.error  # noqa: PLC0415 - most jobs tell nobody, and these take their time
    import urllib.request  # noqa: PLC0415 - likewise

    try:
        request = urllib.request.Request(  # noqa: S310 - the job file allows http and https only
            job.notify.ping_url.rstrip("/") + suffix,
            data=body,
            headers={"User-Agent": f"encvault/{__version__}"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:  # noqa: S310 - as above
            answer.read(1)
    except urllib.error.HTTPError as error:
        error.close()
        return _("it answered with {code}").format(code=error.code)
    except urllib.error.URLError as error:
        reason = error.reason
        return system_reason(reason) if isinstance(reason, OSError) else str(reason)
    except (OSError, ValueError) as error:
        return system_reason(error) if isinstance(error, OSError) else str(error)
    return None


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
