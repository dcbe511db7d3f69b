"""A comparison as plain values for scripts, and its queries as a table."""

from typing import Any

import pyarrow as pa

from lamella.pipeline.evaluate.compare import Agreement, Comparison, Counted, MeasureRow

LISTED = 1_000
"""The most pictures of a kind that JSON names: of more it has the number."""


def values_of(comparison: Comparison, counted: Counted) -> dict[str, Any]:
    """Return what a comparison found, for JSON; differences are B less A."""
    found = comparison.corpora
    return {
        "a": comparison.a.label,
        "b": comparison.b.label,
        "queries": {
            "compared": counted.compared,
            "a": counted.of_a,
            "b": counted.of_b,
            "left_out": dict(counted.left_out),
            "protocol": counted.protocol or None,
            "in_both": counted.in_both,
        },
        "measures": [_measure(row) for row in comparison.rows],
        "bootstrap": comparison.bootstrap.model_dump() if comparison.bootstrap else None,
        "agreement": _agreement(comparison.agreement),
        "agreement_in_both": _agreement(comparison.among_both),
        "pictures": None
        if found is None
        else {
            "both": len(found.both),
            **{
                name: {"count": len(names), "names": list(names[:LISTED])}
                for name, names in (
                    ("new", found.new),
                    ("gone", found.gone),
                    ("changed", found.changed),
                )
            },
        },
        "most_changed": [comparison.a.queries[place] for place in comparison.most_changed(20)],
    }


def _measure(row: MeasureRow) -> dict[str, Any]:
    return {
        "measure": row.name,
        "a": row.a,
        "b": row.b,
        "difference": row.difference,
        "interval": [row.interval.low, row.interval.high] if row.interval else None,
        "p": row.p,
        "corrected_p": row.corrected_p,
        "wins": row.wins,
        "ties": row.ties,
        "losses": row.losses,
        "verdict": row.verdict,
    }


def _agreement(found: Agreement | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "overlap": {str(k): float(row.mean()) for k, row in found.overlaps.items()},
        "rank_biased_overlap": float(found.biased.mean()),
        "first_changed": int(found.first_changed.sum()),
    }


def delta_table(comparison: Comparison) -> Any:
    """Return a table with a row a query, in the order of the comparison.

    Columns: `query`; `a.M`, `b.M` and `delta.M` (B less A) of each measure M, float64; `a.first`
    and `b.first`, the name of the first picture, null for none; then `overlap@k`,
    `rank_biased_overlap` (float64) and `first_changed` (bool), and again with `both.` before them
    over the pictures that both corpora have, where these are known.
    """
    a, b = comparison.a, comparison.b
    columns: dict[str, Any] = {"query": pa.array(a.queries, pa.string())}
    for name in a.scores:
        columns[f"a.{name}"] = a.scores[name]
        columns[f"b.{name}"] = b.scores[name]
        columns[f"delta.{name}"] = comparison.deltas(name)
    for letter, scored in (("a", a), ("b", b)):
        first = [names[0] if names else None for names in scored.ranked]
        columns[f"{letter}.first"] = pa.array(first, pa.string())
    columns |= _columns(comparison.agreement)
    if comparison.among_both is not None:
        columns |= {f"both.{name}": row for name, row in _columns(comparison.among_both).items()}
    return pa.table(columns)


def _columns(found: Agreement) -> dict[str, Any]:
    overlaps = {f"overlap@{k}": row for k, row in found.overlaps.items()}
    return {
        **overlaps,
        "rank_biased_overlap": found.biased,
        "first_changed": found.first_changed,
    }
