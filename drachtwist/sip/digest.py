"""Digest authentication: challenges, credentials, and both sides' arithmetic.

RFC 3261 section 22 with the algorithms of RFC 8760 and the computation of RFC 7616. A header may
hold several challenges, separated by the same commas as their parameters; parsing tells them
apart by the ``=`` that a parameter has and a scheme has not.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.sip import grammar
from drachtwist.sip.params import Params

__all__ = [
    "ALGORITHMS",
    "AuthParams",
    "AuthenticationInfo",
    "Challenge",
    "Credentials",
    "Nonces",
    "answer",
    "choose",
    "make_ha1",
    "verify",
]

_A = TypeVar("_A", bound="AuthParams")
_S = TypeVar("_S", bound="_Schemed")
_WS = grammar.WS
_SCHEME = re.compile(rf"{_WS}({grammar.TOKEN})(?:[ \t]+|(?=,)|\Z)")
_AUTH_PARAM = re.compile(
    rf'{_WS}({grammar.TOKEN}){_WS}={_WS}({grammar.QUOTED}|[^\s,"\0]*)', re.DOTALL
)
# Apart from the pattern above: behind its blanks, which may be many, it would be tried for each.
_PARAM_END = re.compile(rf"{_WS}(?:,|\Z)")
_TOKEN68 = re.compile(rf"([A-Za-z0-9\-._~+/]+=*)(?={_WS}(?:,|\Z))")
_COMMAS = re.compile(rf"(?:{_WS},)+{_WS}")


def _hash_functions() -> dict[str, Callable[[bytes], str]]:
    def named(name: str) -> Callable[[bytes], str]:
        return lambda data: hashlib.new(name, data, usedforsecurity=False).hexdigest()

    functions = {"MD5": named("md5"), "SHA-256": named("sha256")}
    if "sha512_256" in hashlib.algorithms_available:  # not in every build of OpenSSL
        functions["SHA-512-256"] = named("sha512_256")
    return functions


_HASHES = _hash_functions()

ALGORITHMS = tuple(name for name in ("SHA-512-256", "SHA-256", "MD5") if name in _HASHES)
"""The algorithms that can be used here, the strongest first; each also as ``-sess``."""


def _read_params(text: str, at: int) -> tuple[list[tuple[str, str | None]], int]:
    """Read parameters as long as there are any; return them, and where the last one ends."""
    pairs: list[tuple[str, str | None]] = []
    end = at
    while True:
        found = _AUTH_PARAM.match(text, at)
        if found is None or _PARAM_END.match(text, found.end()) is None:
            return pairs, end
        pairs.append((found[1], found[2]))
        end = found.end()
        comma = _COMMAS.match(text, end)
        if comma is None:
            return pairs, end
        at = comma.end()


class AuthParams(Params):
    """The comma-separated parameters of a challenge or of credentials."""

    __slots__ = ()

    @staticmethod
    def _check(name: str, value: str | None) -> None:
        if value is None:
            raise LocalProtocolError(f"the authentication parameter {name} needs a value")
        Params._check(name, value)

    @classmethod
    def parse(cls: type[_A], text: str) -> _A:
        """Read ``a=1, b="2"``; blanks around separators are allowed.

        :raises MessageError: when the text is something else.
        """
        text = text.strip(" \t")
        if _read_params(text, 0)[1] != len(text) or not text:
            raise MessageError(f"bad authentication parameters: {text!r}")
        return cls._trusted(text)

    @staticmethod
    def _split(text: str) -> tuple[tuple[str, str | None], ...]:
        return tuple(_read_params(text, 0)[0])

    @staticmethod
    def _write(pairs: Iterable[tuple[str, str | None]]) -> str:
        return ", ".join([f"{name}={value}" for name, value in pairs])


_NO_AUTH_PARAMS = AuthParams()


@dataclass(frozen=True, slots=True)
class _Schemed:
    """A scheme with parameters, or with one opaque word (``Basic``, ``Bearer``)."""

    scheme: str
    """The scheme as written; ``Digest`` is the one that this module can compute."""
    params: AuthParams = _NO_AUTH_PARAMS
    """All parameters, quoted as they were written; :meth:`Params.text` unquotes."""
    token68: str | None = None
    """The word that schemes without parameters have in their place."""
    _written: str | None = field(init=False, default=None, repr=False, compare=False)

    @classmethod
    def parse(cls: type[_S], text: str) -> _S:
        """Read exactly one.

        :raises MessageError: when the text is none, or more than one.
        """
        found = cls.parse_list(text)
        if len(found) != 1:
            raise MessageError(f"expected one {cls.__name__}, got {len(found)}: {text!r}")
        return found[0]

    @classmethod
    def parse_list(cls: type[_S], text: str) -> list[_S]:
        """Read all that one header value holds.

        :raises MessageError: when something in it has neither a scheme nor the form ``name=value``.
        """
        found: list[_S] = []
        at = 0
        end = len(text.rstrip(" \t"))
        while at < end:
            scheme = _SCHEME.match(text, at)
            if scheme is None:
                raise MessageError(f"bad {cls.__name__}: {text!r}")
            start = at
            at = scheme.end()
            word = _TOKEN68.match(text, at)
            params = _NO_AUTH_PARAMS
            if word is not None:
                at = word.end()
            else:
                pairs, last = _read_params(text, at)
                if pairs:
                    params = AuthParams._trusted(text[at:last])
                    params._pairs = tuple(pairs)
                    at = last
                elif at < end and text[at] != ",":
                    raise MessageError(f"bad {cls.__name__}: {text!r}")
            one = cls(scheme[1], params, None if word is None else word[1])
            object.__setattr__(one, "_written", text[start:at].strip(" \t"))
            found.append(one)
            comma = _COMMAS.match(text, at)
            if comma is not None:
                at = comma.end()
            elif at < end:
                raise MessageError(f"bad {cls.__name__}: {text!r}")
        return found

    @property
    def is_digest(self) -> bool:
        """Whether the scheme is Digest."""
        return self.scheme.lower() == "digest"

    @property
    def realm(self) -> str:
        """Whose password is asked for; empty when not said."""
        return self.params.text("realm") or ""

    @property
    def nonce(self) -> str:
        """The server's one-time word; empty when not said."""
        return self.params.text("nonce") or ""

    @property
    def opaque(self) -> str | None:
        """What the client has to send back as it is."""
        return self.params.text("opaque")

    @property
    def algorithm(self) -> str:
        """The algorithm as written, ``MD5`` when not said."""
        return self.params.text("algorithm") or "MD5"

    @property
    def userhash(self) -> bool:
        """Whether user names are (to be) hashed (RFC 7616 section 3.4.4)."""
        return (self.params.text("userhash") or "").lower() == "true"

    def __str__(self) -> str:
        if self._written is not None:
            return self._written
        if self.token68 is not None:
            return f"{self.scheme} {self.token68}"
        return f"{self.scheme} {self.params}" if self.params else self.scheme


