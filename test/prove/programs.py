#!/usr/bin/env python3
"""Records real programs with `ringfold record -a` and judges the profile.

usage: programs.py RINGFOLD VICTIMS_DIR [--seconds S] [--freq HZ] [--only NAME,..] [--unwinder NAME]

A row fails below: no loss; 99.5 % of the user stacks whose copy holds the whole stack complete; 99 % of the
JIT frames named where the program publishes names; every line of the output in the grammar of flamegraph.pl
and of speedscope. What is not installed is skipped aloud, and fails the run when TEST_NO_SKIP is set.
"""
import argparse, json, os, re, shutil, signal, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
SQL = """with recursive n(i) as (select 1 union all select i + 1 from n where i < 200000)
select count(*), sum(length(hex(i * 7919 %% 10007))), max(x) from n
join (select i %% 97 as k, group_concat(i) as x from n group by 1) on k = i %% 97 where i %% 3 = 0;
"""

args = argparse.ArgumentParser()
args.add_argument('ringfold')
args.add_argument('victims')
args.add_argument('--seconds', type=int, default=10)
args.add_argument('--freq', default='999')
args.add_argument('--only', default='')
args.add_argument('--unwinder', default='cfi')
args.add_argument('--keep', default='', help='directory for the profiles')
args = args.parse_args()
tmp = tempfile.mkdtemp(prefix='ringfold-prove-')
run_for = str(args.seconds + 6)


def need(*tools):
    missing = [t for t in tools if not shutil.which(t)]
    return f'{", ".join(missing)} not installed' if missing else None


def start(argv, **kw):
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **kw)


def deepc():
    path = os.path.join(args.victims, 'victim-deepc')
    return None if os.access(path, os.X_OK) else f'no {path}', lambda: start([path, run_for])


def gxx():
    loop = f'while :; do g++ -std=c++17 -O2 -c -o {tmp}/big.o {HERE}/big.cpp; done'
    return need('g++'), lambda: [start(['sh', '-c', loop]), start(['sh', '-c', loop.replace('big.o', 'big2.o')])]


def sqlite():
    loop = f'while :; do sqlite3 :memory: < {tmp}/load.sql; done'
    open(f'{tmp}/load.sql', 'w').write(SQL.replace('%%', '%'))
    return need('sqlite3'), lambda: [start(['sh', '-c', loop]), start(['sh', '-c', loop])]


def openssl():
    loop = 'while :; do openssl speed -seconds 1 %s; done'
    return need('openssl'), lambda: [start(['sh', '-c', loop % 'sha256 aes-128-cbc; openssl speed -seconds 1 -evp aes-256-gcm']),
                                     start(['sh', '-c', loop % 'rsa2048 ecdsap256 ed25519 md5 sha1'])]


def go():
    missing = need('go')
    if not missing:
        env = dict(os.environ, GOCACHE=f'{tmp}/gocache', GOFLAGS='-mod=mod', GO111MODULE='off')
        subprocess.run(['go', 'build', '-o', f'{tmp}/goload', f'{HERE}/load.go'], check=True, env=env)
    return missing, lambda: start([f'{tmp}/goload', run_for])


def node():
    return need('node'), lambda: [start(['node', '--perf-basic-prof', f'{HERE}/load.js', run_for], cwd=tmp)
                                  for _ in range(2)]


def java():
    missing = need('java', 'javac', 'jcmd')
    if not missing:
        subprocess.run(['javac', '-d', tmp, f'{HERE}/Load.java'], check=True)
    return missing, lambda: start(['java', '-XX:+PreserveFramePointer', '-cp', tmp, 'Load', run_for])


