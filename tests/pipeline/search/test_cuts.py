import numpy as np
import pytest

from lamella.pipeline.search.block_scan import BLOCK_IMAGES
from lamella.pipeline.search.candidates import GROUP_QUERIES, cut

SEGMENT = 100_000


@pytest.mark.parametrize(
    ("queries", "images", "threads", "groups", "scans"),
    [
        (64, [SEGMENT] * 3, 2, 1, 6),  # three scans would leave a thread idle for a quarter
        (64, [SEGMENT], 2, 1, 2),
        (1, [SEGMENT], 2, 1, 2),
        (64, [SEGMENT] * 10, 2, 1, 10),
        (1_024, [SEGMENT] * 3, 2, 8, 24),
        (64, [SEGMENT] * 3, 16, 1, 15),  # 15 of 16 threads are enough
        (64, [SEGMENT] * 3 + [3_000], 2, 1, 7),  # the small one is not cut
        (64, [2_000], 2, 2, 2),  # too few images: the queries are cut
        (0, [10], 2, 1, 1),
        (5, [], 2, 1, 0),
    ],
)
def test_scans_are_as_few_as_keep_threads_busy(
    queries: int, images: list[int], threads: int, groups: int, scans: int
) -> None:
    asked, parts = cut(queries, images, threads)
    assert (len(asked), len(asked) * len(parts)) == (groups, scans)


@pytest.mark.parametrize("threads", [1, 2, 7, 64])
@pytest.mark.parametrize("queries", [1, 65, 1_000])
def test_every_query_meets_every_image_once(queries: int, threads: int) -> None:
    images = [SEGMENT, 17, 0, 2 * BLOCK_IMAGES]
    asked, parts = cut(queries, images, threads)
    assert np.concatenate([np.arange(queries)[each] for each in asked]).tolist() == list(
        range(queries)
    )
    assert max(each.stop - each.start for each in asked) <= GROUP_QUERIES
    for n, count in enumerate(images):
        rows = np.concatenate([np.arange(count)[part] for m, part in parts if m == n])
        assert rows.tolist() == list(range(count))
