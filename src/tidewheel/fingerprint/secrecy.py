"""Which files look like secrets, by name and by content; they are never taken anywhere."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import PurePath

_NAMES = (
    ".env",
    ".env.*",
    "*.env",
    ".envrc",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.ppk",
    "*.asc",
    "*.gpg",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    ".netrc",
    "_netrc",
    ".pgpass",
    ".my.cnf",
    ".npmrc",
    ".pypirc",
    ".htpasswd",
    ".git-credentials",
    "kubeconfig*",
    "*.tfstate",
    "*.tfstate.*",
    "*.tfvars",
    "*credential*",
    "*secret*",
    "*passwd*",
    "*password*",
    "*service-account*.json",
    "*service_account*.json",
    "*apikey*",
    "*api_key*",
    "*token.json",
    "*tokens.json",
    "token",
    "token.txt",
)
_FOLDERS = frozenset({".aws", ".azure", ".ssh", ".gnupg", ".kube", ".docker", "secrets", ".secrets", "credentials"})
_CONTENT = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b"
    rb"|\bxox[abprs]-[0-9A-Za-z-]{10,}|\bsk-[A-Za-z0-9_-]{32,}|\bAIza[0-9A-Za-z_-]{35}\b"
)


def looks_secret(path: str, content: bytes = b"") -> bool:
    """Say whether a file looks like one that holds secrets, by its path and, where it is given, by its content.

    >>> looks_secret("deploy/.env.prod"), looks_secret("bikes/features.py")
    (True, False)
    """
    parts = PurePath(path.lower()).parts
    named = bool(parts) and any(fnmatchcase(parts[-1], pattern) for pattern in _NAMES)
    return named or bool(_FOLDERS.intersection(parts[:-1])) or _CONTENT.search(content) is not None
