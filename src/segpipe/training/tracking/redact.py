"""Errors of clients, fit for a log: one line, nothing secret."""

import os
import re

SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)  # of environment variables
KEY_LIKE = re.compile(r"[A-Za-z0-9_-]{32,}")  # a wandb key has 40 characters or more; so may a harmless hash
IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+(?=@)")  # user:password@ of a URL
LONGEST = 300  # characters


def without_secrets(error: Exception) -> str:
    """`TypeName: first line of the message`, with keys, tokens and passwords replaced by ***."""
    text = (str(error).strip().splitlines() or [""])[0]
    values = [value for name, value in os.environ.items() if SECRET_NAME.search(name) and len(value) >= 6]
    for value in sorted(values, key=len, reverse=True):  # a longer one may contain a shorter one
        text = text.replace(value, "***")
    text = KEY_LIKE.sub("***", IN_ADDRESS.sub("***", text))
    return f"{type(error).__name__}: {text}"[:LONGEST]
