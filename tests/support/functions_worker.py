"""What the Functions worker checks when it indexes an app, so that what it would refuse in Azure fails here.

The worker is no package for this version of Python. The rules are those of its `functions.py` and `loader.py`: a
trigger's parameters are its bindings and `context`, hints are resolved by `typing.get_type_hints`, each is a plain
class that the binding's converter takes, names are unique, and an HTTP function alone returns something.
"""

import inspect
import re
import typing
from typing import Any, Final

import azure.functions as func
from azure.functions.meta import get_binding_registry

SCRIPT: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_\-]*\.py")


def faults(app: Any) -> list[str]:
    """What the worker would refuse. Uses up the app's one call of `get_functions`."""
    found: list[str] = []
    names: set[str] = set()
    for function in app.get_functions():
        name = function.get_function_name()
        found += [f"{name}: {fault}" for fault in _of_function(function)]
        found += [f"{name}: the name is used twice"] if name in names else []
        names.add(name)
    return found


def _of_function(function: Any) -> list[str]:
    handler = function.get_user_function()
    bindings = {binding.name: binding.type for binding in function.get_bindings() if binding.name != "$return"}
    parameters = set(inspect.signature(handler).parameters)
    found = [f"{name} is no binding" for name in sorted(parameters - {"context", *bindings})]
    found += [f"the binding {name} is no parameter" for name in sorted(set(bindings) - parameters)]
    try:
        hints = typing.get_type_hints(handler)
    except NameError as error:
        return [*found, f"{error.name} is not there at run time"]
    if hints.pop("return", type(None)) is not type(None) and function.get_trigger().type != "httpTrigger":
        found.append("only an HTTP function returns something")
    return found + [
        fault for name, hint in hints.items() if (fault := _of_hint(name, hint, bindings.get(name))) is not None
    ]


def _of_hint(name: str, hint: Any, binding: str | None) -> str | None:
    if not isinstance(hint, type) or typing.get_origin(hint) is not None:
        return f"{name} has the non-type annotation {hint}"
    if name == "context":
        return None if hint is func.Context else "context is no func.Context"
    registry = get_binding_registry()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
    converter = registry.get(binding) if binding else None
    if converter is None or not converter.check_input_type_annotation(hint):
        return f"{name} cannot be a {hint.__name__}"
    return None
