"""The pytest plugin: the fixture ``sip``, and async tests with it.

pytest loads this for every project of an environment that has drachtwist, so nothing else is
imported before a test wants the fixture.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from drachtwist.testing.network import Network

_FIXTURE = "sip"


@pytest.fixture(name=_FIXTURE)
def sip(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Make a network in memory for a test: applications, servers, phones (drachtwist.testing)."""
    from drachtwist.testing.network import Network

    net = Network()
    request.node.stash[_network] = net
    net.open()
    try:
        yield net
    finally:
        net.close()
    net.check_failures()


_network: Any = pytest.StashKey["Network"]()


def pytest_addoption(parser: pytest.Parser, pluginmanager: Any) -> None:
    """Leave the package as it is, as soon as that can be said.

    pytest rewrites the asserts in all modules of whoever has a plugin. Here these are no tests, and
    it takes two seconds, at every start where no bytecode is written.
    """
    hook = pluginmanager.rewrite_hook
    marked = getattr(hook, "_must_rewrite", None)
    if isinstance(marked, set):
        marked.discard("drachtwist")
        getattr(hook, "_marked_for_rewrite_cache", {}).clear()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test that has the fixture, on its time."""
    net: Any = pyfuncitem.funcargs.get(_FIXTURE)
    if not inspect.iscoroutinefunction(pyfuncitem.obj) or _network not in pyfuncitem.stash:
        return None
    names = pyfuncitem._fixtureinfo.argnames
    net.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """Show the ladder of a test that failed."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed and _network in item.stash:
        report.sections.insert(0, ("SIP ladder", item.stash[_network].ladder()))
