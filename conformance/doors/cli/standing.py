"""What a process can expect before it does anything else."""

from __future__ import annotations

import os
import sys


def stand() -> None:
    """Make sure of what a process can expect: three open descriptors, streams, and a working directory."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    try:
        os.getcwd()
    except OSError:  # somebody has deleted it
        os.chdir("/")