def java_map(procs):
    """HotSpot publishes its names when asked: near the end, so that what was compiled is in."""
    time.sleep(args.seconds - 2)
    subprocess.run(['jcmd', str(procs[0].pid), 'Compiler.perfmap'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def check_lines(path):
    bad = 0
    for line in open(path, encoding='utf-8', errors='strict'):
        line = line.rstrip('\n')
        bad += not (re.match(r'^(.*)\s+?(\d+(?:\.\d*)?)$', line) and re.match(r'^(.*) (\d+)$', line))
    return bad


def jit_frames(path, pids):
    """JIT frames of the programs themselves (others on the machine publish no names), and those named."""
    frames = named = 0
    for line in open(path, encoding='utf-8'):
        stack, count = line.rstrip('\n').rsplit(' ', 1)
        parts = stack.split(';')
        if not any(parts[0].endswith(f'-{pid}') for pid in pids):
            continue
        jit = [p for p in parts if p.endswith('_[j]')]
        frames += len(jit) * int(count)
        named += sum(not p.startswith('[jit]') for p in jit) * int(count)
    return frames, named


def end(procs):
    for p in procs:
        try:
            os.killpg(p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        p.wait()
        for path in (f'/tmp/perf-{p.pid}.map', f'/tmp/hsperfdata_root/{p.pid}'):
            if os.path.exists(path):
                os.remove(path)


def profile(name, launch, during):
    folded, stats = os.path.join(tmp, f'{name}.folded'), os.path.join(tmp, f'{name}.json')
    procs = launch()
    procs = procs if isinstance(procs, list) else [procs]
    try:
        time.sleep(2 if name in ('java', 'node') else 0.5)
        rec = subprocess.Popen([args.ringfold, 'record', '-q', '-a', '-F', args.freq, '-d', str(args.seconds),
                                '--pids', '--annotate', '--unwinder', args.unwinder, '-o', folded, '--stats', stats])
        if during:
            during(procs)
        status = rec.wait()
    finally:
        end(procs)
    return status, folded, json.load(open(stats)) if status == 0 else None, [p.pid for p in procs]


def main():
    rows = [('deepc', deepc, None, None), ('g++', gxx, None, None), ('sqlite3', sqlite, None, None),
            ('openssl', openssl, None, None), ('go', go, None, None), ('node', node, None, 99.0),
            ('java', java, java_map, 99.0)]
    passed = failed = skipped = 0
    print(f'{"program":<9} {"samples":>8} {"idle":>6} {"lost":>5} {"user":>7} {"whole %":>8} {"trunc":>6} {"frames":>6} '
          f'{"jit":>8} {"named %":>8} {"CPU s":>6} {"MiB":>6}  broken')
    for name, prepare, during, jit_bar in rows:
        if args.only and name not in args.only.split(','):
            continue
        missing, launch = prepare()
        if missing:
            print(f'{name:<9} SKIP: {missing}')
            skipped += 1
            continue
        status, folded, s, pids = profile(name, launch, during)
        if s is None:
            print(f'{name:<9} FAILED: exit status {status}')
            failed += 1
            continue
        held = s['user_stacks'] - s['truncated']
        whole = 100 * s['complete'] / max(1, held)
        jit, jit_named = jit_frames(folded, pids)
        named = 100 * jit_named / jit if jit else 100.0
        classes = s['idle'] + s['kernel_only'] + s['complete'] + s['truncated'] + sum(s['broken'].values())
        bad_lines = check_lines(folded)
        why = []
        if s['lost']:
            why.append(f'{s["lost"]} lost')
        if whole < 99.5:
            why.append('too few whole')
        if jit_bar and named < jit_bar:
            why.append('too few JIT frames named')
        if jit_bar and not jit:
            why.append('no JIT frames seen')
        if classes != s['samples']:
            why.append(f'classes add up to {classes}')
        if bad_lines:
            why.append(f'{bad_lines} lines a reader would ignore')
        print(f'{name:<9} {s["samples"]:8} {s["idle"]:6} {s["lost"]:5} {s["user_stacks"]:7} {whole:8.2f} {s["truncated"]:6} '
              f'{s["frames"] / max(1, s["user_stacks"]):6.1f} {jit:8} {named:8.2f} {s["cpu_s"]:6.2f} '
              f'{s["peak_rss_kib"] / 1024:6.1f}  {s["broken"]} {"FAILED: " + ", ".join(why) if why else "ok"}')
        if args.keep:
            os.makedirs(args.keep, exist_ok=True)
            shutil.copy(folded, args.keep)
        failed += bool(why)
        passed += not why
    print(f'{passed} passed, {failed} failed, {skipped} skipped')
    return 1 if failed or (skipped and os.environ.get('TEST_NO_SKIP')) else 0


try:
    sys.exit(main())
finally:
    shutil.rmtree(tmp, ignore_errors=True)
