from __future__ import annotations

import inspect

from encvault.mount.verbs import FileSystem
from encvault.mount.view import View


def test_a_view_has_the_verbs_that_the_adapter_asks_for() -> None:
    verbs = {name for name in vars(FileSystem) if not name.startswith("_")}
    for name in verbs - {"is_read_only"}:
        asked = list(inspect.signature(getattr(FileSystem, name)).parameters)
        given = inspect.signature(getattr(View, name)).parameters
        needed = [one for one in given if given[one].default is inspect.Parameter.empty]
        assert list(given)[: len(asked)] == asked
        assert len(needed) <= len(asked)
    assert "attributes" in verbs
