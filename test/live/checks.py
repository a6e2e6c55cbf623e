"""What the tests here share: what is not as it should be is told and counted, and what this machine cannot do is skipped."""
import os
import sys

failures = []


def check(what, got, want):
    if got != want:
        failures.append(what)
        print(f"FAIL {what}: {got!r}, not {want!r}", flush=True)


def check_that(ok, what, *more):
    print("ok  " if ok else "FAIL", what, *([] if ok else more), flush=True)
    if not ok:
        failures.append(what)


def skip(why):
    """Where nothing may be skipped, this is a failure."""
    print(f"SKIP: {why}", flush=True)
    sys.exit(1 if os.environ.get("TEST_NO_SKIP") else 77)


def report_and_exit():
    print(f"{len(failures)} failed", flush=True)
    sys.exit(1 if failures else 0)
