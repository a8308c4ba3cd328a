"""What hil may import: it runs on a rig controller without torch, and its options answer at once."""

from __future__ import annotations

import subprocess
import sys

BLOCKED = """
import importlib, pkgutil, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "stable_baselines3"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
import policyport.hil
for module in pkgutil.iter_modules(policyport.hil.__path__):
    if module.name != "__main__":
        importlib.import_module(f"policyport.hil.{module.name}")
"""

LIGHT = """
import sys
import policyport.hil
heavy = {"numpy", "torch", "onnx", "onnxruntime", "unicorn", "matplotlib", "gymnasium", "serial", "elftools"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def test_every_module_imports_without_torch() -> None:
    subprocess.run([sys.executable, "-c", BLOCKED], check=True, timeout=60)


def test_options_import_nothing_heavy() -> None:
    subprocess.run([sys.executable, "-c", LIGHT], check=True, timeout=60)
