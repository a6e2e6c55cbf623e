#!/usr/bin/env python3
"""What folding a recording costs, beside perf, samply and cat, and how that grows.

usage: scripts/bench.sh fold [--rounds N] [--keep DIR] [--only gxx,system,growth]

Recordings: a g++ -O2 compile at 999 Hz with 32 KiB dumps, and a machine where thousands of programs are executed. Each
tool reads each of them N times (5), the tools taking turns within a round. A recording is read twice just before each run:
there are machines whose kernel (DAMON) lets go of file pages after seconds, and where memory costs more the first time.
What a tool makes is a new file each time, also what perf prints; cat alone prints to /dev/null. CPU is user and system time of
the tool and all it starts, and nothing that measures it; the peak is of a run of its own. samply finds no names, perf is told --no-inline.
"""
import argparse, os, shutil, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
args = argparse.ArgumentParser(usage=__doc__)
args.add_argument('--rounds', type=int, default=5)
args.add_argument('--keep', default='', help='directory for the recordings; what is there already is used again')
args.add_argument('--only', default='gxx,system,growth')
args = args.parse_args()
ringfold, peers = os.environ['RINGFOLD'], os.environ['PEERS']
tmp = args.keep or tempfile.mkdtemp(prefix='ringfold-bench-')
os.makedirs(tmp, exist_ok=True)
perf = shutil.which('perf')
sid = f'{peers}/run' if os.access(f'{peers}/run', os.X_OK) else None
null = subprocess.DEVNULL
ENV = dict(os.environ)
ENV.pop('DEBUGINFOD_URLS', None)


def start(argv):
    """(CPU s, wall s, peak MB of the tool or of this program, which a child begins with, if that is more)"""
    for made in 'out.folded', 'out.json', 'out.txt':
        if os.path.exists(f'{tmp}/{made}'):
            os.unlink(f'{tmp}/{made}')
    with open('/dev/null' if 'cat' in argv else f'{tmp}/out.txt', 'w') as out:
        began = time.monotonic()
        child = subprocess.Popen(argv, stdin=null, stdout=out, stderr=subprocess.PIPE, env=ENV)
    words = child.stderr.read().decode(errors='replace')
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = status
    if status:
        print(f'bench: {argv[0]} ended with {status}: {words.strip()[-300:]}', file=sys.stderr)
        return None
    return usage.ru_utime + usage.ru_stime, time.monotonic() - began, usage.ru_maxrss / 1024


def peak(argv):
    """MB; GNU time has so little itself that it does not show."""
    time_it = '/usr/bin/time'
    if not os.access(time_it, os.X_OK):
        return start(argv)[2]
    start([time_it, '-f', '%M', '-o', f'{tmp}/peak', *argv])
    return int(open(f'{tmp}/peak').read().split()[-1]) / 1024


def warm(path):
    with open(path, 'rb', buffering=0) as f:
        piece = bytearray(1 << 17)
        for _ in range(2):
            f.seek(0)
            while f.readinto(piece):
                pass


def tools(path):
    yield 'cat', ['cat', path]
    yield 'ringfold fold', [ringfold, 'fold', '-q', path, '-o', f'{tmp}/out.folded']
    if sid:
        yield 'samply import (no names)', [sid, 'samply', 'import', '--save-only', '-o', f'{tmp}/out.json', path]
        yield 'perf 7 script --no-inline', [sid, 'perf', 'script', '--no-inline', '-i', path]
    if perf:
        yield 'perf 6.1 script --no-inline', [perf, 'script', '--no-inline', '-i', path]


def median(rows, i):
    return statistics.median(row[i] for row in rows)


def measure(path, names=None):
    rows = {}
    for _ in range(args.rounds):
        for name, argv in tools(path):
            if names is None or name in names:
                warm(path)
                row = start(argv)
                if row:
                    rows.setdefault(name, []).append(row)
    return {name: (median(rows[name], 0), median(rows[name], 1), peak(argv)) for name, argv in tools(path) if name in rows}


def record(name, options, command, dump=32768):
    path = f'{tmp}/{name}.data'
    if not os.path.exists(path):
        done = subprocess.run([perf, 'record', '-q', '-N', '-e', 'cpu-clock', '--call-graph', f'dwarf,{dump}', *options,
                               '-o', path, '--', *command], stdout=null, stderr=subprocess.PIPE, text=True)
        if not os.path.exists(path):
            sys.exit(f'bench: perf record: {done.stderr}')
    return path


