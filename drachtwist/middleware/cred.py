"""Passwords that a checker of ``twisted.cred`` knows, for digest authentication."""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameDigestHash, IUsernameHashedPassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import maybeDeferred
from zope.interface import implementer

from drachtwist.errors import LocalProtocolError
from drachtwist.sip import digest

__all__ = ["DigestCredentials", "check_checker", "is_let_in"]

_INTERFACES = (IUsernameHashedPassword, IUsernameDigestHash)


def check_checker(checker: Any) -> None:
    """Check that a checker can do with what a digest proves.

    :raises LocalProtocolError: when it wants the password itself, which is never sent.
    """
    offered = tuple(checker.credentialInterfaces)
    if not any(wanted.isOrExtends(one) for one in offered for wanted in _INTERFACES):
        raise LocalProtocolError(
            f"{checker!r} takes neither IUsernameHashedPassword nor IUsernameDigestHash: a digest"
            " proves the password without giving it away"
        )


async def is_let_in(checker: ICredentialsChecker, credentials: DigestCredentials) -> bool:
    """Ask a checker; a yes counts only if the password or its hash was compared."""
    try:
        await maybeDeferred(checker.requestAvatarId, credentials)
    except UnauthorizedLogin:
        return False
    return credentials.proved


@implementer(IUsernameHashedPassword, IUsernameDigestHash)
class DigestCredentials:
    """What the credentials of a request prove.

    :param credentials: as they came.
    :param about: method and body, as :func:`drachtwist.sip.digest.verify` wants them.
    """

    def __init__(self, credentials: digest.Credentials, **about: Any) -> None:
        self._credentials = credentials
        self._about = about
        self.username = credentials.username.encode("utf-8", "surrogateescape")
        """The name, in bytes as ``twisted.cred`` has it."""
        self.proved = False
        """Whether a comparison came out well."""

    def checkPassword(self, password: bytes | str) -> bool:
        """Say whether this is the password."""
        text = password if isinstance(password, str) else password.decode("utf-8", "replace")
        return self._verify(password=text)

    def checkHash(self, digestHash: bytes | str) -> bool:
        """Say whether this is the hash of name, realm and password, by the algorithm used."""
        text = digestHash if isinstance(digestHash, str) else digestHash.decode("ascii", "replace")
        return self._verify(ha1=text)

    def _verify(self, **secret: Any) -> bool:
        self.proved = digest.verify(self._credentials, **self._about, **secret)
        return self.proved
