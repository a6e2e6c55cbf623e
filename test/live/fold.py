#!/usr/bin/env python3
"""usage: fold.py RINGFOLD VICTIMS-DIRECTORY

`ringfold fold` on what this machine's perf records now: as many samples as perf script sees, streams, Ctrl-C, programs
that are replaced while they run, maps of JIT code that fit and that do not.
"""
import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from checks import check_that as check, cpu_s, report_and_exit, skip, wait_for

ringfold, victims = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
tmp = tempfile.mkdtemp(prefix='ringfold-live-')
ENV = dict(os.environ, HOME=tmp, LC_ALL='C')
ENV.pop('DEBUGINFOD_URLS', None)
PERF = shutil.which('perf')
EVENT = ['-e', 'cpu-clock', '-F', '499']


def leave(why):
    shutil.rmtree(tmp)
    skip(why)


def record(*args, name='perf.data', **how):
    path = f'{tmp}/{name}'
    done = subprocess.run([PERF, 'record', '-q', *EVENT, '-o', path, *args], capture_output=True, text=True, env=ENV, **how)
    check(os.path.exists(path), f'perf record {args}', done.stderr)
    return path


def fold(*args, status=0, **how):
    """(stacks, statistics, words)"""
    stats = f'{tmp}/stats.json'
    done = subprocess.run([ringfold, 'fold', '--stats', stats, *args], capture_output=True, text=True, env=ENV, timeout=120, **how)
    check(done.returncode == status, f'fold {args}: status {done.returncode}', done.stderr)
    stacks = collections.Counter()
    for line in done.stdout.splitlines():
        stack, _, count = line.rpartition(' ')
        stacks[stack] += int(count)
    return stacks, json.load(open(stats)), done.stderr


def whole(said):
    return said['idle'] + said['kernel_only'] + said['complete'] + said['truncated'] + sum(said['broken'].values())


def test_agrees_with_perf_script():
    """Every sample counts once, and none twice."""
    for seconds in '1', '4', '16': # a machine with other work
        path = record('--call-graph', 'dwarf,65528', '--', f'{victims}/victim-deepc', seconds)
        seen = subprocess.run([PERF, 'script', '-i', path, '-F', 'tid', '--no-inline', '-G'], capture_output=True, text=True, env=ENV).stdout
        if len(seen.split()) > 30:
            break
    for extra in ([], ['--unwinder', 'libunwind']):
        stacks, said, words = fold(path, *extra)
        check(said['samples'] == len(seen.split()) > 30, f'{said["samples"]} samples, perf script sees {len(seen.split())}')
        check(whole(said) == said['samples'], f'the classes add up: {said}')
        check(sum(stacks.values()) == said['samples'], 'each sample has a stack')
        check(said['complete'] + said['truncated'] >= 0.98 * said['user_stacks'], f'whole stacks: {said}', words)
        check(said['unresolved_files'] == 0 and said['event'].startswith('cpu-clock') and said['freq'] == 499, f'{said}')
        check(any(';main;' in s for s in stacks), 'main is named')
        check(said['stack_bytes'] == 65528 and 0.3 < said['wall_s'] < 30, f'{said}')


def test_streams():
    recorder = subprocess.Popen([PERF, 'record', '-q', *EVENT, '--call-graph', 'dwarf,16384', '-o', '-', '--', f'{victims}/victim-deepc', '1'],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENV)
    stacks, said, words = fold('-', stdin=recorder.stdout)
    recorder.wait()
    check(said['samples'] > 30 and whole(said) == said['samples'], f'{said}', words)
    check(any(';main;' in s for s in stacks), 'main is named', words)


def test_interrupt():
    """Ctrl-C reaches both ends of a pipe; it is meant for the recorder."""
    out = f'{tmp}/interrupted.folded'
    busy = subprocess.Popen([f'{victims}/victim-deepc', '60'])  # an idle machine has no stack to fold
    for seconds in 2, 5, 15: # a crowded machine may not have begun to record
        shell = subprocess.Popen(['sh', '-c', f'{PERF} record -q -a -e cpu-clock -F 99 --call-graph dwarf,8192 -o - 2>/dev/null | '
                                  f'{ringfold} fold - -o {out}'], start_new_session=True, env=ENV, stderr=subprocess.PIPE, text=True)
        time.sleep(seconds)
        os.killpg(shell.pid, signal.SIGINT)
        words = shell.communicate(timeout=120)[1]
        if os.path.exists(out) and os.path.getsize(out):
            break
    busy.kill()
    busy.wait()
    check(os.path.exists(out) and os.path.getsize(out) > 0, 'what was recorded is folded', words)


def test_system_wide():
    """Thousands of processes, idle CPUs, kernel frames by name."""
    path = record('-a', '-N', '--call-graph', 'dwarf,4096', '--', 'sh', '-c', 'for i in $(seq 200); do /bin/true; done; sleep 0.3')
    stacks, said, words = fold(path, '--annotate')
    check(whole(said) == said['samples'] > 50, f'{said}', words)
    kernel = sum(f.endswith('_[k]') for s in stacks for f in s.split(';'))
    named = sum(f.endswith('_[k]') and not f.startswith('[kernel]') for s in stacks for f in s.split(';'))
    check(kernel == named > 0 or 'kernel symbols' in words, f'{named} of {kernel} kernel frames named', words)
    idle, with_idle, _ = fold(path, '--include-idle')
    check(with_idle['idle'] == said['idle'] and sum(idle.values()) == said['samples'], f'{with_idle}')


