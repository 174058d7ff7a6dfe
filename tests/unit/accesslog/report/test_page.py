"""The report: right numbers, harmless names, one page that needs nothing else."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from unit.accesslog.report import scene
from unit.accesslog.report.scene import entry, page

from encvault.accesslog import report
from encvault.accesslog.audit import Finding, Verdict
from encvault.accesslog.report import plots, tally
from encvault.accesslog.report.tally import Pair, Tally
from encvault.accesslog.report.verdicts import explain
from encvault.errors import ReportUnavailable

if TYPE_CHECKING:
    from pathlib import Path

VOID = {"meta", "link", "img", "br", "hr", "input"}
SVG = "{http://www.w3.org/2000/svg}"


class Reader(HTMLParser):
    """What a page consists of.

    Attributes:
        tags: every tag with its attributes.
        texts: what a person reads, style sheets left out.
        tables: the cells of each row of each table, by the title above it.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._open: list[str] = []
        self._title = ""
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "h2":
            self._title = ""
        elif tag == "tr":
            self.tables.setdefault(self._title, []).append([])
        elif tag in ("td", "th"):
            self.tables[self._title][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        if data.strip():
            self.texts.append(data.strip())
        if "h2" in self._open:
            self._title += data
        if {"td", "th"} & set(self._open):
            self.tables[self._title][-1][-1] += data

    @property
    def all_text(self) -> str:
        return "\n".join(self.texts)


def pictures(text: str) -> dict[str, ET.Element]:
    """Each SVG of a page by the class of its figure; they are well-formed XML."""
    found = re.findall(r'<figure class="(\w+)"[^>]*>.*?(<svg.*?</svg>)', text, re.DOTALL)
    return {name: ET.fromstring(svg) for name, svg in found}  # noqa: S314 - made by us


def labels(picture: ET.Element) -> list[str]:
    return ["".join(text.itertext()) for text in picture.iter(f"{SVG}text")]


# -- numbers --------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_entries() -> None:
    log = list(scene.entries())
    read = Reader(page(log))
    table = read.tables["Who"]
    assert table[0] == [
        *("user", "accesses", "of them opened", "different files", "failed", "refused"),
        *("first", "last"),
    ]
    assert len(table) == 1 + len(scene.PEOPLE)
    content = ("open", "cat", "share", "read")
    for row in table[1:]:
        user = row[0].partition(" (")[0]
        own = [one.members for one in log if one.members["user"] == user]
        good = [members for members in own if members["outcome"] == "ok"]
        files = [members for members in own if members["op"] in (*content, "seal")]
        first, last = (
            (datetime.fromisoformat(members["ts"]) + timedelta(hours=8)).strftime("%F %T")
            for members in (own[0], own[-1])
        )
        assert row[1:] == [
            f"{sum(members['op'] in (*content, 'seal') for members in good):,}",
            f"{sum(members['op'] in content for members in good):,}",
            f"{len({members['path'] for members in files}):,}",
            str(sum(members["outcome"] == "failed" for members in own)),
            str(sum(members["outcome"] == "refused" for members in own)),
            *(first, last),
        ]
    done = Counter(one.members["op"] for one in log if one.members["outcome"] == "ok")
    actions = {row[0]: row[1] for row in read.tables["What was done"][1:]}
    assert actions["file opened"] == f"{done['open']:,}"
    assert actions["keyslot added"] == str(done["slot.add"])
    paths = Counter(
        one.members["path"]
        for one in log
        if one.members["outcome"] == "ok" and one.members["op"] in (*content, "seal")
    )
    files = {row[0]: int(row[1]) for row in read.tables["Files with the most accesses"][1:]}
    assert len(files) == 25
    for path, count in files.items():
        assert paths[path] == count
    assert max(paths.values()) == max(files.values())


def test_changes_through_a_mount_are_accesses_and_reading_everything_is_none() -> None:
    ops = [("read", "/v/a"), ("write", "/v/a"), ("rename", "/v/a"), ("remove", "/v/a")]
    log = [scene.entry(index, op=op, path=path) for index, (op, path) in enumerate(ops)]
    read = Reader(page([*log, scene.entry(4, op="read", path="/v", detail="bulk")]))
    assert read.tables["Who"][1][1:6] == ["4", "1", "1", "0", "0"]
    assert [row[:2] for row in read.tables["Files with the most accesses"][1:]] == [["/v/a", "4"]]
    actions = {row[0]: row[1] for row in read.tables["What was done"][1:]}
    assert actions["file read through a mount"] == "2"


def test_hours_and_days_are_those_of_the_zone() -> None:
    counts = Tally(scene.ZONE)
    log = list(scene.entries())
    for one in log:
        counts.add(one)
    # China has been at UTC+8 without summer time for the whole period
    local = [datetime.fromisoformat(one.members["ts"]) + timedelta(hours=8) for one in log]
    shown = [
        (when, one.members["outcome"] == "ok")
        for when, one in zip(local, log, strict=True)
        if one.members["outcome"] != "ok" or one.members["op"] in tally.FILE_ACTIONS
    ]
    for hour in range(24):
        good = sum(fine for when, fine in shown if when.hour == hour)
        bad = sum(not fine for when, fine in shown if when.hour == hour)
        assert counts.hours[hour] == Pair(good, bad)
    for day in range(7):
        total = sum(when.weekday() == day for when, _fine in shown)
        assert counts.weekdays[day].good + counts.weekdays[day].bad == total
    assert {when.date() for when, _fine in shown} == set(counts.days)


def test_a_zone_with_summer_time() -> None:
    berlin = type(scene.ZONE)("Europe/Berlin")
    counts = Tally(berlin)
    for index, ts in enumerate(("2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30")):
        counts.add(entry(index, ts=f"{ts}:00.000000Z"))
    # at 03:00 summer time the clock goes back to 02:00
    assert [hour for hour in range(24) if counts.hours[hour].good] == [2, 3]
    assert counts.hours[2].good == 2


def test_a_zone_that_is_half_an_hour_off() -> None:
    counts = Tally(type(scene.ZONE)("Asia/Kolkata"))  # UTC+05:30
    for index, minute in enumerate((20, 29, 30, 40)):
        counts.add(entry(index, ts=f"2026-10-25T00:{minute}:59.999999Z"))
    assert (counts.hours[5].good, counts.hours[6].good) == (2, 2)


def test_lists_are_of_the_latest_first() -> None:
    log = [entry(0, outcome="refused", error="NoMatchingKeyslot")]
    log += [entry(index, op="slot.add", detail="password", slot="x") for index in range(1, 3)]
    log += [entry(3, op="revoke", outcome="failed", slot="keyslot-id", vault="vault-id", path="")]
    log += [entry(4, op="log.erase", path="")]
    read = Reader(page(log))
    troubles = read.tables["Failed and refused"]
    assert [row[0] for row in troubles] == ["entry", "3", "0"]
    assert troubles[2] == [
        *("0", "2026-09-01 16:00:00", "li", "file opened", "refused", "/srv/报价.xlsx"),
        "NoMatchingKeyslot",
    ]
    changes = read.tables["Changes of keyslots and keys"]
    assert [row[0] for row in changes] == ["entry", "4", "3", "2", "1"]
    assert changes[2][5:] == ["vault-id", "keyslot-id"]
    assert changes[3][6] == "password"


def test_who_became_root_is_told() -> None:
    log = [entry(0, user="root", uid=0, login=1000), entry(1, user="li", uid=1000, login=1000)]
    users = [row[0] for row in Reader(page(log)).tables["Who"][1:]]
    assert users == ["li", "root (logged in as 1000)"]


def test_no_entries_are_a_page() -> None:
    read = Reader(page([], scene.audit(first_at="", last_at="", checkpoint="", size=0)))
    assert "There are no entries to show." in read.texts
    assert "There is no checkpoint." in read.texts
    assert not pictures(page([], scene.audit(checkpoint="")))


def test_entries_without_files_have_no_pictures_of_time() -> None:
    text = page([entry(0, op="log.init", path="")])
    assert not set(pictures(text)) & {"days", "hours"}
    assert ["log begun", "1", "0", "0"] in Reader(text).tables["What was done"]


def test_what_a_later_version_records_is_shown() -> None:
    log = [entry(0, op="new\u202e"), entry(1, outcome="perhaps")]
    read = Reader(page(log))
    assert ["new\\u202e", "1", "0", "0"] in read.tables["What was done"]
    assert ["file opened", "0", "1", "0"] in read.tables["What was done"]
    assert "perhaps" in read.all_text


# -- bounds ---------------------------------------------------------------------------------


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "MAX_USERS", 3)
    monkeypatch.setattr(tally, "MAX_ACTIONS", 2)
    monkeypatch.setattr(tally, "MAX_FILES", 10)
    monkeypatch.setattr(tally, "MAX_DISTINCT", 15)
    counts = Tally(UTC)
    often = [f"/often/{number}" for number in range(3)]
    for index in range(1000):
        path = often[index % 3] if index % 2 else f"/rare/{index}"
        counts.add(
            entry(index, user=f"u{index % 50}", path=path, op=("cat", "open", "x")[index % 3])
        )
        counts.add(entry(index, outcome="failed", op="slot.add"))
    assert counts.entries == 2000
    assert len(counts.users) == 4
    assert sum(user.total for user in counts.users.values()) == 667 + 1000
    assert set(map(len, counts.actions)) == {2}
    assert len(counts.actions) == 3  # the first two, and the others by outcome
    assert len(counts.files) <= 10
    assert set(often[:2]) <= set(counts.files)
    assert counts.pruned
    assert sum(map(len, counts.distinct.values())) == 15
    assert counts.crowded
    assert len(counts.troubles) == len(counts.key_changes) == 100
    assert counts.trouble_count == counts.key_change_count == 1000


