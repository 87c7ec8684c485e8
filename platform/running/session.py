"""What keeps a Ray that is started on this machine for its owner alone: its address, its token and its folder."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

import psutil

# Read when Ray is imported: a Ray that is started here listens on 127.0.0.1 alone, as it always does on Windows and
# macOS. A cluster that is joined has the addresses that it was started with.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107  # bytes of a path: the system's own limit
_SOCKET = "session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"  # below the folder of sessions


class FolderError(OSError):
    """No Ray can have its sockets there; the message says what to do."""


def sessions() -> Path:
    """The folder of this user's sessions, which need not be there. Raises `FolderError` where its path is too long."""
    named = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "")
    folder = Path(os.environ[named] if named else "/tmp").absolute() / f"ray-{os.getuid()}" / "r"
    if (length := len(os.fsencode(folder / _SOCKET))) > _LONGEST_SOCKET:
        too_long = f"{length - _LONGEST_SOCKET} bytes too long for the sockets that Ray makes below it"
        raise FolderError(f"{named}={os.environ[named]} is {too_long}. Set RAY_TMPDIR=/tmp, or another short path")
    return folder


def private_sessions() -> Path:
    """That folder, within one that nobody else may enter: Ray opens its own to all. Raises `OSError`."""
    folder = sessions()
    own = folder.parent
    own.parent.mkdir(parents=True, exist_ok=True)
    own.mkdir(mode=0o700, exist_ok=True)
    if own.is_symlink() or own.stat().st_uid != os.getuid():
        raise FolderError(f"{own} belongs to somebody else. Set RAY_TMPDIR to a folder of your own")
    own.chmod(0o700)  # one that was there
    return folder


def stay_on_loopback() -> None:
    """Have the ranks of a trial that is started from now on talk over the loopback interface."""
    found = (name for name, at in psutil.net_if_addrs().items() if any(a.address == "127.0.0.1" for a in at))
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = next(found, "lo")


def own_token() -> None:
    """Have what is started from now on ask for a token that is in no file: Ray would write one that all may read."""
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
