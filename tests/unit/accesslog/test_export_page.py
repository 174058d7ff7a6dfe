"""What docs/log-export.md shows is what is exported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ocsf_json_schema import get_ocsf_schema
from unit.accesslog.report.scene import entry

from encvault.accesslog import ocsf
from encvault.accesslog.export import FORMS, export

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGES = [DOCS / "log-export.md", DOCS / "log-export.zh-CN.md"]
ORIGIN = "encvault-log/mfrggzdfmztwq2lknnwg23tpoa/2026-09-01"
OPENED = entry(
    1024,
    ts="2026-11-25T08:12:31.250999Z",
    path="/srv/sales/报价 2026.xlsx",
    vault="p5ohz6afzwm3sgu2kd4xw5b7ea",
    file="w3kcn7tbm2yxehq5c6zr4vjd2i",
    size=18344,
)


def blocks(page: Path) -> list[str]:
    return re.findall(
        r"^ *```\w+\n(.*?)\n *```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.parametrize("form", FORMS)
def test_the_example_of_each_form_is_real(page: Path, form: str) -> None:
    made = "\n".join(export([OPENED], form, origin=ORIGIN, size=5183))
    assert made.replace("\ufeff", "") in blocks(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_table_of_classes_is_that_of_the_code(page: Path) -> None:
    rows = re.findall(
        r"^\| (`.+`) \| (\d{4}) ([^|]+) \| (\d+) ([^|]+) \|$",
        page.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    told = {
        op: (int(uid), name, int(activity), caption)
        for ops, uid, name, activity, caption in rows
        for op in re.findall(r"`([a-z.]+)`", ops)
    }
    classes = {item["uid"]: item for item in get_ocsf_schema(version="1.4.0")["classes"].values()}
    expected = {}
    for op, kind in ocsf.KINDS.items():
        found = classes[kind.class_uid]
        caption = found["attributes"]["activity_id"]["enum"][str(kind.activity_id)]["caption"]
        expected[op] = (kind.class_uid, found["caption"], kind.activity_id, caption)
    assert told == expected


def test_both_pages_say_the_same() -> None:
    assert blocks(PAGES[0]) == blocks(PAGES[1])
    shapes = [
        re.findall(r"^(#+ |\| |- |\d\. )", page.read_text(encoding="utf-8"), re.MULTILINE)
        for page in PAGES
    ]
    assert shapes[0] == shapes[1]