def test_what_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "MAX_USERS", 60)
    monkeypatch.setattr(tally, "MAX_FILES", 20)
    monkeypatch.setattr(tally, "MAX_DISTINCT", 30)
    monkeypatch.setattr(tally, "MAX_ACTIONS", 1)
    log = [entry(index, user=f"u{index:03}", path=f"/{index}") for index in range(120)]
    log += [entry(index, outcome="refused") for index in range(120, 300)]
    log += [entry(300, op="key.new")]
    notes = tuple(Finding("clock", index, "the clock was moved") for index in range(150))
    text = page(log, scene.audit(notes=notes, wrong=notes))
    for words in (
        "50 of 61 users are shown.",
        "The latest 100 of 180 are shown.",
        "100 of 150 are shown.",
        "There were too many files to count each: numbers of accesses may be too small.",
        "There were too many files to tell each apart: so many or more.",
    ):
        assert words in text
    read = Reader(text)
    assert "others" in [row[0] for row in read.tables["Who"]]
    assert "others" in [row[0] for row in read.tables["What was done"]]


# -- hostile names --------------------------------------------------------------------------

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style></svg><iframe src=https://x.example>",
    "{{ 7*7 }}{% raw %}",
    "$\\frac{1}{2}$",
    "&lt;b&gt;",
    "a\u202egpj.exe",
    "\x00\x1b[31m\r\n\t",
    "\udcff",
    "\u2066x\u2069",
    "http://x.example/",
)


