"""Time the access log: appending, verifying, proving, what it costs to seal and to read with it.

    python bench/log.py                      everything, about 5 minutes
    python bench/log.py --events 100000      a smaller log
    python bench/log.py --folder /mnt/disk   on another file system than the temporary one

What is compared runs in turns, so that a slow minute of the machine hits both; figures are
medians. For appends the yardstick is what the storage alone takes: two writes of the same size,
each synced. Timings are no tests: nothing here fails for being slow.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from encvault.accesslog.audit import Verdict
from encvault.accesslog.log import AccessLog
from encvault.accesslog.proving import prove
from encvault.accesslog.verifying import verify
from encvault.mount.nodes import Access, Caller
from encvault.operations.accesses import Accesses

BATCH = 100_000
SINGLES = 1_000
FILES = 50_000
OPENS = 5_000
RUNS = 3
ENTRY_SIZE = 350  # bytes
NOTE_SIZE = 260

SEAL = """
import sys, encvault
from encvault.accesslog.log import AccessLog
folder, key, log = sys.argv[1:]
encvault.seal_folder(
    folder, encvault.load_recipients(key), log=AccessLog(log) if log else None, consent=True
)
"""


def batch(start: int = 0) -> list[dict[str, str | int]]:
    """Events as of a run that seals."""
    return [
        {
            "path": f"/srv/sales/客户/{number % 500}/报价单-{number}.xlsx",
            "file": "a" * 26,
            "size": 7,
        }
        for number in range(start, start + BATCH)
    ]


def append(folder: Path) -> None:
    """100,000 events at once; then one after the other, beside the storage alone."""
    log = AccessLog(str(folder / "append"))
    log.begin()
    times = []
    for _run in range(RUNS):
        events = batch()
        start = time.perf_counter()
        log.record(events, op="seal", outcome="ok", vault="b" * 26)
        times.append(time.perf_counter() - start)
    tell("append 100,000 events in one batch", statistics.median(times), "s")
    single, bare = [], []
    with (folder / "one").open("wb") as one, (folder / "two").open("wb") as two:
        for number in range(SINGLES):
            start = time.perf_counter()
            log.record([{"op": "open", "outcome": "ok", "path": f"/srv/sales/{number}"}])
            between = time.perf_counter()
            for file, size in ((one, ENTRY_SIZE), (two, NOTE_SIZE)):
                os.write(file.fileno(), b"x" * size)
                os.fsync(file.fileno())
            bare.append(time.perf_counter() - between)
            single.append(between - start)
    tell(f"append one event, durable (of {SINGLES})", statistics.median(single) * 1e3, "ms")
    tell("  two synced writes of that size alone", statistics.median(bare) * 1e3, "ms")


def read(folder: Path) -> None:
    """First opens through a mount by one process: all in a row, and each waited for."""
    me = Caller(os.getuid(), os.getgid(), os.getpid())
    times, single = [], []
    for run in range(RUNS):
        log = AccessLog(str(folder / f"read-{run}"))
        log.begin()
        accesses = Accesses(log, str(folder), "b" * 26, "c" * 26, print)
        start = time.perf_counter()
        for number in range(OPENS):
            accesses.opened(Access(f"客户/{number}.xlsx", f"{number:026}", 7), me)
        accesses.close()
        times.append(time.perf_counter() - start)
        for _open in range(SINGLES // RUNS):
            start = time.perf_counter()
            accesses.opened(Access("客户.xlsx", "d" * 26, 7), me._replace(pid=0))
            single.append(time.perf_counter() - start)
        accesses.close()
    tell(f"record {OPENS:,} first opens of a process", statistics.median(times), "s")
    tell("  one open that waits for its entry", statistics.median(single) * 1e3, "ms")


def check(folder: Path, count: int) -> None:
    """Verify a large log in a process of its own, for its memory; prove entries of it."""
    path = str(folder / "large")
    log = AccessLog(path)
    for start in range(0, count, BATCH):
        log.record(batch(start), op="seal", outcome="ok", vault="b" * 26)
    times, peak = [], 0
    for _run in range(RUNS):
        pid = os.fork()
        if pid == 0:
            start = time.perf_counter()
            good = verify(path).verdict is Verdict.OK_UNANCHORED
            os._exit(0 if good else 1)
        start = time.perf_counter()
        _pid, status, usage = os.wait4(pid, 0)
        if status:
            sys.exit("the log does not verify")
        times.append(time.perf_counter() - start)
        peak = max(peak, usage.ru_maxrss)
    tell(f"verify {count:,} events", statistics.median(times), "s")
    tell("  memory", peak / 1024, "MiB")
    times = []
    for index in range(7, count, max(1, count // 20)):
        start = time.perf_counter()
        prove(path, index)
        times.append(time.perf_counter() - start)
    tell(f"prove one of {count:,} events", statistics.median(times) * 1e3, "ms")


def seal(folder: Path) -> None:
    """Seal a tree with and without a log, in turns."""
    key = folder / "key"
    made = subprocess.run(
        [sys.executable, "-m", "encvault", "key", "new", "--no-password", "-o", str(key)],
        check=True,
        capture_output=True,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
    )
    (folder / "key.pub").write_bytes(made.stdout)
    times: dict[str, list[float]] = {"": [], str(folder / "seal-log"): []}
    AccessLog(str(folder / "seal-log")).begin()
    for _run in range(RUNS):
        for log, found in times.items():
            tree = folder / "tree"
            for number in range(FILES):
                place = tree / str(number % 500)
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{number}.txt").write_bytes(b"x" * (number % 8192))
            os.sync()
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", SEAL, str(tree), str(folder / "key.pub"), log], check=True
            )
            found.append(time.perf_counter() - start)
            shutil.rmtree(tree)
    without, with_log = map(statistics.median, times.values())
    tell(f"seal {FILES:,} files without a log", without, "s")
    tell("  with a log", with_log, "s")
    tell("  ratio", with_log / without, "")


def tell(what: str, value: float, unit: str) -> None:
    """One figure."""
    print(f"{what:48} {value:10.2f} {unit}", flush=True)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--folder", default=None)
    parser.add_argument("parts", nargs="*", default=["append", "read", "check", "seal"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        if "append" in options.parts:
            append(folder)
        if "read" in options.parts:
            read(folder)
        if "check" in options.parts:
            check(folder, options.events)
        if "seal" in options.parts:
            seal(folder)
    tell("memory of this process", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "MiB")


if __name__ == "__main__":
    main()
