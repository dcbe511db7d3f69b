"""Draw pictures by the million, as global vectors and bags of words with realistic statistics.

A picture is a point in a space of few axes. Its vector is the rectified square of random
projections of that point; its bag holds words of the topics nearest to it. Points cluster around
themes of uneven size, and views of one planted group around one origin. The constants were fitted
to 629 real photographs, "the mixed set": all of UKB and Holidays and 60 of each of four collections
with one subject (Oxford, KTH's buildings, DVD covers, groceries), through EfficientNet-Lite0, whose
`head` gives the vectors. `tests/benchmarks/bench_scale_realism.py` measures both again.

The laws of words were fitted to layer b11 with one word a descriptor. The default numbers are those
of p15 with three: 429 photographs hold 60 of 20,000 words on average (32 to 98 in nine tenths of
them). Random pairs share 1.3 times the words that even use would give; here they share twice as
many.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lamella.pipeline.arrays import Float32s, Float64s, Int64s, UInt32s
from lamella.pipeline.index.bags import BagsOfWords, concatenate, select
from lamella.pipeline.planted.topics import (
    TOPICS,
    WordLaw,
    bags_of,
    draw_sizes,
    draw_words,
    ends_of,
    word_law,
)

Drawn = tuple[Float32s, BagsOfWords]
"""Vectors (n, D) and bags of the same n pictures."""

CHUNK = 512
"""Pictures drawn together, from one random stream: drawing one costs as much as all."""

GROUP_BLOCK = 16
"""Groups whose origins are drawn together."""

AXES = 257
"""Axes of the space; the rectified square spreads them over all dimensions. The last is the
shade."""

SPECTRUM = (4.0, 1.2)
"""Axis k has variance (k + 4) ** -1.2: fitted to the energy that the leading 1 to 256
eigenvectors of half of the mixed set keep of the other half, and those of the whole of itself."""

OFFSET = (0.27, 0.33)
"""Mean and spread, over dimensions, of the offset before rectifying: fitted to the cosines of
unrelated pictures. It also makes 40 % of the values 0; in real ones 36 % are. Quantiles in
dimensions with 25 to 45 % zeros show that the others are squares of a normal variable. The square
gives the real skew, 3, and a range in a dimension of 7 to 9 standard deviations, so codes of 8 bits
lose what they lose on real vectors."""

SHADE = 0.3
"""Weight of the last axis, which raises all dimensions of a picture: fitted to the share of zeros,
which is 21 to 57 % in nine tenths of the real pictures."""

NOISE = 0.1
"""Share of the variance that is each dimension's own, fitted with the spectrum."""

THEMES, THEME_SHARE = 1_000, 0.74
"""Theme r, from 1, has a share of pictures proportional to 1 / r, and gives 0.74 of the variance of
their points: so some unrelated pairs are alike. In the mixed set 4 % of pairs are of one subject,
here 3 %."""

CLOSE, FAR, FAR_POWER = 0.975, 0.5, 2.0
"""A view takes CLOSE - FAR * u ** FAR_POWER of its variance from its group's origin, u uniform in 0
to 1: fitted to the cosines of pairs of one object."""

_PICTURES, _GROUPS, _QUERIES, _WORLD = range(4)


@dataclass(frozen=True)
class ScaleSpec:
    """The corpus to draw: pictures, some of them views of planted groups.

    Attributes:
        pictures: in the corpus, at least 1.
        seed: at least 0; another seed gives another corpus.
        dimensions: of a vector, at least 64.
        words: of the vocabulary, at least ten times those of a picture and at most 8,388,608.
        words_per_picture: distinct ones, on average, within a few per cent.
        grouped: share of the pictures that are in groups, 0 to 1, evenly spread over the corpus.
        group_size: pictures of a group, at least 2. They lie far apart.

    Raises:
        ValueError: a value is out of range.
    """

    pictures: int
    seed: int = 0
    dimensions: int = 1_280
    words: int = 20_000
    words_per_picture: int = 60
    grouped: float = 0.1
    group_size: int = 4

    def __post_init__(self) -> None:
        least = {"pictures": 1, "seed": 0, "dimensions": 64, "words_per_picture": 1}
        for name, low in (least | {"words": 10 * self.words_per_picture, "group_size": 2}).items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be at least {low:,}; got {getattr(self, name):,}")
        if self.words > 1 << 23:
            raise ValueError(f"words must be at most {1 << 23:,}; got {self.words:,}")
        if not 0.0 <= self.grouped <= 1.0:
            raise ValueError(f"grouped is a share from 0 to 1; got {self.grouped}")

    @property
    def groups(self) -> int:
        """The number of groups, all of them whole."""
        return int(self.pictures * self.grouped) // self.group_size


