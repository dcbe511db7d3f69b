"""The README of an export: what is in the folder, and a line of Python to open each file."""

from collections.abc import Mapping
from typing import Any

from lamella.pipeline.text import printable

OPENED = {
    "parquet": """pandas.read_parquet("{file}")           # or polars.read_parquet
duckdb.sql("SELECT * FROM '{file}'")
datasets.load_dataset("parquet", data_files="{file}")""",
    "npy": """numpy.load("{file}", mmap_mode="r")     # rows are those of ids.npy and names.txt
numpy.load("ids.npy"); open("names.txt", encoding="utf-8").read().split("\\n")""",
    "arrow": """pyarrow.ipc.open_file(pyarrow.memory_map("{file}")).read_all()""",
    "faiss": """faiss.read_index("{file}")              # inner products are cosines, ids image ids
pandas.read_parquet("names.parquet")    # their names""",
    "lance": """lance.dataset("{file}").to_table()""",
    "npz": """scipy.sparse.load_npz("{file}")     # a row an image, a column a word
pandas.read_parquet("names.parquet")    # which image a row is
numpy.load("{layer}.idf.npy")       # of each word, ln(N / df)""",
    "clusters": """pandas.read_parquet("{layer}.clusters.parquet")
pandas.read_csv("{layer}.cluster_sizes.csv"); numpy.load("{layer}.centres.npy")""",
}


def readme(facts: Mapping[str, Any]) -> str:
    """Return the README of an export in Markdown, from the facts of its `export.json`."""
    lines = [
        f"# {_escaped(facts['corpus'])}, exported by Lamella",
        "",
        f"Snapshot {facts['snapshot']} (root digest `{facts['root_digest']}`), "
        f"{facts['images']:,} images, in the order of their ids. `export.json` says this for "
        "programs.",
    ]
    for layer in facts["layers"]:
        name, form = layer["name"], layer["format"]
        lines += ["", f"## {name}", "", _said(layer), "", "```python"]
        lines += OPENED[form].format(file=f"{name}.{form}", layer=name).split("\n")
        if layer.get("clusters"):
            lines += OPENED["clusters"].format(layer=name).split("\n")
        lines += ["```"]
    return "\n".join(lines) + "\n"


def _said(layer: Mapping[str, Any]) -> str:
    """Return in words what a layer's file holds."""
    rows, columns = layer["shape"]
    length = "divided by their lengths" if layer["unit"] else "as they are stored"
    if layer["kind"] == "global":
        said = f"{rows:,} vectors of {columns:,} {layer['dtype']}, {length}."
        if clusters := layer.get("clusters"):
            said += (
                f" {clusters:,} clusters by spherical k-means: the cosine with the nearest centre "
                "in float64; cluster -1 has vectors of zeros."
            )
        return said
    said = (
        f"{rows:,} images by {columns:,} visual words, {layer['entries']:,} entries of "
        f"{layer['dtype']}: {layer['values']}, rows {length}."
    )
    if layer["encoding"] == "asmk":
        said += " The residuals of this layer (asmk) are not in the matrix."
    return said


def _escaped(text: str) -> str:
    """Return a name from outside so that Markdown shows it as it is."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>#|" else char for char in printable(text))
