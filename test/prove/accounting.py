#!/usr/bin/env python3
"""Hz x CPUs x seconds = samples + lost, on two fully busy CPUs, also while nobody drains the rings.

usage: accounting.py RINGFOLD VICTIMS_DIR [--seconds S] [--freq HZ] [--stops N,..] [--may-lose]

Records both CPUs with cpu-clock, once undisturbed, once with the recorder stopped (SIGSTOP) for 500 ms, once for 500 ms three
times. What the program calls lost must be what the kernel reported, by both of its ways: the LOST records that came
through the rings (they are in the perf.data that is written beside) and PERF_FORMAT_LOST (LOST_SAMPLES at its end).

What the host took from this machine no timer of it can count: "steal" of proc(5) is allowed for and shown. A host may take
more than it tells (perf record sees the same gaps of 5 ms), so of six attempts one must be within 1 %; what was lost must be
right in each.
"""
import argparse, json, os, shutil, signal, subprocess, sys, tempfile, time

from perfdata import PerfData

args = argparse.ArgumentParser()
args.add_argument('ringfold')
args.add_argument('victims')
args.add_argument('--seconds', type=float, default=10)
args.add_argument('--freq', type=int, default=999)
args.add_argument('--stops', default='0,1,3')
args.add_argument('--may-lose', action='store_true', help='also when it was not stopped, as with sanitizers')
args = args.parse_args()
CPUS = sorted(os.sched_getaffinity(0))[:2]
STOP_S, TOLERANCE, ATTEMPTS = 0.5, 0.01, 6


def stolen_s():
    """Of the recorded CPUs, and up to a clock tick less than that each."""
    total = 0
    with open('/proc/stat') as f:
        for line in f:
            fields = line.split()
            if fields and fields[0] in [f'cpu{cpu}' for cpu in CPUS]:
                total += int(fields[8])
    return total / os.sysconf('SC_CLK_TCK')


def record(tmp, stops):
    command = [args.ringfold, 'record', '-q', '-a', '-C', ','.join(map(str, CPUS)), '-e', 'cpu-clock', '-F', str(args.freq),
               '-d', str(args.seconds), '-o', f'{tmp}/out.folded', '-o', f'{tmp}/out.data', '--stats', f'{tmp}/out.json']
    if stops: # rings of the usual size hold half a second of short stacks
        command += ['--ring-bytes', '2M']
    stolen = stolen_s()
    rec = subprocess.Popen(command)
    for _ in range(stops):
        time.sleep(args.seconds / (stops + 1) - STOP_S / 2)
        rec.send_signal(signal.SIGSTOP)
        time.sleep(STOP_S)
        rec.send_signal(signal.SIGCONT)
    if rec.wait():
        sys.exit(f'ringfold record: exit status {rec.returncode}')
    with open(f'{tmp}/out.json') as f:
        return json.load(f), PerfData(f'{tmp}/out.data'), stolen_s() - stolen


def judge(stops, stats, file, stolen):
    """(what is never right, what a disturbed machine explains)"""
    want = stats['freq'] * len(CPUS) * stats['wall_s']
    got = stats['samples'] + stats['lost']
    missing = stats['freq'] * stolen
    wrong, unclear = [], []
    if stats['lost'] != file.lost_samples or stats['lost'] + stats['side_lost'] != file.lost:
        wrong.append('what the kernel reported')
    if stats['samples'] != stats['idle'] + stats['kernel_only'] + stats['complete'] + stats['truncated'] \
            + sum(stats['broken'].values()) or stats['samples'] != file.samples:
        wrong.append('classes')
    # Shallow stacks of half a second may all fit: only the long form insists on loss.
    if got > want * (1 + TOLERANCE) or stops and not stats['lost'] and not args.may_lose:
        wrong.append('samples + lost')
    if got < want * (1 - TOLERANCE) - missing:
        unclear.append('samples + lost')
    if stats['lost'] and not stops and not args.may_lose:
        unclear.append('loss')
    verdict = f'FAILED: {", ".join(wrong)}' if wrong else f'disturbed: {", ".join(unclear)}' if unclear else 'ok'
    print(f'{stops:>5} {stats["wall_s"]:8.3f} {want:9.0f} {stats["samples"]:8} {stats["lost"]:6} {file.lost:12} '
          f'{file.lost_samples:11} {got:14} {100 * (got - want) / want:+8.2f} % {missing:7.0f}  {verdict}', flush=True)
    return wrong, unclear


def prove(tmp, stops):
    for _ in range(ATTEMPTS):
        wrong, unclear = judge(stops, *record(tmp, stops))
        if wrong or not unclear:
            break
    return not wrong and not unclear


def main():
    tmp = tempfile.mkdtemp(prefix='ringfold-accounting-')
    busy = []
    try:
        if len(CPUS) < 2:
            print('SKIP: it takes two CPUs')
            sys.exit(77)
        for cpu in CPUS:
            busy.append(subprocess.Popen(['taskset', '-c', str(cpu), sys.executable, '-S', '-c', 'while True: pass']))
        time.sleep(0.5)
        print(f'cpu-clock at {args.freq} Hz, CPUs {CPUS}; "stops": 500 ms each in which nobody drained')
        print('stops  seconds  expected  samples   lost LOST records FORMAT_LOST samples + lost difference  stolen')
        passed = [prove(tmp, int(stops)) for stops in args.stops.split(',')]
    finally:
        for p in busy:
            p.kill()
            p.wait()
        shutil.rmtree(tmp, ignore_errors=True)
    print(f'{sum(passed)} passed, {len(passed) - sum(passed)} failed')
    sys.exit(not all(passed))


main()
