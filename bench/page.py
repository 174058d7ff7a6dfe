"""Make docs/performance.md, its Chinese sister and their picture of what was measured last.

    python bench/page.py

Needs ``pip install 'encvault[bench]'`` for the picture. Pages and picture are kept; the figures
they are made of are not.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
from compare import RESULTS
from contest import ROOT

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "encvault"  # the same figures give the same file

from matplotlib import pyplot as plt  # noqa: E402 - after the backend is chosen

DOCS = ROOT / "docs"
PICTURE = "performance.svg"
_OURS, _THEIRS = "#1f5fa8", "#b8bec6"
_COLUMNS = 2
_WORDS = {
    "performance.md": {
        "intro": "introduction.md",
        "machine": "The machine",
        "aims": "Aims",
        "aims text": "What a run on this class of machine shall reach, and what it came to.",
        "aim head": "| case | program | aim | reached | |\n|---|---|---|---|---|",
        "met": "met",
        "missed": "**missed**",
        "figures": "Figures",
        "runs": "Counted rounds: {runs}.",
        "state": " State {encvault}, {date}.",
        "elsewhere": " On another machine: {processor}.",
        "head": "| program | median s | fastest | slowest | times {base} | CPU s | MB |\n"
        "|---|--:|--:|--:|--:|--:|--:|",
    },
    "performance.zh-CN.md": {
        "intro": "introduction.zh-CN.md",
        "machine": "测试机器",
        "aims": "目标",
        "aims text": "这一档机器上应达到的目标，以及这次测得的结果。",
        "aim head": "| 项目 | 程序 | 目标 | 结果 | |\n|---|---|---|---|---|",
        "met": "达到",
        "missed": "**未达到**",
        "figures": "数据",
        "runs": "计入 {runs} 轮。",
        "state": "测于 {date}，提交 {encvault}。",
        "elsewhere": "在另一台机器上：{processor}。",
        "head": "| 程序 | 中位数（秒） | 最快 | 最慢 | 相当于 {base} 的倍数 | CPU（秒） | MB |\n"
        "|---|--:|--:|--:|--:|--:|--:|",
    },
}


def page(measured: dict[str, Any], words: dict[str, str]) -> str:
    """One page."""
    intro = (Path(__file__).parent / words["intro"]).read_text(encoding="utf-8")
    parts = [intro.rstrip(), f"![]({PICTURE})", f"## {words['machine']}"]
    parts.append("\n".join(f"- {name}: {text}" for name, text in measured["machine"].items()))
    parts += [f"## {words['aims']}", words["aims text"], _aims(measured, words)]
    parts.append(f"## {words['figures']}")
    for case in measured["cases"]:
        title = f"### {case['name']}: {case['title']}"
        parts += [title, _circumstances(case, measured["machine"], words), _figures(case, words)]
    return "\n\n".join(parts) + "\n"


def _circumstances(case: dict[str, Any], last: dict[str, str], words: dict[str, str]) -> str:
    """How often it was measured, and where and at which state if those are not the last ones."""
    text = words["runs"].format(**case)
    if (case["encvault"], case["date"]) != (last["encvault"], last["date"]):
        text += words["state"].format(**case)
    if case["processor"] != last["processor"]:
        text += words["elsewhere"].format(**case)
    return text


def _aims(measured: dict[str, Any], words: dict[str, str]) -> str:
    rows = [words["aim head"]]
    for case in measured["cases"]:
        for one in case["contenders"]:
            for aim in one["aims"]:
                reached = aim["reached"]
                text = f"{reached / 1024:.0f} MB" if "MB" in aim["aim"] else f"{reached:.2f}"
                verdict = words["met"] if aim["is_met"] else words["missed"]
                rows.append(
                    f"| {_cell(case['name'])} | {_cell(one['name'])} | {_cell(aim['aim'])} "
                    f"| {text} | {verdict} |"
                )
    return "\n".join(rows)


def _figures(case: dict[str, Any], words: dict[str, str]) -> str:
    first = case["contenders"][0]
    base = statistics.median(first["seconds"])
    rows = [words["head"].format(base=_cell(first["name"]))]
    for one in case["contenders"]:
        seconds = one["seconds"]
        median = statistics.median(seconds)
        rows.append(
            f"| {_cell(one['name'])} | {median:.3f} | {min(seconds):.3f} | {max(seconds):.3f} "
            f"| {median / base:.2f} | {statistics.median(one['cpu_seconds']):.2f} "
            f"| {one['peak_kib'] / 1024:.0f} |"
        )
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def draw(measured: dict[str, Any], path: Path) -> None:
    """The picture: a bar for each program, case by case."""
    cases = measured["cases"]
    rows = -(-len(cases) // _COLUMNS)
    figure, axes = plt.subplots(rows, _COLUMNS, figsize=(11, 2.4 * rows), squeeze=False)
    for axis, case in zip(axes.flat, cases, strict=False):
        found = list(reversed(case["contenders"]))
        medians = [statistics.median(one["seconds"]) for one in found]
        ours = ["encvault" in one["name"] for one in found]
        bars = axis.barh(
            [one["name"] for one in found],
            medians,
            color=[_OURS if own else _THEIRS for own in ours],
        )
        axis.bar_label(bars, fmt="%.2f", padding=2, fontsize=7)
        axis.set_title(f"{case['name']}: {case['title']} (s)", fontsize=9, loc="left")
        axis.tick_params(labelsize=7)
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(cases) :]:
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Write them."""
    measured = json.loads(RESULTS.read_text(encoding="utf-8"))
    for name, words in _WORDS.items():
        (DOCS / name).write_text(page(measured, words), encoding="utf-8")
    draw(measured, DOCS / PICTURE)


if __name__ == "__main__":
    main()
