"""What is installed is whole: built as a wheel, run without the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT],
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"encvault"}
    assert "encvault/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    sources = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "encvault").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources == {name for name in names if name.startswith("encvault/")}


def test_the_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    (tmp_path / "note").write_text("content")
    script = (
        f"import sys; sys.path.insert(0, {str(target)!r})\n"
        "import encvault\n"
        f"assert encvault.__file__.startswith({str(target)!r})\n"
        "from encvault.cli import main\n"
        "assert main(['key', 'new', '--no-password', '-o', 'me.key']) == 0\n"
        "import contextlib, io\n"
        "out = io.StringIO()\n"
        "with contextlib.redirect_stdout(out):\n"
        "    main(['key', 'export', '-i', 'me.key'])\n"
        "assert main(['seal', 'note', '-r', out.getvalue().strip()]) == 0\n"
        "assert main(['open', 'note.sealed', '-i', 'me.key']) == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "note").read_text() == "content"
