"""The rules of trust, read from the source: what may load, wait, tell the date, or reach out."""

import ast
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("schemas", "pipeline", "cluster")

Rule = Callable[[str, ast.Call], str | None]
"""Says what is wrong with a call, given its full name; None where nothing is."""


def names_in(tree: ast.AST) -> dict[str, str]:
    """Return what each imported name stands for, such as `load` for `torch.load`."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                names[each.asname or each.name.split(".")[0]] = (
                    each.name if each.asname else each.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            for each in node.names:
                names[each.asname or each.name] = f"{node.module}.{each.name}"
    return names


@functools.cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


@functools.cache
def calls_in(source: str) -> list[tuple[str, ast.Call, str]]:
    """Return (full name, call, enclosing function) of every call."""
    tree = parsed(source)
    names = names_in(tree)

    def walk(node: ast.AST, function: str) -> Iterator[tuple[str, ast.Call, str]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        if isinstance(node, ast.Call):
            first, dot, rest = ast.unparse(node.func).partition(".")
            yield names.get(first, first) + dot + rest, node, function
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function)

    return list(walk(tree, ""))


def imports_in(source: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            yield from ((each.name, node.lineno) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{each.name}", node.lineno) for each in node.names)


def keyword(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(each.value) for each in call.keywords if each.arg == name), None)


def sources() -> list[tuple[str, str]]:
    """Return (path, text) of every file of ours."""
    return [
        (str(path.relative_to(ROOT)), path.read_text())
        for package in OURS
        for path in sorted((ROOT / package).rglob("*.py"))
    ]


UNPICKLERS = {
    # Reads pickles, but builds nothing beyond a closed list of harmless things.
    "pipeline/evaluate/pickled_truth.py",
    # Refuses a program of torch.export that holds pickles before it is loaded.
    "pipeline/networks/exported.py",
}

READS_FAISS = {
    # Reads an index only once it is the file whose SHA-256 a snapshot names.
    ("pipeline/proposers/files.py", "_read"),
}

LOADERS = {"pickle", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
RUNNERS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "runpy.run_path"}


def runs_what_it_reads(name: str, call: ast.Call) -> str | None:
    if name in RUNNERS or name.split(".")[0] in LOADERS:
        return f"calls {name}"
    if name == "torch.load" and keyword(call, "weights_only") != "True":
        return "calls torch.load without weights_only=True"
    if name in ("numpy.load", "numpy.fromregex") and keyword(call, "allow_pickle") is not None:
        return "calls numpy.load with allow_pickle"
    if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
        return f"calls {name}: yaml.safe_load reads the same files"
    if name in ("pandas.read_pickle", "torch.jit.load", "torch.export.load", "torch.hub.load"):
        return f"calls {name}"
    if keyword(call, "shell") not in (None, "False"):
        return f"calls {name} with a shell"
    return None


def trusts_faiss(name: str, call: ast.Call) -> str | None:
    """FAISS believes what it deserialises: sizes, links, and names of other files."""
    last = name.rpartition(".")[2]
    of_faiss = ("read_index", "read_index_binary", "read_VectorTransform", "read_InvertedLists")
    if last.startswith("deserialize_") or (name.startswith("faiss") and last in of_faiss):
        return f"calls {name}"
    return None


def waits_without_end(name: str, call: ast.Call) -> str | None:
    if name in ("ray.get", "ray.wait") and keyword(call, "timeout") in (None, "None"):
        return f"calls {name} without a timeout"
    return None


def breaks(source: str, rule: Rule) -> list[str]:
    """Return what calls of a source break a rule, each with its line."""
    found = ((call.lineno, rule(name, call)) for name, call, _ in calls_in(source))
    return [f"{line} {what}" for line, what in found if what is not None]


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (runs_what_it_reads, "import pickle\npickle.loads(data)"),
        (runs_what_it_reads, "from pickle import loads as read\nread(data)"),
        (runs_what_it_reads, "import joblib as j\nj.load(path)"),
        (runs_what_it_reads, "import numpy as np\nnp.load(path, allow_pickle=True)"),
        (runs_what_it_reads, "from torch import load\nload(path)"),
        (runs_what_it_reads, "import torch\ntorch.load(path, weights_only=False)"),
        (runs_what_it_reads, "import yaml\nyaml.load(text)"),
        (runs_what_it_reads, "eval(text)"),
        (runs_what_it_reads, "import os\nos.system(text)"),
        (runs_what_it_reads, "import subprocess as s\ns.run(text, shell=True)"),
        (trusts_faiss, "import faiss\nfaiss.read_index(path)"),
        (trusts_faiss, "from faiss import read_index as read\nread(path)"),
        (trusts_faiss, "faiss = faiss_module()\nfaiss.read_index_binary(path)"),
        (trusts_faiss, "library.deserialize_index(data)"),
        (waits_without_end, "import ray\nray.get(reference)"),
        (waits_without_end, "from ray import wait\nwait(calls, timeout=None)"),
    ],
)
def test_a_gate_sees_what_it_is_for(rule: Rule, line: str) -> None:
    assert len(breaks(line, rule)) == 1


@pytest.mark.parametrize(
    "line", ["import torch\ntorch.load(path, weights_only=True)", "re.compile('')"]
)
def test_a_gate_lets_the_harmless_pass(line: str) -> None:
    assert breaks(line, runs_what_it_reads) == []


def test_no_code_of_ours_runs_what_it_reads() -> None:
    wrong = [
        f"{path}:{what}"
        for path, source in sources()
        if path not in UNPICKLERS
        for what in breaks(source, runs_what_it_reads)
    ]
    wrong += [
        f"{path}:{line} imports {module}"
        for path, source in sources()
        if path not in UNPICKLERS
        for module, line in imports_in(source)
        if module.split(".")[0] in LOADERS
    ]
    assert not wrong


def test_faiss_reads_only_what_a_snapshot_names() -> None:
    found = {
        (path, function)
        for path, source in sources()
        for name, call, function in calls_in(source)
        if trusts_faiss(name, call) is not None
    }
    assert found == READS_FAISS


def test_nothing_waits_for_ray_without_end() -> None:
    assert not [
        f"{p}:{what}" for p, source in sources() for what in breaks(source, waits_without_end)
    ]


CLIENTS = {
    *("socket", "ssl", "http", "ftplib", "smtplib", "telnetlib", "xmlrpc", "asyncio"),
    *("requests", "httpx", "aiohttp", "urllib3", "grpc", "websockets", "paramiko"),
    *("boto3", "botocore", "aiobotocore", "s3fs", "fsspec", "huggingface_hub", "timm", "wandb"),
}
"""What talks to others. `urllib.parse` only cuts strings; `urllib.request` fetches."""


MAY_REACH_OUT = (
    "pipeline/store/",
    "cluster/ray/ray_auth.py",  # asks a Ray that is to be joined whether it wants a token
    "pipeline/networks/",  # weights of timm, open_clip and transformers come from their hub
    "cluster/serve/",  # answers requests, and fetches pictures from addresses that are allowed
)


def test_only_named_files_talk_to_the_network() -> None:
    wrong = [
        f"{path}:{line} imports {module}"
        for path, source in sources()
        if not path.startswith(MAY_REACH_OUT)
        for module, line in imports_in(source)
        if module.split(".")[0] in CLIENTS or module.startswith("urllib.request")
    ]
    assert not wrong


DATES = ("datetime.now", "datetime.utcnow", "datetime.today", "date.today")
TELL_THE_DATE = {
    ("pipeline/corpus/sources.py", "list_source"),  # which files may change unnoticed; in no digest
    ("pipeline/corpus/vector_listing.py", "list_vectors"),  # likewise
    ("pipeline/doctor/machine.py", "clock"),  # whether the clock can be right
    ("pipeline/doctor/stores.py", "_clocks"),  # how far a store's clock is from this one
    ("pipeline/index/promotions.py", "now"),  # when made, promoted or judged: in no digest
    ("pipeline/events.py", "_tell"),  # when the last problem was
    ("pipeline/store/clock.py", "time_of"),  # for whoever cannot ask the store's clock
    ("cluster/commands/beats.py", "_beat"),  # when a beat was told, by its machine
    ("pipeline/store/cache.py", "_make_room"),  # how long a local copy was not used
    ("pipeline/upkeep/sizes.py", "store_sizes"),  # what gc would free by now
    ("cluster/commands/observed.py", "job"),  # when a job began and ended: events, metrics
    ("cluster/commands/observed.py", "_told"),
    ("cluster/commands/runs.py", "show_runs"),  # how old a run is, for a person
}
"""All functions that may ask what time it is. `time.monotonic` measures how long, not when."""


def test_only_named_functions_tell_the_date() -> None:
    wrong = [
        f"{path}:{call.lineno} calls {name} in {function or 'the module'}"
        for path, source in sources()
        for name, call, function in calls_in(source)
        if (
            name in ("time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.strftime")
            or name.endswith(DATES)
        )
        and (path, function) not in TELL_THE_DATE
    ]
    assert not wrong
    there = {(path, function) for path, source in sources() for _, _, function in calls_in(source)}
    assert there >= TELL_THE_DATE
