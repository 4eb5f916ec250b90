"""A certificate for `TLS=1`: an authority made on this machine and a leaf for the names that it has.

Cameras need a secure context off localhost. A browser warns once, or never when `tls/ca.pem` is imported. The leaf is
made anew when it nears its end or the machine's addresses have changed; the authority's key never leaves the folder.
"""

import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LEAF_LIFE = timedelta(days=90)
CA_LIFE = timedelta(days=3650)
RENEW_BEFORE = timedelta(days=14)


@dataclass(frozen=True)
class Certificates:
    """The files of one folder."""

    folder: Path

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def chain_file(self) -> Path:
        return self.folder / "leaf.pem"

    @property
    def key_file(self) -> Path:
        return self.folder / "leaf.key"

    def ensure(self, names: Sequence[str], now: datetime) -> None:
        """Makes what is missing, near its end, or for other names. `names` are host names and addresses."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ca_key_file = self.folder / "ca.key"
        if not (self.ca_file.exists() and ca_key_file.exists()) or _ends_soon(self.ca_file, now):
            _make_authority(self.ca_file, ca_key_file, now)
            self.chain_file.unlink(missing_ok=True)
        fits = self.chain_file.exists() and self.key_file.exists() and _names_of(self.chain_file) == set(names)
        if not fits or _ends_soon(self.chain_file, now):
            _make_leaf(self, ca_key_file, names, now)

    def server_context(self) -> ssl.SSLContext:
        """TLS 1.2 or later with the leaf."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self.chain_file, self.key_file)
        return context


def _make_authority(ca_file: Path, key_file: Path, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Parley local authority")])
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, name, key.public_key(), now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_key(key_file, key)
    ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _make_leaf(files: Certificates, ca_key_file: Path, names: Sequence[str], now: datetime) -> None:
    authority = x509.load_pem_x509_certificate(files.ca_file.read_bytes())
    ca_key = serialization.load_pem_private_key(ca_key_file.read_bytes(), password=None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{ca_key_file} is not an EC key")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Parley")])
    certificate = (
        _builder(subject, authority.subject, key.public_key(), now, LEAF_LIFE)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    _write_key(files.key_file, key)
    pem = serialization.Encoding.PEM
    files.chain_file.write_bytes(certificate.public_bytes(pem) + authority.public_bytes(pem))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + life)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names_of(file: Path) -> set[str]:
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def _ends_soon(file: Path, now: datetime) -> bool:
    return x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc - now < RENEW_BEFORE


def _write_key(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
