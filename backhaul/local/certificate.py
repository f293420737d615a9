"""The emulator's certificate. TLS is not optional: the CDK's own bucket policies deny plain HTTP."""

import ssl
from pathlib import Path

import certifi
import trustme


def issue(folder: Path) -> None:
    """Write `server.crt` and `server.key` for loopback, `ca.pem` to verify them, and `trust.pem`.

    `trust.pem` also holds the public authorities, for functions that call the internet as well.
    """
    folder.mkdir()
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    server.private_key_pem.write_to_path(folder / "server.key")
    (folder / "server.crt").write_bytes(b"".join(pem.bytes() for pem in server.cert_chain_pems))
    authority.cert_pem.write_to_path(folder / "ca.pem")
    public = Path(ssl.get_default_verify_paths().cafile or certifi.where())
    (folder / "trust.pem").write_bytes(public.read_bytes() + b"\n" + authority.cert_pem.bytes())