def test_names_are_harmless() -> None:
    every = itertools.product(HOSTILE, ("user", "path", "error", "detail", "op", "slot"))
    log = [
        entry(index, outcome="refused", **({"op": "slot.add"} | {where: name}))
        for index, (name, where) in enumerate(every)
    ]
    log += [entry(100 + index, path=name, user=name) for index, name in enumerate(HOSTILE)]
    findings = tuple(Finding(name, 1, name) for name in HOSTILE)
    text = page(log, scene.audit(Verdict.TAMPERED, wrong=findings, notes=findings))
    assert text.encode().decode() == text
    assert text.replace("\n", "").isprintable()
    read = Reader(text)  # which also finds every tag closed by its own
    plain = Reader(page([entry(0), entry(1, outcome="refused"), entry(2, op="slot.add")]))
    assert {tag for tag, _attributes in read.tags} == {tag for tag, _attributes in plain.tags}
    for shown in ("a\\u202egpj.exe", "\\u2066x\\u2069", "\\udcff", "{{ 7*7 }}{% raw %}"):
        assert shown in read.all_text
    drawn = labels(pictures(text)["users"])
    assert "$\\frac{1}{2}$" in drawn
    assert "&lt;b&gt;" in drawn
    assert "<script>alert(1)</scr…" in drawn


def test_long_paths_are_shortened_in_the_middle() -> None:
    path = "/srv/" + "a folder/" * 400 + "end.txt"
    shown = Reader(page([entry(0, path=path)])).tables["Files with the most accesses"][1][0]
    assert len(shown) == 243
    assert shown.startswith("/srv/a folder/")
    assert shown.endswith("/end.txt")
    assert " … " in shown


# -- one page, and nothing else ---------------------------------------------------------------


