"""What a reproduction indexes and scores, and what it cannot, with the command that would."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lamella.pipeline.reproduce import paper
from lamella.pipeline.reproduce.data_sets import Corpus, DataSet, corpus_of
from lamella.pipeline.reproduce.networks import NetworkHere
from lamella.pipeline.store.commit import sha256_of
from lamella.pipeline.store.tree import keyed
from lamella.schemas.base import digest_of
from lamella.schemas.job import JobConfig
from lamella.schemas.report import BoxMode
from lamella.schemas.reproduced import DataSetName


@dataclass(frozen=True)
class Wanted:
    """What is to be reproduced, as far as it changes what is stored.

    Attributes:
        into: the folder of all indexes.
        words: of each local layer where other than published, by network or by data set; "" is
            any. A network's go before a data set's.
        per_picture: descriptors a picture that words are trained on; None for as many as give the
            published number over the whole data set.
        box: whether Oxford's queries are cropped.
        spoken: the options of the command that asks for this, each with its value.
    """

    into: Path
    words: Mapping[str, int] = field(default_factory=dict)
    per_picture: int | None = None
    box: BoxMode = "roi"
    spoken: tuple[tuple[str, ...], ...] = ()

    def words_of(self, network: str, data_set: DataSetName) -> int:
        """Return how many words a local layer of a network has on a data set."""
        said = (self.words[name] for name in (network, data_set, "") if name in self.words)
        return next(said, paper.WORDS[data_set])

    def descriptors_of(self, data_set: DataSetName) -> int:
        """Return how many descriptors a picture gives at most."""
        return self.per_picture or -(-paper.DESCRIPTORS // paper.PICTURES[data_set])


@dataclass(frozen=True)
class Index:
    """An index of a network over the pictures of one data set, or of some that share all settings.

    Attributes:
        store: its folder, named by the network and all that decides the index.
    """

    network: NetworkHere
    data_sets: tuple[DataSet, ...]
    corpus: Corpus
    job: JobConfig
    store: Path

    @property
    def title(self) -> str:
        """The network and the data sets, for people."""
        names = " and ".join(paper.TITLES[each.name] for each in self.data_sets)
        return f"{self.network.name} on {names}"


@dataclass(frozen=True)
class NotRun:
    """What of the paper is not run, why, and the command that would."""

    what: str
    why: str
    command: str


@dataclass(frozen=True)
class Program:
    """All that is to be done, in order, and what cannot be."""

    wanted: Wanted
    networks: tuple[NetworkHere, ...]
    data_sets: tuple[DataSet, ...]
    indexes: tuple[Index, ...]
    not_run: tuple[NotRun, ...]


def program(
    wanted: Wanted,
    networks: Sequence[NetworkHere],
    data_sets: Mapping[DataSetName, DataSet],
    engine: Mapping[str, object],
) -> Program:
    """Return what is indexed and scored; nothing is read but weights and the names of pictures.

    Args:
        engine: the settings of the engine, by their keys in a job.
    """
    indexes: dict[Path, Index] = {}
    for network in networks:
        for data_set in data_sets.values() if network.layers else ():
            found = _index(wanted, network, data_set, engine)
            if (known := indexes.get(found.store)) is not None:
                both = (*known.data_sets, data_set)
                found = Index(known.network, both, known.corpus, known.job, known.store)
            indexes[found.store] = found
    not_run = tuple(_not_run(wanted, networks, data_sets))
    return Program(
        wanted, tuple(networks), tuple(data_sets.values()), tuple(indexes.values()), not_run
    )


def _index(
    wanted: Wanted, network: NetworkHere, data_set: DataSet, engine: Mapping[str, object]
) -> Index:
    assert network.weights is not None
    words = wanted.words_of(network.name, data_set.name)
    rows = wanted.descriptors_of(data_set.name)
    job = JobConfig.model_validate(
        {
            "profile": "paper",
            "network": network.settings(),
            "vocabulary": {"words": words, "descriptors_per_image": rows},
            "engine": dict(engine),
        }
    )
    corpus = corpus_of(data_set, wanted.into)
    weights = sha256_of(network.weights)
    decided = [network.name, list(network.layers), network.caffe, weights]
    digest = digest_of([*decided, words, rows, corpus.source])
    return Index(network, (data_set,), corpus, job, wanted.into / keyed(network.name, digest))


def _not_run(
    wanted: Wanted, networks: Sequence[NetworkHere], data_sets: Mapping[DataSetName, DataSet]
) -> list[NotRun]:
    found = []
    asked = {network.name for network in networks}
    for name in paper.LAYERS:
        if name not in asked:
            found.append(
                NotRun(
                    f"{name}, all layers",
                    "it was not asked for",
                    command_of(wanted, "--network", name, "--weights", f"{name}=FILE"),
                )
            )
    for network in networks:
        if network.weights is None:
            found.append(
                NotRun(
                    f"{network.name}, all layers",
                    "its weights are not on this machine"
                    + (
                        "; the authors trained their AlexNet and never released it, and "
                        "torchvision's has another shape: signs and orders can be compared, "
                        "figures cannot"
                        if network.name == "alexnet"
                        else ""
                    ),
                    command_of(wanted, "--weights", f"{network.name}=FILE"),
                )
            )
        elif network.lacking:
            found.append(
                NotRun(
                    f"{network.name}, {', '.join(network.lacking)}",
                    f"{network.weights.name} has no weights of them, and nothing is put in their "
                    "place (add --caffe if the file is Caffe's)",
                    command_of(wanted, "--weights", f"{network.name}=FILE", without=network.name),
                )
            )
    for data_set in paper.DATA_SETS:
        if data_set not in data_sets:
            found.append(
                NotRun(
                    paper.TITLES[data_set],
                    "the data set was not given",
                    command_of(wanted, "--data", f"{data_set}=FOLDER"),
                )
            )
    return found


def _gives_weights(words: tuple[str, ...], network: str) -> bool:
    """Say whether the words give a network's weights; a file alone is that of the only network."""
    return words[0] == "--weights" and words[1].partition("=")[0] in (network, words[1])


def command_of(wanted: Wanted, *more: str, without: str = "") -> str:
    """Return the command that was given, with further words.

    Args:
        without: the network whose `--weights` the further words replace.
    """
    spoken = [
        word
        for words in wanted.spoken
        if not (without and (words == ("--caffe",) or _gives_weights(words, without)))
        for word in words
    ]
    return shlex.join(["lamella", "reproduce", *spoken, *more])
