"""Rounds on a real S3 server that is killed and started again; sometimes so is the driver."""

import os
import random
import time
from pathlib import Path

from tests import s3
from tests.chaos.rounds import Tally
from tests.chaos.world import Driver, World, Wrong


def server_killed(world: World, draw: random.Random, folder: Path, tally: Tally) -> None:
    """Kill the server at a random moment and start it again; the run ends, or says so in a line."""
    server = s3.S3Server(folder / "server")
    server.start()
    settings = s3.environment(server.endpoint)

    def reach() -> None:
        os.environ.update(settings)

    def make_bucket() -> None:
        reach()
        s3.make_bucket("chaos")

    store = "s3://chaos/store"
    try:
        if Driver(make_bucket, folder / "log").finish() != 0:
            raise Wrong("no bucket can be made")
        driver = world.index(store, folder, reach)
        driver.wait(draw.uniform(0.2, 1.5) * world.seconds)
        if driver.code is None:
            server.kill()
            tally.killed("S3 server killed", "on S3")
            time.sleep(draw.uniform(0.0, 1.0))
            server.start()
        if draw.random() < 0.5:
            driver.wait(draw.uniform(0.0, 1.0) * world.seconds)
            if driver.kill():
                tally.killed("driver on S3 killed", "on S3")
        if driver.finish() not in (0, 1, 75, -9):
            raise Wrong(
                f"a server that was killed ended the run with {driver.code}; {driver.said()}"
            )
        again = world.index(store, folder, reach)
        if again.finish() != 0:
            raise Wrong(f"the resumed run failed with {again.code}; {again.said()}")
        world.check(store, folder, reach)
    finally:
        server.kill()
