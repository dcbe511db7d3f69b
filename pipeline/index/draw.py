"""Draw the images whose similarities say how a layer's similarities lie."""

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.vocabulary.batches import seeding_rows

DRAWN_IMAGES = 512
"""Images of a corpus that are compared with each other: 130,816 pairs, of which 131 lie above the
99.9th percentile. Each segment keeps as many, since the drawn of the corpus may all be its own."""

SEED = 0x5343414C45


def draw(image_ids: NDArray[np.int64], limit: int = DRAWN_IMAGES) -> NDArray[np.int64]:
    """Return the rows, rising, of the `limit` images with the least random numbers.

    The number of an image depends on its id alone, so the drawn of a corpus are those of the drawn
    of its segments, however it is cut.

    Args:
        image_ids: (n,), distinct.
    """
    return np.sort(seeding_rows(SEED, image_ids, np.zeros_like(image_ids), limit))
