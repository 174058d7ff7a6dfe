"""The page that a recovery code is printed on."""

from __future__ import annotations

import html
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from encvault.cli import ui
from encvault.i18n import _

if TYPE_CHECKING:
    from encvault.operations import RecoveryCode

_PAGE = """<!DOCTYPE html>
<html lang="{lang}"><head><meta charset="utf-8"><title>{title}</title>
<style>
@page {{ size: A4; margin: 20mm }}
body {{ font: 12pt/1.5 sans-serif; color: #000; max-width: 170mm; margin: 2em auto }}
h1 {{ font-size: 18pt; font-weight: 600; margin: 0 0 .3em }}
pre {{ font: 600 18pt/1.7 monospace; border: 1.5pt solid; padding: .6em .9em; margin: 1.2em 0 }}
table {{ border-collapse: collapse; font-size: 10.5pt }}
th {{ text-align: left; font-weight: normal; padding: .15em 1.5em .15em 0; color: #444 }}
td {{ font-family: monospace; overflow-wrap: anywhere }}
</style></head>
<body>
<h1>{title}</h1>
<p>{warning}</p>
<pre>{code}</pre>
<p>{howto}</p>
<p><code>{command}</code></p>
<table>
{rows}
</table>
</body></html>
"""


def recovery_sheet(made: RecoveryCode) -> bytes:
    """One page of HTML that loads nothing and runs nothing; UTF-8.

    Args:
        made: the code, which is on the page and nowhere else.
    """
    facts = [
        (_("vault"), os.path.basename(made.vault)),
        (_("fingerprint"), made.fingerprint),
        (_("keyslot"), made.slot["id"]),
        (_("label"), made.slot["label"] or "—"),
        (_("made at"), datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
    ]
    rows = "\n".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(ui.harmless(value))}</td></tr>"
        for name, value in facts
    )
    page = _PAGE.format(
        lang=_("en"),
        title=html.escape(_("Recovery code")),
        warning=html.escape(
            _("Whoever holds this sheet can open the vault. Keep it locked away, not beside it.")
        ),
        code="\n".join(ui.code_lines(made.code)),
        howto=html.escape(
            _(
                "To open the vault when passwords and keys are lost, type the code when this "
                "command asks for it. Capital and small letters are the same; a mistyped group is "
                "named."
            )
        ),
        command=html.escape(_("encvault open --recovery FOLDER")),
        rows=rows,
    )
    return page.encode(errors="backslashreplace")
