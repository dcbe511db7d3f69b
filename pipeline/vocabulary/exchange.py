"""Exchange a vocabulary between stores, as NumPy arrays and a JSON.

Words only fit descriptors that were made like those they were trained on, so the JSON holds the
recipe of a descriptor, and an import compares it with its own. Words from another tool need the
same JSON. The least of it, for `b11.npy` of float32 (1000, 112):

    {"format": "lamella-vocabulary-1", "layer": "b11", "words": 1000, "dimensions": 112,
     "centroids": {"name": "b11.npy", "sha256": "..."},
     "recipe": {"network": "efficientnet_lite0", "weights": "...",
                "layer": {"node": "blocks.11", "kind": "local", "pool": "none", "view": "whole"},
                "preprocess": {"recipe": "pillow-bilinear-1", "rgb_recipe": "rgb-2",
                               "short_edge": 256, "long_edge_multiple": 1, "max_aspect": 4.0,
                               "channel_order": "rgb", "mean": [123.675, 116.28, 103.53],
                               "std": [58.395, 57.12, 57.375]}}}

`recipe` is the value of `recipe_of`; any export of that layer shows it. Every array is checked
against the JSON before memory is allocated for it, and pickles are refused.
"""

import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from lamella.pipeline.arrays import Float32s
from lamella.pipeline.errors import IncompatibleInputs, InputError, UnknownLayer, one_line
from lamella.pipeline.names import known_names, shown
from lamella.pipeline.store import tree
from lamella.pipeline.store.commit import read_committed, sha256_of
from lamella.pipeline.store.protocol import Store
from lamella.pipeline.vocabulary.arrays import read_array
from lamella.pipeline.vocabulary.checkpoint import read_centroids
from lamella.pipeline.vocabulary.compare import checked_vectors
from lamella.pipeline.vocabulary.ivf import Cells
from lamella.pipeline.vocabulary.ivf_files import read_cells
from lamella.pipeline.vocabulary.ivf_kernels import grouped
from lamella.pipeline.vocabulary.projection import Projection, read_projection
from lamella.schemas.exchange import (
    EXCHANGE_FORMAT,
    DescriptorRecipe,
    ExchangedCells,
    ExchangedFile,
    ExchangedProjection,
    ExchangedVocabulary,
    OutputRecipe,
    Provenance,
    SeenRecipe,
)
from lamella.schemas.extraction import ExtractionSpec
from lamella.schemas.vocabulary import Vocabulary, VocabularyHealth

LARGEST_JSON = 1 << 20
"""The most bytes of a JSON that is read; ours have about 3,000."""

NOT_SEEN = {
    "whole": {"crop"},
    "crop": set[str](),
    "warp": {"short_edge", "long_edge_multiple", "max_aspect"},
}
"""Settings of the preprocessing that do not affect a view."""


@dataclass(frozen=True)
class Exchanged:
    """A vocabulary that was read from exchange files.

    Attributes:
        layer: what the layer was called where the words came from.
        centroids: float32 (K, D).
        projection: the projection of descriptors, if any.
        cells, probes: the cells over the words and how many are probed; None and 0 for the exact
            assigner.
        recipe: of a descriptor, as `recipe_of` gives it, and recipe_digest.
        health, provenance: the JSON's account of the words' quality and origin.
    """

    layer: str
    centroids: Float32s
    projection: Projection | None
    cells: Cells | None
    probes: int
    recipe: dict[str, Any]
    recipe_digest: str
    health: VocabularyHealth | None
    provenance: Provenance | None


def recipe_of(extraction: ExtractionSpec, layer: str) -> dict[str, Any]:
    """Return all that decides a descriptor of a layer, as a JSON value.

    It leaves out the layer's name, other layers, the batch size, the precision, and settings that
    do not affect the layer's view.

    Raises:
        UnknownLayer: the extraction has no such layer.
    """
    return _recipe(extraction, layer).content()


def recipe_digest(extraction: ExtractionSpec, layer: str) -> str:
    """Return the SHA-256, in hex, of the canonical JSON of a layer's recipe."""
    return _recipe(extraction, layer).digest()


def _recipe(extraction: ExtractionSpec, layer: str) -> DescriptorRecipe:
    try:
        spec = extraction.layer(layer)
    except KeyError:
        names = [each.name for each in extraction.layers]
        raise UnknownLayer(
            f"there is no layer {shown(layer)} here: it is one of {known_names(layer, names)}"
        ) from None
    unused = {"name"} if spec.pool == "gem" else {"name", "gem_power"}
    return DescriptorRecipe(
        network=extraction.network,
        weights=extraction.weights.sha256,
        layer=OutputRecipe(**spec.model_dump(exclude=unused)),
        preprocess=SeenRecipe(**extraction.preprocess.model_dump(exclude=NOT_SEEN[spec.view])),
    )