def test_the_page_needs_nothing_else() -> None:
    text = page(scene.entries(500))
    read = Reader(text)
    tags = {tag for tag, _attributes in read.tags}
    assert not tags & {
        "script",
        "img",
        "image",
        "link",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
    }
    references = {"href", "src", "xlink:href", "srcset", "action", "data", "poster", "background"}
    for _tag, attributes in read.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name, value in attributes.items():
            assert name not in references or (value or "").startswith("#")
            assert "://" not in (value or "") or name.startswith("xmlns")
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    (policy,) = (
        attributes["content"]
        for tag, attributes in read.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert str(policy).startswith("default-src 'none';")
    assert "script" not in str(policy)


def test_ids_are_unique_and_references_lead_somewhere() -> None:
    text = page(scene.entries(500))
    ids = re.findall(r' id="([^"]+)"', text)
    assert ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)


def test_equal_pictures_share_no_id() -> None:
    drawn = [plots.columns(name, ["x"], [Pair(1)], width=5) for name in ("one", "two")]
    first, second = (set(re.findall(r' id="([^"]+)"', svg)) for svg in drawn)
    assert first
    assert not first & second


def test_equal_arguments_give_equal_pages(tmp_path: Path) -> None:
    script = (
        "import sys; from unit.accesslog.report import scene; "
        "sys.stdout.buffer.write(scene.page(scene.entries(300)).encode())"
    )
    expected = page(scene.entries(300)).encode()
    environment = os.environ | {
        "PYTHONHASHSEED": "7",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TZ": "America/New_York",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=True
    )
    assert done.stdout == expected
    assert done.stderr == b""  # the fonts were looked for in a new home without a word


def test_plots_are_of_what_was_counted() -> None:
    drawn = pictures(page(scene.entries()))
    assert set(drawn) == {"days", "hours", "weekdays", "users", "qr"}
    assert [*"036", "9", "12", "15", "18", "21"] == labels(drawn["hours"])[:8]
    assert labels(drawn["weekdays"])[:7] == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    assert labels(drawn["days"])[0] == "09-01"
    assert {"li.wei", "王芳", "others", "root (logged in as 10…"} <= set(labels(drawn["users"]))
    for picture in drawn.values():
        assert not list(picture.iter(f"{SVG}image"))
    assert "font-family" not in ET.tostring(drawn["users"], encoding="unicode")
    legend = {"accesses", "failed or refused"}
    assert legend <= set(labels(drawn["users"]))
    assert not legend & set(labels(pictures(page([entry(0)]))["users"]))


@pytest.mark.parametrize(
    ("days", "bars", "last"), [(1, 1, "09-01"), (124, 124, ""), (130, 19, ""), (800, 27, "")]
)
def test_long_times_are_put_together(days: int, bars: int, last: str) -> None:
    start = datetime(2026, 9, 1, tzinfo=UTC)
    log = [
        entry(0, ts=start.strftime("%FT%T.000000Z")),
        entry(1, ts=(start + timedelta(days - 1)).strftime("%FT%T.000000Z")),
    ]
    picture = pictures(page(log))["days"]
    drawn = [
        path.get("style", "")
        for path in picture.iter(f"{SVG}path")
        if f"fill: {plots.GOOD}" in path.get("style", "")
    ]
    assert len(drawn) == bars
    dates = [label for label in labels(picture) if re.fullmatch(r"(\d{4}-)?\d\d(-\d\d)?", label)]
    assert len([label for label in dates if "-" in label]) <= 9
    assert not last or last in dates


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("short", "short"),
        ("x" * 22, "x" * 22),
        ("x" * 23, "x" * 21 + "…"),
        ("中" * 11, "中" * 11),
        ("中" * 12, "中" * 10 + "…"),
    ],
)
def test_labels_have_room(text: str, shown: str) -> None:
    assert plots.shortened(text) == shown


# -- the verdict ------------------------------------------------------------------------------


def test_a_changed_log_says_so_first() -> None:
    wrong = (Finding("root", 4200, "the root is another"), Finding("epoch", None, "one is missing"))
    read = Reader(page([entry(0)], scene.audit(Verdict.TAMPERED, wrong=wrong, size=4200)))
    told = [text for text in read.texts if text not in ("✗", "Access log report: TAMPERED")]
    assert told[:3] == [
        "Access log report",
        "TAMPERED",
        "Do not rely on this log: it was changed or is damaged",
    ]
    order = list(read.tables)
    assert order[0] == "What is wrong"
    assert read.tables["What is wrong"][1:] == [
        ["4200", "root", "the root is another"],
        ["", "epoch", "one is missing"],
    ]
    assert "Only the first 4,200 entries are proved, and only these are counted below." in told