@dataclass(frozen=True, slots=True)
class Challenge(_Schemed):
    """One challenge of a WWW-Authenticate or Proxy-Authenticate header."""

    @classmethod
    def digest(
        cls,
        realm: str,
        nonce: str,
        *,
        algorithm: str = "MD5",
        qop: Iterable[str] = ("auth",),
        opaque: str | None = None,
        stale: bool = False,
    ) -> Challenge:
        """Make a Digest challenge to send.

        :param qop: the protections on offer, ``auth`` and ``auth-int``; none as in RFC 2069.
        :param stale: say that only the nonce was too old, not the password wrong.
        :raises LocalProtocolError: for text that cannot be written in a header.
        """
        pairs = {"realm": grammar.quote(realm), "nonce": grammar.quote(nonce)}
        if opaque is not None:
            pairs["opaque"] = grammar.quote(opaque)
        if stale:
            pairs["stale"] = "true"
        pairs["algorithm"] = algorithm
        offered = ",".join(qop)
        if offered:
            pairs["qop"] = grammar.quote(offered)
        return cls("Digest", AuthParams(pairs))

    @property
    def qop(self) -> tuple[str, ...]:
        """The protections on offer, in lower case; empty for an RFC 2069 challenge."""
        return tuple(item.lower() for item in _items(self.params.text("qop")))

    @property
    def stale(self) -> bool:
        """Whether the credentials were right, but for a nonce that is too old."""
        return (self.params.text("stale") or "").lower() == "true"


@dataclass(frozen=True, slots=True)
class Credentials(_Schemed):
    """The credentials of an Authorization or Proxy-Authorization header."""

    @property
    def username(self) -> str:
        """Who wants in, or the hash of that if :attr:`userhash`; empty when not said."""
        return self.params.text("username") or ""

    @property
    def uri(self) -> str:
        """The URI that the response was computed for."""
        return self.params.text("uri") or ""

    @property
    def response(self) -> str:
        """The proof."""
        return self.params.text("response") or ""

    @property
    def qop(self) -> str | None:
        """The protection used, in lower case."""
        value = self.params.text("qop")
        return None if value is None else value.lower()

    @property
    def cnonce(self) -> str | None:
        """The client's one-time word."""
        return self.params.text("cnonce")

    @property
    def nonce_count(self) -> int | None:
        """How often the client has used the nonce, None when it did not say or not in hex."""
        value = self.params.text("nc")
        if value is None or re.fullmatch("[0-9A-Fa-f]{1,8}", value) is None:
            return None
        return int(value, 16)


