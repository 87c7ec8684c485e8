"""Stands in for the standard library's `platform`, which torch, Ray and MLflow import, and adds our modules to it.

Started from the repository's root with `-m`, this package is found first; so it *is* the standard module as well.
"""

import sysconfig
from importlib.machinery import PathFinder

_spec = PathFinder.find_spec("platform", [sysconfig.get_path("stdlib")])
exec(_spec.loader.get_code("platform"), globals())  # type: ignore[union-attr]
