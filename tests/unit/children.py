"""Processes of their own that cost little: forked from a server that has imported torch once."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(_METHOD)
CONTEXT.set_forkserver_preload(["ferkit.runs.experiment"])
SECONDS = 120


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _begin(environment: dict[str, str], function: Callable[..., None], *args: Any) -> None:
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)
    function(*args)


def child_process(function: Callable[..., None], *args: Any, **environment: str) -> multiprocessing.process.BaseProcess:
    """A process that will run a function of a test module on one thread of the CPU; start() it."""
    return CONTEXT.Process(target=_begin, args=({"ACCELERATE_USE_CPU": "true", **environment}, function, *args))


def run_children(function: Callable[..., None], *args: Any, processes: int = 1) -> list[int]:
    """Run a function of a test module in that many processes, joined as `accelerate launch` joins them;
    their exit codes.

    A code below zero is a signal: -9 for a process that was killed.
    """
    shared = (
        {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
        if processes > 1
        else {}
    )
    children = [
        child_process(function, *args, **(shared and {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}))
        for rank in range(processes)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(SECONDS)
        if child.is_alive():
            child.kill()
            child.join()
    return [child.exitcode for child in children]
