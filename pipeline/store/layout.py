"""Every path in a store is made here, and nowhere else. FORMAT.md explains the tree."""

import re


def slug(name: str) -> str:
    """Return a readable, safe part of a path: letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")[:40] or "unnamed"


def keyed(name: str, digest: str) -> str:
    """Return a folder's name: a readable part and a digest of what changes its contents."""
    return f"{slug(name)}-{digest[:12]}"


def shard_key(number: int) -> str:
    """Return a shard's key, such as `00042`."""
    return f"{number:05d}"


def done(folder: str, key: str) -> str:
    """Return the path of a task's done record; `folder` is the stage's own."""
    return f"{folder}/done/{key}.json"


def attempt_file(folder: str, key: str, token: str, suffix: str) -> str:
    """Return the path of a task's data file; the token keeps attempts apart."""
    return f"{folder}/{key}.{token}.{suffix}"


def verdicts(folder: str, key: str) -> str:
    """Return the folder of the verdicts on a task's pictures; `folder` is the stage's own."""
    return f"{folder}/verdicts/{key}"


def verdict(folder: str, key: str, name: str) -> str:
    return f"{verdicts(folder, key)}/{name}.json"


def corpus(corpus_key: str) -> str:
    return f"corpora/{corpus_key}"


def manifest(corpus_key: str) -> str:
    return f"{corpus(corpus_key)}/manifest.json"


def extraction(extraction_key: str) -> str:
    return f"activations/{extraction_key}"


def vocabulary(vocabulary_key: str, layer: str) -> str:
    return f"vocabularies/{vocabulary_key}/{slug(layer)}"


def vocabulary_record(vocabulary_key: str, layer: str) -> str:
    return f"{vocabulary(vocabulary_key, layer)}/vocabulary.json"


def encoding(encoding_key: str) -> str:
    return f"bags/{encoding_key}"


def index(index_key: str) -> str:
    return f"segments/{index_key}"


def layer_folder(folder: str, layer: str) -> str:
    """Return the folder of one layer's files inside a stage's folder."""
    return f"{folder}/{slug(layer)}"


def job(job_key: str) -> str:
    return f"jobs/{job_key}.json"


def plans(plan_key: str) -> str:
    """Return the folder of the plans of one subject."""
    return f"plans/{plan_key}"


def plan(plan_key: str, number: int) -> str:
    return f"{plans(plan_key)}/{number:06d}.json"


def snapshot(number: int) -> str:
    return f"snapshots/{number:06d}.json"


def promotion(number: int) -> str:
    return f"promotions/{number:06d}.json"


def run(run_key: str) -> str:
    return f"runs/{run_key}"


def run_record(run_key: str) -> str:
    return f"{run(run_key)}/run.json"


def run_report(run_key: str, suffix: str) -> str:
    return f"{run(run_key)}/report.{suffix}"
