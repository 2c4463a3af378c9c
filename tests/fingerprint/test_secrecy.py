"""Files that look like secrets are told by name and by content."""

from __future__ import annotations

import pytest

from tidewheel.fingerprint.secrecy import looks_secret


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        "deploy/.env.production",
        "prod.env",
        "keys/server.pem",
        "home/.ssh/config",
        ".aws/credentials",
        "gcp-service-account.json",
        "service-account-prod.json",
        "my_secrets.yaml",
        "db_password.txt",
        "ID_RSA",
        "infra/terraform.tfstate",
        ".npmrc",
    ],
)
def test_names_of_secrets(path: str) -> None:
    assert looks_secret(path)


@pytest.mark.parametrize("path", ["bikes.py", "src/environment.py", "params.yaml", "README.md", "envs/dev.toml"])
def test_names_of_ordinary_files(path: str) -> None:
    assert not looks_secret(path)


@pytest.mark.parametrize(
    "content",
    [
        b"x = '''-----BEGIN RSA " + b"PRIVATE KEY-----'''",
        b"key = 'AKIA" + b"ABCDEFGHIJKLMNOP'",
        b"token = 'ghp_" + b"a" * 36 + b"'",
    ],
)
def test_content_of_secrets(content: bytes) -> None:
    assert looks_secret("bikes.py", content)


def test_content_of_ordinary_files() -> None:
    assert not looks_secret("bikes.py", b"print('a key is needed: see the docs')")
