"""What the tests here share: what is not as it should be is told and counted, and what this machine cannot do is skipped."""
import os
import sys
import time

failures = []


def check(what, got, want):
    if got != want:
        failures.append(what)
        print(f"FAIL {what}: {got!r}, not {want!r}", flush=True)


def check_that(ok, what, *more):
    print("ok  " if ok else "FAIL", what, *([] if ok else more), flush=True)
    if not ok:
        failures.append(what)


def wait_for(what, seconds=60):
    """Whether it came true: a crowded machine takes its time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def comm(pid, tid=None):
    """The name of a thread; empty when there is none."""
    try:
        with open(f"/proc/{pid}/task/{tid or pid}/comm") as f:
            return f.read().rstrip("\n")
    except OSError:
        return ""


def stat(pid):
    """What /proc/PID/stat tells from the state on; nothing of a process that is gone."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as f:
            return f.read().rpartition(")")[2].split()
    except OSError:
        return []


def cpu_s(pid):
    """CPU time of a process so far."""
    fields = stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0


def is_asleep(pid):
    return stat(pid)[:1] == ["S"]


def skip(why):
    """Where nothing may be skipped, this is a failure."""
    print(f"SKIP: {why}", flush=True)
    sys.exit(1 if os.environ.get("TEST_NO_SKIP") else 77)


def report_and_exit():
    print(f"{len(failures)} failed", flush=True)
    sys.exit(1 if failures else 0)
