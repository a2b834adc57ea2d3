"""Digest authentication, with the examples of the RFCs."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.sip.digest import (
    ALGORITHMS,
    AuthenticationInfo,
    AuthParams,
    Challenge,
    Credentials,
    Nonces,
    answer,
    choose,
    make_ha1,
    verify,
)

# RFC 7616 section 3.9.1.
RFC7616 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
    'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"

texts = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=12)
algorithms = st.sampled_from([name + end for name in ALGORITHMS for end in ("", "-sess")])


class ParsingTests(SynchronousTestCase):
    def test_challenge(self) -> None:
        """Quoted commas and quotes are part of the value they stand in."""
        challenge = Challenge.parse(
            'Digest realm="a, b=\\"c\\"",nonce="n==",\topaque="", stale=TRUE,'
            ' algorithm=sha-256, qop="auth-int,auth", domain="sip:a sip:b"'
        )
        self.assertTrue(challenge.is_digest)
        self.assertEqual(challenge.realm, 'a, b="c"')
        self.assertEqual((challenge.nonce, challenge.opaque), ("n==", ""))
        self.assertTrue(challenge.stale)
        self.assertEqual(challenge.algorithm, "sha-256")
        self.assertEqual(challenge.qop, ("auth-int", "auth"))
        self.assertEqual(challenge.params.text("domain"), "sip:a sip:b")

    def test_several_in_one_header(self) -> None:
        """The commas between challenges are told from those between parameters."""
        text = 'Digest realm="a", nonce=x, Basic realm="b", Negotiate, NTLM TlRM==, Digest realm=c'
        found = Challenge.parse_list(text)
        self.assertEqual(
            [(c.scheme, c.realm, c.token68) for c in found],
            [
                ("Digest", "a", None),
                ("Basic", "b", None),
                ("Negotiate", "", None),
                ("NTLM", "", "TlRM=="),
                ("Digest", "c", None),
            ],
        )
        self.assertEqual(found[0].nonce, "x")
        self.assertEqual(", ".join(map(str, found)), text)
        self.assertRaises(MessageError, Challenge.parse, text)

    def test_credentials(self) -> None:
        """Credentials have the answer's parts; the count is hexadecimal."""
        credentials = Credentials.parse(
            'Digest username="Mufasa", realm="r", nonce="n", uri="sip:a@b", response="abc", '
            'qop=auth, nc=0000001a, cnonce="c", opaque="o", x-own=1'
        )
        self.assertEqual((credentials.username, credentials.uri), ("Mufasa", "sip:a@b"))
        self.assertEqual((credentials.response, credentials.cnonce), ("abc", "c"))
        self.assertEqual((credentials.qop, credentials.nonce_count), ("auth", 26))
        self.assertEqual(credentials.algorithm, "MD5")
        self.assertEqual(credentials.params["x-own"], "1")
        self.assertIsNone(Credentials.parse("Digest nc=+1").nonce_count)

    def test_unknown_scheme(self) -> None:
        """Schemes that nobody knows keep their parameters."""
        credentials = Credentials.parse("NoOneKnowsThisScheme opaque-data=here")
        self.assertFalse(credentials.is_digest)
        self.assertEqual(dict(credentials.params), {"opaque-data": "here"})

    def test_refused(self) -> None:
        """What has neither scheme nor parameters is a MessageError."""
        for text in ("", '"x"', "Digest =", 'Digest realm="a" nonce="b"', "Digest realm=a b", ","):
            self.assertRaises(MessageError, Challenge.parse, text)
        self.assertRaises(MessageError, AuthenticationInfo.parse, "nonsense")

    def test_authentication_info(self) -> None:
        """A server may hand out the next nonce."""
        info = AuthenticationInfo.parse('nextnonce="47364c,23", qop=auth')
        self.assertEqual(info.next_nonce, "47364c,23")
        self.assertEqual(str(info), 'nextnonce="47364c,23", qop=auth')

    def test_made_here(self) -> None:
        """A challenge that was made is read back the same."""
        challenge = Challenge.digest(
            'a "b"', "n", algorithm="SHA-256", qop=("auth", "auth-int"), opaque="o", stale=True
        )
        again = Challenge.parse(str(challenge))
        self.assertEqual(again, challenge)
        self.assertEqual((again.realm, again.qop), ('a "b"', ("auth", "auth-int")))
        self.assertRaises(LocalProtocolError, Challenge.digest, "a\r\nb", "n")
        self.assertRaises(LocalProtocolError, AuthParams, {"realm": None})

    @given(st.text(st.sampled_from('aD =,"\\/ \t'), max_size=30))
    def test_any_text(self, text: str) -> None:
        """Whatever the text, it is read or a MessageError."""
        for parse in (Challenge.parse_list, Credentials.parse_list):
            try:
                found = parse(f"Digest {text}")
            except MessageError:
                continue
            self.assertTrue(found)


