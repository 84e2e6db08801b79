"""A program that was started by another one ends with it, even if that was killed and could say nothing."""

import os
import signal
import threading
import time
from typing import Annotated

import typer

POLL_SECONDS = 0.5

ParentOption = Annotated[int | None, typer.Option(hidden=True, help="End when this is not the parent any more.")]


def end_with(parent: int | None) -> None:
    """Give ourselves a SIGTERM once `parent` is gone; None = nobody is watched."""
    if parent is not None:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
