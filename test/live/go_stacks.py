#!/usr/bin/env python3
"""usage: go_stacks.py RINGFOLD SOURCE-DIRECTORY

Go changes stacks for its own work (systemstack), for C (asmcgocall) and back (cgocallback): stacks go on where the goroutine
called, by the frame pointers that the kernel followed, in stripped programs too, and behind mstart to who made the thread.
So they do behind time.now, which calls the vDSO on another stack; behind a signal handler stands what it interrupted, and who
called that.
"""
import collections
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

from checks import check_that as check, report_and_exit, skip

ringfold, source = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
tmp = tempfile.mkdtemp(prefix='ringfold-go-')


def leave(why):
    shutil.rmtree(tmp)
    skip(why)


def build(name, path, *flags):
    env = dict(os.environ, GOCACHE=f'{tmp}/cache', GO111MODULE='off', CGO_ENABLED='1')
    where, what = (path, '.') if os.path.isdir(path) else (tmp, path)
    done = subprocess.run(['go', 'build', '-o', f'{tmp}/{name}', *flags, what], env=env, cwd=where, capture_output=True, text=True)
    check(done.returncode == 0, f'building {path}', done.stderr)
    return f'{tmp}/{name}'


def record(*command):
    """(stacks, statistics)"""
    out, stats = f'{tmp}/out.folded', f'{tmp}/stats.json'
    done = subprocess.run([ringfold, 'record', '-q', '-F', '997', '-o', out, '--stats', stats, *command],
                          capture_output=True, text=True, timeout=120)
    if 'error' in done.stderr and 'permitted' in done.stderr:
        leave(done.stderr)
    stacks = collections.Counter()
    for line in open(out):
        stack, _, count = line.rpartition(' ')
        stacks[stack.replace('.abi0', '')] += int(count)
    return stacks, json.load(open(stats))


def record_in_storm(path):
    """The same while signals come as fast as they can be sent: Go's own for preemption."""
    load = subprocess.Popen([path, '60'], stdout=subprocess.DEVNULL)
    done = threading.Event()

    def storm():
        while not done.wait(0.001):
            for _ in range(20):
                os.kill(load.pid, signal.SIGURG)

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        return record('-p', str(load.pid), '-d', '4')
    finally:
        done.set()
        thread.join()
        load.kill()
        load.wait()


def share(stacks, of, have):
    all_of = sum(count for stack, count in stacks.items() if re.search(of, stack))
    found = sum(count for stack, count in stacks.items() if re.search(of, stack) and re.search(have, stack))
    return (100 * found / all_of if all_of else 0), all_of


if not shutil.which('go') or not shutil.which('cc'):
    leave('go or cc not installed')
for flags in ([], ['-ldflags=-s -w']):
    stacks, said = record('--', build('cgo', f'{source}/test/live/cgo.go', *flags))
    whole = 100 * said['complete'] / max(said['user_stacks'], 1)
    check(whole >= 99, f'cgo {flags}: {whole:.1f} % of the stacks whole', said['broken'])
    part, num = share(stacks, r';runtime\.asmcgocall;', r';runtime\.goexit;runtime\.main;main\.main;main\.outer;main\.inner;'
                                                         r'[^;]*;runtime\.cgocall;runtime\.asmcgocall;')
    check(num >= 100 and part >= 99, f'cgo {flags}: {part:.1f} % of {num} samples in C have their callers')
    part, num = share(stacks, r';main\.spin', r';runtime\.goexit;runtime\.main;main\.main;main\.outer;.*;runtime\.cgocallback;.*;main\.spin')
    check(num >= 100 and part >= 99, f'cgo {flags}: {part:.1f} % of {num} samples that C called have their callers')
    part, num = share(stacks, r';runtime\.mstart;', r'^cgo;(_start|__?clone3?|clone3?|runtime\.|\[)')
    check(part >= 99, f'cgo {flags}: {part:.1f} % of {num} stacks from mstart on')
for flags in ([], ['-ldflags=-s -w']):
    stacks, said = record('--', build('clock', f'{source}/test/live/clock.go', *flags))
    whole = 100 * (said['complete'] + said['broken'].get('altstack', 0)) / max(said['user_stacks'], 1)
    check(whole >= 98, f'clock {flags}: {whole:.1f} % of the stacks as far as the copy goes', said['broken'])
    part, num = share(stacks, r';main\.clock;|;time\.now', r'^clock;runtime\.goexit;runtime\.main;main\.main;main\.clock;time\.Now;|'
                                                          r'^clock;runtime\.goexit;runtime\.main;main\.main;main\.clock;time\.Now$')
    check(num >= 20 and part >= 95, f'clock {flags}: {part:.1f} % of {num} samples in time.now have their callers')
    part, num = share(stacks, r';time\.Since;', r'^clock;runtime\.goexit;runtime\.main;main\.main;main\.since;time\.Since;')
    check(num >= 20 and part >= 95, f'clock {flags}: {part:.1f} % of {num} samples in time.Since have their callers')
    part, num = share(stacks, r';runtime\.sigtramp', r'^clock;(\[altstack\];)?[^[;][^[]*;runtime\.sigreturn[^;]*;runtime\.sigtramp')
    check(num >= 3 and part >= 90, f'clock {flags}: {part:.1f} % of {num} handlers know what they interrupted')
stacks, said = record('--', build('load', f'{source}/test/prove/load.go'), '4')
whole = 100 * said['complete'] / max(said['user_stacks'], 1)
check(whole >= 98.5, f'load: {whole:.1f} % of the stacks whole', said['broken'])
part, num = share(stacks, r';runtime\.systemstack;', r'^load;runtime\.(goexit|rt0_go);')
check(num >= 20 and part >= 90, f'load: {part:.1f} % of {num} stacks through systemstack begin with their goroutine')
check(said['switched'] <= said['user_stacks'] // 20, f'load: {said["switched"]} stacks not followed')
# Leaves that keep no frame end with the handler's stack.
stacks, said = record_in_storm(f'{tmp}/load')
part, num = share(stacks, r';runtime\.sigtramp', r'^load;runtime\.goexit;.*;runtime\.sigreturn;')
check(num >= 5 and part >= 10, f'load: {part:.1f} % of {num} handlers go on where the goroutine was called')
for flags in ([], ['-ldflags=-s -w']):
    stacks, said = record('--', build('switch', f'{source}/test/live/go_switch', *flags))
    part, num = share(stacks, r';runtime\.systemstack|;gosave_systemstack_switch',
                      r'^switch;runtime\.goexit;runtime\.main;main\.main;main\.ask;main\.switches;runtime\.systemstack')
    check(num >= 100 and part >= 99, f'switch {flags}: {part:.1f} % of {num} samples around a change of stacks have their callers')
shutil.rmtree(tmp)
report_and_exit()
