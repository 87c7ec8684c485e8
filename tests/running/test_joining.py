"""An address where no cluster can be is told at once, and what to give instead."""

import socket

import pytest

from platform.running.joining import AddressError, check_address


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://127.0.0.1:8265", "not as a URL"),
        ("nonsense", "HOST:PORT"),
        ("127.0.0.1:", "HOST:PORT"),
        ("127.0.0.1:port", "HOST:PORT"),
        ("127.0.0.1:99999", "HOST:PORT"),
        (":6379", "HOST:PORT"),
        ("local", "leave the address out"),
        ("no-such-host.invalid:6379", "nothing answers there"),
    ],
)
def test_what_is_no_address_of_a_cluster_is_refused(address: str, told: str) -> None:
    with pytest.raises(AddressError, match=told):
        check_address(address)


def test_an_address_where_nothing_answers_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        check_address(f"127.0.0.1:{port}")
    with pytest.raises(AddressError, match="nothing answers there"):
        check_address(f"127.0.0.1:{port}")