def test_replaced():
    """perf reads build-ids when it ends: of the file that took the program's place. No name may come from that."""
    program = f'{tmp}/program'
    shutil.copy(f'{victims}/victim-alpha', program)
    child = subprocess.Popen([program, '60'], stdout=subprocess.DEVNULL)
    # What it runs is started when it records.
    recorder = subprocess.Popen([PERF, 'record', '-q', *EVENT, '--call-graph', 'dwarf,8192', '-o', f'{tmp}/replaced.data', '-p', str(child.pid), '--',
                                 'sh', '-c', f'touch {tmp}/records; sleep 1.5'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENV)
    wait_for(lambda: os.path.exists(f'{tmp}/records') or recorder.poll() is not None)
    shutil.copy(f'{victims}/victim-beta', program + '.new')
    os.rename(program + '.new', program)
    recorder.wait()
    child.kill()
    child.wait()
    stacks, said, words = fold(f'{tmp}/replaced.data')
    check(said['samples'] > 30, f'{said}')
    check(not any('beta' in s for s in stacks), 'names of the file that came later', str(list(stacks)[:3]), words)
    check('another version is here' in words and said['unresolved_samples'] > 30, 'what is missing is told', words)


def jit(name):
    """A recording of a program that has ended by a signal and left its map behind: (path of both, pid)."""
    child = subprocess.Popen([f'{victims}/victim-jit', '300'], stdout=subprocess.DEVNULL)
    wait_for(lambda: cpu_s(child.pid) > 0.05) # its map is written before it works
    path = record('--call-graph', 'dwarf,8192', '-p', str(child.pid), '--', 'sleep', '2', name=name)
    return path, f'/tmp/perf-{child.pid}.map', child


def named(stacks):
    return sum(n for s, n in stacks.items() if 'jit_outer;jit middle with spaces' in s)


def test_jit_maps():
    path, jit_map, child = jit('jit.data')
    try:
        stacks, said, words = fold(path)
        check(named(stacks) >= 0.9 * said['samples'] > 20, 'named while it lives', str(list(stacks)[:2]), words)
        later = time.time() + 60
        os.utime(jit_map, (later, later))
        check(named(fold(path)[0]) > 20, 'a living process goes on writing its map')
        os.utime(jit_map)
        child.kill()
        child.wait()
        end = os.stat(path).st_mtime
        os.utime(jit_map, (end - 0.2, end - 0.2))
        check(named(fold(path)[0]) > 20, 'named when it has ended')
        for when, what in (end - 10 * 86400, 'of days before'), (end + 5, 'written since'):
            os.utime(jit_map, (when, when))
            stacks, said, words = fold(path)
            check(named(stacks) == 0 and said['jit_named'] == 0 and said['jit_frames'] > 20, f'a map {what} is not believed', words)
        stacks, said, _ = fold(path, '--map-dir', '/tmp')
        check(named(stacks) > 20, '--map-dir is')
    finally:
        child.kill()
        if os.path.exists(jit_map):
            os.unlink(jit_map)


def test_frame_pointers():
    path = record('-g', '--', f'{victims}/victim-fp_twin', '1')
    stacks, said, words = fold(path)
    check(said['samples'] > 30 and whole(said) == said['samples'], f'{said}', words)
    check(any(';main;' in s for s in stacks), 'main is named', str(list(stacks)[:3]))


def test_own_recording():
    """A fold of what ringfold recorded comes to the stacks and classes that the recording came to."""
    for extra, command in ((['--stack-bytes', '32768'], ['victim-recurse_fp', '3', '100']),  # spliced
                           ([], ['victim-crypto', '1', 'sha2']),                             # broken
                           (['-K'], ['victim-deepc', '1']),                                  # nothing of user space
                           (['--stack-bytes', '4096'], ['victim-deepc', '1'])):              # truncated
        own = f'{tmp}/own.data'
        subprocess.run([ringfold, 'record', '-q', '-F', '499', *extra, '-o', own, '-o', f'{tmp}/own.folded', '--stats',
                        f'{tmp}/own.json', '--', f'{victims}/{command[0]}', *command[1:]], stdout=subprocess.DEVNULL, check=True, env=ENV)
        live = json.load(open(f'{tmp}/own.json'))
        _, said, words = fold(own, '-o', f'{tmp}/again.folded')
        for key in ('samples', 'complete', 'truncated', 'broken', 'spliced', 'frames', 'kernel_only'):
            check(said[key] == live[key], f'{command}: {key}: {said[key]}, {live[key]} when it was recorded', words)
        check(open(f'{tmp}/own.folded').read() == open(f'{tmp}/again.folded').read(), f'{command}: other stacks')
        check(command[0] != 'victim-recurse_fp' or live['spliced'] > 50, f'{command}: {live["spliced"]} spliced')
        os.unlink(own)


if not PERF:
    leave('no perf to record with')
if subprocess.run([PERF, 'record', '-q', *EVENT, '-o', f'{tmp}/probe.data', '--', 'true'], capture_output=True, env=ENV).returncode:
    leave('perf may not record here')
for name, test in sorted(globals().copy().items()):
    if name.startswith('test_'):
        test()
shutil.rmtree(tmp)
report_and_exit()
