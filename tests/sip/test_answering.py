"""Answers to offers: new ones, and those that repeat what was described before."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError, SdpError
from drachtwist.sip.sdp import Media, Sdp, answer, answer_with, refuse


def sdp(*lines: str, version: int = 1, end: str = "\r\n") -> str:
    """Make a session description: a head, and these lines."""
    head = ["v=0", f"o=- 7 {version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
    return "".join(line + end for line in [*head, *lines])


def again(local: str, offer: str) -> str:
    """Answer an offer with a description."""
    return str(answer_with(Sdp(local), Sdp(offer)))


AUDIO = "m=audio 40000 RTP/AVP 0"
VIDEO = "m=video 40002 RTP/AVP 97"
VP8 = "a=rtpmap:97 VP8/90000"
BROWSER = sdp(
    "a=group:BUNDLE 0 1",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 0",
    "c=IN IP4 0.0.0.0",
    "a=ice-ufrag:F7gI",
    "a=ice-pwd:x9cml/YzichV2+XlhiMu8g",
    "a=fingerprint:sha-256 AA:BB",
    "a=setup:actpass",
    "a=mid:0",
    "a=rtpmap:111 opus/48000/2",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "c=IN IP4 0.0.0.0",
    "a=mid:1",
)


class DirectionTests(SynchronousTestCase):
    def test_turned_round(self) -> None:
        """The answer gives what the offer wants, as far as we are willing."""
        for offered, willing, answered in (
            ("sendrecv", "sendrecv", "sendrecv"),
            ("sendonly", "sendrecv", "recvonly"),
            ("recvonly", "sendrecv", "sendonly"),
            ("inactive", "sendrecv", "inactive"),
            ("sendrecv", "sendonly", "sendonly"),
            ("sendonly", "sendonly", "inactive"),
            ("sendrecv", "inactive", "inactive"),
        ):
            made = again(sdp(AUDIO, f"a={willing}"), sdp(AUDIO, f"a={offered}", version=2))
            self.assertEqual(made, sdp(AUDIO, f"a={answered}"), (offered, willing))

    def test_nothing_stated(self) -> None:
        """Where nothing is said the media go both ways, and nothing is added."""
        self.assertEqual(again(sdp(AUDIO), sdp(AUDIO)), sdp(AUDIO))
        self.assertEqual(again(sdp(AUDIO), sdp(AUDIO, "a=sendonly")), sdp(AUDIO, "a=recvonly"))

    def test_held_by_address(self) -> None:
        """Who says 0.0.0.0 or :: wants nothing; a browser's placeholder says nothing."""
        for address in ("IN IP4 0.0.0.0", "IN IP6 ::", "IN IP6 0:0:0:0:0:0:0:0"):
            offer = sdp(AUDIO, f"c={address}")
            self.assertEqual(again(sdp(AUDIO), offer), sdp(AUDIO, "a=recvonly"), address)
        restart = BROWSER.replace("F7gI", "Gkkm")
        self.assertEqual(again(BROWSER, restart), BROWSER)

    def test_everything_else_stays(self) -> None:
        """All other lines stay as they are, line ends too, and octets that are no text."""
        ours = sdp("a=tool:\udcff", AUDIO, "a=ptime:20", "a=sendrecv", "a=x y", end="\n")
        held = sdp(AUDIO, "a=sendonly")
        self.assertEqual(again(ours, held), ours.replace("sendrecv", "recvonly"))
        octets = bytes(answer_with(Sdp(bytes(Sdp(ours))), Sdp(held)))
        self.assertIn(b"a=tool:\xff\n", octets)

    def test_no_session_description(self) -> None:
        """What is none is given as it is."""
        for text in ("", "hello\r\n"):
            self.assertEqual(again(text, sdp()), text)


