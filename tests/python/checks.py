"""What the check programs share: each check is a function, run in order, and prints PASS or FAIL with its name."""

import os
import sys
import time
import traceback

CHECKS = []


class Stuck(AssertionError):
    """What was waited for did not come."""


def check(function):
    """Registers a function that takes the bootstrap servers."""
    CHECKS.append(function)
    return function


def wait(what, done, seconds=60):
    """Calls `done` until it is true."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise Stuck(f"waited in vain for {what}")
        time.sleep(0.01)


def equal(actual, expected):
    if actual != expected:
        raise AssertionError(f"{actual!r} instead of {expected!r}")


def main():
    bootstrap = sys.argv[1]
    failed = 0
    for function in CHECKS:
        start = time.monotonic()
        try:
            function(bootstrap)
            print(f"PASS {function.__name__} {time.monotonic() - start:.1f}s", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAIL {function.__name__}: {error!r}\n{traceback.format_exc()}", flush=True)
    # A client that a failed check left behind may not end: no clean-up of the interpreter.
    os._exit(1 if failed else 0)
