"""The example applications, in memory: each does what it says, at every moment of a call.

Between real servers they are tested in :mod:`tests.test_examples`. Not here is ``lookup``, whose
database and web client are asyncio's own, and so need real time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from drachtwist.testing import SipTests

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
IN_REAL_TIME = {"lookup"}

A, B, C, D = (
    f"sip:{name}@10.0.1.{number}:5060"
    for number, name in enumerate(("ann", "bob", "carol", "dora"), 1)
)


class ExampleTests(SipTests, SynchronousTestCase):
    def example(self, name: str, **environ: str) -> Any:
        """Load an example, and give it a server."""
        module = self.sip.load(EXAMPLES / f"{name}.py", **environ)
        self.sip.serve(module.srf)
        return module

    def people(self, *names: str) -> list[Any]:
        """Give phones to some people: the first has the address A, and so on."""
        return [self.sip.phone(name) for name in names]

    def test_all_tested(self) -> None:
        """Every example has a test."""
        names = {path.stem for path in EXAMPLES.glob("*.py")} - IN_REAL_TIME
        tested = {name[5:] for name in dir(self) if name.startswith("test_")}
        self.assertLessEqual(names, tested)

    def test_answer(self) -> None:
        """It rings for a second, hears keys, and hangs up at # or after a minute."""
        self.example("answer")
        [ann] = self.people("ann")
        self.assertEqual(ann.invite("busy").status, 486)
        call = ann.invite("hello")
        self.assertTrue(call.ringing)
        self.sip.advance(1)
        self.assertEqual(call.remote_sdp.media[0].direction, "inactive")
        call.press("12#")
        self.assertEqual(call.ended_by, "peer")
        call = ann.invite("hello")
        self.sip.advance(60.9)
        self.assertTrue(call.up)
        self.sip.advance(0.2)
        self.assertEqual(call.ended_by, "peer")
        call = ann.invite("hello")
        call.hang_up()
        self.assertEqual(call.status, 487)
        self.sip.assert_idle()

    def test_b2bua(self) -> None:
        """Only the codecs that are wanted get through; who hangs up ends it for both."""
        self.example("b2bua", CALLEE=B, CODECS="PCMU,telephone-event")
        ann, bob = self.people("ann", "bob")
        call = ann.invite("x", headers={"User-Agent": "secret"})
        self.assertEqual(bob.call.remote_sdp.media[0].formats, ["0", "101"])
        self.assertIsNone(bob.call.invite.get("User-Agent"))
        bob.answer()
        self.assertTrue(call.talks_to(bob.call))
        bob.hang_up()
        self.assertEqual(call.ended_by, "peer")
        bob.answers = 486
        self.assertEqual(ann.invite("x").status, 486)
        self.sip.assert_idle()

    def test_proxy(self) -> None:
        """All places of a name ring at once; the first who answers has the call."""
        self.example("proxy", TABLE=f"sales={B} {C}")
        ann, bob, carol = self.people("ann", "bob", "carol")
        self.assertEqual(ann.invite("nobody").status, 404)
        call = ann.invite("sales")
        self.assertEqual([one.call.state for one in (bob, carol)], ["calling", "calling"])
        bob.ring()
        carol.answer()
        self.assertTrue(call.talks_to(carol.call))
        self.assertEqual((bob.call.status, bob.call.ended_by), (487, "peer"))
        call.hang_up()
        self.assertEqual(carol.call.ended_by, "peer")
        self.sip.assert_idle()

    def test_simring(self) -> None:
        """All ring; when nobody answers in time, the second ones are tried in turn."""
        self.example("simring", PHONES=f"{B} {C}", SECOND=D, TIMEOUT="20")
        ann, bob, carol, dora = self.people("ann", "bob", "carol", "dora")
        call = ann.invite("x")
        bob.ring()
        carol.refuse(486)
        self.sip.advance(21)
        self.assertEqual((bob.call.status, dora.call.state), (487, "calling"))
        dora.answer()
        self.assertTrue(call.talks_to(dora.call))
        call.hang_up()
        self.sip.assert_idle()

    def test_transfer(self) -> None:
        """Who is transferred talks to the target, or on with the other when that is busy."""
        self.example("transfer", CALLEE=B)
        ann, bob, carol = self.people("ann", "bob", "carol")
        bob.answers = 200
        call = ann.invite("x")
        for carol.answers in (486, 200):
            bob.refer(C)
        self.assertEqual(bob.call.transfer, [100, 486, 100, 200])
        self.assertEqual((bob.call.ended_by, len(carol.calls)), ("peer", 2))
        self.assertTrue(call.talks_to(carol.call))
        carol.hang_up()
        self.assertTrue(call.over)
        self.sip.assert_idle()

    def test_transferred_one_hangs_up(self) -> None:
        """When who is transferred hangs up meanwhile, the target rings no more."""
        self.example("transfer", CALLEE=B)
        ann, bob, carol = self.people("ann", "bob", "carol")
        call = ann.invite("x")
        bob.answer()
        bob.refer(C)
        carol.ring()
        call.hang_up()
        self.assertEqual((carol.call.status, bob.call.ended_by), (487, "peer"))
        self.sip.assert_idle()

    def test_transferring_one_hangs_up(self) -> None:
        """Who transfers may hang up at once; when the target refuses then, nobody is left."""
        self.example("transfer", CALLEE=B)
        ann, bob, carol = self.people("ann", "bob", "carol")
        call = ann.invite("x")
        bob.answer()
        bob.refer(C)
        for leg in (bob.call, call):
            self.assertEqual(leg.refer(C).status, 491)
        bob.hang_up()
        carol.answer()
        self.assertTrue(call.talks_to(carol.call))
        call.refer(B)
        call.hang_up()
        self.assertTrue(carol.call.up)
        bob.refuse(486)
        self.assertEqual(carol.call.ended_by, "peer")
        self.sip.assert_idle()

    def test_recorder(self) -> None:
        """A recording session is accepted, to receive only, and its people are known."""
        module = self.example("recorder")
        [ann] = self.people("ann")
        self.assertEqual(ann.invite("x", sdp="").status, 488)
        xml = (
            '<recording xmlns="urn:ietf:params:xml:ns:recording:1"><participant id="1">'
            '<nameID aor="sip:bob@example.net"/></participant></recording>'
        )
        offer = (
            "v=0\r\no=- 1 1 IN IP4 10.0.1.1\r\ns=-\r\nc=IN IP4 10.0.1.1\r\nt=0 0\r\n"
            "m=audio 5000 RTP/AVP 0\r\na=sendonly\r\n"
        )
        body = (
            f"--b\r\nContent-Type: application/sdp\r\n\r\n{offer}\r\n"
            f"--b\r\nContent-Type: application/rs-metadata+xml\r\n\r\n{xml}\r\n--b--\r\n"
        )
        headers = {"Content-Type": "multipart/mixed;boundary=b", "Require": "siprec"}
        call = ann.invite("x", sdp=body, headers=headers)
        self.assertEqual(call.remote_sdp.media[0].direction, "recvonly")
        self.assertEqual(list(module.sessions.values()), [["sip:bob@example.net"]])
        call.hang_up()
        self.assertEqual(module.sessions, {})
        self.sip.assert_idle()

    def test_presence(self) -> None:
        """A watcher hears the state at once, when it changes, and that his time is over."""
        module = self.example("presence")
        ann, bob = self.people("ann", "bob")
        self.assertEqual(ann.subscribe("bob", "x").status, 489)
        self.assertEqual(ann.subscribe("bob", "presence", expires=60).status, 202)
        self.assertIn("<basic>closed</basic>", ann.requests[-1].text)
        state = module.unknown("bob").replace("closed", "open")
        published = bob.request(
            "PUBLISH", "bob", headers={"Event": "presence"}, body=state, content_type=module.PIDF
        )
        self.assertEqual((published.status, ann.requests[-1].text), (200, state))
        self.sip.advance(60)
        self.assertIn("terminated", ann.requests[-1].get("Subscription-State"))
        self.assertEqual(module.watchers, {})
        self.sip.assert_idle()

    def test_message_gateway(self) -> None:
        """Messages go both ways between phones and the web, and what cannot be sent is refused."""
        posts: list[Any] = []

        class Inbox(Resource):
            isLeaf = True

            def render_POST(self, request: Any) -> bytes:
                posts.append(json.loads(request.content.read()))
                return b"ok"

        self.sip.machine("inbox").listenTCP(80, Site(Inbox()))
        self.example("message_gateway", WEBHOOK="http://inbox/in", HTTP_PORT="9001")
        [ann] = self.people("ann")
        response = self.sip.run(ann.message("x", "Hi ☎").when_over())
        self.assertEqual((response.status, posts[0]["text"]), (202, "Hi ☎"))
        good = json.dumps({"to": A, "text": "Hello"})
        answer = self.sip.fetch("http://app:9001/", method="POST", body=good)
        self.assertEqual((answer.status, answer.json()), (200, {"result": 200}))
        self.assertEqual([one.text for one in ann.requests], ["Hello"])
        answer = self.sip.fetch("http://app:9001/", method="POST", body="nonsense")
        self.assertEqual(answer.status, 400)

    def test_message_gateway_alone(self) -> None:
        """Without the web a message is put off."""
        self.example("message_gateway", WEBHOOK="http://nobody/in", HTTP_PORT="9001")
        [ann] = self.people("ann")
        response = self.sip.run(ann.message("x", "Hi").when_over())
        self.assertEqual((response.status, response.get("Retry-After")), (503, "30"))

    def test_registrar(self) -> None:
        """Who registers with the right password can be called, for as long as that is good."""
        self.example("registrar", PASSWORDS="bob:pw")
        ann, bob = self.people("ann", "bob")
        bob.answers = 200
        self.assertEqual(bob.register().status, 401)
        self.assertEqual(ann.invite(bob).status, 480)
        bob.password = "pw"
        self.assertEqual(bob.register(expires=600).status, 200)
        call = ann.invite(bob)
        self.assertTrue(call.talks_to(bob.call))
        call.hold()
        self.assertTrue(bob.call.on_hold)
        bob.hang_up()
        self.sip.advance(601)
        self.assertEqual(ann.invite(bob).status, 480)
        self.sip.assert_idle()

    def test_uac(self) -> None:
        """Two people are called and connected; when the second does not want to, both are free."""
        ann, bob = self.people("ann", "bob")
        module = self.example("uac", CALLER=A, CALLEE=B)
        self.assertEqual(ann.call.invite.body, b"")
        ann.answer()
        self.assertEqual(bob.call.remote_sdp and str(bob.call.remote_sdp), str(ann.call.local_sdp))
        bob.answer()
        self.assertTrue(ann.call.talks_to(bob.call))
        bob.hang_up()
        self.assertTrue(ann.call.over)
        ann.answers, bob.answers = 200, 486
        self.assertIsNone(self.sip.run(module.dial(A, B)))
        self.assertTrue(ann.call.over)
        ann.answers = 603
        self.assertIsNone(self.sip.run(module.dial(A, B)))
        self.sip.assert_idle()

    def test_switchboard(self) -> None:
        """The web shows who is calling, and hangs up."""
        module = self.example("switchboard")
        module.srf.reactor.listenTCP(8080, Site(module.site.resource()))
        [ann] = self.people("ann")
        call = ann.invite("x")
        self.assertEqual(self.sip.fetch("http://app:8080/calls").json(), {"1": "ann"})
        response = self.sip.fetch("http://app:8080/calls/1", method="DELETE")
        self.assertEqual((response.status, call.ended_by), (204, "peer"))
        self.assertEqual(self.sip.fetch("http://app:8080/calls").json(), {})
        self.assertEqual(self.sip.fetch("http://app:8080/calls/1", method="DELETE").status, 404)

    def test_click_to_call(self) -> None:
        """What stands behind the page connects two people, or lets the first one go."""
        module = self.example("click_to_call")
        ann, bob = self.people("ann", "bob")
        ann.answers = bob.answers = 200
        number = self.sip.run(module.dial(module.Call(caller=A, callee=B)))
        self.assertTrue(ann.call.talks_to(bob.call))
        self.assertEqual(list(module.calls), [number])
        bob.hang_up()
        self.assertEqual((ann.call.ended_by, module.calls), ("peer", {}))
        bob.answers = 486
        with self.assertRaisesRegex(Exception, "486"):
            self.sip.run(module.dial(module.Call(caller=A, callee=B)))
        self.assertTrue(ann.call.over)
        self.sip.assert_idle()
