from lamella.cluster.ray.starts import STARTS, Starts, how_it_died


def test_each_place_is_tried_so_many_times_in_a_row() -> None:
    starts = Starts()
    for _ in range(2 * STARTS):
        assert starts.may_try(2)
        starts.failed.append(("killed", 1.0))
    assert not starts.may_try(2)
    starts.failed.clear()  # a worker stood
    assert starts.may_try(2)


def test_what_became_of_them_is_told() -> None:
    starts = Starts([("killed", 0.5)])
    assert starts.told() == (
        "1 worker died in a row before one could take a task, the last after 0.5 s: killed"
    )


DIED = """The actor died unexpectedly before finishing this task.
\tclass_name: Worker
The actor is dead because its worker process has died. Worker exit type: {} Worker exit detail: {}
The actor never ran - it was cancelled before it started running.
"""
RAISED = """The actor died because of an error raised in its creation task, ray::Worker.__init__()
  File "actors.py", line 8, in __init__
ModuleNotFoundError: No module named 'cluster'
"""


def test_how_a_process_died_is_told_in_a_line() -> None:
    lost = "Worker unexpectedly exits with a connection error code 2. End of file. Some common..."
    assert how_it_died(OSError(DIED.format("SYSTEM_ERROR", lost))) == (
        "its process was killed, or crashed"
    )
    memory = "Task was killed due to the node running low on memory."
    assert how_it_died(OSError(DIED.format("NODE_OUT_OF_MEMORY", memory))) == memory
    assert how_it_died(OSError(RAISED)) == "ModuleNotFoundError: No module named 'cluster'"
    assert how_it_died(OSError("\n")) == "OSError"
    assert how_it_died(OSError("one line")) == "one line"
