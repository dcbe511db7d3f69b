"""What scripts read: values as JSON, on standard output."""

import json
from typing import Any


def emit(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=2, default=str))
