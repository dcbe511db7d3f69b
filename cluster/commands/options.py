"""Options that several commands share."""

from importlib import metadata
from pathlib import Path
from typing import Annotated, get_args

import typer

from lamella.cluster.commands.choices import choice, offering
from lamella.schemas import job as schemas
from lamella.schemas.job import EngineKind, Keep, Preset


def _networks() -> tuple[str, ...]:
    from lamella.pipeline.networks.listed import NETWORKS

    return (*NETWORKS, "timm:", "open_clip:", "transformers:")


Job = Annotated[
    Path | None,
    typer.Option(
        "--job", help="A TOML file with any of the settings; see deploy/job.example.toml."
    ),
]
MaxRefused = Annotated[
    float | None,
    typer.Option(help="Share of unreadable pictures above which the job stops, 0 to 1."),
]
Engine = Annotated[
    str | None,
    choice(
        "--engine",
        get_args(EngineKind),
        help="[bold]ray[/] spreads the work over processes or a cluster; "
        "[bold]serial[/] keeps it in this process. Both store the same bytes.",
        show_default="ray",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(help="A running Ray cluster, host:port; by default a local Ray is started."),
]
Workers = Annotated[
    int | None, typer.Option(help="The most Ray workers.", show_default="one a core")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")]
Profile = Annotated[
    str | None,
    choice(
        "--profile",
        get_args(schemas.Profile),
        help="[bold]production[/]: layers and words that answer best, weighted by tf-idf; "
        "[bold]paper[/]: those of Yu et al. 2017, by tf. On an index that is made it changes the "
        "weighting alone.",
        show_default="production",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="A local .safetensors or .pth file with the network's weights; for transformers the "
        "folder, for export: the program."
    ),
]
Thresholds = Annotated[
    str | None,
    typer.Option(
        "--t", help="Thresholds of the map, high layer first: 0.2 or 0.2,0.4.", metavar="T[,T]"
    ),
]
Powers = Annotated[
    str | None,
    typer.Option("--p", help="Powers of the map, high layer first: 0.45.", metavar="P[,P]"),
]
LayerWeights = Annotated[
    str | None,
    typer.Option(
        "--w", help="Weights of the layers in the sum, high layer first: 1,1.5.", metavar="W[,W]"
    ),
]
Fusion = Annotated[
    str | None,
    choice(
        "--fusion",
        get_args(Preset),
        help="Fuse as [bold]published[/] (weights of 1) or [bold]scaled[/] (weights by how "
        "similar random pictures are in each layer); t, p and w go before.",
        show_default=False,
    ),
]
Expand = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Search twice: the second time by the mean of each query and its N best pictures, "
        "0 to 100. Helps where many pictures show one thing (mAP of buildings .10, of "
        "groceries .04 higher); hurts where few are right (covers of DVDs: .015 lower).",
        show_default="0",
    ),
]
Above = Annotated[
    float | None,
    typer.Option(
        metavar="F",
        help="Only images of at least this score are answers; there may be fewer than k.",
        show_default=False,
    ),
]
Recall = Annotated[
    float | None,
    typer.Option(
        metavar="R",
        help="With [bold]--mode candidates[/], of an index with proposers: what share of the exact "
        "answers is to be found.",
        show_default="0.95",
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        metavar="FILTER",
        help="Only pictures that this is true of are answers; what asks is not filtered. Columns "
        "are name, container, format, width, height, size_bytes, source (of several), and those "
        "kept by [bold]lamella index --keep-columns[/]. Examples: [bold]year >= 2020 and author "
        '!= "Ann"[/]; [bold]startswith(name, "cats/") and not contains(lower(name), "copy")[/]; '
        '[bold]taken < "2021-05-17" or year(taken) == 2023 or taken == None[/]. Text is quoted as '
        "in Python; what is not known is never true. See FORMAT.md.",
        show_default=False,
    ),
]
Layers = Annotated[
    str | None, typer.Option(help="Which indexed layers to fuse, such as head,p15. All by default.")
]
Snapshot = Annotated[
    str | None,
    typer.Option(
        "--snapshot",
        help="A snapshot by number or tag; the promoted one by default.",
        show_default=False,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Promote the snapshot whatever gate, order of listings or hold say."
    ),
]
Retrain = Annotated[
    bool,
    typer.Option(
        "--retrain",
        help="Train words anew, although the current snapshot has some. All pictures go through "
        "the network again.",
    ),
]
Rehash = Annotated[
    bool,
    typer.Option(
        "--rehash",
        help="Read every picture again, also where size and time are those of the last look.",
    ),
]
Into = Annotated[
    str,
    typer.Option(
        "--into", help="The store: a folder, made if absent, or [bold]s3://bucket/prefix[/]."
    ),
]
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE...",
        show_default=False,
        help="A folder, a list file (.txt), Parquet with paths or bytes, or WebDataset tars. Of "
        "several, the names of pictures begin with that of their source: its last part, or as in "
        "oxford=~/data/images.",
    ),
]
Vectors = Annotated[
    list[str] | None,
    typer.Option(
        "--vectors",
        metavar="[NAME=]FILE[:COLUMN]",
        help="A layer of vectors that you have, by names of pictures relative to the source: "
        "Parquet, Arrow, a folder of such parts, .npz with names and vectors, or .npy with names "
        "in FILE.txt. It is called NAME, or as the file, and is high unless [bold]--layers[/] "
        "says where it stands. Repeatable. Without SOURCE the vectors are indexed alone.",
        show_default=False,
    ),
]
MovedVectors = Annotated[
    list[str] | None,
    typer.Option(
        "--vectors",
        metavar="[NAME=]FILE[:COLUMN]",
        help="Where the vectors of a given layer are now, or those of a layer that is new, in the "
        "form that `lamella index` takes.",
        show_default="where they were",
    ),
]
QueryVectors = Annotated[
    list[str] | None,
    typer.Option(
        "--vectors",
        metavar="NAME=FILE[:COLUMN]",
        help="Vectors of the query pictures, by their names, in a layer that was indexed by given "
        "vectors; alone, every vector of the file is a query.",
        show_default=False,
    ),
]
Name = Annotated[str | None, typer.Option(help="The corpus's name.")]
Column = Annotated[
    str | None,
    typer.Option(
        help="The column of a Parquet source that holds the pictures, whatever it is called.",
        show_default="found by its name",
    ),
]
KeepColumns = Annotated[
    str | None,
    typer.Option(
        "--keep-columns",
        metavar="NAME[,NAME]",
        help="Columns of Parquet sources that are kept beside the pictures, such as year,author: "
        "answers show them, and [bold]lamella query --where[/] filters by them.",
        show_default=False,
    ),
]
Pictures = Annotated[
    str | None,
    typer.Option(
        "--pictures",
        metavar="SOURCE",
        help="Where the indexed pictures lie now, in the form that `lamella index` takes; of "
        "several sources NAME=SOURCE, apart by commas, or the folder that holds all of them.",
        show_default="where they were; required if only the store is in S3",
    ),
]
Network = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="efficientnet_lite0, any classifier of torchvision, [bold]timm:[/]NAME, "
        "[bold]open_clip:[/]NAME@WEIGHTS, [bold]transformers:[/]ID or FOLDER (a vision tower), "
        "a program of torch.export ([bold].pt2[/]), or a function of your own that makes a "
        "network, [bold]package.module:function[/]: its code is run and trusted, and found in the "
        "installation or in PYTHONPATH.",
        show_default="efficientnet_lite0",
        autocompletion=offering(_networks),
    ),
]
NewLayers = Annotated[
    str | None,
    typer.Option(
        "--layers",
        help="Layers from high to low, such as fc1,c5_1. Convolutional networks have pool and s1 "
        "to sN (the last map at each resolution), transformers cls, avg, patches and b0 to bN (the "
        "patches of each block), CLIP and SigLIP output (the embedding). Any module may be named "
        "by its path, as in blocks.9.mlp, and a part of what it gives as in encoder[0].",
        show_default="chosen by the network",
    ),
]
Words = Annotated[
    int | None,
    typer.Option(help="Visual words of each local layer.", show_default="by corpus size"),
]
KeepActivations = Annotated[
    str | None,
    choice(
        "--keep-activations",
        get_args(Keep),
        help="[bold]all[/] keeps local descriptors in the store; [bold]none[/] turns them "
        "into words in the same pass.",
        show_default="none if words are given",
    ),
]
GivenWords = Annotated[
    Path | None,
    typer.Option(
        "--vocabulary",
        help="Use the words in this folder of `lamella vocabulary export`; train none.",
    ),
]
Store = Annotated[
    str,
    typer.Argument(
        help="The store that `lamella index` made: a folder or [bold]s3://bucket/prefix[/]."
    ),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"lamella {metadata.version('lamella')}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
    ),
]
