#!/usr/bin/env python3
"""usage: lost_processes.py RINGFOLD

A process of whose start no record tells, as nobody emptied the rings just then: the recorder finds it in /proc. Its perf.data
must tell of it too, so that a fold of the file comes to the same stacks under the same name.
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
WANTED = 40  # samples


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


def samples_of(lines, pid):
    """(headers, all of its text) of perf script's text."""
    heads, text, mine = [], [], False
    for line in lines:
        if line[:1] not in ('\t', '\n'):
            mine = f' {pid}/{pid} ' in line
            heads += [line] if mine else []
        text += [line] if mine else []
    return heads, text


def spin():
    return subprocess.Popen([sys.executable, '-S', '-c', 'while 1: sum(range(1000))'])


def grown():
    """What was there is told before the first sample, so it counts by growing."""
    global told
    size = os.path.getsize(data) if os.path.exists(data) else 0
    told = told or size
    return recorder.poll() is not None or (told and size > told + 65536)


data, told = f'{tmp}/x.data', 0
first, busy = spin(), None
recorder = subprocess.Popen([ringfold, 'record', '-q', '-a', '-F', '499', '--ring-bytes', '2M', '-o', data, '-o', f'{data}.txt',
                             '--stats', f'{tmp}/x.json'], stderr=subprocess.PIPE, text=True)
try:
    check(wait_for(grown, WAIT_S), 'it records')
    if recorder.poll() == 4:
        skip('not permitted')
    ours = below(recorder.pid)
    for pid in ours:
        os.kill(pid, signal.SIGSTOP)
    # 2,000 programs: a record each for fork, exec and exit, and those of their mappings. The rings hold a part of that.
    subprocess.run(['sh', '-c', 'i=0; while [ $i -lt 2000 ]; do /bin/true; i=$((i+1)); done'], check=True)
    busy = spin()
    wait_for(lambda: cpu_s(busy.pid) > 0.1, WAIT_S)
    for pid in ours:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: cpu_s(busy.pid) > 1.5, WAIT_S)
    recorder.send_signal(signal.SIGINT)
    check(recorder.wait(WAIT_S) == 0, 'it ends well')
    name = open(f'/proc/{busy.pid}/comm').read().rstrip('\n')
finally:
    for p in recorder, first, busy:
        if p and p.poll() is None:
            p.send_signal(signal.SIGCONT)
            p.kill()
            p.wait()

stats = json.load(open(f'{tmp}/x.json'))
lost = stats['lost'] + stats['side_lost']
check(lost > 0, f'the rings were too small: {lost} lost')
heads, text = samples_of(open(f'{data}.txt', errors='surrogateescape'), busy.pid)
check(len(heads) >= WANTED and all(h.startswith(f'{name} ') for h in heads), f'{len(heads)} samples of {name}')
folded = subprocess.run([ringfold, 'fold', '-q', '-f', 'perf-script', data], stdout=subprocess.PIPE, text=True,
                        errors='surrogateescape')
folded_heads, folded_text = samples_of(folded.stdout.splitlines(keepends=True), busy.pid)
check(folded.returncode == 0 and folded_heads == heads, 'fold finds it by the same name')
differ = [pair for pair in zip(text, folded_text) if pair[0] != pair[1]]
check(folded_text == text, 'and with the same stacks', len(text), len(folded_text), differ[:3])
check(sum('PyEval' in line for line in text) > WANTED, 'which are those of its program')
shutil.rmtree(tmp)
report_and_exit()
