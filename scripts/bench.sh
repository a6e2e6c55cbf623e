#!/usr/bin/env bash
# What ringfold costs, beside perf and samply, on the same load in the same run.
#
#   scripts/bench.sh [live] [--rounds N] [--seconds S]      recording a live machine
#   scripts/bench.sh fold [--rounds N] [--keep DIR]         folding a recording; test/prove/bench_fold.py
#
# Load of `live`: two threads of a deep C++ recursion (test/victims, deepc). Each tool attaches to the running load, so its
# CPU time is its own. Figures are medians of N rounds (3), the tools taking turns within a round.
# RINGFOLD names the binary (default build/release), PEERS a directory with `run perf` and `run samply`;
# what is missing is left out, aloud.
set -euo pipefail
cd "$(dirname "$0")/.."
export RINGFOLD=${RINGFOLD:-$PWD/build/release/app/ringfold}
export PEERS=${PEERS:-/var/tmp/ringfold-peers}
export LOAD=${LOAD:-}
[ "${1:-}" = live ] && shift
if [ ! -x "$RINGFOLD" ]; then
	meson setup --native-file scripts/release.ini build/release >/dev/null
	ninja -C build/release >/dev/null
fi
[ -n "$LOAD" ] || LOAD=$(find "$(dirname "$RINGFOLD")/.." -name victim-deepc -type f -perm -u+x | head -n 1)
export LOAD
if [ "${1:-}" = fold ]; then
	shift
	exec python3 test/prove/bench_fold.py "$@"
fi
exec python3 - "$@" <<'PY'
import argparse, json, os, shutil, statistics, subprocess, sys, tempfile, time

args = argparse.ArgumentParser()
args.add_argument('--rounds', type=int, default=3)
args.add_argument('--seconds', type=int, default=7)
args = args.parse_args()
ringfold, peers, load = (os.environ[k] for k in ('RINGFOLD', 'PEERS', 'LOAD'))
if not load:
    sys.exit('bench: no load: build test/victims/deepc or set LOAD')
tmp = tempfile.mkdtemp(prefix='ringfold-bench-')
secs = str(args.seconds)

# samply insists on perf_event_paranoid <= 1: shown to it alone, in a mount namespace of its own.
paranoid = os.path.join(tmp, 'paranoid')
open(paranoid, 'w').write('1\n')
samply_sh = f'mount --bind {paranoid} /proc/sys/kernel/perf_event_paranoid && exec timeout -s INT {secs} "$@"'

def tools():
    yield 'ringfold', lambda hz, pid, out: [ringfold, 'record', '-q', '-F', hz, '-d', secs, '-p', pid,
                                            '-o', out + '.folded', '--stats', out + '.json']
    yield 'ringfold -a', lambda hz, pid, out: [ringfold, 'record', '-q', '-F', hz, '-d', secs, '-a',
                                               '-o', out + '.folded', '--stats', out + '.json']
    if shutil.which('perf'):
        yield 'perf 6.1 dwarf,65528', lambda hz, pid, out: [
            'perf', 'record', '-q', '-e', 'cpu-clock', '-F', hz, '--call-graph', 'dwarf,65528',
            '-o', out + '.data', '-p', pid, '--', 'sleep', secs]
    if os.access(f'{peers}/run', os.X_OK):
        yield 'perf 7 dwarf,65528', lambda hz, pid, out: [
            f'{peers}/run', 'perf', 'record', '-q', '-e', 'cpu-clock', '-F', hz, '--call-graph',
            'dwarf,65528', '-o', out + '.data', '-p', pid, '--', 'sleep', secs]
        yield 'samply (32 KB, no names)', lambda hz, pid, out: [
            'unshare', '-m', 'sh', '-c', samply_sh, 'sh', f'{peers}/run', 'samply', 'record',
            '--save-only', '-r', hz, '-o', out + '.profile.json', '-p', pid]
    else:
        print(f'bench: no peers in {peers}: perf 7 and samply are left out', file=sys.stderr)

def run(argv):
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    words = child.stderr.read().decode(errors='replace')
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = status
    if status and os.waitstatus_to_exitcode(status) != 124:  # 124: timeout sent the Ctrl-C
        print(f'bench: {argv[0]} ended with {status}: {words.strip()[-300:]}', file=sys.stderr)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status) in (0, 124)

def details(out):
    path = out + '.json'
    if not os.path.exists(path):
        return ''
    s = json.load(open(path))
    return (f"{s['samples']} samples ({s['idle']} idle), {s['lost']} lost, {s['complete']} of "
            f"{s['user_stacks']} stacks whole")

results = {}
try:
    victim = subprocess.Popen([load, '100000'], stdout=subprocess.DEVNULL)
    time.sleep(0.3)
    for _ in range(args.rounds):
        for hz in ('97', '999'):
            for name, argv in tools():
                out = os.path.join(tmp, 'out')
                cpu, rss, ok = run(argv(hz, str(victim.pid), out))
                size = sum(os.path.getsize(os.path.join(tmp, f)) for f in os.listdir(tmp))
                if ok:
                    results.setdefault((hz, name), []).append((cpu, rss, size, details(out)))
                for f in os.listdir(tmp):
                    if f != 'paranoid':
                        path = os.path.join(tmp, f)
                        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
finally:
    victim.kill()
    victim.wait()
    shutil.rmtree(tmp)
print(f'{"Hz":>4} {"tool":<26} {"CPU s":>7} {"peak RSS MB":>12} {"MB written":>11}  ({args.seconds} s, '
      f'two busy threads, medians of {args.rounds})')
for (hz, name), rows in results.items():
    cpu, rss, size = (statistics.median(r[i] for r in rows) for i in range(3))
    print(f'{hz:>4} {name:<26} {cpu:7.3f} {rss:12.1f} {size / 1e6:11.1f}  {rows[-1][3]}')
bad = 0
for hz in ('97', '999'):
    def med(name):
        rows = results.get((hz, name))
        return statistics.median(r[0] for r in rows) if rows else None
    mine = med('ringfold')
    for peer, factor in (('perf 6.1 dwarf,65528', 8 if hz == '999' else 1), ('samply (32 KB, no names)', 1)):
        theirs = med(peer)
        if mine is None or theirs is None:
            continue
        ok = mine * factor <= theirs
        bad += not ok
        print(f'{hz:>4} Hz: ringfold {mine:.3f} s, {peer} {theirs:.3f} s: ratio {theirs / mine:.1f}, '
              f'wanted >= {factor}: {"ok" if ok else "MISSED"}')
sys.exit(1 if bad else 0)
PY
