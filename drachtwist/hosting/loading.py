"""Find the application that a command line names, as other Python servers do.

=========================  ===================================================================
``module:attribute``       the attribute of a module; the current directory is on the path
``module``                 its attribute ``srf``
``file.py:attribute``      the attribute of a file, whose directory is on the path too
``file.py``                its attribute ``srf``
=========================  ===================================================================

The attribute is an :class:`~drachtwist.Srf`, or a function without parameters that returns one, now
or later (a Deferred, or ``async def``).
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from twisted.internet.defer import Deferred

from drachtwist.app.outcomes import started
from drachtwist.app.srf import Srf

__all__ = ["ApplicationError", "load_application", "make_application"]

DEFAULT_ATTRIBUTE = "srf"


class ApplicationError(Exception):
    """The application cannot be had; the text is ready to be shown, with the user's traceback."""


def load_application(name: str) -> Any:
    """Import what a command line names.

    :param name: see the module's table.
    :returns: an :class:`~drachtwist.Srf`, or something to call for one.
    :raises ApplicationError: when it cannot be imported, has no such attribute, or that is neither.
    """
    source, attribute = _split(name)
    _put_on_path(Path.cwd())
    module = _from_file(source) if source.endswith(".py") else _from_module(source)
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ApplicationError(_missing(source, module, attribute)) from None
    if not isinstance(found, Srf) and not callable(found):
        raise ApplicationError(
            f"{source}:{attribute} is {_kind(found)}, not an Srf or a function that returns one"
        )
    return found


def make_application(found: Any, name: str) -> Srf | Deferred[Srf]:
    """Get the application out of what :func:`load_application` found.

    :param name: what the user called it.
    :raises ApplicationError: when the function fails, or returns something else; the Deferred fails
        with the same.
    """
    if isinstance(found, Srf):
        return found
    try:
        made = found()
    except Exception as error:
        raise _broken(name, error) from None
    if inspect.isawaitable(made) or isinstance(made, Deferred):

        async def wait() -> Srf:
            try:
                return _checked(await made, name)
            except ApplicationError:
                raise
            except Exception as error:
                raise _broken(name, error) from None

        return started(wait())
    return _checked(made, name)


def _checked(made: Any, name: str) -> Srf:
    if not isinstance(made, Srf):
        raise ApplicationError(f"{name} returned {_kind(made)}, not an Srf")
    return made


def _split(name: str) -> tuple[str, str]:
    source, colon, attribute = name.rpartition(":")
    if not colon or attribute.endswith(".py"):
        return name, DEFAULT_ATTRIBUTE
    if not source or not all(part.isidentifier() for part in attribute.split(".")):
        raise ApplicationError(
            f"{name!r} is not module:attribute or file.py:attribute (the attribute may be left out)"
        )
    return source, attribute


def _put_on_path(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def _from_file(source: str) -> ModuleType:
    path = Path(source).resolve()
    if not path.is_file():
        raise ApplicationError(f"there is no file {source}")
    _put_on_path(path.parent)
    # The file's own name, so that its logger is called after it, unless that hides a module.
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_application"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a file with this suffix has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _broken(source, error) from None
    return module


def _from_module(source: str) -> ModuleType:
    try:
        return importlib.import_module(source)
    except ModuleNotFoundError as error:
        if error.name is not None and (source + ".").startswith(error.name + "."):
            raise ApplicationError(
                f"there is no module {error.name!r} in {Path.cwd()} or on the Python path"
            ) from None
        raise _broken(source, error) from None
    except Exception as error:
        raise _broken(source, error) from None


def _broken(name: str, error: Exception) -> ApplicationError:
    """Show the user's traceback, from the user's first line on."""
    frames: TracebackType | None = error.__traceback__
    while frames is not None and _is_machinery(frames):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    return ApplicationError(f"{text}\ncannot load the application {name}")


def _is_machinery(frames: TracebackType) -> bool:
    filename = frames.tb_frame.f_code.co_filename
    return (
        filename == __file__
        or filename.startswith("<frozen importlib")
        or "/importlib/" in filename
    )


def _missing(source: str, module: ModuleType, attribute: str) -> str:
    applications = [name for name, value in vars(module).items() if isinstance(value, Srf)]
    names = [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
    close = get_close_matches(attribute, names, n=3)
    near = list(dict.fromkeys(applications + close))
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{source} has no attribute {attribute!r}{hint}"


def _kind(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
