"""A broker with authentication: by password over TLS, or by certificate. With an authority of its own.

Knows nothing of choreo.
"""

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.kafka import Broker, free_ports
from tests.support.patience import PATIENCE_S

USER, PASSWORD, KEY_PASSWORD = "choreo", "correct-horse-battery", "staple-of-the-key"
_LISTENERS = """
listeners={listeners},SASL_SSL://localhost:{sasl},SSL://localhost:{tls}
advertised.listeners={advertised},SASL_SSL://localhost:{sasl},SSL://localhost:{tls}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.ssl.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
"""


class Authority:
    """Signs certificates; all files lie in one folder."""

    def __init__(self, folder: Path) -> None:
        """Make an authority with a key of its own."""
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        self.file = folder / "ca.pem"
        self.file.write_bytes(_pem(self._signed(self._name, self._key.public_key(), authority=True)))

    def issue(self, name: str, password: str = "") -> tuple[Path, Path]:
        """Issue a certificate for `localhost`, and its key in a file; with both in `{name}.pem`, as a Java keystore."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = _pem(self._signed(subject, key.public_key(), authority=False))
        locked = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
        files = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        for file, content in zip(
            (*files, self._folder / f"{name}.pem"), (certificate, private, private + certificate), strict=True
        ):
            file.write_bytes(content)
        return files

    def _signed(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(_usage(authority=authority), critical=True)
        )
        return made.sign(self._key, hashes.SHA256())


class SecureBroker(Broker):
    """A broker with three listeners: plain (for the test itself), password over TLS, certificate."""

    def __init__(self, folder: Path, *, more: str = "") -> None:
        """Add authority, certificate and more settings to the broker; raise MissingError."""
        super().__init__(folder)
        self.authority = Authority(folder)
        self.authority.issue("broker")
        sasl, tls = free_ports(2)
        self.by_password, self.by_certificate = f"localhost:{sasl}", f"localhost:{tls}"
        said = self._settings.read_text()
        listeners, advertised = (
            re.search(rf"^{name}=(.*)$", said, re.MULTILINE)[1]  # type: ignore[index]  # the broker's own settings
            for name in ("listeners", "advertised.listeners")
        )
        use_cases = _LISTENERS.format(listeners=listeners, advertised=advertised, sasl=sasl, tls=tls, folder=folder)
        self._settings.write_text(said + use_cases + more)

    @contextmanager
    def refusing(self, prefix: str) -> Iterator[None]:
        """Refuse its user every topic with this prefix, until the block ends."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        what = (ResourceType.TOPIC, prefix, ResourcePatternType.PREFIXED, f"User:{USER}", "*", AclOperation.ALL)
        refusal = AclBinding(*what, AclPermissionType.DENY)
        admin.create_acls([refusal])[refusal].result(PATIENCE_S)
        try:
            yield
        finally:
            given_back = AclBindingFilter(*what, AclPermissionType.DENY)
            assert admin.delete_acls([given_back])[given_back].result(PATIENCE_S)

    def start(self) -> None:
        """Start it, with its user."""
        super().start()
        self.add_user(USER)

    def add_user(self, name: str) -> None:
        """Let in somebody else, with the same password."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        known = UserScramCredentialUpsertion(name, scram, PASSWORD.encode())
        admin.alter_user_scram_credentials([known])[name].result(PATIENCE_S)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