class AnsweringTests(SynchronousTestCase):
    def test_rfc_7616(self) -> None:
        """The example of RFC 7616 section 3.9.1, with both of its algorithms."""
        for algorithm, response in (
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ):
            credentials = answer(
                Challenge.parse(RFC7616.format(algorithm)),
                username="Mufasa",
                password="Circle of Life",
                method="GET",
                uri="/dir/index.html",
                cnonce=CNONCE,
            )
            self.assertEqual(credentials.response, response)
            self.assertEqual(credentials.opaque, "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS")
            self.assertIn("qop=auth, nc=00000001", str(credentials))

    def test_rfc_2069(self) -> None:
        """Without qop there is neither count nor client nonce (RFC 2617's own example data)."""
        credentials = answer(
            Challenge.parse(
                'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
            ),
            username="Mufasa",
            password="Circle Of Life",
            method="GET",
            uri="/dir/index.html",
        )
        self.assertEqual(credentials.response, "670fd8c2df070c60b045671b8b24ff02")
        self.assertEqual((credentials.qop, credentials.cnonce), (None, None))
        self.assertNotIn("algorithm", credentials.params)

    def test_rfc_2617(self) -> None:
        """The example of RFC 2617 section 3.5."""
        credentials = answer(
            Challenge.parse(
                'Digest realm="testrealm@host.com", qop="auth,auth-int", '
                'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
                'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
            ),
            username="Mufasa",
            password="Circle Of Life",
            method="GET",
            uri="/dir/index.html",
            cnonce="0a4f113b",
        )
        self.assertEqual(credentials.response, "6629fae49393a05397450978507c4ef1")

    def test_nonce_count_is_hexadecimal(self) -> None:
        """The count has eight hexadecimal digits, and enters the proof as such."""
        credentials = answer(
            Challenge.digest("r", "n"),
            username="u",
            password="p",
            method="REGISTER",
            uri="sip:a",
            nonce_count=0x1B,
        )
        self.assertEqual(credentials.params["nc"], "0000001b")
        self.assertTrue(verify(credentials, method="REGISTER", password="p"))

    def test_client_nonces_differ(self) -> None:
        """Each answer has a client nonce of its own."""

        def cnonce() -> str | None:
            challenge = Challenge.digest("r", "n")
            return answer(challenge, username="u", password="p", method="A", uri="b").cnonce

        self.assertEqual(len({cnonce() for _ in range(50)}), 50)

    def test_user_hash(self) -> None:
        """The user name is hashed when the server asks for it (RFC 7616 section 3.4.4)."""
        challenge = Challenge.parse('Digest realm="r", nonce="n", userhash=true, qop="auth"')
        credentials = answer(challenge, username="u", password="p", method="A", uri="b")
        self.assertTrue(credentials.userhash)
        self.assertNotEqual(credentials.username, "u")
        self.assertFalse(verify(credentials, method="A", password="p"))
        self.assertTrue(verify(credentials, method="A", ha1=make_ha1("u", "r", "p")))

    def test_cannot_answer(self) -> None:
        """What cannot be computed is the caller's to know."""
        for text in (
            'Basic realm="r"',
            'Digest realm="r", nonce="n", algorithm=SHA-1024',
            'Digest realm="r", nonce="n", qop="token"',
        ):
            challenge = Challenge.parse(text)
            self.assertIsNone(choose([challenge]), text)
            with self.assertRaises(LocalProtocolError):
                answer(challenge, username="u", password="p", method="A", uri="b")

    def test_strongest_first(self) -> None:
        """The strongest algorithm is answered, the first of equals."""
        md5, sha, later = (
            Challenge.digest("r", nonce, algorithm=algorithm)
            for nonce, algorithm in (("1", "MD5"), ("2", "SHA-256"), ("3", "sha-256-sess"))
        )
        basic = Challenge.parse('Basic realm="r"')
        self.assertIs(choose([basic, md5, sha, later]), sha)
        self.assertIs(choose([later, md5, sha]), later)
        self.assertIs(choose([basic, md5]), md5)
        self.assertIsNone(choose([basic]))
        self.assertIsNone(choose([]))
        self.assertEqual(ALGORITHMS[-2:], ("SHA-256", "MD5"))


