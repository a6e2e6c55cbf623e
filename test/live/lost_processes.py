#!/usr/bin/env python3
"""usage: lost_processes.py RINGFOLD

Processes of whose start no record tells, or some records do, as nobody emptied the rings just then: the recorder finds them in
/proc. Its perf.data must tell of them too, so that a fold of the file comes to the same stacks under the same names.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from checks import check_that as check, cpu_s, report_and_exit, skip, wait_for

ringfold = os.path.abspath(sys.argv[1])
tmp = tempfile.mkdtemp(prefix='ringfold-lost-')
WAIT_S = 120 # a machine with other work
STARTED = 100 # each writes 8 KB of records, and the two rings hold 512 KiB: those of some fit in part
WANTED = 3    # samples of each, of several times as many: their rings overflow too where a machine has other work


def below(pid):
    """The process and all that it started."""
    parents = {}
    for name in filter(str.isdigit, os.listdir('/proc')):
        try:
            text = open(f'/proc/{name}/stat', errors='replace').read()
        except OSError:
            continue
        parents[int(name)] = int(text[text.rindex(')') + 2:].split()[1])
    found = {pid}
    while True:
        more = {p for p, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


def samples_of(lines, pids):
    """{pid: [text of a sample]} of perf script's text."""
    ret, mine = {pid: [] for pid in pids}, []
    for line in lines:
        if line[:1] not in ('\t', '\n'):
            pid = line.split('/')[0].split()[-1]
            mine = ret.get(int(pid) if pid.isdigit() else 0, [])
            mine.append('')
        mine[-1] += line
    return ret


def spin(first='pass'):
    return subprocess.Popen([sys.executable, '-S', '-c', f'{first}\nwhile 1: sum(range(1000))'], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE)


def leaderless():
    """Its first thread ends, so that /proc/PID/maps is empty."""
    return subprocess.Popen([sys.executable, '-S', '-c', """
import ctypes, os, sys, threading
def work():
    print(flush=True)
    sys.stdin.readline()
    while 1: sum(range(1000))
threading.Thread(target=work).start()
ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0) # exit, of this thread alone
"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def grown():
    """What was there is told before the first sample, so it counts by growing."""
    global told
    size = os.path.getsize(data) if os.path.exists(data) else 0
    told = told or size
    return recorder.poll() is not None or (told and size > told + 65536)


data, told = f'{tmp}/x.data', 0
first, busy = spin(), []
recorder = subprocess.Popen([ringfold, 'record', '-q', '-a', '-F', '499', '--ring-bytes', '2M', '-o', data, '-o', f'{data}.txt',
                             '--stats', f'{tmp}/x.json'], stderr=subprocess.PIPE, text=True)
try:
    check(wait_for(grown, WAIT_S), 'it records')
    if recorder.poll() == 4:
        skip('not permitted')
    ours = below(recorder.pid)
    for pid in ours:
        os.kill(pid, signal.SIGSTOP)
    first.kill()
    busy = [spin('import sys; print(flush=True); sys.stdin.readline()') for _ in range(STARTED)] + [leaderless()]
    for p in busy:
        p.stdout.readline()
    for pid in ours:
        os.kill(pid, signal.SIGCONT)
    for p in busy:
        p.stdin.close()
    wait_for(lambda: all(cpu_s(p.pid) > 0.07 for p in busy), WAIT_S) # some of it was its start
    recorder.send_signal(signal.SIGINT)
    check(recorder.wait(WAIT_S) == 0, 'it ends well')
    name = open(f'/proc/{busy[0].pid}/comm').read().rstrip('\n')
finally:
    for p in recorder, first, *busy:
        if p and p.poll() is None:
            p.send_signal(signal.SIGCONT)
            p.kill()
            p.wait()

stats = json.load(open(f'{tmp}/x.json'))
lost = stats['lost'] + stats['side_lost']
check(stats['side_lost'] > 0, f'the rings were too small: {stats["side_lost"]} lost')
pids = [p.pid for p in busy]
live = samples_of(open(f'{data}.txt', errors='surrogateescape'), pids)
fewest = min(len(samples) for samples in live.values())
check(fewest >= WANTED and all(s.startswith(f'{name} ') for samples in live.values() for s in samples),
      f'each has {fewest} samples and more, of {name}')
wrong = {pid: next(s for s in samples if 'PyEval' not in s) for pid, samples in live.items()
         if sum('PyEval' in s for s in samples) < len(samples) / 2} # the first are of its start
check(not wrong, 'their stacks are those of their program', len(wrong), list(wrong.items())[:2])
folded = subprocess.run([ringfold, 'fold', '-q', '-f', 'perf-script', data], stdout=subprocess.PIPE, text=True,
                        errors='surrogateescape')
again = samples_of(folded.stdout.splitlines(keepends=True), pids)
differ = [pair for pid in pids for pair in zip(live[pid], again[pid]) if pair[0] != pair[1]]
check(folded.returncode == 0 and again == live, 'fold comes to the same names and stacks', len(differ), differ[:2])
shutil.rmtree(tmp)
report_and_exit()