@dataclass(frozen=True, slots=True)
class AuthenticationInfo:
    """What a server says after it has let a client in (RFC 3261 section 20.6)."""

    params: AuthParams

    @classmethod
    def parse(cls, text: str) -> AuthenticationInfo:
        """Read an Authentication-Info value.

        :raises MessageError: when it is not a list of ``name=value``.
        """
        return cls(AuthParams.parse(text))

    @property
    def next_nonce(self) -> str | None:
        """The nonce to use in the next request."""
        return self.params.text("nextnonce")

    def __str__(self) -> str:
        return str(self.params)


def choose(challenges: Iterable[Challenge]) -> Challenge | None:
    """Pick the challenge to answer: Digest, strongest algorithm first, then first come.

    :returns: None when there is none whose algorithm and protection are known.
    """
    best: Challenge | None = None
    best_rank = len(ALGORITHMS)
    for challenge in challenges:
        name, _ = _algorithm(challenge.algorithm)
        if not challenge.is_digest or name not in ALGORITHMS:
            continue
        if challenge.qop and not {"auth", "auth-int"}.intersection(challenge.qop):
            continue
        if ALGORITHMS.index(name) < best_rank:
            best, best_rank = challenge, ALGORITHMS.index(name)
    return best


def make_ha1(username: str, realm: str, password: str, algorithm: str = "MD5") -> str:
    """Hash a password the way a server may store it.

    :raises LocalProtocolError: for an algorithm that is unknown here.
    """
    digest, _ = _hash(algorithm)
    return digest(_encoded(f"{username}:{realm}:{password}"))


def answer(
    challenge: Challenge,
    *,
    username: str,
    password: str,
    method: str,
    uri: str,
    body: bytes = b"",
    nonce_count: int = 1,
    cnonce: str | None = None,
) -> Credentials:
    """Answer a Digest challenge (RFC 7616 section 3.4).

    ``auth`` is used where it is on offer, ``auth-int`` where only that is.

    :param uri: the Request-URI, as it will be sent.
    :param body: the body, which ``auth-int`` covers.
    :param nonce_count: how often this nonce is used now, from 1 on.
    :param cnonce: a word of our own; a random one unless given.
    :raises LocalProtocolError: for a challenge that cannot be answered: another scheme, an
        unknown algorithm or an unknown protection.
    """
    if not challenge.is_digest:
        raise LocalProtocolError(f"cannot answer the authentication scheme {challenge.scheme!r}")
    digest, session = _hash(challenge.algorithm)
    qop = None
    if challenge.qop:
        qop = next((q for q in ("auth", "auth-int") if q in challenge.qop), None)
        if qop is None:
            raise LocalProtocolError(f"cannot answer with any of {challenge.qop!r}")
    if cnonce is None and (qop is not None or session):
        cnonce = secrets.token_hex(16)
    count = f"{nonce_count:08x}"
    response = _response(
        digest,
        make_ha1(username, challenge.realm, password, challenge.algorithm),
        session=session,
        nonce=challenge.nonce,
        cnonce=cnonce or "",
        count=count,
        qop=qop,
        method=method,
        uri=uri,
        body=body,
    )
    name = username
    if challenge.userhash:
        name = digest(_encoded(f"{username}:{challenge.realm}"))
    pairs: dict[str, str] = {
        "username": grammar.quote(name),
        "realm": grammar.quote(challenge.realm),
        "nonce": grammar.quote(challenge.nonce),
        "uri": grammar.quote(uri),
        "response": grammar.quote(response),
    }
    if "algorithm" in challenge.params:
        pairs["algorithm"] = challenge.algorithm
    if cnonce is not None:
        pairs["cnonce"] = grammar.quote(cnonce)
    if challenge.opaque is not None:
        pairs["opaque"] = grammar.quote(challenge.opaque)
    if qop is not None:
        pairs["qop"] = qop
        pairs["nc"] = count
    if challenge.userhash:
        pairs["userhash"] = "true"
    return Credentials("Digest", AuthParams(pairs))


