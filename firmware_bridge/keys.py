"""Ed25519 keys that sign images: PEM files, as ``openssl genpkey -algorithm ed25519`` writes them too."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policyport.core.errors import ToolError, UsageError
from policyport.core.install import pip_install

PUBLIC_SUFFIX = ".pub"
KEY_ID_BYTES = 8


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs."""

    public_bytes: bytes
    """[32] its public half."""

    _key: Any

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature, 64 bytes."""
        signature: bytes = self._key.sign(message)
        return signature


def key_id(public: bytes) -> str:
    """How headers name a public key: hex of its first 8 bytes."""
    return public[:KEY_ID_BYTES].hex()


def new_key(path: Path) -> bytes:
    """Write a new private key, readable by its owner alone, and its public half beside it as ``<path>.pub``.

    :returns: [32] the public key
    :raises UsageError: there is a file of that name already
    :raises ToolError: the package cryptography is missing
    """
    library = _library()
    key = library.ed25519.Ed25519PrivateKey.generate()
    serialization = library.serialization
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_path = path.with_name(path.name + PUBLIC_SUFFIX)
    for taken in (path, public_path):
        if taken.exists():
            raise UsageError("this file exists, and a key is not overwritten", where=taken, cure="choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(private)
    public = key.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    public_path.write_bytes(pem)
    return _raw(public)


def read_private(path: Path) -> PrivateKey:
    """Read a private key.

    :raises UsageError: no such file, one that others may read, or no Ed25519 key
    :raises ToolError: the package cryptography is missing
    """
    data = _read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        raise UsageError(
            "others may read this private key",
            where=path,
            expected="permissions 0600",
            got=f"{mode:04o}",
            cure=f"chmod 600 {path}; if it may have been read, sign with the next key: docs/update.md",
        )
    library = _library()
    try:
        key = library.serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError, library.UnsupportedAlgorithm) as error:
        raise UsageError("no private key", where=path, got=error, cure=_NEW) from error
    if not isinstance(key, library.ed25519.Ed25519PrivateKey):
        raise UsageError("a private key of another kind", where=path, expected="Ed25519", got=type(key).__name__)
    return PrivateKey(_raw(key.public_key()), key)


def read_public(path: Path) -> bytes:
    """Read a public key, [32]; a private key's file gives its public half.

    :raises UsageError: no such file, or no Ed25519 key
    :raises ToolError: the package cryptography is missing
    """
    data = _read(path)
    if b"PRIVATE" in data:
        return read_private(path).public_bytes
    library = _library()
    try:
        key = library.serialization.load_pem_public_key(data)
    except (ValueError, library.UnsupportedAlgorithm) as error:
        raise UsageError("no public key", where=path, got=error, cure=_NEW) from error
    if not isinstance(key, library.ed25519.Ed25519PublicKey):
        raise UsageError("a public key of another kind", where=path, expected="Ed25519", got=type(key).__name__)
    return _raw(key)


_NEW = "policyport keys new FILE makes one"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError("this key does not read", where=path, got=error, cure=_NEW) from error


def _raw(public: Any) -> bytes:
    raw: bytes = public.public_bytes_raw()
    return raw


@dataclass(frozen=True)
class _Cryptography:
    ed25519: Any
    serialization: Any
    UnsupportedAlgorithm: Any


def _library() -> _Cryptography:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise ToolError(
            "the package that signs is not installed", expected="cryptography", cure=pip_install("[update]")
        ) from error
    return _Cryptography(ed25519, serialization, UnsupportedAlgorithm)
