"""pytest loads the standard `platform` before ours can be found: one line makes it our package too."""

from pathlib import Path

import platform

platform.__path__ = [str(Path(__file__).parents[1] / "platform")]  # type: ignore[attr-defined]
