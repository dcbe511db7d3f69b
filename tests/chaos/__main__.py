"""`make chaos`: rounds of faults until the time is up. Every draw comes from the seed.

Reads CHAOS_SEED, CHAOS_MINUTES (5), CHAOS_ROUNDS (ends after so many of each kind) and CHAOS_KINDS
(a comma between names). Prints a line a round and a summary, and writes build/chaos/SEED.json.
"""

import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from tests.chaos.beside import beside_index
from tests.chaos.on_ray import ON_RAY, Nodes, play_on
from tests.chaos.on_s3 import server_killed
from tests.chaos.rounds import SERIAL, Round, Tally
from tests.chaos.world import World, Wrong, make_world, sees_damage

KEPT = Path("build/chaos")
WEIGHTS = {"driver": 6, "two": 3}
"""How often a kind comes; the others once."""


def main() -> int:
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10**9))
    minutes = float(os.environ.get("CHAOS_MINUTES") or 5)
    rounds = int(os.environ.get("CHAOS_ROUNDS") or 0)
    kinds = all_kinds()
    wanted = [
        name for name in (os.environ.get("CHAOS_KINDS") or ",".join(kinds)).split(",") if name
    ]
    if unknown := set(wanted) - kinds.keys():
        raise SystemExit(f"kinds are {', '.join(kinds)}; got {', '.join(sorted(unknown))}")
    print(f"chaos seed {seed}: {', '.join(wanted)}", flush=True)
    began = time.monotonic()
    tally, failures, counts = Tally(), [], Counter[str]()
    home = Path(tempfile.mkdtemp(prefix="lamella-chaos-"))
    nodes: Nodes | None = None
    try:
        world = make_world(home / "world")
        sees_damage(world, home / "world")
        print(f"undisturbed: {world.digest[:12]} in {world.seconds:.2f} s", flush=True)
        number = 0
        if on_ray := set(wanted) & set(ON_RAY):
            nodes = Nodes(home / "nodes")
            nodes.measure(world, home / "world")
            kinds |= {what: partial(play_on, nodes, what) for what in on_ray}
        while not _enough(counts, wanted, rounds, began, minutes):
            draw = random.Random(f"{seed}/{number}")
            kind = _next(draw, wanted, counts, rounds)
            failure = play(kind, kinds[kind], world, draw, home / f"round-{number}", tally)
            counts[kind] += 1
            if failure:
                failures.append(f"round {number} {kind}: {failure}")
                print(f"FAILED: CHAOS_SEED={seed} round {number} {kind}: {failure}", flush=True)
            number += 1
    finally:
        if nodes is not None:
            nodes.close()
        shutil.rmtree(home, ignore_errors=True)
    summary = _summary(seed, counts, tally, failures, time.monotonic() - began)
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{seed}.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary, indent=2))
    return 1 if failures else 0


def all_kinds() -> dict[str, Round]:
    """Return the rounds that there are."""
    return SERIAL | {"beside": beside_index, "s3": server_killed} | dict.fromkeys(ON_RAY, no_nodes)


def no_nodes(world: World, draw: random.Random, folder: Path, tally: Tally) -> None:
    """Stand in the table for the rounds on Ray until its nodes stand."""
    raise RuntimeError("the nodes of Ray are not started")


def play(
    kind: str, act: Round, world: World, draw: random.Random, folder: Path, tally: Tally
) -> str:
    """Play a round; return what went wrong, or nothing."""
    folder.mkdir()
    before, began, failure = tally.faults.total(), time.monotonic(), ""
    try:
        act(world, draw, folder, tally)
    except Wrong as error:
        failure = str(error)
        kept = KEPT / f"failed-{folder.name}-{os.getpid()}"
        shutil.copytree(folder, kept, ignore_dangling_symlinks=True)
        failure += f" (kept in {kept})"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    faults = tally.faults.total() - before
    end = "FAILED" if failure else "same digest"
    print(f"{kind:<8} {faults} faults {end} {time.monotonic() - began:.1f} s", flush=True)
    return failure


def _enough(
    counts: Counter[str], wanted: list[str], rounds: int, began: float, minutes: float
) -> bool:
    if time.monotonic() - began > minutes * 60:
        return True
    return bool(rounds) and all(counts[kind] >= rounds for kind in wanted)


def _next(draw: random.Random, wanted: list[str], counts: Counter[str], rounds: int) -> str:
    """Return a kind: in turn where rounds are counted or some kind is new, else by weight."""
    fewest = min(wanted, key=lambda kind: counts[kind])
    if rounds or counts[fewest] == 0:
        return fewest
    return draw.choices(wanted, [WEIGHTS.get(kind, 1) for kind in wanted])[0]


def _summary(
    seed: int, counts: Counter[str], tally: Tally, failures: list[str], seconds: float
) -> dict[str, Any]:
    killed = sum(count for what, count in tally.faults.items() if "killed" in what)
    return {
        "seed": seed,
        "seconds": round(seconds),
        "rounds": dict(counts),
        "faults": dict(sorted(tally.faults.items())),
        "kills": killed,
        "kills_by_stage": dict(sorted(tally.stages.items())),
        "lost": sum("lost" in failure for failure in failures),
        "different": sum("different" in failure for failure in failures),
        "failures": failures,
    }


if __name__ == "__main__":
    sys.exit(main())