def check_recipe(exchanged: Exchanged, extraction: ExtractionSpec, layer: str) -> None:
    """Refuse words that were made for other descriptors than this layer's.

    Raises:
        IncompatibleInputs: the recipes differ; the first difference is named, with both values.
        UnknownLayer: the extraction has no such layer.
    """
    theirs, ours = _flat(exchanged.recipe), _flat(recipe_of(extraction, layer))
    for name in chain(ours, theirs):
        if theirs.get(name) != ours.get(name):
            raise IncompatibleInputs(
                f"words fit descriptors that are made as theirs were; for those of "
                f"{exchanged.layer} {name} is {_shown(theirs.get(name))}, for layer {layer} here "
                f"it is {_shown(ours.get(name))}: index with the same, or train words here"
            )


def _flat(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe by names such as `preprocess.short_edge`."""
    flat: dict[str, Any] = {}
    for name, value in recipe.items():
        inner = value if isinstance(value, dict) else None
        flat |= {name: value} if inner is None else {f"{name}.{k}": v for k, v in inner.items()}
    return flat


def _shown(value: object) -> str:
    if value is None:
        return "not given"
    text = one_line(value, 100)
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text


def export_vocabulary(
    store: Store, vocabulary: Vocabulary, extraction: ExtractionSpec, folder: Path
) -> tuple[Path, Path]:
    """Write the words of a layer as `LAYER.npy` and `LAYER.json`, and what else they need.

    A projection goes to `LAYER.projection-mean.npy` and `LAYER.projection-matrix.npy`, cells to
    `LAYER.cell-centres.npy` and `LAYER.cell-owners.npy`. The JSON comes last, and without it arrays
    are not taken for words; after a failure the written files are removed.

    Returns:
        The paths of the centroids and of the JSON.

    Raises:
        InputError: there are no words, one of the files exists, or the folder is none.
        IncompatibleInputs: the vocabulary was not made by this extraction.
    """
    layer = vocabulary.layer
    recipe = _recipe(extraction, layer)
    if vocabulary.recipe not in ("", recipe.digest()):
        raise IncompatibleInputs(
            f"a vocabulary goes with the recipe it was trained by; that of {layer} has recipe "
            f"{vocabulary.recipe[:12]}, this extraction {recipe.digest()[:12]}: export it with "
            "the extraction of its own snapshot"
        )
    if vocabulary.centroids is None:
        raise InputError(f"layer {layer} has no words here: there is nothing to export")
    words = read_committed(store, vocabulary.centroids, read_centroids)
    stem = tree.slug(layer)
    with _Folder(folder) as target:
        centroids = target.save(f"{stem}.npy", words)
        said = ExchangedVocabulary(
            format=EXCHANGE_FORMAT,
            layer=layer,
            words=vocabulary.words,
            dimensions=vocabulary.dimensions,
            centroids=centroids,
            projection=_save_projection(store, vocabulary, target, stem),
            cells=_save_cells(store, vocabulary, target, stem),
            recipe=recipe,
            recipe_digest=recipe.digest(),
            health=vocabulary.health,
            provenance=Provenance(
                vocabulary=vocabulary.identity(),
                spec=vocabulary.spec,
                extraction=vocabulary.extraction,
                words_requested=vocabulary.words_requested,
                rounds=len(vocabulary.rounds),
                imported=vocabulary.imported,
            ),
        )
        value = said.model_dump(mode="json", exclude_none=True)
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        written = target.create(f"{stem}.json", lambda file: file.write(text.encode()))
    return folder / centroids.name, written


class _Folder:
    """A folder whose files appear whole and are never replaced.

    A stopped export continues: files it wrote are found with the same bytes. On an error the files
    that this export made are removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Path] = []

    def __enter__(self) -> "_Folder":
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(
                f"an export goes into a folder; {self._folder} is a file, or is in one: give "
                "another path"
            ) from None
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for path in self._made:
                path.unlink(missing_ok=True)

    def create(self, name: str, fill: Callable[[BinaryIO], object]) -> Path:
        path, half = self._folder / name, self._folder / f".{name}.{secrets.token_hex(8)}.tmp"
        try:
            with half.open("xb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            if not path.exists():
                half.rename(path)
                self._made.append(path)
            elif not path.is_file() or sha256_of(path) != sha256_of(half):
                raise InputError(
                    f"an export overwrites nothing; {path} exists, and is another one: give "
                    "another folder"
                )
        finally:
            half.unlink(missing_ok=True)
        return path

    def save(self, name: str, array: npt.NDArray[Any]) -> ExchangedFile:
        """Write an array in NumPy's format, little-endian, row by row."""
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        path = self.create(name, lambda file: np.save(file, plain, allow_pickle=False))
        return ExchangedFile(name=name, sha256=sha256_of(path))


def _save_projection(
    store: Store, vocabulary: Vocabulary, target: _Folder, stem: str
) -> ExchangedProjection | None:
    if vocabulary.projection is None:
        return None
    projection = read_committed(store, vocabulary.projection, read_projection)
    return ExchangedProjection(
        descriptor_dimensions=projection.descriptor_dimensions,
        explained=projection.explained,
        mean=target.save(f"{stem}.projection-mean.npy", projection.mean),
        matrix=target.save(f"{stem}.projection-matrix.npy", projection.matrix),
    )


def _save_cells(
    store: Store, vocabulary: Vocabulary, target: _Folder, stem: str
) -> ExchangedCells | None:
    if vocabulary.cells is None:
        return None
    cells = read_committed(store, vocabulary.cells, read_cells)
    owners = np.empty(len(cells.members), np.uint32)
    owners[cells.members] = np.repeat(np.arange(len(cells)), np.diff(cells.offsets))
    return ExchangedCells(
        count=len(cells),
        probes=vocabulary.probes,
        centres=target.save(f"{stem}.cell-centres.npy", cells.centres),
        owners=target.save(f"{stem}.cell-owners.npy", owners),
    )


def read_exchanged(json_path: Path) -> Exchanged:
    """Return the words that a JSON describes, every array checked.

    Raises:
        InputError: there is no such JSON, it breaks a rule, or an array is absent, of another
            shape, dtype or SHA-256 than it says, or holds a number that is not finite.
    """
    said = read_json(json_path)
    folder, words, dimensions = json_path.parent, said.words, said.dimensions
    centroids = _read_vectors(folder, said.centroids, (words, dimensions))
    projection = cells = None
    if said.projection is not None:
        across = said.projection.descriptor_dimensions
        mean = _read_array(folder, said.projection.mean, "<f8", (across,))
        matrix = _read_array(folder, said.projection.matrix, "<f8", (across, dimensions))
        try:
            projection = Projection(mean, matrix, said.projection.explained)
        except ValueError as error:
            raise InputError(f"{json_path}: {error}: export it again") from None
    if said.cells is not None:
        count = said.cells.count
        centres = _read_vectors(folder, said.cells.centres, (count, dimensions))
        owners = _read_array(folder, said.cells.owners, "<u4", (words,))
        if owners.max() >= count:
            raise InputError(
                f"{folder / said.cells.owners.name} gives each word one of {count:,} cells; it "
                f"names cell {owners.max():,}: export it again"
            )
        order, offsets = grouped(owners, count)
        cells = Cells(centres, offsets, order.astype(np.uint32))
    return Exchanged(
        layer=said.layer,
        centroids=centroids,
        projection=projection,
        cells=cells,
        probes=said.cells.probes if said.cells else 0,
        recipe=said.recipe.content(),
        recipe_digest=said.recipe.digest(),
        health=said.health,
        provenance=said.provenance,
    )


def read_json(path: Path) -> ExchangedVocabulary:
    """Read the JSON of exchanged words, without their arrays.

    Raises:
        InputError: there is none, or it breaks a rule.
    """
    beside = path.with_suffix(".json")
    if path.suffix == ".npy" and beside.is_file():
        raise InputError(f"words are taken by the JSON beside them: give {beside}")
    if path.suffix == ".npy":
        raise InputError(
            f"{path.name} does not say which descriptors its words are for: write {beside.name} "
            f'beside it, with "format": "{EXCHANGE_FORMAT}", "layer", "words", "dimensions", '
            '"centroids": {"name", "sha256"} and "recipe"; an export of any vocabulary of the '
            "layer shows one"
        )
    if not path.is_file():
        raise InputError(f"there is no file {path}: give the JSON of an export")
    with path.open("rb") as file:
        data = file.read(LARGEST_JSON + 1)
    if len(data) > LARGEST_JSON:
        raise InputError(
            f"{path} has more than {LARGEST_JSON:,} bytes, the JSON of an export a few thousand: "
            "give that JSON"
        )
    try:
        return ExchangedVocabulary.from_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise InputError(
            f"{path} describes no vocabulary: "
            f"{one_line(f'{where}: {what}' if where else what)}; export it again"
        ) from None


def _read_vectors(folder: Path, said: ExchangedFile, shape: tuple[int, int]) -> Float32s:
    vectors = _read_array(folder, said, "<f4", shape)
    try:
        return checked_vectors(vectors, "vectors")[0]
    except ValueError as error:
        raise InputError(f"{folder / said.name}: {error}: export it again") from None


def _read_array(
    folder: Path, said: ExchangedFile, dtype: str, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    return read_array(folder / said.name, said.sha256, dtype, shape)
