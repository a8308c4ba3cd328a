"""What is taken over from others is there as they published it."""

from __future__ import annotations

import hashlib

import pytest
from policyport.deploy.bootloader import MONOCYPHER

PUBLISHED = {
    "monocypher.c": "57eb914fc88136119bd41655cccb8c250048bf54d470540625186f8ab16f64be",
    "monocypher.h": "c494da712122da7ff679fdcf318a5317e84972b6c950fe9d896212947797facd",
}
"""SHA-256 of the files of Monocypher 4.0.3 in the source archive of pymonocypher 4.0.3.4."""


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_monocypher_is_unmodified(name: str) -> None:
    assert hashlib.sha256((MONOCYPHER / name).read_bytes()).hexdigest() == PUBLISHED[name]
