"""A vocabulary as an index uses it."""

from lamella.pipeline.errors import InputError
from lamella.schemas.vocabulary import EncodingSpec, Vocabulary


def in_use(vocabulary: Vocabulary, encoding: EncodingSpec) -> Vocabulary:
    """Return a vocabulary with the encoding that an index describes pictures by.

    A training may end with fewer words than a descriptor is to count for: it then counts for all.
    What it was trained on is left out: an index does not need it.

    Raises:
        InputError: imported words are fewer.
    """
    if vocabulary.imported and encoding.nearest > vocabulary.words:
        raise InputError(
            f"a descriptor counts for all words at most; {encoding.nearest} nearest words of "
            f"{vocabulary.words:,} in layer {vocabulary.layer} are asked for: ask for fewer "
            "(encoding.nearest)"
        )
    nearest = min(encoding.nearest, vocabulary.words)
    encoding = encoding.model_copy(update={"nearest": nearest})
    trained_on = {"sample": (), "held": None, "freed": False}
    return vocabulary.model_copy(update={"encoding": encoding, **trained_on})
