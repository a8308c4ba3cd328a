"""Makes the module that the core tests share importable by its name."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

NAME = "plain_decoder"

spec = importlib.util.spec_from_file_location(NAME, Path(__file__).resolve().parent / f"{NAME}.py")
assert spec is not None and spec.loader is not None
sys.modules[NAME] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[NAME])