def verify(
    credentials: Credentials,
    *,
    method: str,
    password: str | None = None,
    ha1: str | None = None,
    body: bytes = b"",
) -> bool:
    """Check the proof in a client's credentials, in constant time.

    Whether the nonce is ours and fresh (:class:`Nonces`), the realm the right one, and the ``uri``
    that of the request is for the caller to see.

    :param method: the method of the request.
    :param password: the user's password, or
    :param ha1: what :func:`make_ha1` made of it, with the algorithm that the credentials use.
    :param body: the request's body, which ``auth-int`` covers.
    :raises LocalProtocolError: when neither a password nor its hash is given.
    """
    if password is None and ha1 is None:
        raise LocalProtocolError("verify() needs the password or its hash")
    name, session = _algorithm(credentials.algorithm)
    digest = _HASHES.get(name)
    if digest is None or not credentials.is_digest:
        return False
    qop = credentials.qop
    if qop not in (None, "auth", "auth-int"):
        return False
    if qop is not None and credentials.nonce_count is None:
        return False
    if (qop is not None or session) and not credentials.cnonce:
        return False
    if ha1 is None:
        assert password is not None
        if credentials.userhash:
            return False  # the name behind the hash is the caller's to find
        ha1 = make_ha1(credentials.username, credentials.realm, password, credentials.algorithm)
    expected = _response(
        digest,
        ha1,
        session=session,
        nonce=credentials.nonce,
        cnonce=credentials.cnonce or "",
        count=credentials.params.text("nc") or "",
        qop=qop,
        method=method,
        uri=credentials.uri,
        body=body,
    )
    given = credentials.response.lower().encode("utf-8", "surrogateescape")
    return hmac.compare_digest(expected.encode("ascii"), given)


class Nonces:
    """Makes nonces that need not be remembered: the time and a keyed hash of it.

    :param lifetime: seconds that a nonce may be used.
    :param key: what the hash is keyed with; random unless given.
    """

    __slots__ = ("_key", "_lifetime")

    def __init__(self, lifetime: float = 300.0, key: bytes | None = None) -> None:
        self._lifetime = lifetime
        self._key = secrets.token_bytes(32) if key is None else key

    def make(self, now: float) -> str:
        """Make a nonce.

        :param now: seconds of any clock that :meth:`is_fresh` is asked with too.
        """
        stamp = f"{int(now * 1000):x}.{secrets.token_hex(8)}"
        return f"{stamp}.{self._sign(stamp)}"

    def is_ours(self, nonce: str) -> bool:
        """Return whether the nonce was made here, however long ago."""
        stamp, _, signature = nonce.rpartition(".")
        given = signature.encode("utf-8", "surrogateescape")
        return hmac.compare_digest(self._sign(stamp).encode("ascii"), given)

    def is_fresh(self, nonce: str, now: float) -> bool:
        """Return whether the nonce was made here within the lifetime."""
        if not self.is_ours(nonce):
            return False
        age = now - int(nonce.partition(".")[0], 16) / 1000
        return -1.0 <= age <= self._lifetime

    def _sign(self, stamp: str) -> str:
        data = stamp.encode("utf-8", "surrogateescape")
        return hmac.new(self._key, data, "sha256").hexdigest()[:32]


def _items(text: str | None) -> list[str]:
    return [] if text is None else [i for i in map(str.strip, text.split(",")) if i]


def _algorithm(text: str) -> tuple[str, bool]:
    """Tell the name of the hash, and whether its key is per session."""
    name = text.upper()
    return (name[:-5], True) if name.endswith("-SESS") else (name, False)


def _hash(algorithm: str) -> tuple[Callable[[bytes], str], bool]:
    name, session = _algorithm(algorithm)
    if name not in _HASHES:
        raise LocalProtocolError(f"unknown digest algorithm {algorithm!r}")
    return _HASHES[name], session


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _response(
    digest: Callable[[bytes], str],
    ha1: str,
    *,
    session: bool,
    nonce: str,
    cnonce: str,
    count: str,
    qop: str | None,
    method: str,
    uri: str,
    body: bytes,
) -> str:
    """Compute ``response`` (RFC 7616 section 3.4.1)."""
    if session:
        ha1 = digest(_encoded(f"{ha1}:{nonce}:{cnonce}"))
    a2 = f"{method}:{uri}"
    if qop == "auth-int":
        a2 += f":{digest(body)}"
    ha2 = digest(_encoded(a2))
    middle = f"{nonce}:{count}:{cnonce}:{qop}" if qop is not None else nonce
    return digest(_encoded(f"{ha1}:{middle}:{ha2}"))
