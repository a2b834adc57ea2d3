"""Session descriptions."""

from __future__ import annotations

import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError, SdpError
from drachtwist.sip import Request
from drachtwist.sip.sdp import (
    Connection,
    Origin,
    Sdp,
    answer,
    answer_with,
    mirrored,
    refuse,
    sdp_of,
)

PHONE = (
    "v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\n"
    "t=0 0\r\nm=audio 49170 RTP/AVP 0 8 96 101\r\na=rtpmap:0 PCMU/8000\r\n"
    "a=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=rtpmap:101 telephone-event/8000\r\n"
    "a=fmtp:101 0-15\r\na=ptime:20\r\n"
)
BROWSER = (
    "v=0\r\no=- 46117317 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
    "a=msid-semantic: WMS\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 0\r\nc=IN IP4 0.0.0.0\r\n"
    "a=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:F7gI\r\na=setup:actpass\r\na=mid:0\r\na=sendrecv\r\n"
    "a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10\r\n"
    "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=recvonly\r\n"
    "a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"
)
FAX = (
    "v=0\no=fax 1 3 IN IP6 2001:db8::1\ns=fax\nc=IN IP6 2001:db8::1\nt=0 0\n"
    "m=audio 0 RTP/AVP 0\nm=image 4000 udptl t38\na=T38FaxVersion:0"
)


class RoundTripTests(SynchronousTestCase):
    @given(st.text(alphabet="vomacst=:\r\n 019AP/-\udc80", max_size=200))
    def test_anything(self, text: str) -> None:
        """What is read is written, to the octet, whatever it is."""
        self.assertEqual(str(Sdp(text)), text)
        octets = text.encode("utf-8", "surrogateescape")
        self.assertEqual(bytes(Sdp(octets)), octets)

    def test_real_ones(self) -> None:
        """Descriptions of phones, browsers and fax machines survive, with their views."""
        for text in (PHONE, BROWSER, FAX, FAX.replace("\n", "\r\n"), ""):
            self.assertEqual(str(Sdp.parse(text)), text)

    def test_no_description(self) -> None:
        """What does not begin with a version is no session description."""
        for text in (
            "garbage",
            "m=audio 1 RTP/AVP 0",
            "v0\r\n",
            "o=- 1 1 IN IP4 h\r\nv=0\r\n",
            "\r\nv=0\r\n",
        ):
            for form in (text, text.encode()):
                with self.assertRaises(SdpError) as caught:
                    Sdp.parse(form)
                self.assertEqual(caught.exception.line, 1)

    @given(st.text(alphabet="vomacst=:\r\n 019AP/-", max_size=120))
    def test_views_never_surprise(self, text: str) -> None:
        """A view gives a value or the one error there is."""
        sdp = Sdp(text)
        views = [lambda: sdp.origin, lambda: sdp.connection, lambda: sdp.is_hold]
        views += [lambda one=one: (one.kind, one.codecs, one.connection) for one in sdp.media]  # type: ignore[misc]
        for view in views:
            try:
                view()
            except SdpError:
                pass