class VerifyingTests(SynchronousTestCase):
    @given(algorithms, st.sampled_from([(), ("auth",), ("auth-int",)]), texts, texts, texts)
    def test_right_and_wrong(
        self, algorithm: str, qop: tuple[str, ...], user: str, realm: str, password: str
    ) -> None:
        """Credentials that went over the wire prove the password, and nothing else does."""
        challenge = Challenge.parse(
            str(Challenge.digest(realm, "nonce", algorithm=algorithm, qop=qop, opaque="o"))
        )
        credentials = Credentials.parse(
            str(
                answer(
                    challenge,
                    username=user,
                    password=password,
                    method="INVITE",
                    uri="sip:a@b",
                    body=b"v=0",
                )
            )
        )
        ha1 = make_ha1(user, realm, password, algorithm)
        self.assertTrue(verify(credentials, method="INVITE", password=password, body=b"v=0"))
        self.assertTrue(verify(credentials, method="INVITE", ha1=ha1, body=b"v=0"))
        self.assertFalse(verify(credentials, method="INVITE", password=password + "x", body=b"v=0"))
        self.assertFalse(verify(credentials, method="BYE", password=password, body=b"v=0"))
        self.assertIs(
            verify(credentials, method="INVITE", password=password, body=b"other"),
            qop != ("auth-int",),
        )

    def test_incomplete(self) -> None:
        """Credentials that lack something, or use the unknown, prove nothing."""
        for text in (
            "Digest",
            "Basic dXNlcjpwYXNz",
            'Digest username="u", realm="r", nonce="n", uri="b", response="", qop=auth',
            'Digest username="u", realm="r", nonce="n", uri="b", response="é", algorithm=X',
            'Digest username="u", realm="r", nonce="n", uri="b", response="é"',
            'Digest username="u", realm="r", nonce="n", uri="b", qop=other, nc=1, cnonce=1',
        ):
            self.assertFalse(verify(Credentials.parse(text), method="A", password="p"), text)
        with self.assertRaises(LocalProtocolError):
            verify(Credentials("Digest"), method="A")


class NonceTests(SynchronousTestCase):
    def test_life(self) -> None:
        """A nonce is fresh for its lifetime, and ours for ever."""
        nonces = Nonces(lifetime=10)
        nonce = nonces.make(1000.0)
        self.assertTrue(nonces.is_fresh(nonce, 1000.0))
        self.assertTrue(nonces.is_fresh(nonce, 1010.0))
        self.assertFalse(nonces.is_fresh(nonce, 1010.5))
        self.assertFalse(nonces.is_fresh(nonce, 900.0))
        self.assertTrue(nonces.is_ours(nonce))
        self.assertNotEqual(nonce, nonces.make(1000.0))

    def test_foreign(self) -> None:
        """Nonces of others, and changed ones, are not ours."""
        nonces, same_key = Nonces(key=b"1"), Nonces(key=b"1")
        nonce = nonces.make(0.0)
        self.assertTrue(same_key.is_fresh(nonce, 0.0))
        for other in ("", "x", "..", Nonces().make(0.0), "1" + nonce, nonce + "é"):
            self.assertFalse(nonces.is_ours(other), other)
            self.assertFalse(nonces.is_fresh(other, 0.0), other)