@pytest.mark.parametrize("verdict", Verdict)
def test_every_page_says_what_a_log_cannot(verdict: Verdict) -> None:
    text = Reader(page([entry(0)], scene.audit(verdict))).all_text
    assert "A log proves what was recorded, never that all was recorded." in text
    assert verdict.value in text
    for word in ("tamper-" + "proof", "guarantee", "impossible"):
        assert word not in text.lower()


def test_what_is_not_anchored_is_said() -> None:
    def told(**changes: Any) -> str:
        return "\n".join(explain(scene.audit(**changes)).means)

    after = "For the entries after them, only the log itself speaks."
    today = "Entries from number 5,100 on are of the current day."
    own = "The keys used for checking are from the log's own folder"
    assert after in told()
    assert after not in told(anchored_size=5183)
    assert today in told()
    assert today not in told(open_from=5183)
    assert own not in "".join(explain(scene.audit()).means_not)
    assert own in "".join(explain(scene.audit(own_policy=True)).means_not)
    assert "No anchor was given" in told(verdict=Verdict.OK_UNANCHORED)
    assert "No anchor was given" not in told()
    assert "Nothing on this page is proved." in told(verdict=Verdict.CANNOT_VERIFY)


def test_it_says_how_to_check() -> None:
    text = page([entry(0)])
    read = Reader(text)
    assert "encvault log verify --anchor FILE --policy FILE" in read.texts
    assert scene.ORIGIN in read.texts
    assert scene.audit().policy_digest in read.texts
    assert f"<pre>{scene.CHECKPOINT}</pre>" in text  # byte for byte
    assert {"5183", "4100"} <= set(read.texts)


def test_a_long_checkpoint_has_no_picture() -> None:
    text = page([entry(0)], scene.audit(checkpoint=scene.CHECKPOINT + "x" * 3000))
    assert "The checkpoint is too long for a picture." in text
    assert "qr" not in pictures(text)


# -- language and times -----------------------------------------------------------------------


@pytest.mark.usefixtures("marked")
def test_every_word_is_translated() -> None:
    wrong = (Finding("«译root»", 1, "«译wrong»"),)
    log = [*scene.entries(300), entry(300, op="slot.add", detail="«译x»")]
    for verdict in Verdict:
        read = Reader(page(log, scene.audit(verdict, wrong=wrong, notes=wrong)))
        allowed = {scene.ORIGIN, scene.CHECKPOINT.strip(), scene.audit().policy_digest}
        allowed |= {"encvault log verify --anchor FILE --policy FILE", *scene.PEOPLE, "li"}
        allowed |= {value.value for value in Verdict} | {"password", "ChunkCorrupt"}
        allowed |= {"NoMatchingKeyslot"}
        for text in read.texts:
            plain = text in allowed or text.startswith("/srv/") or text.endswith("…")
            assert plain or "译" in text or not re.search("[A-Za-z]", text), text
    assert ("html", {"lang": "zh-CN"}) in read.tags


def test_times_say_their_zone() -> None:
    def told(zone: Any) -> str:
        return report.render([], scene.audit(), made_at=scene.MADE_AT, zone=zone)

    assert "made 2026-10-31 09:05, times in Asia/Shanghai (UTC+08:00)" in told(scene.ZONE)
    assert "2026-09-01 08:00 to 2026-10-30 21:12" in told(scene.ZONE)
    western = timezone(timedelta(hours=-3, minutes=-30))
    assert "made 2026-10-30 21:35, times in UTC-03:30" in told(western)


# -- without the extra ------------------------------------------------------------------------


@pytest.mark.parametrize("package", report.PACKAGES)
def test_what_is_missing_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ReportUnavailable) as caught:
        page([])
    assert caught.value.exit_code == 69
    assert str(caught.value) == f"a report cannot be made without {package}"
    assert caught.value.hint == "install it with: pip install 'encvault[report]'"


def test_importing_the_report_loads_none_of_them() -> None:
    script = "import encvault.accesslog.report, sys, json; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert not set(json.loads(done.stdout)) & set(report.PACKAGES)
