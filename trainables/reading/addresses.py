"""Addresses of servers and stores as people may see them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

# A name, and where a colon follows it whatever comes up to the last @: keys of stores hold slashes, if wrongly so.
_USER = re.compile(r"(?<=://)[^\s'\"@/?#:]*(:[^\s'\"]*)?@")
_OPTION = re.compile(r"([?&][\w.-]*(?:passw|pwd|secret|token|key)[\w.-]*=)[^\s'\"&#]+", re.IGNORECASE)


def showable(text: object) -> str:
    """A text, such as a command or a message, without what the addresses in it keep secret: http://***@host:5000."""
    return _OPTION.sub(r"\1***", _USER.sub("***@", str(text)))


def without_user(address: str) -> str:
    """The address, with nobody's name and password in it."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
