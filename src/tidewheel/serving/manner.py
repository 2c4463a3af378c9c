"""How a server speaks HTTP."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from tidewheel.errors import InvalidInput
from tidewheel.serving.limits import Limits
from tidewheel.serving.origins import check_origin

FRONTS = ("uvicorn", "fast")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a server speaks HTTP. Raises InvalidInput for what it cannot."""

    front: str = "uvicorn"  # uvicorn or fast
    limits: Limits = field(default_factory=Limits)  # what a caller may do, and for how long
    tls_cert: str = ""  # file with the certificate chain, PEM; empty: no TLS
    tls_key: str = ""  # file with its private key, PEM
    grpc_port: int = 0  # TCP port on which gRPC is spoken as well, at the same address; 0: none
    origins: tuple[str, ...] = ()  # web origins whose pages may ask; "*": all

    def __post_init__(self) -> None:
        if self.front not in FRONTS:
            raise InvalidInput(f"There is no front {self.front!r}.", f"Use one of: {', '.join(FRONTS)}.")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise InvalidInput(
                "TLS needs a certificate and its key.", "Give both --tls-cert and --tls-key, or neither."
            )
        for origin in self.origins:
            check_origin(origin)

    @property
    def scheme(self) -> str:
        """Return http or https."""
        return "https" if self.tls_cert else "http"

    def tls(self) -> ssl.SSLContext | None:
        """Return what TLS is spoken with, None for plain HTTP. Raises InvalidInput for files that cannot be used."""
        if not self.tls_cert:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.tls_cert, self.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(
                f"The certificate {self.tls_cert} with the key {self.tls_key} cannot be used: {error}.",
                "Give two files in PEM form that belong together; the key may not ask for a password.",
            ) from error
        return context


PLAIN = Manner()