# Published with the auth-int body below in draft-smith-sipping-auth-examples-01, sections 3.4 and
# 3.6: what all of SIP is tested with, since the RFCs have no example of a -sess algorithm.
SMITH_BODY = """v=0
o=bob 2890844526 2890844526 IN IP4 media.biloxi.com
s=-
c=IN IP4 media.biloxi.com
t=0 0
m=audio 49170 RTP/AVP 0
a=rtpmap:0 PCMU/8000
m=video 51372 RTP/AVP 31
a=rtpmap:31 H261/90000
m=video 53000 RTP/AVP 32
a=rtpmap:32 MPV/90000
"""


class SessionKeyTests(SynchronousTestCase):
    def test_published(self) -> None:
        """Both sides of a -sess algorithm agree with the published example."""
        body = SMITH_BODY.replace("\n", "\r\n").encode()
        for qop, response in (
            ("auth", "e4e4ea61d186d07a92c9e1f6919902e9"),
            ("auth-int", "91984da2d8663716e91554859c22ca70"),
        ):
            challenge = Challenge.digest(
                "biloxi.com", "dcd98b7102dd2f0e8b11d0f600bfb0c093", algorithm="MD5-sess", qop=[qop]
            )
            made = answer(
                challenge,
                username="bob",
                password="zanzibar",
                method="INVITE",
                uri="sip:bob@biloxi.com",
                body=body,
                cnonce="0a4f113b",
            )
            self.assertEqual(made.response, response)
            self.assertTrue(verify(made, method="INVITE", password="zanzibar", body=body))

    def test_no_word_of_the_client(self) -> None:
        """A proof that the client has added nothing to is none (RFC 7616 section 3.4)."""
        for algorithm in ("MD5", "MD5-sess", "SHA-256-sess"):
            for qop in ((), ("auth",)):
                if not qop and not algorithm.endswith("-sess"):
                    continue
                challenge = Challenge.digest("r", "n", algorithm=algorithm, qop=qop)
                for cnonce in ("", "c"):
                    made = answer(
                        challenge,
                        username="bob",
                        password="secret",
                        method="INVITE",
                        uri="sip:a@b",
                        cnonce=cnonce,
                    )
                    right = verify(made, method="INVITE", password="secret")
                    self.assertEqual(right, cnonce != "", (algorithm, qop, cnonce))

    def test_no_count(self) -> None:
        """Nor is one with a protection, but without the count or the word of the client."""
        challenge = Challenge.digest("r", "n")
        made = answer(
            challenge, username="bob", password="secret", method="INVITE", uri="sip:a@b", cnonce="c"
        )
        for name in ("nc", "cnonce"):
            less = Credentials("Digest", made.params.without(name))
            self.assertFalse(verify(less, method="INVITE", password="secret"), name)

    def test_a_count_that_is_none(self) -> None:
        """A proof that was computed without a count, or with nonsense in its place, is no proof."""

        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        for count, proves in (("00000001", True), ("", False), ("first", False), ("1" * 9, False)):
            end = md5("INVITE:sip:a@b")
            proof = md5(f"{make_ha1('bob', 'r', 'secret')}:n:{count}:c:auth:{end}")
            written = f"nc={count}, " if count else ""
            made = Credentials.parse(
                'Digest username="bob", realm="r", nonce="n", uri="sip:a@b", cnonce="c", qop=auth, '
                f'{written}response="{proof}"'
            )
            self.assertIs(verify(made, method="INVITE", password="secret"), proves, count)