class StreamTests(SynchronousTestCase):
    def test_new_media(self) -> None:
        """Media that we do not know are rejected in their places."""
        expected = sdp(AUDIO, "m=video 0 RTP/AVP 97")
        self.assertEqual(again(sdp(AUDIO), sdp(AUDIO, VIDEO)), expected)
        expected = sdp("m=video 0 RTP/AVP 97", AUDIO)
        self.assertEqual(again(sdp(AUDIO), sdp(VIDEO, AUDIO)), expected)

    def test_rejected_media(self) -> None:
        """Media that we rejected stay so, and what the peer does not offer any more is gone."""
        ours = sdp(AUDIO, "m=video 0 RTP/AVP 97")
        offer = sdp(AUDIO, "a=sendonly", VIDEO, "a=sendonly")
        self.assertEqual(again(ours, offer), sdp(AUDIO, "a=recvonly", "m=video 0 RTP/AVP 97"))
        both = sdp(AUDIO, VIDEO, VP8)
        gone = sdp(AUDIO, "m=video 0 RTP/AVP 97")
        self.assertEqual(again(both, gone), gone)
        self.assertEqual(again(both, sdp(AUDIO)), sdp(AUDIO))

    def test_another_order(self) -> None:
        """Streams are found by what they are; the answer has the order of the offer."""
        ours = sdp(AUDIO, "a=label:1", VIDEO, VP8)
        made = again(ours, sdp(VIDEO, VP8, AUDIO, "a=sendonly"))
        self.assertEqual(made, sdp(VIDEO, VP8, AUDIO, "a=label:1", "a=recvonly"))
        two = sdp("m=audio 1 RTP/AVP 0", "m=audio 2 RTP/AVP 0")
        self.assertEqual(again(two, sdp(AUDIO, AUDIO)), two)

    def test_transport(self) -> None:
        """A stream that comes over another transport is another stream."""
        made = again(sdp(AUDIO), sdp("m=audio 40000 RTP/SAVP 0"))
        self.assertEqual(made, sdp("m=audio 0 RTP/SAVP 0"))

    def test_codecs(self) -> None:
        """Only codecs that the offer has are in the answer, whatever their numbers are."""
        opus = ["a=rtpmap:111 opus/48000/2", "a=fmtp:111 useinbandfec=1"]
        dtmf = "a=rtpmap:101 telephone-event/8000"
        ours = sdp("m=audio 5 RTP/AVP 111 0 8 101", *opus, dtmf)
        renamed = ["a=rtpmap:96 OPUS/48000/2", dtmf.replace("101", "100")]
        offer = sdp("m=audio 6 RTP/AVP 9 8 96 100 0", *renamed)
        self.assertEqual(again(ours, offer), ours)
        made = again(ours, sdp("m=audio 6 RTP/AVP 8 101", dtmf))
        self.assertEqual(made, sdp("m=audio 5 RTP/AVP 8 101", dtmf))

    def test_no_common_codec(self) -> None:
        """A stream without a common codec is rejected; tones alone are none."""
        ours = sdp("m=audio 5 RTP/AVP 0 8 101", "a=rtpmap:101 telephone-event/8000")
        for formats, lines in (("9", []), ("9 101", ["a=rtpmap:101 telephone-event/8000"])):
            made = Sdp(again(ours, sdp(f"m=audio 6 RTP/AVP {formats}", *lines)))
            self.assertEqual([one.port for one in made.media], [0], formats)
            self.assertEqual(made.media[0].formats, formats.split())

    def test_bundle(self) -> None:
        """Streams keep the names of the offer; those that are rejected belong to no group."""
        made = Sdp(again(sdp(*BROWSER.splitlines()[4:13]), BROWSER))
        self.assertEqual(made.get("group"), "BUNDLE 0")
        self.assertEqual([one.get("mid") for one in made.media], ["0", "1"])
        self.assertEqual([one.is_rejected for one in made.media], [False, True])

    def test_odd_lines(self) -> None:
        """Media lines that cannot be read are rejected as well as they can be."""
        for line, expected in (
            ("m=audio 65536 RTP/AVP 0", "m=audio 0 RTP/AVP 0"),
            ("m=audio many RTP/AVP 0 8", "m=audio 0 RTP/AVP 0 8"),
            ("m=audio", "m=audio 0 RTP/AVP 0"),
            ("m=au\0dio 5 RTP/AVP\0 0", "m=audio 0 RTP/AVP 0"),
        ):
            self.assertEqual(again(sdp(AUDIO), sdp(line)), sdp(expected), line)

    @given(st.text("vomacst=:\r\n 019AP/-\0", max_size=120), st.sampled_from([AUDIO, BROWSER]))
    def test_whatever_comes(self, text: str, ours: str) -> None:
        """Any offer has an answer, with as many streams."""
        offer = Sdp(text)
        self.assertEqual(len(answer_with(Sdp(ours), offer).media), len(offer.media))


class RefusalTests(SynchronousTestCase):
    def test_all_streams(self) -> None:
        """All streams are refused, in their order."""
        made = refuse(Sdp(sdp(AUDIO, VIDEO, "m=audio x RTP/AVP 0")))
        self.assertEqual(
            [one.lines[0] for one in made.media],
            ["m=audio 0 RTP/AVP 0", "m=video 0 RTP/AVP 97", "m=audio 0 RTP/AVP 0"],
        )
        self.assertEqual(str(made)[:5], "v=0\r\n")


