"""Run tasks on Ray: start or join it, secure it, and leave it as it was found."""

import os

# Ray reads these when it is imported: no usage reports leave the machine.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Workers would run at niceness 15, behind everything else on the machine.
os.environ.setdefault("RAY_worker_niceness", "0")
# Under `uv run` Ray would send the current folder to the workers and put it first on their path.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"

# Ray waits this long for its control plane, even a dead one; the default is twice as long.
os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "15")

# Otherwise joining a Ray that was just started waits for its first workers, also if none can start,
# and meanwhile no thread of this process runs.
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