def samples(path):
    stats = f'{tmp}/stats.json'
    subprocess.run([ringfold, 'fold', '-q', path, '-o', '/dev/null', '-f', 'collapsed', '--stats', stats], check=True, env=ENV)
    import json
    return json.load(open(stats))


bad = 0


def require(what, ok):
    global bad
    bad += not ok
    print(f'  {what}: {"ok" if ok else "MISSED"}')


def table(title, path, wants):
    said = samples(path)
    print(f'{title}: {said["samples"]:,} samples, {os.path.getsize(path) / 1e6:.0f} MB, '
          f'{said["frames"] / max(1, said["user_stacks"]):.0f} frames a stack; medians of {args.rounds}')
    print(f'  {"tool":<30} {"CPU s":>8} {"wall s":>8} {"peak MB":>8}')
    rows = measure(path)
    for name, (cpu, wall, peak) in rows.items():
        print(f'  {name:<30} {cpu:8.3f} {wall:8.3f} {peak:8.1f}')
    ours = rows['ringfold fold']
    for peer, column, factor in wants:
        if peer not in rows:
            continue
        limit = rows[peer][column] * factor
        require(f'{"CPU" if column == 0 else "wall"} {ours[column]:.3f} <= {factor:g} of {peer} ({rows[peer][column]:.3f})',
                ours[column] <= limit)
    print()


def churn(count, files):
    """A command that runs `count` short programs out of `files` copies."""
    source = shutil.which('true')
    directory = f'{tmp}/bin{files}'
    os.makedirs(directory, exist_ok=True)
    for i in range(files):
        if not os.path.exists(f'{directory}/p{i}'):
            shutil.copy(source, f'{directory}/p{i}')
    return ['sh', '-c', f'i=0; while [ $i -lt {count} ]; do {directory}/p$((i % {files})); i=$((i + 1)); done']


def growth():
    """The same kind of recording, ten times as long, with many binaries, with many processes."""
    load = os.environ.get('LOAD') or sys.exit('bench: no load: build test/victims/deepc or set LOAD')
    cases = [('1x samples', record('short', ['-F', '999'], [load, '1'], 8192)),
             ('10x samples', record('long', ['-F', '999'], [load, '10'], 8192)),
             ('10 binaries, 1,000 processes', record('few', ['-F', '4999'], churn(1000, 10), 4096)),
             ('500 binaries, 1,000 processes', record('many', ['-F', '4999'], churn(1000, 500), 4096)),
             ('10 binaries, 10 processes', record('ten', ['-F', '4999'], churn(10, 10), 4096)),
             ('10 binaries, 5,000 processes', record('thousands', ['-F', '4999'], churn(5000, 10), 4096))]
    print(f'growth (ringfold fold; medians of {args.rounds})')
    print(f'  {"recording":<30} {"samples":>8} {"MB":>7} {"CPU s":>8} {"wall s":>8} {"peak MB":>8} {"us/sample":>10}')
    for name, path in cases:
        num = samples(path)['samples']
        cpu, wall, peak = measure(path, ['ringfold fold'])['ringfold fold']
        print(f'  {name:<30} {num:8,} {os.path.getsize(path) / 1e6:7.0f} {cpu:8.3f} {wall:8.3f} {peak:8.1f} '
              f'{1e6 * cpu / max(1, num):10.1f}')
    print()


try:
    if not perf:
        sys.exit('bench: fold needs perf to record')
    only = args.only.split(',')
    if 'gxx' in only:
        path = record('gxx', ['-F', '999'], ['g++', '-std=c++17', '-O2', '-c', '-o', f'{tmp}/big.o', f'{HERE}/big.cpp'])
        table('g++ -O2, 999 Hz, 32 KiB dumps', path,
              [('samply import (no names)', 0, 1 / 4), ('perf 7 script --no-inline', 0, 1 / 8),
               ('perf 6.1 script --no-inline', 0, 1 / 8), ('cat', 1, 1.5)])
    if 'system' in only:
        path = record('system', ['-a', '-F', '999'], ['sh', '-c', 'for i in 1 2; do (' + ' '.join(churn(1700, 20)[2:]) + ') & done; wait'], 16384)
        table('a machine with 3,400 execs, 999 Hz, 16 KiB dumps', path, [('samply import (no names)', 0, 1 / 4)])
    if 'growth' in only:
        growth()
finally:
    if not args.keep:
        shutil.rmtree(tmp)
sys.exit(1 if bad else 0)
