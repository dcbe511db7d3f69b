"""What a network from elsewhere is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lamella.pipeline.errors import InputError, LamellaError, one_line

if TYPE_CHECKING:
    from torch import Tensor, nn

State = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class Recipe:
    """How a network wants its pictures, as its library says.

    Attributes:
        settings: fields of `PreprocessSpec`.
        unclear: by field, what the library says that no field can hold: the user has to decide.
        squash: whether pictures are squeezed into its square; else its centre is cut out.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    unclear: Mapping[str, str] = field(default_factory=dict)
    squash: bool = False


@dataclass(frozen=True, eq=False)
class Foreign:
    """A network from elsewhere.

    Attributes:
        name: what specs call it.
        build: makes it without its weights, on the CPU; seconds for large ones.
        own: makes it with the weights that it comes with. None if it comes with none: its file
            is given.
        recipe: how it wants its pictures.
        source: where the weights of `own` are from.
        fit: turns what a published file holds into the network's own state.
        about: what a copy of its weights says of it, where its name alone is not enough to build.
        channels_last: whether it computes on channels-last memory, which is faster.
        projects: whether its output is an embedding of its own, such as CLIP's.
        pools: whether its output is what a classifier of its maps would see.
        program: whether it is a graph with names of nodes, and not a module with names of modules.
        batch: the only batch size that it takes; None for any.
        at: the file of a program.
    """

    name: str
    build: Callable[[], "nn.Module"]
    own: Callable[[], "nn.Module"] | None = None
    recipe: Recipe = Recipe()
    source: Literal["library", "code", "file"] = "library"
    fit: Callable[["nn.Module", State], State] = lambda model, state: state
    about: Mapping[str, Any] = field(default_factory=dict)
    channels_last: bool = True
    projects: bool = False
    pools: bool = True
    program: bool = False
    batch: int | None = None
    at: Path | None = None

    def made(self) -> "nn.Module":
        """Return what `build` makes. Raises InputError: its library cannot."""
        try:
            return self.build()
        except LamellaError:
            raise
        except Exception as error:
            raise InputError(f"{self.name} cannot be built here: {one_line(error)}") from error


def missing_library(name: str, error: ImportError) -> InputError:
    """Return the error for a network whose library is not installed."""
    return InputError(
        f"{name}: needs the package {error.name or name}, which is not installed here: "
        "pip install 'lamella[networks]'"
    )
