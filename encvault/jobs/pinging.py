"""One request over HTTP, in a process of its own; see `encvault.jobs.telling`.

stdin has the address and the body as JSON. The exit code is 0 if the service took it; else stdout
says why not: the number that it answered with, or words.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from http.client import HTTPException

from encvault.about import __version__

_PATIENCE_S = 10.0  # for each step; the caller ends us if it takes too long in all


def main() -> int:
    """Ask."""
    told = json.load(sys.stdin)
    try:
        request = urllib.request.Request(  # noqa: S310 - the job file allows http and https only
            told["url"],
            data=told["body"].encode(),
            headers={"User-Agent": f"encvault/{__version__}"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:  # noqa: S310 - as above
            answer.read(1)
    except urllib.error.HTTPError as error:
        error.close()
        reason = str(error.code)
    except urllib.error.URLError as error:
        inner = error.reason
        reason = str(inner.strerror or inner) if isinstance(inner, OSError) else str(inner)
    except (OSError, ValueError, HTTPException) as error:
        reason = type(error).__name__
    else:
        return 0
    sys.stdout.write(reason)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
