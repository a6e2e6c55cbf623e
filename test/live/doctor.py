#!/usr/bin/env python3
"""usage: doctor.py RINGFOLD
`ringfold doctor` with each capability taken away in turn names exactly that one, and works as JSON and as a table.
"""
import json
import os
import subprocess
import sys
import time

from checks import check, report_and_exit, skip

RINGFOLD = os.path.abspath(sys.argv[1])
CAPS = ["perfmon", "sys_ptrace", "syslog", "checkpoint_restore", "dac_read_search", "ipc_lock"]


def with_caps(caps, *args, prefix=()):
    """The doctor as root with these capabilities alone, and little memory to pin."""
    bounds = ",".join(["-all"] + [f"+{c}" for c in caps])
    cmd = ["setpriv", f"--bounding-set={bounds}", "--inh-caps=-all", *prefix, RINGFOLD, "doctor", *args]
    return subprocess.run(["prlimit", "--memlock=65536:65536", *cmd], capture_output=True, text=True, timeout=120)


def findings(caps):
    r = with_caps(caps, "--json")
    try:
        return {c["check"]: c for c in json.loads(r.stdout)["checks"]}, r.returncode
    except ValueError:
        print(r.stdout, r.stderr)
        raise


def named(checks):
    return {c["capability"] for c in checks.values() if c["capability"]}


def kptr_hidden_without_syslog():
    """kptr_restrict 0 shows addresses to whoever may profile the kernel (kernel/ksyms_common.c)."""
    with open("/proc/sys/kernel/kptr_restrict") as f:
        restrict = int(f.read())
    with open("/proc/sys/kernel/perf_event_paranoid") as f:
        return restrict >= 1 or int(f.read()) > 1


def paranoid():
    with open("/proc/sys/kernel/perf_event_paranoid") as f:
        return int(f.read())


def test_each_capability():
    checks, status = findings(CAPS)
    check("all six: named", named(checks), set())
    check("all six: status", status, 0)
    for cap in CAPS:
        checks, _ = findings([c for c in CAPS if c != cap])
        want = {cap.upper()}
        if cap == "syslog" and not kptr_hidden_without_syslog():
            want = set()
        if cap == "perfmon" and paranoid() < 0:
            want = set()
        check(f"without {cap}: named", named(checks), want)
        for c in checks.values():
            if c["capability"]:
                check(f"without {cap}: {c['check']}: has a fix", bool(c["fix"]), True)
                check(f"without {cap}: {c['check']}: the fix names it", cap in c["fix"].lower(), True)


def test_table():
    r = with_caps([c for c in CAPS if c != "checkpoint_restore"])
    check("table: status", r.returncode, 0)
    check("table: line", any(line.startswith("less  mapped files") for line in r.stdout.splitlines()), True)
    check("table: YAML", "add: [CHECKPOINT_RESTORE]" in r.stdout, True)
    check("table: no colours in a pipe", "\033" in r.stdout, False)


def test_process():
    p = subprocess.Popen(["sleep", "60"])
    try:
        time.sleep(0.2)
        r = subprocess.run([RINGFOLD, "doctor", "-p", str(p.pid), "--json"], capture_output=True, text=True, timeout=60)
        checks = {c["check"]: c for c in json.loads(r.stdout)["checks"]}
        check("process", checks["process"]["found"].startswith(f"{p.pid} (sleep), user {os.getuid()}"), True)
        check("process: programs", checks["its programs"]["state"], "ok")
        check("process: JIT", checks["its JIT code"]["state"], "ok")
    finally:
        p.kill()
        p.wait()
    r = subprocess.run([RINGFOLD, "doctor", "-p", str(p.pid)], capture_output=True, text=True, timeout=60)
    check("no such process", (r.returncode, f"no such process: {p.pid}" in r.stderr), (1, True))


def test_usage():
    for args in ["-x"], ["-p", "x"], ["word"]:
        r = subprocess.run([RINGFOLD, "doctor", *args], capture_output=True, text=True, timeout=60)
        check(f"{args}", (r.returncode, r.stdout, r.stderr.startswith("ringfold: error: ")), (2, "", True))


def main():
    if os.geteuid():
        skip("needs root")
    for tool in "setpriv", "prlimit":
        if subprocess.run(["which", tool], stdout=subprocess.DEVNULL).returncode:
            skip(f"no {tool}")
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
    report_and_exit()


main()
