"""The address of a cluster that is to be joined: looked at before Ray, which tries for many minutes to reach it."""

from __future__ import annotations

import os
import socket

PATIENCE = 10.0  # seconds until something must answer


class AddressError(ValueError):
    """There is no cluster at an address; the message says what to do."""


def check_address(address: str) -> None:
    """Raises `AddressError` where no Ray can be at `address`, or nothing answers there.

    What does answer is asked once, not twenty times, for half a minute.
    """
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    if address == "auto" or address.startswith("ray://"):
        return
    form = "HOST:PORT, as `ray start --head` prints it (mostly port 6379)"
    if address == "local":
        raise AddressError("local is no cluster: leave the address out, and unset RAY_ADDRESS, to run on this machine")
    if "://" in address:
        raise AddressError(f"it is wanted as {form}, not as a URL. `ray job submit` takes that of the dashboard")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise AddressError(f"it is wanted as {form}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise AddressError(
            f"nothing answers there ({error}). Is the cluster running, and is this its {form}?"
        ) from error
