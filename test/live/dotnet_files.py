#!/usr/bin/env python3
"""usage: dotnet_files.py RINGFOLD DIRECTORY
Precompiled .NET code is named and stepped through by its files alone: a service whose runtime may not be asked for
anything (DOTNET_EnableDiagnostics=0). So it is while the process that parses the files is killed again and again; and a file
that ends that process, or keeps it busy, is set aside. The service is built once, in DIRECTORY. Needs the .NET SDK: exit 77
without.
"""
import collections
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

from checks import check_that, report_and_exit, skip

RINGFOLD, DIRECTORY = (os.path.abspath(p) for p in sys.argv[1:3])
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'prove', 'dotnet')


def check(what, ok, got):
    check_that(ok, f'{what}: {got}')


if not shutil.which('dotnet'):
    print('SKIP: no .NET SDK, and none in Debian')
    sys.exit(77)
dll = f'{DIRECTORY}/service/Service.dll'
if not os.path.exists(dll):
    r = subprocess.run(['dotnet', 'publish', '-c', 'Release', '-o', f'{DIRECTORY}/service', '--artifacts-path',
                        f'{DIRECTORY}/service-obj', f'{SOURCE}/Service.csproj'], capture_output=True, text=True)
    if r.returncode:
        skip(f'the service cannot be built here: {r.stdout[-300:]}')
service = subprocess.Popen(['dotnet', dll, '300', 'no-dynamic', 'no-collectible'], stdout=subprocess.DEVNULL,
                           # What is precompiled stays so: on a quiet machine it is soon compiled again.
                           stderr=subprocess.DEVNULL, env={**os.environ, 'DOTNET_EnableDiagnostics': '0',
                                                           'DOTNET_TC_CallCountThreshold': '7fffffff'})

def used():
    """Seconds of CPU."""
    return sum(map(int, open(f'/proc/{service.pid}/stat').read().rsplit(')', 1)[1].split()[11:13])) / os.sysconf('SC_CLK_TCK')


def parsers(pid):
    """Those below a process that parse."""
    found = []
    try:
        for child in open(f'/proc/{pid}/task/{pid}/children').read().split():
            if open(f'/proc/{child}/comm').read().strip() == 'ringfold-parser':
                found.append(int(child))
            found += parsers(child)
    except OSError:
        pass
    return found


def record(name, seconds, kills=0, env=None):
    """Its statistics, and how often each frame was seen; the parser is killed so often meanwhile, if there is time for it."""
    p = subprocess.Popen([RINGFOLD, 'record', '-q', '-F', '299', '-d', str(seconds), '-p', str(service.pid), '-o',
                          f'{DIRECTORY}/{name}.folded', '--stats', f'{DIRECTORY}/{name}.json'], env={**os.environ, **(env or {})})
    killed = 0
    while p.poll() is None:
        for pid in parsers(p.pid) if killed < kills else []:
            try:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            except OSError:
                pass
        time.sleep(0.02)
    check(f'{name}: exit status', p.returncode == 0, p.returncode)
    frames = collections.Counter()
    for stack, count in (line.rsplit(' ', 1) for line in open(f'{DIRECTORY}/{name}.folded')):
        for frame in stack.split(';'):
            frames[frame] += int(count)
    return json.load(open(f'{DIRECTORY}/{name}.json')), frames, killed


def record_until(enough, name, **how):
    """For longer where the machine has other work, and not enough was seen."""
    for seconds in 5, 15, 40:
        ret = record(name, seconds, **how)
        if enough(*ret):
            break
    return ret


def robust():
    stats, frames, killed = record_until(lambda stats, frames, killed: killed >= 3 and stats['samples'] >= 50, 'killed', kills=1000)
    check('killed: kills', killed >= 3, killed)
    check('killed: whole stacks', stats['samples'] >= 50 and stats['complete'] >= 0.99 * stats['samples'],
          f'{stats["complete"]} of {stats["samples"]}')
    check('killed: refused', stats['refused'] == {}, stats['refused'])
    check('killed: precompiled frames without a name', not [f for f in frames if re.search(r'\.dll\]$', f)],
          sum(n for f, n in frames.items() if f.startswith('System.') and '::' in f))
    for how in 'crash', 'hang':
        stats, frames, _ = record_until(lambda stats, frames, _: not stats['refused'] or frames['[System.Text.Json.dll]'],
                                        how, env={'RINGFOLD_TEST_PARSER': f'{how}:System.Text.Json.dll'})
        if not stats['refused']:
            print(f'SKIPPED: {how}: built without the hook (b_ndebug)')
            return
        check(f'{how}: refused', stats['refused'] == {'parser': 1}, stats['refused'])
        check(f'{how}: it has no names', frames['[System.Text.Json.dll]'] > 0 and
              not [f for f in frames if f.startswith('System.Text.Json.')], frames['[System.Text.Json.dll]'])
        others = [f for f in frames if re.search(r'\.dll\]$', f) and f != '[System.Text.Json.dll]']
        check(f'{how}: others have', not others and any(f.startswith('System.Linq.') for f in frames), others)


try:
    until = time.time() + 30
    while used() < 2 and time.time() < until: # it starts by compiling much, and stubs
        time.sleep(0.1)
    subprocess.run([RINGFOLD, 'record', '-q', '-F', '299', '-d', '4', '-p', str(service.pid), '-o', f'{DIRECTORY}/r.folded',
                    '-o', f'{DIRECTORY}/r.data', '--stats', f'{DIRECTORY}/r.json'], check=True)
    robust()
finally:
    service.kill()
    service.wait()
subprocess.run([RINGFOLD, 'fold', '-q', f'{DIRECTORY}/r.data', '-o', f'{DIRECTORY}/f.folded'], check=True)

stats = json.load(open(f'{DIRECTORY}/r.json'))
stacks = [line.rsplit(' ', 1) for line in open(f'{DIRECTORY}/r.folded')]
frames = collections.Counter()
for stack, count in stacks:
    for frame in stack.split(';'):
        frames[frame] += int(count)
named = {f: n for f, n in frames.items() if '::' in f and f.startswith('System.')}
unnamed = {f: n for f, n in frames.items() if re.search(r'\.dll\]$', f)}
check('samples', stats['samples'] >= 100, stats['samples'])
# Code that was compiled just in time has no method starts here: one that keeps no frame pointer may end its stack.
jit_ends = sum(int(n) for s, n in stacks if ';[broken];[jit]' in s)
check('whole stacks', stats['complete'] + jit_ends >= 0.99 * stats['samples'], (stats['complete'], jit_ends, stats['broken']))
check('stacks that end in compiled code', jit_ends <= 0.03 * stats['samples'], jit_ends)
check('precompiled frames with a name', sum(named.values()) >= 100, sum(named.values()))
check('distinct names', len(named) >= 20, len(named))
check('precompiled frames without one', not unnamed, unnamed)
check('state machines are shown as their methods', not [f for f in named if re.search(r'>d__\d+(`\d+)?(\[.*\])?::MoveNext$', f)], '')
# Where a thread's managed part begins, its callers are native code up to the thread's own start.
starts = [s for s, _ in stacks if ';System.Threading.Thread::StartCallback;' in s]
check('threads', bool(starts), len(starts))
check('threads from their start', all('start_thread' in s.split(';System.Threading.Thread::StartCallback')[0] for s in starts), '')
check('folded the same', open(f'{DIRECTORY}/f.folded').read() == open(f'{DIRECTORY}/r.folded').read(), '')
report_and_exit()
