"""Jobs that go to a server, from the command line; what servers do amid it: test_remote."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import Command, snapshot, write_tree
from servers import Bucket, RemoteServer, Sshd

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["sftp", "s3"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RemoteServer]:
    found: Sshd | Bucket
    if request.param == "sftp":
        found = Sshd(tmp_path / "sshd")
    else:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret that is never told")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        found = Bucket(tmp_path / "s3", {})
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.endpoint)
    yield found
    found.kill()


class Remote:
    """A job to a server."""

    def __init__(self, run: Command, top: Path, server: RemoteServer) -> None:
        self.run, self.top, self.server = run, top, server
        self.source = top / "source"
        write_tree(self.source)
        made = run("key", "new", "--no-password", "-o", top / "me.key")
        (top / "me.pub").write_text(made.out)
        self.file = top / "night.toml"

    def write(self, mode: str, **more: object) -> None:
        said = {
            "version": 1,
            "sources": [str(self.source)],
            "mode": mode,
            "destination": self.server.url,
            "recipients": [str(self.top / "me.pub")],
            "retries": 0,
            "verify": "full",
        } | more
        lines = [f"{key} = {json.dumps(value)}" for key, value in said.items()]
        self.file.write_text("\n".join(lines) + "\n")

    def outcome(self, code: int = 0) -> dict[str, Any]:
        done = self.run("job", "run", self.file, "--json")
        assert done.code == code, done
        found: dict[str, Any] = json.loads(done.out)
        return found

    def opened(self, name: str = "") -> Path:
        """What is on the server, fetched by another program, and opened."""
        fetched = self.top / f"fetched{len(list(self.top.iterdir()))}"
        self.server.download(fetched)
        to = self.top / f"opened{fetched.name}"
        done = self.run("open", "--to", to, "-i", self.top / "me.key", fetched / name)
        assert done.code == 0, done
        return to


@pytest.fixture
def remote(run: Command, tmp_path: Path, server: RemoteServer) -> Remote:
    return Remote(run, tmp_path, server)


def test_a_mirror_goes_to_a_server(remote: Remote) -> None:
    remote.write("mirror", hide_names=True, delete=True)
    checked = remote.run("job", "check", remote.file)
    assert checked.code == 0, checked
    assert remote.server.files() == {}  # nothing is left of the probe
    assert remote.outcome()["files"] == 8
    assert snapshot(remote.opened(), times=False) == snapshot(remote.source, times=False)
    (remote.source / "empty").unlink()
    (remote.source / "new").write_text("x")
    outcome = remote.outcome()
    assert (outcome["files"], outcome["unchanged"], outcome["state"]) == (1, 7, "ok")
    assert outcome["verified"] > 0
    assert snapshot(remote.opened(), times=False) == snapshot(remote.source, times=False)
    name = max(remote.server.files(), key=lambda one: len(remote.server.files()[one]))
    remote.server.write(name, b"damaged")
    damaged = remote.outcome(65)
    assert damaged["errors"][0]["error"] == "CopyChanged"


def test_archives_go_to_a_server_and_the_newest_are_kept(remote: Remote) -> None:
    remote.write("archive", keep=2)
    made = [remote.outcome()["archive"].rpartition("/")[2] for _one in range(3)]
    assert sorted(remote.server.files()) == sorted(made[1:])
    assert snapshot(remote.opened(made[2]), times=False) == snapshot(remote.source, times=False)
    remote.server.delete(made[1])
    remote.server.delete(made[2])
    assert remote.outcome(75)["errors"][0]["error"] == "DestinationAway"
    assert remote.server.files() == {}


@pytest.mark.parametrize("server", ["sftp"], indirect=True)
def test_a_server_that_is_away_is_told_and_the_next_run_goes_on(remote: Remote) -> None:
    remote.write("archive")
    remote.outcome()
    remote.server.kill()
    lost = remote.outcome(74)
    assert lost["errors"][0]["error"] == "RemoteFailed"
    assert lost["archive"] == ""
    remote.server.start()  # type: ignore[attr-defined]  # an sshd has it
    remote.outcome()
    assert len(remote.server.files()) == 2


def test_originals_go_only_when_their_copies_are_there(remote: Remote) -> None:
    remote.write("mirror", remove_sources=True)
    before = {name: one for name, one in snapshot(remote.source).items() if one.kind == "file"}
    assert remote.outcome()["removed"] == 8
    after = snapshot(remote.opened(), times=False)
    assert before.keys() <= after.keys()
    assert not [path for path in remote.source.rglob("*") if path.is_file()]


@pytest.mark.parametrize("server", ["sftp"], indirect=True)
@pytest.mark.parametrize("hide_names", [False, True])
@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_a_copy_that_the_spool_has_lost_stays_on_the_server(
    remote: Remote, harm: str, *, hide_names: bool
) -> None:
    remote.write("mirror", remove_sources=True, hide_names=hide_names)
    remote.outcome()
    before = snapshot(remote.opened(), times=False)
    copies = ".encvault/objects/*/*" if hide_names else "src/run.sh.sealed"
    state = Path(os.environ["XDG_STATE_HOME"])
    (spool,) = [path.parent for path in state.rglob(".encvault") if "mirrors" in path.parts]
    sealed = max(spool.glob(copies), key=lambda path: path.stat().st_size)
    if harm == "gone":
        sealed.unlink()
    else:
        os.truncate(sealed, sealed.stat().st_size - 1)
    (remote.source / "later").write_text("later")
    outcome = remote.outcome(65)
    assert [one["error"] for one in outcome["errors"]] == ["CopyLost"]
    assert (remote.source / "later").exists()  # removed only when nothing is doubtful
    after = snapshot(remote.opened(), times=False)
    assert {name: one for name, one in after.items() if name != "later"} == before


def test_several_sources_have_a_folder_each(remote: Remote) -> None:
    other = remote.top / "other"
    other.mkdir()
    (other / "file").write_text("x")
    remote.write("mirror", sources=[str(remote.source), str(other)])
    assert remote.outcome()["files"] == 9
    assert {name.partition("/")[0] for name in remote.server.files()} == {"source", "other"}
    assert snapshot(remote.opened("other"), times=False) == snapshot(other, times=False)
