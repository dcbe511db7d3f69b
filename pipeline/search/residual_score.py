"""The selective match kernel of residuals (Tolias, Avrithis and Jegou 2013, equations 12 and 16).

S(q, x) = sum over the words of both of max(0, u . v) ** 3 / sqrt(n_q n_x), with u and v the
residuals of a word in q and x, and n the number of words of a picture. It is in [0, 1]; clamped, as
u . u may be a little above 1 in float16. As in `score`, a similarity depends on its query and its
image alone, to the bit: each product is exact, and words are added in rising order.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamella.pipeline.arrays import Float32s, Float64s, Int32s, Int64s
from lamella.pipeline.index.residuals import Residuals, kind_of
from lamella.pipeline.search import residual_kernels
from lamella.pipeline.search.entries import entries_from
from lamella.pipeline.search.score import Candidates
from lamella.pipeline.search.segment import ResidualLayer, inverse_roots
from lamella.pipeline.vocabulary.ivf_kernels import widen

_UNIT = 2.0**-24


def check_asked(queries: Residuals, layer: ResidualLayer) -> None:
    """Check that queries can be compared with a layer.

    Raises:
        ValueError: a word outside the vocabulary, other dimensions, or another form of residuals.
    """
    queries.bags.check_words(layer.postings.words)
    mine, theirs = kind_of(layer.payload), queries.kind
    if (layer.dimensions, mine) != (queries.dimensions, theirs):
        raise ValueError(
            f"residuals of {layer.dimensions} dimensions as {mine} are compared with their like; "
            f"the queries have {queries.dimensions} as {theirs}"
        )


def residual_similarities(queries: Residuals, layer: ResidualLayer) -> Float64s:
    """Return the similarity of every query with every image of a segment, (Q, n) float64.

    Raises:
        ValueError: see `check_asked`.
    """
    check_asked(queries, layer)
    out = np.empty((len(queries), len(layer)), np.float64)
    residual_kernels.every(
        queries.bags.offsets, queries.bags.words, as_integers(queries.payload),
        np.diff(layer.bags.offsets), layer.postings.offsets, layer.postings.rows,
        as_integers(layer.payload), layer.dimensions, queries.kind == "bits", out,
    )  # fmt: skip
    return out


def residual_similarities_of(
    queries: Residuals, candidates: Candidates, layer: ResidualLayer, alone: bool = False
) -> Float64s:
    """Return the similarities with chosen images, (m,) float64, as `residual_similarities` to the
    bit. `alone` is as in `score.bag_similarities_of`.

    Raises:
        ValueError: candidates of other queries or images; see `check_asked`.
    """
    check_asked(queries, layer)
    candidates.check(len(queries), len(layer))
    out = np.empty(len(candidates.rows), np.float64)
    arguments = (
        queries.bags.offsets, queries.bags.words, as_integers(queries.payload), candidates.offsets,
        candidates.rows, layer.bags.offsets, layer.bags.words, layer.postings.offsets,
        layer.postings.rows, as_integers(layer.payload), layer.dimensions, queries.kind == "bits",
        out,
    )  # fmt: skip
    if alone:
        residual_kernels.pairs_of(0, len(queries), *arguments)
    else:
        residual_kernels.pairs(*arguments)
    return out


@dataclass(eq=False)
class ResidualScan:
    """Some queries on their way through the posting lists and residuals of a segment.

    Attributes:
        errors: (Q,) float64: a similarity is at most this times S ** (2 / 3) below its bound S.
        payloads, payloads_read: see `topk.Effort`.
    """

    layer: ResidualLayer
    starts: Int64s
    cursors: Int64s
    ends: Int64s
    query_of: Int64s
    asked: NDArray[Any]
    query_roots: Float32s
    error: np.float32
    lifts: Float32s
    errors: Float64s
    payloads: int = 0
    payloads_read: int = 0

    def begin_block(self, first: int, out: Float32s, in_steps: bool) -> bool:
        """Write bounds of the next block, with `in_steps` only by the words in common."""
        if in_steps:
            residual_kernels.count_common(
                self.starts, self.cursors, self.ends, self.query_of, self.layer.postings.rows,
                self.layer.roots, self.query_roots, first, out,
            )  # fmt: skip
            return True
        out[:] = 0.0
        self._scan(first, out)
        return False

    def end_block(self, first: int, out: Float32s, rows: Int32s, kept: Int64s) -> None:
        """Write bounds by the residuals of chosen rows; see `query_layers.Scan.end_block`."""
        residual_kernels.choose(out, rows, kept)
        self._scan(first, out)

    def _scan(self, first: int, out: Float32s) -> None:
        layer = self.layer
        common, taken = residual_kernels.scan(
            self.starts, self.cursors, self.ends, self.query_of, self.asked, layer.postings.rows,
            as_integers(layer.payload), layer.dimensions, kind_of(layer.payload) == "bits",
            layer.roots, self.query_roots, self.error, self.lifts, first, out,
        )  # fmt: skip
        self.payloads += common
        self.payloads_read += taken


def start_scan(queries: Residuals, layer: ResidualLayer, first: int = 0) -> ResidualScan:
    """Return queries at a row of a segment, its first by default.

    With u = 2**-24: a product of D numbers in float32 is off by at most e = 1.01 (D + 2) u, in any
    order (Higham, equation 3.5 of the 2nd edition; lengths are at most 1.001); one of signs, which
    are counted, by u. So the sum of (product + e) ** 3 over the words is an upper bound, once it is
    lifted by what adding up to n_q of them in float32 and scaling lose: n_q + 13 times 1.01 u of
    itself. Each term is at most 6 e q ** 2 above the true one, with q = product + e. By Hoelder's
    inequality the sum of c numbers q ** 2 is at most c ** (1 / 3) times (the sum of q ** 3) **
    (2 / 3), and c is at most sqrt(n_q n_x): so the bound S is at most 6 e S ** (2 / 3) too high,
    and by the lift, of which S <= S ** (2 / 3) too.
    """
    check_asked(queries, layer)
    bags = queries.bags
    sizes = np.diff(bags.offsets)
    order = np.argsort(bags.words, kind="stable")
    starts = np.flatnonzero(np.diff(bags.words[order].astype(np.int64), prepend=-1))
    words = bags.words[order][starts]
    payload = queries.payload[order]
    signs = queries.kind == "bits"
    error = _UNIT if signs else 1.01 * (queries.dimensions + 2) * _UNIT
    lifts = (sizes + 13) * (1.02 * _UNIT)
    return ResidualScan(
        layer=layer,
        starts=np.append(starts, len(order)),
        cursors=entries_from(layer.postings, words, first, len(layer)),
        ends=layer.postings.offsets[1:][words],
        query_of=np.repeat(np.arange(len(bags)), sizes)[order],
        asked=as_integers(payload) if signs else _scaled(payload),
        query_roots=inverse_roots(sizes),
        error=np.nextafter(np.float32(error), np.float32(1.0)),
        lifts=np.nextafter((1.0 + lifts).astype(np.float32), np.float32(2.0)),
        errors=6.1 * error + 2.1 * (lifts + _UNIT),
    )


def _scaled(payload: NDArray[np.float16]) -> NDArray[np.uint32]:
    """Return the bits of residuals as float32, times what `scan` wants."""
    wide = widen(payload.view(np.uint16), np.arange(len(payload)))
    return (wide * np.float32(residual_kernels.HALF_SCALE)).view(np.uint32)


def as_integers(payload: NDArray[Any]) -> NDArray[Any]:
    """Return residuals as compiled loops take them: bits as uint16, signs as the widest integers
    that fit.
    """
    if payload.dtype == np.float16:
        return payload.view(np.uint16)
    return payload.view(np.uint64) if payload.shape[1] % 8 == 0 else payload
