"""What an address keeps secret is shown to nobody, wherever the address stands."""

import pytest

from trainables.reading.addresses import showable, without_user


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:pw@host:5000", "http://***@host:5000"),
        ("http://me:p@w/0@host:5000/x", "http://***@host:5000/x"),
        ("https://token@host", "https://***@host"),
        ("mysql+pymysql://me:pw@host/db?charset=utf8", "mysql+pymysql://***@host/db?charset=utf8"),
        ("mysql://host/db?user=me&password=pw&ssl=1", "mysql://host/db?user=me&password=***&ssl=1"),
        ("s3://KEY:SE/CRET@bucket/runs?scheme=http", "s3://***@bucket/runs?scheme=http"),
        ("s3://bucket/runs?secret_key=a&access_key=b", "s3://bucket/runs?secret_key=***&access_key=***"),
        ("rm 's3://a:b@c' 'http://d:e@f'", "rm 's3://***@c' 'http://***@f'"),
        ("sqlite:////home/me@work/mlflow.db?timeout=60", "sqlite:////home/me@work/mlflow.db?timeout=60"),
        ("http://host:5000/#/experiments/1", "http://host:5000/#/experiments/1"),
        ("s3://bucket/me@work", "s3://bucket/me@work"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address: str, shown: str) -> None:
    assert showable(address) == shown
    assert showable(f"x: {address} y") == f"x: {shown} y"


def test_a_link_for_a_browser_has_nobodys_name() -> None:
    assert without_user("http://me:pw@host:5000/#/x") == "http://host:5000/#/x"
    assert without_user("http://[::1]:5000") == "http://[::1]:5000"