def groups_of(spec: ScaleSpec, first: int, stop: int) -> Int64s:
    """Return the group of pictures first to stop, (stop - first,) int64; -1 is background.

    Of 16 pictures, half of them in groups of 4, 1, 5, 9 and 13 are group 0.

    Raises:
        ValueError: not a range of the corpus.
    """
    if not 0 <= first <= stop <= spec.pictures:
        raise ValueError(f"pictures go from 0 to {spec.pictures:,}; got {first:,} to {stop:,}")
    slots = np.floor(np.arange(first, stop + 1) * spec.grouped).astype(np.int64)
    held = (slots[1:] > slots[:-1]) & (slots[:-1] < spec.groups * spec.group_size)
    return np.where(held, slots[:-1] % max(spec.groups, 1), -1)


def draw_pictures(spec: ScaleSpec, first: int, stop: int) -> Drawn:
    """Return vectors (stop - first, D) float32 and bags of pictures first to stop.

    A picture depends on the spec and its number alone, not on how the corpus is cut. Bytes are
    equal on one kind of machine: NumPy's matrix products and exponentials differ between kinds.
    Vectors have length 1 and no negative value. Memory grows with the range: ask for a part at a
    time.

    Raises:
        ValueError: not a range of the corpus.
    """
    groups_of(spec, first, stop)
    parts = []
    for chunk in range(first // CHUNK, -(-stop // CHUNK) if stop > first else 0):
        start = chunk * CHUNK
        end = min(start + CHUNK, spec.pictures)
        groups = np.full(CHUNK, -1, dtype=np.int64)
        groups[: end - start] = groups_of(spec, start, end)
        drawn = _draw_chunk(spec, _PICTURES, chunk, groups)
        parts.append(_cut(drawn, max(first - start, 0), min(stop - start, CHUNK)))
    return _join(spec, parts)


def draw_queries(spec: ScaleSpec, count: int) -> tuple[Float32s, BagsOfWords, Int64s]:
    """Return vectors (count, D), bags and groups (count,) int64 of pictures not in the corpus.

    Query 0 is one more view of group 0, query 1 of the background, query 2 of group 1 and so on,
    from group 0 again after the last. Without groups all are background.

    Raises:
        ValueError: count is negative.
    """
    if count < 0:
        raise ValueError(f"count must be at least 0; got {count}")
    numbers = np.arange(-(-count // CHUNK) * CHUNK)
    views = (numbers % 2 == 0) & (spec.groups > 0)
    groups = np.where(views, numbers // 2 % max(spec.groups, 1), -1)
    parts = []
    for chunk, start in enumerate(range(0, count, CHUNK)):
        drawn = _draw_chunk(spec, _QUERIES, chunk, groups[start : start + CHUNK])
        parts.append(_cut(drawn, 0, min(count - start, CHUNK)))
    return *_join(spec, parts), groups[:count]


@dataclass(frozen=True, eq=False)
class _World:
    """What all pictures of a seed share."""

    sides: Float32s  # (AXES, D): columns of variance 1 - NOISE, except the shade
    offsets: Float32s  # (D,)
    topics: Float32s  # (AXES, TOPICS): columns of variance 1
    themes: Float32s  # (THEMES, AXES)
    theme_ends: Float64s  # (THEMES,), cumulated shares
    law: WordLaw


@dataclass(frozen=True, eq=False)
class _Points:
    """Points of pictures, not yet projected; picture i has words draws[ends[i]:ends[i + 1]]."""

    points: Float32s  # (n, AXES)
    noise: Float32s  # (n, D), variance 1
    ends: Int64s  # (n + 1,)
    draws: UInt32s


def _stream(seed: int, kind: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, kind, number])))


@lru_cache(maxsize=4)
def _world(seed: int, dimensions: int, words: int, words_per_picture: int) -> _World:
    rng = _stream(seed, _WORLD, 0)
    spectrum = (np.arange(AXES - 1) + SPECTRUM[0]) ** -SPECTRUM[1]
    sides = rng.standard_normal((AXES, dimensions + TOPICS))
    sides[:-1] *= np.sqrt(spectrum)[:, None]
    sides[:-1] /= np.sqrt(np.square(sides[:-1]).sum(axis=0))
    sides[:-1, :dimensions] *= np.sqrt(1.0 - NOISE)
    sides[-1] = np.where(np.arange(dimensions + TOPICS) < dimensions, SHADE, 0.0)
    theme_ends = np.cumsum(1.0 / np.arange(1, THEMES + 1))
    topics = np.ascontiguousarray(sides[:, dimensions:], dtype=np.float32)
    return _World(
        sides=np.ascontiguousarray(sides[:, :dimensions], dtype=np.float32),
        offsets=rng.normal(*OFFSET, size=dimensions).astype(np.float32),
        topics=topics,
        themes=rng.standard_normal((THEMES, AXES), dtype=np.float32),
        theme_ends=theme_ends / theme_ends[-1],
        law=word_law(rng, words, words_per_picture, topics),
    )


def _world_of(spec: ScaleSpec) -> _World:
    return _world(spec.seed, spec.dimensions, spec.words, spec.words_per_picture)


def _draw(
    spec: ScaleSpec, rng: np.random.Generator, rows: Int64s, around: _Points | None
) -> _Points:
    """Return a picture a row: a view of that row of `around`, or background where it is -1."""
    count, world = len(rows), _world_of(spec)
    points = rng.standard_normal((count, AXES), dtype=np.float32)
    # Normal numbers would take most of the time, and a tenth of the variance does not show them.
    noise = rng.integers(256, size=(count, spec.dimensions), dtype=np.uint8).astype(np.float32)
    noise -= np.float32(127.5)
    noise *= np.float32(np.sqrt(12.0) / 256.0)
    sizes = draw_sizes(world.law, rng, count)
    bases = world.themes[np.searchsorted(world.theme_ends, rng.random(count))]
    shares = np.full((count, 1), THEME_SHARE, dtype=np.float32)
    far, views = rng.random(count), np.flatnonzero(rows >= 0)
    if around is not None:
        origins = rows[views]
        shares[views, 0] = CLOSE - FAR * far[views] ** FAR_POWER
        bases[views] = around.points[origins]
        sizes[views] = np.diff(around.ends)[origins]
        noise[views] *= np.sqrt(1.0 - shares[views])
        noise[views] += np.sqrt(shares[views]) * around.noise[origins]
    points *= np.sqrt(1.0 - shares)
    points += np.sqrt(shares) * bases
    draws, ends = draw_words(world.law, rng, points @ world.topics, sizes), ends_of(sizes)
    if around is not None:
        taken, shifts = np.zeros(count), np.zeros(count, dtype=np.int64)
        taken[views] = np.interp(far[views], (0.0, 1.0), world.law.shared)
        shifts[views] = around.ends[origins] - ends[views]
        same = np.flatnonzero(rng.random(len(draws)) < np.repeat(taken, sizes))
        draws[same] = around.draws[same + np.repeat(shifts, sizes)[same]]
    return _Points(points, noise, ends, draws)


def _draw_groups(spec: ScaleSpec, groups: Int64s) -> tuple[Int64s, _Points | None]:
    """Return the row of each group, -1 for -1, and the origins that the rows are of."""
    blocks = np.unique(groups[groups >= 0] // GROUP_BLOCK)
    if len(blocks) == 0:
        return groups, None
    new = np.full(GROUP_BLOCK, -1, dtype=np.int64)
    parts = [_draw(spec, _stream(spec.seed, _GROUPS, int(block)), new, None) for block in blocks]
    origins = _Points(
        points=np.concatenate([part.points for part in parts]),
        noise=np.concatenate([part.noise for part in parts]),
        ends=ends_of(np.concatenate([np.diff(part.ends) for part in parts])),
        draws=np.concatenate([part.draws for part in parts]),
    )
    rows = np.searchsorted(blocks, groups // GROUP_BLOCK) * GROUP_BLOCK + groups % GROUP_BLOCK
    return np.where(groups >= 0, rows, -1), origins


def _draw_chunk(spec: ScaleSpec, kind: int, chunk: int, groups: Int64s) -> Drawn:
    """Return a whole chunk; groups is (CHUNK,)."""
    world = _world_of(spec)
    drawn = _draw(spec, _stream(spec.seed, kind, chunk), *_draw_groups(spec, groups))
    vectors: Float32s = drawn.noise * np.float32(np.sqrt(NOISE))
    vectors += drawn.points @ world.sides
    vectors += world.offsets
    np.maximum(vectors, 0.0, out=vectors)
    np.square(vectors, out=vectors)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    vectors /= np.maximum(lengths, np.finfo(np.float32).tiny)[:, None]
    return vectors, bags_of(drawn.ends, drawn.draws)


def _cut(drawn: Drawn, first: int, stop: int) -> Drawn:
    """Return some pictures of a chunk."""
    if stop - first == CHUNK:
        return drawn
    vectors, bags = drawn
    return vectors[first:stop], select(bags, np.arange(first, stop, dtype=np.int64))


def _join(spec: ScaleSpec, parts: list[Drawn]) -> Drawn:
    """Return the pictures of all parts as one."""
    vectors = [np.empty((0, spec.dimensions), dtype=np.float32), *(part[0] for part in parts)]
    return np.concatenate(vectors), concatenate([part[1] for part in parts])
