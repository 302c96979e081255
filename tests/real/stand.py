"""What the trials on real programs have in common."""

import os
import socket
import subprocess
import sys
import time

PATIENCE_S = 60
HOST = "127.0.0.1"


class Skip(Exception):
    """A program is not installed."""


def find(name, *more):
    """The path of a program, which may be where only root looks."""
    for folder in [*more, *os.environ["PATH"].split(":"), "/usr/sbin", "/usr/local/sbin"]:
        if os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    raise Skip(f"{name} is not installed")


def python_with(module):
    for python in ["python3", "/usr/bin/python3"]:
        if subprocess.run([python, "-c", f"import {module}"], stderr=subprocess.DEVNULL).returncode == 0:
            return python
    raise Skip(f"no Python here has {module}")


def free_port():
    with socket.socket() as one:
        one.bind((HOST, 0))
        return one.getsockname()[1]


def eventually(what, look, patience_s=PATIENCE_S):
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        try:
            found = look()
        except (OSError, subprocess.CalledProcessError):
            found = None
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"never happened: {what}")


def output(*command, **more):
    more.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(command, check=True, text=True, capture_output=True, **more).stdout


def sum_up(what, results):
    """Says how many trials ended how; none may have failed, or be skipped unless that is allowed."""
    count = results.count
    print(f"{what}: {count('ok')} ok, {count('failed')} failed, {count('skipped')} skipped")
    if count("failed") or not count("ok"):
        sys.exit(1)
    if count("skipped") and os.environ.get("ALLOW_SKIPS", "0") == "0":
        sys.exit("skips count as failures; ALLOW_SKIPS=1 allows them")
