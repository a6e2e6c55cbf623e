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


def record_until(wanted, recording):
    """
    Sums of (stacks, statistics) of as many recordings as it takes until there are as many stacks as wanted that match each
    pattern: what is rare does not come in every one, nor do all get to run on a crowded machine.
    """
    stacks, said = collections.Counter(), collections.Counter()
    for _ in range(20):
        more, stats = recording()
        stacks += more
        said += collections.Counter({key: stats[key] for key in ('complete', 'user_stacks', 'switched')})
        said += collections.Counter(stats['broken'])
        if all(share(stacks, of, '')[1] >= num for of, num in wanted):
            break
    return stacks, said


def record_in_storm(path):
    """A recording while signals come as fast as they can be sent: Go's own for preemption."""
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


def check_share(what, stacks, of, have, least):
    """`least`: of 100."""
    part, num = share(stacks, of, have)
    others = [stack for stack in stacks if re.search(of, stack) and not re.search(have, stack)]
    check(num and part >= least, f'{what}: {part:.1f} % of {num} samples', *others[:10])


if not shutil.which('go') or not shutil.which('cc'):
    leave('go or cc not installed')
IN_C, CALLED_BACK, STARTED = r';runtime\.asmcgocall;', r';main\.spin', r';runtime\.mstart;'
for flags in ([], ['-ldflags=-s -w']):
    path = build('cgo', f'{source}/test/live/cgo.go', *flags)
    stacks, said = record_until([(IN_C, 100), (CALLED_BACK, 100), (STARTED, 10)], lambda: record('--', path))
    whole = 100 * said['complete'] / max(said['user_stacks'], 1)
    check(whole >= 99, f'cgo {flags}: {whole:.1f} % of the stacks whole', said)
    check_share(f'cgo {flags}: in C with their callers', stacks, IN_C,
                r';runtime\.goexit;runtime\.main;main\.main;main\.outer;main\.inner;[^;]*;runtime\.cgocall;runtime\.asmcgocall;', 99)
    check_share(f'cgo {flags}: called by C with their callers', stacks, CALLED_BACK,
                r';runtime\.goexit;runtime\.main;main\.main;main\.outer;.*;runtime\.cgocallback;.*;main\.spin', 99)
    check_share(f'cgo {flags}: from mstart on', stacks, STARTED, r'^cgo;(_start|__?clone3?|clone3?|runtime\.|\[)', 99)
NOW, SINCE, HANDLER = r';main\.clock;|;time\.now', r';time\.Since;', r';runtime\.sigtramp'
for flags in ([], ['-ldflags=-s -w']):
    path = build('clock', f'{source}/test/live/clock.go', *flags)
    stacks, said = record_until([(NOW, 100), (SINCE, 100), (HANDLER, 20)], lambda: record('--', path))
    whole = 100 * (said['complete'] + said['altstack']) / max(said['user_stacks'], 1)
    check(whole >= 98, f'clock {flags}: {whole:.1f} % of the stacks as far as the copy goes', said)
    check_share(f'clock {flags}: in time.now with their callers', stacks, NOW,
                r'^clock;runtime\.goexit;runtime\.main;main\.main;main\.clock;time\.Now(;|$)', 95)
    check_share(f'clock {flags}: in time.Since with their callers', stacks, SINCE,
                r'^clock;runtime\.goexit;runtime\.main;main\.main;main\.since;time\.Since;', 95)
    check_share(f'clock {flags}: handlers that know what they interrupted', stacks, HANDLER,
                r'^clock;(\[altstack\];)?[^;[][^[]*;runtime\.sigreturn[^;]*;runtime\.sigtramp', 90)
path = build('load', f'{source}/test/prove/load.go')
stacks, said = record_until([(r';runtime\.systemstack;', 50)], lambda: record('--', path, '4'))
whole = 100 * said['complete'] / max(said['user_stacks'], 1)
check(whole >= 98.5, f'load: {whole:.1f} % of the stacks whole', said)
check_share('load: through systemstack from their goroutine on', stacks, r';runtime\.systemstack;',
            r'^load;runtime\.(goexit|rt0_go);', 90)
check(said['switched'] <= said['user_stacks'] // 20, f'load: {said["switched"]} stacks not followed')
# Leaves that keep no frame end with the handler's stack, and all system calls are made by such.
HANDLER = (r'^(?!.*;runtime\.(futex|osyield|usleep|nanosleep|getpid|gettid|tgkill|madvise|epollwait|sched_yield|mmap)'
           r';runtime\.sigreturn).*;runtime\.sigtramp')
stacks, said = record_until([(HANDLER, 40)], lambda: record_in_storm(path))
check_share('load: handlers that go on where the goroutine was called', stacks, HANDLER,
            r'^load;runtime\.goexit;.*;runtime\.sigreturn;', 20)
SWITCH = r';runtime\.systemstack|;gosave_systemstack_switch'
for flags in ([], ['-ldflags=-s -w']):
    path = build('switch', f'{source}/test/live/go_switch', *flags)
    stacks, said = record_until([(SWITCH, 100)], lambda: record('--', path))
    check_share(f'switch {flags}: around a change of stacks with their callers', stacks, SWITCH,
                r'^switch;runtime\.goexit;runtime\.main;main\.main;main\.ask;main\.switches;runtime\.systemstack', 99)
shutil.rmtree(tmp)
report_and_exit()
