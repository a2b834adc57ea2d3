"""Tests of what a re-INVITE does to the media."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.app.media import answer_offer, change_direction, is_hold, is_refresh


def sdp(*lines: str, version: int = 1, end: str = "\r\n") -> bytes:
    """Make a session description: a head, and these lines."""
    head = ["v=0", f"o=- 7 {version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
    return "".join(line + end for line in [*head, *lines]).encode()


AUDIO = "m=audio 40000 RTP/AVP 0"
VIDEO = "m=video 40002 RTP/AVP 97"


class HoldTests(SynchronousTestCase):
    def test_directions(self) -> None:
        """Who wants to receive nothing holds, whichever way he says it."""
        for lines, held in (
            ([AUDIO], False),
            ([AUDIO, "a=sendrecv"], False),
            ([AUDIO, "a=recvonly"], False),
            ([AUDIO, "a=sendonly"], True),
            ([AUDIO, "a=inactive"], True),
            (["a=sendonly", AUDIO], True),
            (["a=sendonly", AUDIO, "a=sendrecv"], False),
            (["c=IN IP4 0.0.0.0", AUDIO], True),
            (["c=IN IP4 0.0.0.0", AUDIO, "c=IN IP4 10.0.0.1"], False),
            ([AUDIO, "c=IN IP4 0.0.0.0"], True),
            ([AUDIO, "a=inactive", VIDEO], False),
            ([AUDIO, "a=inactive", VIDEO, "a=sendonly"], True),
            ([AUDIO, "a=inactive", "m=video 0 RTP/AVP 97"], True),
            (["m=audio 0 RTP/AVP 0"], False),
            ([], False),
        ):
            for end in ("\r\n", "\n"):
                self.assertEqual(is_hold(sdp(*lines, end=end)), held, lines)

    def test_refresh(self) -> None:
        """The same origin and version say that nothing changed."""
        self.assertTrue(is_refresh(sdp(AUDIO), sdp(AUDIO, "a=sendonly")))
        self.assertFalse(is_refresh(sdp(AUDIO), sdp(AUDIO, version=2)))
        self.assertFalse(is_refresh(b"", b""))
        self.assertFalse(is_refresh(b"no sdp", b"no sdp"))


class AnswerTests(SynchronousTestCase):
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
            ours = sdp(AUDIO, f"a={willing}")
            answer = answer_offer(ours, sdp(AUDIO, f"a={offered}", version=2))
            self.assertEqual(answer, sdp(AUDIO, f"a={answered}"), (offered, willing))

    def test_nothing_stated(self) -> None:
        """Where nothing is said the media go both ways, and nothing is added."""
        self.assertEqual(answer_offer(sdp(AUDIO), sdp(AUDIO)), sdp(AUDIO))
        self.assertEqual(
            answer_offer(sdp(AUDIO), sdp(AUDIO, "a=sendonly")), sdp(AUDIO, "a=recvonly")
        )

    def test_everything_else_stays(self) -> None:
        """All other lines stay as they are, line ends too."""
        ours = sdp("a=tool:x", AUDIO, "a=ptime:20", "a=sendrecv", "a=x y", end="\n")
        held = sdp(AUDIO, "a=sendonly", end="\n")
        self.assertEqual(answer_offer(ours, held), ours.replace(b"sendrecv", b"recvonly"))

    def test_new_media(self) -> None:
        """Media that we do not know are rejected in their places."""
        answer = answer_offer(sdp(AUDIO), sdp(AUDIO, VIDEO))
        self.assertEqual(answer, sdp(AUDIO, "m=video 0 RTP/AVP 97"))

    def test_rejected_media(self) -> None:
        """Media that we rejected stay so."""
        ours = sdp(AUDIO, "m=video 0 RTP/AVP 97")
        offer = sdp(AUDIO, "a=sendonly", VIDEO, "a=sendonly")
        self.assertEqual(
            answer_offer(ours, offer), sdp(AUDIO, "a=recvonly", "m=video 0 RTP/AVP 97")
        )


class DirectionTests(SynchronousTestCase):
    def test_offered(self) -> None:
        """All media get the direction, and the version goes up by one."""
        offer = change_direction(sdp(AUDIO, "a=sendrecv", VIDEO), "inactive")
        self.assertEqual(offer, sdp(AUDIO, "a=inactive", VIDEO, "a=inactive", version=2))

    def test_last_line_open(self) -> None:
        """A last line without an end gets one."""
        offer = change_direction(sdp(AUDIO).rstrip(), "inactive")
        self.assertEqual(offer, sdp(AUDIO, "a=inactive", version=2))

    def test_no_session_description(self) -> None:
        """What is none is left alone."""
        self.assertEqual(change_direction(b"", "inactive"), b"")
        self.assertEqual(change_direction(b"hello\r\n", "inactive"), b"hello\r\n")
