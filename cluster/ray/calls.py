"""The calls that a driver has made to actors: what is sent, what comes back, and which hang."""

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from lamella.cluster.ray import lifeline
from lamella.cluster.ray.actors import ASIDE, Reply
from lamella.cluster.ray.starts import how_it_died, node_is_gone
from lamella.cluster.ray.stragglers import Call
from lamella.pipeline.run.ledger import describe
from lamella.pipeline.run.step import Step

REPLY_TIMEOUT_S = 60.0

SMALL_BYTES = 50_000
"""Smaller steps are sent with every task; Ray inlines arguments up to 100,000 bytes."""

ANSWER_TIMEOUT_S = 10.0
"""How long a worker may take to answer how long its task has been silent."""


def sendable(step: Step[Any]) -> Any:
    """Return what to send with each task: the step itself, or a reference to a large one.

    A reference ties this process to the scheduler: it cannot outlive it.
    """
    return step if len(ray.cloudpickle.dumps(step)) < SMALL_BYTES else ray.put(step)


def reply_to(reference: Any) -> tuple[Any, str | None, bool]:
    """Return the reply; why the actor must be replaced, if it must; whether its machine is gone."""
    try:
        reply = lifeline.get(reference, timeout=REPLY_TIMEOUT_S)
    except (RayActorError, GetTimeoutError) as error:
        return None, f"its worker died ({how_it_died(error)})", node_is_gone(error)
    except RayError as error:
        return None, describe(error), False
    return reply, reply.error if isinstance(reply, Reply) and reply.useless else None, False


def calls_of(actor: Any, calls: Mapping[Any, Call]) -> dict[Any, Call]:
    """Return an actor's calls, in the order of sending."""
    return {reference: call for reference, call in calls.items() if call.actor == actor}


def tries_at(key: str, calls: Mapping[Any, Call]) -> dict[Any, Call]:
    """Return the calls for a task; a straggler has two."""
    return {reference: call for reference, call in calls.items() if call.key == key}


def hanging(calls: dict[Any, Call], task_timeout_s: float) -> set[Any]:
    """Return the actors with a call whose time is up; calls that made progress get more time.

    An actor that is dead, stopped or held up does not say how long its task was silent.

    Args:
        task_timeout_s: how long a task may show no progress.
    """
    now = time.monotonic()
    late = {reference: call for reference, call in calls.items() if call.deadline <= now}
    stuck = {call.actor for call in late.values() if call.key is None}
    asked = {
        reference: call.actor.silence.options(concurrency_group=ASIDE).remote(call.key)
        for reference, call in late.items()
        if call.key is not None
    }
    until = now + min(ANSWER_TIMEOUT_S, task_timeout_s)
    for reference, answer in asked.items():
        silence: float | None = math.inf
        with suppress(RayError):
            silence = lifeline.get(answer, max(0.0, until - time.monotonic()))
        left = task_timeout_s - (math.inf if silence is None else silence)
        if lifeline.wait([reference], 0.0) is not None:
            continue  # the call has ended meanwhile
        if left > 0:
            calls[reference] = replace(late[reference], deadline=time.monotonic() + left)
        else:
            stuck.add(late[reference].actor)
    return stuck
