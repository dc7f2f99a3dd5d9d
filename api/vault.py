"""Tokens that we must be able to say again: sealed with a key that never enters the log.

The hash is enough for a token that others use with us. One that we use with them has to be kept, and the log
is kept for ever and read by many; so it holds the token encrypted (Fernet: AES-128-CBC and HMAC-SHA-256).
"""

from __future__ import annotations

import base64
import contextlib
import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

FILE = "secret.key"


class SealError(RuntimeError):
    """A sealed token cannot be opened: it was sealed with another key."""


class Vault:
    """Seals and opens tokens with one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError("a key of 32 bytes is needed")
        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    def seal(self, token: str) -> str:
        """The token as the log may hold it."""
        return self._fernet.encrypt(token.encode()).decode()

    def open(self, sealed: str) -> str:
        """The token again. Raises SealError when it was sealed with another key."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise SealError(
                "a partner's token was sealed with another secret: set the same VOLTFOLD_SECRET everywhere"
            ) from None


def key_of(secret: str) -> bytes:
    """The key that a secret names: 32 bytes in URL-safe Base64. Raises ValueError for anything else."""
    with contextlib.suppress(ValueError):
        key = base64.urlsafe_b64decode(secret.strip())
        if len(key) == 32:
            return key
    raise ValueError("must be 32 random bytes in URL-safe Base64")


def key_in(folder: Path) -> bytes:
    """The key in a folder's file, made at first use, readable by its owner alone.

    Processes that start at the same time agree on one: the file appears whole or not at all.
    """
    path = folder / FILE
    while True:
        with contextlib.suppress(FileNotFoundError):
            return key_of(path.read_text("ascii"))
        folder.mkdir(parents=True, exist_ok=True)
        mine = folder / f"{FILE}.{os.getpid()}"
        mine.unlink(missing_ok=True)
        number = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "w", encoding="ascii") as file:
            file.write(base64.urlsafe_b64encode(os.urandom(32)).decode() + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(mine, path)  # fails when another process was first
        mine.unlink()
