"""Pictures by their address, as queries: those that cannot be had are refused, each by itself."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lamella.cluster.serve.answers import Queries, refusal
from lamella.cluster.serve.models import Refused as RefusedQuery
from lamella.cluster.serve.settings import ServeSettings
from lamella.cluster.serve.urls import check_url, fetch, name_of
from lamella.pipeline.corpus.refused import Refused

AT_ONCE = 8
"""Addresses of a request that are fetched at a time."""


def fetched(urls: Sequence[str], arguments: Mapping[str, Any], settings: ServeSettings) -> Queries:
    """Return the pictures at some addresses, as queries.

    Raises:
        Problem: an address is not allowed, or leads to one that is not.
    """
    for url in urls:
        check_url(url, settings.urls)

    def one(url: str) -> bytes | RefusedQuery:
        try:
            return fetch(url, settings.urls, settings.max_upload, settings.fetch_s)
        except Refused as refused:
            return refusal(refused.reason, refused.detail)

    with ThreadPoolExecutor(AT_ONCE, "lamella-fetch") as pool:
        found = list(pool.map(one, urls))
    return Queries(
        "pictures",
        tuple(each for each in found if isinstance(each, bytes)),
        arguments,
        tuple(map(name_of, urls)),
        {place: each for place, each in enumerate(found) if isinstance(each, RefusedQuery)},
    )
