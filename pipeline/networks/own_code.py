"""Networks of the user's own code, as `package.module:factory`."""

import importlib
from functools import cache
from typing import TYPE_CHECKING

from lamella.pipeline.errors import InputError, one_line
from lamella.pipeline.names import known_names, shown
from lamella.pipeline.networks.foreign import Foreign, Recipe

if TYPE_CHECKING:
    from torch import nn


@cache
def own_network(name: str) -> Foreign:
    """Return the network that a function of the user's code makes. The code is run, and trusted.

    Its weights are those that it comes with. Its pictures are shown as torchvision's networks see
    them, where a job file says nothing else.

    Raises:
        InputError: the code cannot be imported, or has no such function.
    """
    module_name, _, factory_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise InputError(f"{module_name} cannot be imported: {one_line(error)}") from error
        raise InputError(
            f"there is no module {error.name} to import for the network {name}: install it, or "
            "name its folder in full in PYTHONPATH; the current folder is not looked into"
        ) from error
    except Exception as error:
        raise InputError(f"{module_name} cannot be imported: {one_line(error)}") from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        functions = [each for each, value in vars(module).items() if callable(value)]
        known = [each for each in functions if not each.startswith("_")]
        fault = (
            f"has no {shown(factory_name)}"
            if factory is None
            else f"has {factory_name} as a {type(factory).__name__}, which is no function"
        )
        raise InputError(f"{module_name} {fault}: it has {known_names(factory_name, known)}")

    def make() -> "nn.Module":
        from torch import nn

        try:
            made = factory()
        except Exception as error:
            raise InputError(
                f"{name} is to be a function without arguments that makes a network; calling it "
                f"ended in {type(error).__name__}: {one_line(error)}"
            ) from error
        if not isinstance(made, nn.Module):
            raise InputError(
                f"{name} is to return a torch.nn.Module; it returned a {type(made).__name__}"
            )
        return made

    return Foreign(name, make, make, Recipe(), source="code", channels_last=False, pools=False)