class NewAnswerTests(SynchronousTestCase):
    def test_line_ends(self) -> None:
        """Lines end in CRLF, whatever those of the offer end in (RFC 8866 section 9)."""
        for end in ("\n", "\r\n"):
            made = answer(Sdp(sdp(AUDIO, VIDEO, end=end)), "192.0.2.200", ports=[5000])
            self.assertEqual(str(made).count("\r\n"), str(made).count("\n"))

    def test_keys_are_needed(self) -> None:
        """A stream that is encrypted is rejected unless there are keys for it."""
        for line in (
            "m=audio 5 RTP/SAVP 0",
            "m=audio 5 RTP/SAVPF 0",
            "m=audio 5 UDP/TLS/RTP/SAVP 0",
            "m=audio 5 UDP/TLS/RTP/SAVPF 0",
            "m=audio 5 TCP/TLS/RTP/AVP 0",
            "m=audio 5 TCP/RTP/AVP 0",
        ):
            made = answer(Sdp(sdp(line, "a=crypto:1 AES")), "192.0.2.200", ports=[5000])
            self.assertEqual(made.media[0].port, 0, line)
            self.assertEqual(made.media[0].lines, (line.replace(" 5 ", " 0 "),))

    def test_keys(self) -> None:
        """The caller gives the keys of each stream; a stream without any is rejected."""
        seen: list[str] = []
        keys = {
            "audio": ["crypto:1 AES_CM_128_HMAC_SHA1_80 inline:b"],
            "video": [],
        }

        def secure(stream: Media) -> Iterable[str]:
            seen.append(stream.get("crypto") or "")
            return keys[stream.kind]

        offer = sdp(
            "m=audio 5 RTP/SAVP 0",
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:a",
            "m=video 6 RTP/SAVP 97",
            VP8,
            AUDIO,
        )
        made = answer(
            Sdp(offer), "192.0.2.200", ports=[5000, 5002], codecs=["PCMU", "VP8"], secure=secure
        )
        self.assertEqual([one.port for one in made.media], [5000, 0, 5002])
        self.assertEqual(made.media[0].get_all("crypto"), [keys["audio"][0][7:]])
        self.assertEqual(seen, ["1 AES_CM_128_HMAC_SHA1_80 inline:a", ""])

    def test_browser(self) -> None:
        """A browser gets fingerprint and ICE, and its streams keep their names."""
        given = ["fingerprint:sha-256 CC", "setup:active", "ice-ufrag:u", "ice-pwd:p", "rtcp-mux"]
        made = answer(
            Sdp(BROWSER), "192.0.2.200", ports=[5000], codecs=["opus"], secure=lambda _: given
        )
        audio, data = made.media
        self.assertEqual((audio.port, audio.formats, audio.get("mid")), (5000, ["111"], "0"))
        self.assertEqual((audio.get("fingerprint"), audio.get("ice-ufrag")), ("sha-256 CC", "u"))
        self.assertEqual(audio.direction, "sendrecv")
        self.assertEqual((data.port, data.get("mid")), (0, "1"))

    def test_keys_that_cannot_work(self) -> None:
        """What lacks keys, or the ICE that the offer has, is the caller's slip."""
        sdes = sdp("m=audio 5 RTP/SAVP 0")
        for offer, keys in (
            (sdes, ["ptime:20"]),
            (BROWSER, ["crypto:1 AES"]),
            (BROWSER, ["fingerprint:sha-256 CC"]),
            (BROWSER, ["fingerprint:sha-256 CC", "ice-ufrag:u"]),
        ):
            with self.assertRaises(LocalProtocolError):
                answer(Sdp(offer), "::1", ports=[5000], secure=lambda _, keys=keys: keys)  # type: ignore[misc]

    def test_peers_octets(self) -> None:
        """What stands in the offer is no slip of the caller, and breaks no line."""
        offer = sdp("m=audio 5 RTP/AVP 96", "a=rtpmap:96 opus/48000/2", "a=fmtp:96 a\rb\0c")
        made = answer(Sdp(offer.replace("t=0 0", "t=0\0 0\ra")), "::1", ports=[1], codecs=["opus"])
        self.assertEqual(made.media[0].formats, ["96"])
        self.assertEqual(str(made).replace("\r\n", "").count("\r"), 0)
        self.assertNotIn("\0", str(made))

    def test_no_port(self) -> None:
        """65536 is no port; neither are signs and digits of other scripts."""
        for port in ("65536", "99999", "+1", "\u0661", ""):
            with self.assertRaises(SdpError):
                answer(Sdp(sdp(f"m=audio {port} RTP/AVP 0")), "192.0.2.200", ports=[5000])