class ViewTests(SynchronousTestCase):
    def test_several_ports(self) -> None:
        """A stream may take several ports, which a new port leaves alone."""
        sdp = Sdp.parse("v=0\r\nm=audio 49170/2 RTP/AVP 0\r\n")
        [audio] = sdp.media
        self.assertEqual((audio.port, audio.port_count), (49170, 2))
        audio.port = 5000
        self.assertEqual(str(sdp), "v=0\r\nm=audio 5000/2 RTP/AVP 0\r\n")

    def test_session(self) -> None:
        """Origin, connection and streams of a phone's offer."""
        sdp = Sdp.parse(PHONE)
        expected = Origin("alice", "2890844526", 2890844526, "IN", "IP4", "192.0.2.1")
        self.assertEqual(sdp.origin, expected)
        [audio] = sdp.media
        self.assertEqual((audio.kind, audio.port, audio.protocol), ("audio", 49170, "RTP/AVP"))
        self.assertEqual(audio.connection, Connection("192.0.2.1"))
        self.assertEqual(audio.port_count, 1)
        self.assertEqual(audio.direction, "sendrecv")
        names = [(one.payload, one.name, one.rate, one.fmtp) for one in audio.codecs]
        self.assertEqual(
            names,
            [
                ("0", "PCMU", 8000, ""),
                ("8", "PCMA", 8000, ""),
                ("96", "opus", 48000, "useinbandfec=1"),
                ("101", "telephone-event", 8000, "0-15"),
            ],
        )

    def test_streams(self) -> None:
        """Streams have their own addresses and directions, and may be rejected."""
        sdp = Sdp.parse(FAX)
        audio, image = sdp.media
        self.assertTrue(audio.is_rejected)
        self.assertEqual((image.formats, image.codecs, image.is_rtp), (["t38"], [], False))
        self.assertEqual(sdp.streams("image"), [image])
        self.assertEqual(sdp.streams("audio"), [])
        video = Sdp.parse(BROWSER).media[1]
        self.assertEqual((video.direction, video.wanted), ("recvonly", "inactive"))
        with self.assertRaises(SdpError):
            _ = Sdp.parse("v=0\r\nm=audio 65536 RTP/AVP 0\r\n").media[0].port

    def test_errors_name_the_line(self) -> None:
        """What cannot be read is said with its line, and only when it is asked for."""
        sdp = Sdp.parse("v=0\r\no=nonsense\r\ns=-\r\nm=audio many RTP/AVP 0\r\n")
        with self.assertRaises(SdpError) as caught:
            _ = sdp.origin
        self.assertEqual(caught.exception.line, 2)
        with self.assertRaises(SdpError) as caught:
            _ = sdp.media[0].port
        self.assertEqual(caught.exception.line, 4)


