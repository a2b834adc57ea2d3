"""Registrations."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from drachtwist import MessageError
from drachtwist.middleware import (
    Binding,
    DigestAuth,
    ILocationStore,
    MemoryLocationStore,
    Registrar,
    RegistrationError,
    address_of_record,
    parse_registration,
)
from drachtwist.middleware.daytime import time_of_day
from drachtwist.net.steady import SteadyClock
from drachtwist.sip import Request, Response, digest
from tests.middleware.requests import MiddlewareTestCase

PHONE = "<sip:alice@192.0.2.1:5070>"


def register(*contacts: str, **headers: str) -> Request:
    """Write a REGISTER."""
    req = Request("REGISTER", "sip:example.net")
    req.set("To", "<sip:Alice@Example.NET:5060;user=phone>")
    req.set("Call-ID", "r1")
    req.set("CSeq", "7 REGISTER")
    for contact in contacts:
        req.add("Contact", contact)
    for name, value in headers.items():
        req.set(name.replace("_", "-"), value)
    return req


class ParsingTests(MiddlewareTestCase):
    def test_contacts(self) -> None:
        """All contacts are read, each with its own time or that of the request."""
        found = parse_registration(
            register(
                f"{PHONE};q=0.5, <sip:a@b;transport=tcp>;expires=120",
                '<sip:c@d>;+sip.instance="<urn:uuid:1>";reg-id=2;expires=0',
                Expires="600",
                Path="<sip:edge;lr>",
            )
        )
        self.assertEqual(found.aor, "sip:Alice@example.net")
        self.assertEqual([one.expires for one in found.contacts], [600, 120, 0])
        self.assertEqual([one.q for one in found.contacts], [0.5, None, None])
        self.assertEqual(
            (found.contacts[2].instance, found.contacts[2].reg_id), ("<urn:uuid:1>", 2)
        )
        self.assertEqual((found.call_id, found.cseq, found.path), ("r1", 7, ("<sip:edge;lr>",)))
        self.assertFalse(found.is_query)

    def test_default_and_longest(self) -> None:
        """Without a time there is a default; one that is too long is cut, odd ones do not count."""
        for text, expected in (
            ("", 3600),
            ("junk", 3600),
            ("999999999999", 3600),
            ("90000", 86400),
        ):
            req = register(PHONE, Expires=text) if text else register(PHONE)
            self.assertEqual(parse_registration(req).contacts[0].expires, expected)

    def test_too_brief(self) -> None:
        """A time that is too short is 423, with what would do."""
        with self.assertRaises(RegistrationError) as caught:
            parse_registration(register(PHONE, Expires="10"))
        self.assertEqual(caught.exception.status, 423)
        self.assertEqual(caught.exception.headers, {"Min-Expires": "60"})

    def test_wildcard(self) -> None:
        """``*`` stands alone, with Expires 0."""
        self.assertTrue(parse_registration(register("*", Expires="0")).is_wildcard)
        for req in (register("*"), register("*", Expires="60"), register("*", PHONE, Expires="0")):
            with self.assertRaises(RegistrationError) as caught:
                parse_registration(req)
            self.assertEqual(caught.exception.status, 400)

    def test_garbage(self) -> None:
        """What cannot be read is 400."""
        for req in (register("<<<"), register(PHONE, To="nonsense"), register(PHONE, CSeq="x")):
            with self.assertRaises(RegistrationError) as caught:
                parse_registration(req)
            self.assertEqual(caught.exception.status, 400)

    def test_query(self) -> None:
        """Without Contact it is a question."""
        self.assertTrue(parse_registration(register()).is_query)


class RegistrarTests(MiddlewareTestCase):
    def start(self, *before: Any, **options: Any) -> None:
        """Use a registrar."""
        self.changes: list[tuple[str, int]] = []
        self.registrar = Registrar(
            on_change=lambda aor, found: self.changes.append((aor, len(found))), **options
        )
        self.use(*before, self.registrar)

    def register(self, contact: str = "", number: int = 1, extra: str = "") -> Response:
        """Register ``app@127.0.0.1``."""
        text = f"X-Contact: {contact}\n" if contact else ""
        self.send("REGISTER", f"{text}{extra}", call="r", number=number)
        [answer] = [one for one in self.whole.sent() if isinstance(one, Response)]
        return answer

    def send(self, method: str, extra: str = "", body: str = "", **options: Any) -> None:
        """Send a request with other Contacts than the phone's usual one."""
        from tests.server.doubles import request

        text = request(method, extra=extra, body=body, **options)
        lines = [line for line in text.split("\n") if not line.startswith("Contact:")]
        self.whole.receive("\n".join(lines).replace("X-Contact:", "Contact:"), 32070)

    def found(self) -> list[str]:
        """Give where the phone can be reached."""
        finding = Deferred.fromCoroutine(self.registrar.find("sip:app@127.0.0.1"))
        return [one.uri for one in self.successResultOf(finding)]

    def test_kept(self) -> None:
        """Bindings are kept, listed with the time that is left, and expire."""
        self.start()
        answer = self.register(f"{PHONE};expires=100")
        self.assertEqual((answer.status, answer.get("Contact")), (200, f"{PHONE};expires=100"))
        self.clock.advance(40)
        answer = self.register(number=2)
        self.assertEqual(answer.get("Contact"), f"{PHONE};expires=60")
        self.assertEqual(self.found(), ["sip:alice@192.0.2.1:5070"])
        self.clock.advance(61)
        self.assertEqual(self.found(), [])
        self.assertEqual(self.register(number=3).get("Contact"), None)

    def test_refreshed(self) -> None:
        """The same URI replaces its binding, another is added, the best comes first."""
        self.start()
        self.register(f"{PHONE};q=0.2")
        self.register(f"{PHONE};q=0.3", 2)
        self.register("<sip:bob@192.0.2.2>;q=0.9", 3)
        self.assertEqual(self.found(), ["sip:bob@192.0.2.2", "sip:alice@192.0.2.1:5070"])
        self.assertEqual([count for _, count in self.changes], [1, 1, 2])

    def test_removed(self) -> None:
        """Expires 0 removes one, ``*`` all."""
        self.start()
        self.register(f"{PHONE}, <sip:b@192.0.2.2>, <sip:c@192.0.2.3>")
        self.register(f"{PHONE};expires=0", 2)
        self.assertEqual(len(self.found()), 2)
        answer = self.register("*", 3, "Expires: 0\n")
        self.assertEqual((answer.status, self.found()), (200, []))

    def test_out_of_order(self) -> None:
        """A request that was overtaken changes nothing."""
        self.start()
        self.register(PHONE, 5)
        answer = self.register(f"<sip:b@192.0.2.2>, {PHONE};expires=0", 4)
        self.assertEqual(answer.status, 500)
        self.assertEqual(self.found(), ["sip:alice@192.0.2.1:5070"])

    def test_same_phone(self) -> None:
        """A phone that comes back from another address replaces its binding (RFC 5626)."""
        self.start()
        instance = ';+sip.instance="<urn:uuid:1>";reg-id=1'
        self.register(f"<sip:a@192.0.2.1>{instance}")
        self.register(f"<sip:a@192.0.2.99>{instance}", 2)
        self.assertEqual(self.found(), ["sip:a@192.0.2.99"])

    def test_refusals(self) -> None:
        """Too brief, too many, other domains: each has its status."""
        self.start(max_contacts=1, domains=["example.net", "127.0.0.1"])
        brief = self.register(f"{PHONE};expires=5")
        self.assertEqual((brief.status, brief.get("Min-Expires")), (423, "60"))
        self.assertEqual(self.register(f"{PHONE}, <sip:b@192.0.2.2>", 2).status, 403)
        other = MemoryLocationStore()
        registrar = Registrar(other, domains=["example.org"])
        checking: Any = registrar._check(None, parse_registration(register(PHONE)))  # type: ignore[arg-type]
        failure = self.failureResultOf(Deferred.fromCoroutine(checking), RegistrationError)
        self.assertEqual(failure.value.status, 404)

    def test_own_name_only(self) -> None:
        """Behind digest authentication nobody registers somebody else."""
        self.start(DigestAuth("r", lambda name, realm: "pw"))
        challenge = digest.Challenge.parse(self.register(PHONE).get_all("WWW-Authenticate")[0])
        for number, (name, status) in enumerate((("mallory", 403), ("app", 200)), 1):
            made = digest.answer(
                challenge,
                username=name,
                password="pw",
                method="REGISTER",
                uri="sip:app@127.0.0.1:32060",
                nonce_count=number,
            )
            answer = self.register(PHONE, number + 1, f"Authorization: {made}\n")
            self.assertEqual(answer.status, status)

    def test_slow_store(self) -> None:
        """Changes of one address happen one after the other, however slow the store is."""
        gates: list[Deferred[None]] = []
        memory = MemoryLocationStore()

        class Slow:
            def find(self, aor: str) -> Any:
                gate: Deferred[None] = Deferred()
                gates.append(gate)
                return gate.addCallback(lambda _: memory.find(aor))

            def save(self, aor: str, bindings: Any) -> None:
                memory.save(aor, bindings)

        self.start(store=Slow())
        self.send("REGISTER", f"X-Contact: {PHONE}\n", call="r", number=1)
        self.send("REGISTER", "X-Contact: <sip:b@192.0.2.2>\n", call="r", number=2)
        self.assertEqual(len(gates), 1)
        gates[0].callback(None)
        self.assertEqual(len(gates), 2)
        gates[1].callback(None)
        self.assertEqual([one.status for one in self.whole.sent()], [200, 200])  # type: ignore[union-attr]
        self.assertEqual(len(memory.find("sip:app@127.0.0.1")), 2)
        self.assertEqual(self.registrar._locks, {})

    def test_store_of_coroutines(self) -> None:
        """A store may be written with ``async def``; it may wait for Deferreds."""
        memory = MemoryLocationStore()
        gate: Deferred[None] = Deferred()

        class Database:
            async def find(self, aor: str) -> list[Binding]:
                await gate
                return memory.find(aor)

            async def save(self, aor: str, bindings: list[Binding]) -> None:
                memory.save(aor, bindings)

        self.start(store=Database())
        self.send("REGISTER", f"X-Contact: {PHONE}\n", call="r", number=1)
        self.assertEqual(self.whole.sent(), [])
        gate.callback(None)
        self.assertEqual(self.whole.heads(), ["200 REGISTER"])
        self.assertEqual(self.found(), ["sip:alice@192.0.2.1:5070"])

    def test_decided_later(self) -> None:
        """Whether somebody may register can be asked elsewhere too."""

        async def nobody(user: str | None, aor: str) -> bool:
            return False

        self.start(may_register=nobody)
        self.assertEqual(self.register(PHONE).status, 403)

    def test_after_a_restart(self) -> None:
        """What expired while nobody looked is not found, also before the first REGISTER."""
        store = MemoryLocationStore()
        aor = "sip:app@127.0.0.1"
        for expires_at, clock, found in (
            (time.time() - 1, None, []),
            (1e11, None, ["sip:x"]),
            (50.0, self.clock, ["sip:x"]),
            (self.clock.seconds(), self.clock, []),
        ):
            store.save(aor, [Binding("sip:x", expires_at, None, "c", 1)])
            self.registrar = Registrar(store, clock=clock)
            self.assertEqual(self.found(), found)

    def test_time_of_day(self) -> None:
        """Times that others read go by the time of day, whichever clock the application has."""
        for clock in (None, reactor, SteadyClock(reactor)):
            self.assertLess(abs(time_of_day(clock) - time.time()), 60)
        self.assertEqual(time_of_day(self.clock), self.clock.seconds())

    def test_told_as_asked(self) -> None:
        """Changes are told under the address that the phone wrote, which can be looked up."""
        told: list[str] = []
        self.start_telling(told)
        for number, uri in enumerate(("sip:App@127.0.0.1:5062", "sip:a%40b@Example.net"), 1):
            self.send_to(uri, number)
            self.assertEqual(told[-1], uri)
            found = Deferred.fromCoroutine(self.registrar.find(told[-1]))
            self.assertEqual(len(self.successResultOf(found)), 1)

    def start_telling(self, told: list[str]) -> None:
        """Use a registrar that tells of changes."""
        self.registrar = Registrar(on_change=lambda aor, found: told.append(aor))
        self.use(self.registrar)

    def send_to(self, uri: str, number: int) -> None:
        """Register an address."""
        from tests.server.doubles import request

        text = request("REGISTER", call=f"w{number}", number=number)
        self.whole.receive(text.replace("To: <sip:app@127.0.0.1:32060>", f"To: <{uri}>"), 32070)
        self.assertEqual(self.whole.heads(), ["200 REGISTER"])

    def test_addresses(self) -> None:
        """Addresses of record are compared without port, parameters and needless escapes."""
        for text, expected in (
            ("sip:Ann@Example.NET:5060;user=phone", "sip:Ann@example.net"),
            ("SIPS:%41nn@example.net", "sips:Ann@example.net"),
            ("sip:a%40b@example.net", "sip:a%40b@example.net"),
            ("sip:example.net", "sip:example.net"),
        ):
            self.assertEqual(address_of_record(text), expected)
            self.assertEqual(address_of_record(expected), expected)
        self.assertRaises(MessageError, address_of_record, "tel:+1555")

    def test_latest_first(self) -> None:
        """Of equals the phone comes first that was there last: one that restarted calls itself
        something else, and nobody is at the old address.
        """
        self.start()
        self.register("<sip:old@192.0.2.1>")
        self.clock.advance(10)
        self.register("<sip:new@192.0.2.1>", 2)
        self.assertEqual(self.found(), ["sip:new@192.0.2.1", "sip:old@192.0.2.1"])

    def test_alone(self) -> None:
        """``srf.use(registrar)`` is enough to get the REGISTERs, and no others."""
        self.registrar = Registrar()
        self.srf.use(self.registrar)
        self.whole.pump()
        self.assertEqual(self.register(PHONE).status, 200)
        self.send("OPTIONS", "")
        self.assertEqual(self.whole.heads(), ["503 OPTIONS"])

    def test_others_pass(self) -> None:
        """Other methods are handed on."""
        self.start()
        self.assertEqual(self.ask("OPTIONS").status, 200)

    def test_not_an_address(self) -> None:
        """Only SIP URIs can be looked up."""
        self.failureResultOf(Deferred.fromCoroutine(Registrar().find("tel:+1555")), MessageError)


class MemoryTests(MiddlewareTestCase):
    def test_interface(self) -> None:
        """The memory is a store."""
        self.assertTrue(verifyObject(ILocationStore, MemoryLocationStore()))

    def test_bounded(self) -> None:
        """It keeps so many, and forgets what has expired when asked to."""
        store = MemoryLocationStore(max_aors=2)
        for name in "abc":
            store.save(name, [Binding("sip:x", 10.0 if name == "b" else 20.0, None, "c", 1)])
        self.assertEqual((store.find("a"), len(store)), ([], 2))
        store.purge(15.0)
        self.assertEqual((store.find("b"), len(store.find("c"))), ([], 1))
