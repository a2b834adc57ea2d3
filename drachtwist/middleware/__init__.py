"""Middleware that most applications want sooner or later, for ``srf.use(...)``.

=============================  ====================================================================
:class:`DigestAuth`            lets only those in who know the password
:class:`Registrar`             answers REGISTER, and knows where to find people
:class:`SourceFilter`          lets only some networks in
:class:`RateLimit`             so many requests for each source
:class:`BlockScanners`         no answers for those who look for open doors
:class:`UnderPressure`         503 while there is too much to do
:class:`ResponseTime`          how long answers take
=============================  ====================================================================

All of them leave ACK and CANCEL alone, which cannot be refused, and requests inside of dialogs.
"""

from drachtwist.middleware.bindings import (
    Binding,
    ILocationStore,
    MemoryLocationStore,
    is_behind_nat,
)
from drachtwist.middleware.digest import STRONG, DigestAuth, Ha1, authenticated_user
from drachtwist.middleware.load import ResponseTime, Timing, UnderPressure
from drachtwist.middleware.registrar import (
    ContactBinding,
    Registrar,
    Registration,
    RegistrationError,
    address_of_record,
    parse_registration,
)
from drachtwist.middleware.sources import SCANNERS, BlockScanners, RateLimit, SourceFilter

__all__ = [
    "SCANNERS",
    "STRONG",
    "Binding",
    "BlockScanners",
    "ContactBinding",
    "DigestAuth",
    "Ha1",
    "ILocationStore",
    "MemoryLocationStore",
    "RateLimit",
    "Registrar",
    "Registration",
    "RegistrationError",
    "ResponseTime",
    "SourceFilter",
    "Timing",
    "UnderPressure",
    "address_of_record",
    "authenticated_user",
    "is_behind_nat",
    "parse_registration",
]