class HoldTests(SynchronousTestCase):
    def test_meaning(self) -> None:
        """Hold is what the directions and addresses mean, at either level."""
        for text, expected in (
            (PHONE, False),
            (PHONE + "a=sendonly\r\n", True),
            (PHONE + "a=inactive\r\n", True),
            (PHONE.replace("t=0 0", "t=0 0\r\na=sendonly"), True),
            (PHONE.replace("t=0 0", "t=0 0\r\na=sendonly") + "a=sendrecv\r\n", False),
            (PHONE.replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0"), True),
            (FAX, False),
            ("v=0\r\n", False),
            (PHONE.replace("c=IN IP4 192.0.2.1", "c=IN IP6 ::"), True),
            (PHONE.replace("c=IN IP4 192.0.2.1", "c=IN IP6 0:0:0:0:0:0:0:0"), True),
            (PHONE.replace("c=IN IP4 192.0.2.1", "c=IN IP6 host.invalid"), True),
            (PHONE.replace("c=IN IP4 192.0.2.1", "c=IN IP6 ::1"), False),
            (PHONE.replace("m=audio", "m=video 0 RTP/AVP 97\r\nm=audio") + "a=inactive\r\n", True),
            (PHONE.replace("49170", "0"), False),
        ):
            self.assertEqual(Sdp.parse(text).is_hold, expected, text)

    def test_placeholders(self) -> None:
        """The address of streams that ICE connects, or that are no RTP, says nothing (RFC 8829)."""
        session = BROWSER.replace("a=ice-ufrag:F7gI\r\n", "")
        session = session.replace("t=0 0\r\n", "t=0 0\r\na=ice-ufrag:F7gI\r\n")
        audio, _ = BROWSER.split("m=video")
        data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\n"
        fax = FAX.replace("2001:db8::1\nt", "::\nt")
        bundled = "m=video 0 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=bundle-only\r\n"
        for text, expected in (
            (session, False),
            (audio, False),
            (audio + data, False),
            (audio.replace("sendrecv", "sendonly") + data, True),
            (audio.replace("sendrecv", "inactive") + bundled, False),
            (audio.replace("sendrecv", "inactive") + bundled + "a=sendonly\r\n", True),
            (fax, False),
            (data.join(["v=0\r\n", ""]), False),
            (BROWSER.replace("a=ice-ufrag:F7gI\r\n", ""), True),
        ):
            self.assertEqual(Sdp.parse(text).is_hold, expected, text)
        self.assertEqual(Sdp.parse(BROWSER).media[0].wanted, "sendrecv")

    def test_held_and_resumed(self) -> None:
        """Hold and unhold change the directions and the version, and no other line."""
        sdp = Sdp.parse(PHONE)
        sdp.hold()
        self.assertTrue(sdp.is_hold)
        self.assertIn("a=inactive\r\n", str(sdp))
        self.assertEqual(sdp.origin.version, 2890844527)
        sdp.unhold()
        self.assertFalse(sdp.is_hold)
        rest = [
            line for line in str(sdp).split("\r\n") if line[:2] != "o=" and line != "a=sendrecv"
        ]
        self.assertEqual(rest, [line for line in PHONE.split("\r\n") if line[:2] != "o="])

    def test_refresh(self) -> None:
        """The same origin and version mean that nothing has changed."""
        before, after = Sdp.parse(PHONE), Sdp.parse(PHONE)
        self.assertTrue(after.is_refresh_of(before))
        after.bump_version()
        self.assertFalse(after.is_refresh_of(before))
        moved = Sdp.parse(PHONE.replace("IP4 192.0.2.1", "IP4 192.0.2.2"))
        self.assertFalse(moved.is_refresh_of(before))
        self.assertFalse(Sdp("no sdp").is_refresh_of(Sdp("no sdp")))


class EditTests(SynchronousTestCase):
    def test_keep(self) -> None:
        """Codecs that are not kept go with all their lines; others stay to the octet."""
        sdp = Sdp.parse(PHONE)
        sdp.keep_codecs("pcmu", "telephone-event")
        expected = PHONE.replace("0 8 96 101", "0 101").replace("a=rtpmap:96 opus/48000/2\r\n", "")
        self.assertEqual(str(sdp), expected.replace("a=fmtp:96 useinbandfec=1\r\n", ""))

    def test_drop_and_prefer(self) -> None:
        """Codecs may be dropped by name and rate, and put first."""
        sdp = Sdp.parse(PHONE)
        sdp.prefer_codecs("opus/48000", "PCMA")
        self.assertEqual(sdp.media[0].formats, ["96", "8", "0", "101"])
        sdp.drop_codecs("opus/16000")
        self.assertEqual(len(sdp.media[0].formats), 4)
        sdp.drop_codecs("opus")
        self.assertEqual(sdp.media[0].formats, ["8", "0", "101"])

    def test_nothing_left(self) -> None:
        """A stream whose last codec goes is rejected; repairs of a lost codec go with it."""
        sdp = Sdp.parse(BROWSER)
        sdp.keep_codecs("opus", "rtx")
        audio, video = sdp.media
        self.assertEqual((audio.formats, video.port), (["111"], 0))
        phone = Sdp.parse(PHONE)
        phone.keep_codecs("telephone-event")
        self.assertTrue(phone.media[0].is_rejected)

    def test_address(self) -> None:
        """All addresses become another one, of either family."""
        sdp = Sdp.parse(PHONE)
        sdp.rewrite_address("2001:db8::7", origin=True)
        self.assertEqual(sdp.media[0].connection, Connection("2001:db8::7", "IP6"))
        self.assertEqual((sdp.origin.addrtype, sdp.origin.address), ("IP6", "2001:db8::7"))
        browser = Sdp.parse(BROWSER)
        browser.rewrite_address("192.0.2.9")
        self.assertEqual(str(browser).count("c=IN IP4 192.0.2.9"), 2)
        bare = Sdp.parse("v=0\r\ns=-\r\nt=0 0\r\nm=audio 1 RTP/AVP 0\r\n")
        bare.rewrite_address("192.0.2.9")
        self.assertEqual(
            str(bare), "v=0\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 1 RTP/AVP 0\r\n"
        )
        with self.assertRaises(LocalProtocolError):
            bare.rewrite_address("nowhere")

    def test_black_hole(self) -> None:
        """A black hole takes no media, and is no rejection."""
        sdp = Sdp.parse(PHONE)
        sdp.black_hole()
        [audio] = sdp.media
        self.assertEqual((audio.port, audio.direction, sdp.is_hold), (9, "inactive", True))
        self.assertEqual(audio.connection, Connection("0.0.0.0"))

    def test_attributes(self) -> None:
        """Attributes are set, added and removed; line ends are those of the description."""
        sdp = Sdp.parse(FAX)
        image = sdp.media[1]
        image.set("T38FaxVersion", "3")
        image.add("T38MaxBitRate", "14400")
        image.set_bandwidth("AS", 20)
        self.assertTrue(
            str(sdp).endswith("t38\nb=AS:20\na=T38FaxVersion:3\na=T38MaxBitRate:14400\n"),
            str(sdp),
        )
        image.remove("T38FaxVersion", "T38MaxBitRate")
        self.assertEqual((image.attributes, image.bandwidths), ([], {"AS": 20}))

    def test_streams(self) -> None:
        """A stream may be added, or taken out before anybody has seen it."""
        sdp = Sdp.parse(FAX)
        added = sdp.add_media("audio 4002 RTP/AVP 8", ["rtpmap:8 PCMA/8000"])
        self.assertTrue(str(sdp).endswith("\nm=audio 4002 RTP/AVP 8\na=rtpmap:8 PCMA/8000\n"))
        sdp.remove_media(added)
        self.assertEqual(len(sdp.media), 2)
        for line in ("nonsense", "audio 1 RTP/AVP 0\r\na=x"):
            with self.assertRaises(LocalProtocolError):
                sdp.add_media(line)
        for line in ("audio 65536 RTP/AVP 0",):
            with self.assertRaises(LocalProtocolError):
                sdp.add_media(line)
        with self.assertRaises(LocalProtocolError):
            sdp.set("name with blanks", "x")
        with self.assertRaises(LocalProtocolError):
            sdp.media[1].port = 70000

    def test_stream_of_another_description(self) -> None:
        """A stream that comes from elsewhere brings what its session said of it."""
        phone = Sdp.parse(PHONE.replace("t=0 0", "t=0 0\r\na=sendonly\r\na=ice-ufrag:x"))
        sdp = Sdp.parse(FAX)
        added = sdp.add_media(phone.media[0])
        self.assertIsNot(added, phone.media[0])
        self.assertEqual(added.connection, Connection("192.0.2.1"))
        self.assertEqual((added.direction, added.get("ice-ufrag")), ("sendonly", "x"))
        self.assertEqual(str(sdp).count("\r"), 0)
        added.port = 7
        self.assertEqual(phone.media[0].port, 49170)
        own = Sdp.parse(PHONE.replace("a=ptime:20", "a=inactive") + "c=IN IP4 192.0.2.7\r\n")
        again = sdp.add_media(own.media[0], ["x:1"])
        self.assertEqual(again.connection, Connection("192.0.2.7"))
        self.assertEqual((again.direction, again.get("x")), ("inactive", "1"))
        self.assertEqual(len(sdp.media), 4)
        plain = Sdp.parse(PHONE)
        same = plain.add_media(plain.media[0])
        self.assertEqual(same.lines, plain.media[0].lines)
        with self.assertRaises(LocalProtocolError):
            sdp.add_media(Sdp("m=audio x\r\n").media[0])


class GrowthTests(SynchronousTestCase):
    """Work grows as the text does; counted in what is read, not in seconds."""

    def work(self, text: str) -> int:
        """Count the lines of Python that reading and editing a description takes."""
        count = 0

        def trace(frame: Any, event: str, arg: Any) -> Any:
            nonlocal count
            count += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            sdp = Sdp(text)
            _ = sdp.is_hold
            for media in sdp.media:
                for view in ("port", "wanted", "connection", "codecs", "direction"):
                    try:
                        getattr(media, view)
                    except SdpError:
                        pass
            for edit in (sdp.hold, sdp.unhold, sdp.black_hole):
                try:
                    edit()
                except SdpError:
                    pass
            sdp.keep_codecs("PCMU")
            answer_with(Sdp(PHONE), sdp)
            answer_with(sdp, Sdp(text))
            refuse(sdp)
            try:
                answer(sdp, "::1", ports=[1])
            except SdpError:
                pass
        finally:
            sys.settrace(before)
        return count

    def test_linear(self) -> None:
        """Twice the lines take twice the work, of whatever kind the lines are."""
        head = "v=0\r\no=- 1 1 IN IP4 h\r\n"
        for start, line in (
            (head, "m=audio 5 RTP/AVP 0\r\n"),
            (head + "a=x\r\n" * 400, "m=audio 5 RTP/AVP 0\r\n"),
            (head, "m=audio\r\n"),
            (head + "a=x\r\n" * 400, "m=\r\n"),
            (head, "m=audio 5 RTP/AVP 0 9\r\nc=IN IP4 0.0.0.0\r\n"),
            (head + "m=audio 5 RTP/AVP 0 9\r\n", "a=rtpmap:9 G722/8000\r\n"),
            (head + "m=audio 5 RTP/AVP 0\r\n", "a=sendonly\r\n"),
            (head + "m=audio 5 RTP/AVP 0\r\n", "c=x\r\n"),
            (head + "m=audio 5 RTP/AVP 0\r\n", "\r\n"),
        ):
            base = self.work(start)
            once = self.work(start + line * 400) - base
            twice = self.work(start + line * 800) - base
            self.assertLess(twice, 2.2 * once + 2000, (start[-8:], line))

    def test_many_lines_of_both_kinds(self) -> None:
        """Nor does each stream look at all lines of the session."""
        head, line = "v=0\r\no=- 1 1 IN IP4 h\r\n", "m=audio 5 RTP/AVP 0\r\n"
        once = self.work(head + "a=x\r\n" * 200 + line * 200)
        twice = self.work(head + "a=x\r\n" * 400 + line * 400)
        self.assertLess(twice, 2.2 * once)


class AnswerTests(SynchronousTestCase):
    def test_answer(self) -> None:
        """The answer has the streams of the offer, what both know, and the directions turned."""
        made = answer(Sdp.parse(PHONE + "a=sendonly\r\n"), "192.0.2.200", ports=[5000])
        [audio] = made.media
        self.assertEqual((audio.port, audio.formats), (5000, ["0", "8", "101"]))
        self.assertEqual(audio.direction, "recvonly")
        self.assertEqual(audio.get_all("fmtp"), ["101 0-15"])

    def test_refused_streams(self) -> None:
        """What is not known, or has no port, is rejected in its place."""
        keys = ["fingerprint:sha-256 A", "ice-ufrag:u", "ice-pwd:p"]
        made = answer(
            Sdp.parse(BROWSER),
            "192.0.2.200",
            ports=[5000],
            codecs=["opus"],
            secure=lambda _: keys,
        )
        self.assertEqual([one.port for one in made.media], [5000, 0])
        self.assertEqual([one.kind for one in made.media], ["audio", "video"])
        none = answer(Sdp.parse(PHONE), "192.0.2.200", ports=[])
        self.assertTrue(none.media[0].is_rejected)

    def test_mirrored(self) -> None:
        """Directions are turned round (RFC 3264 section 6.1)."""
        found = [mirrored(one) for one in ("sendrecv", "sendonly", "recvonly", "inactive")]
        self.assertEqual(found, ["sendrecv", "recvonly", "sendonly", "inactive"])
        self.assertEqual(mirrored("sendrecv", "recvonly"), "recvonly")


class MessageTests(SynchronousTestCase):
    def test_found(self) -> None:
        """The description of a message is its body, or one of its parts."""
        plain = Request("INVITE", "sip:a@b", {"Content-Type": "application/sdp"}, PHONE)
        found = sdp_of(plain)
        assert found is not None
        self.assertEqual(str(found), PHONE)
        several = Request(
            "INVITE",
            "sip:a@b",
            {"Content-Type": "multipart/mixed;boundary=x"},
            "--x\r\nContent-Type: application/xml\r\n\r\n<a/>\r\n"
            f"--x\r\nContent-Type: application/sdp\r\n\r\n{PHONE}\r\n--x--\r\n",
        )
        found = sdp_of(several)
        assert found is not None
        self.assertEqual(str(found), PHONE)
        self.assertIsNone(sdp_of(Request("INVITE", "sip:a@b")))
