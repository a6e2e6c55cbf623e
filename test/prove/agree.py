#!/usr/bin/env python3
"""Our stacks against every other unwinder on the very same bytes, sample by sample.

usage: agree.py RINGFOLD VICTIMS_DIR [--seconds S] [--freq HZ] [--only NAME,..] [--keep DIR [--again]] [--perf CMD]..

Each program is recorded once, into a perf.data and into -f perf-script at the same time. The perf.data is read by every perf
named by --perf (default: perf, and perf 7 where PERF7 names one; --no-inline), by samply (SAMPLY, or the one beside PERF7), by
libdwfl (test/live/dwfl_script.c) and by `ringfold fold --unwinder libunwind`, and each sample's chain is held against ours
(chains.py tells how). What differs is listed by class: who ends early and where, or where both go different ways. Each class
but three is a mistake of theirs that shows in the sample itself; docs/differences.md explains them. A sample counts against
us when ours ends early, or has another chain in the kernel, whoever else does; and when it is different and nobody else agrees
with ours, or theirs reaches its root and ours does not.

Fails when a header differs, when a sample counts against us, when a tool finds another number of samples, when `perf
report` counts other events, when a reader of perf script's text would not take a line of ours, when `ringfold fold` of the file
does not print what the recording printed, byte for byte (but for -a, where files are gone by then and others' maps
spliced), and when the share of stacks that reach their root (Roots in chains.py; of all samples in which any tool has a frame
of user space) is below that of any other tool.
"""
import argparse, collections, os, re, shlex, shutil, subprocess, sys, tempfile

import chains
from chains import Dwfl, Fold, Perf, Roots, Samply, counts_against, name, read_script, user_part
from perfdata import PerfData

HERE = os.path.dirname(os.path.abspath(__file__))
SQL = ('with recursive n(i) as (select 1 union all select i + 1 from n where i < 6000000) '
       'select count(*), sum(length(hex(i * 7919 % 10007))) from n where i % 3 = 0')
PY = ('import json,re\nfor i in range(60): json.loads(json.dumps([{str(k): [k] * 9} for k in range(9000)])); '
      're.sub("(a|b)+", "x", "abab" * 20000)')
PERL = ('my %h; for my $i (1..3000000) { $h{$i % 9973} .= chr(65 + $i % 26) } '
        'print length join "", map { sort split //, $_ } values %h')

args = argparse.ArgumentParser()
args.add_argument('ringfold')
args.add_argument('victims')
args.add_argument('--seconds', default='4')
args.add_argument('--freq', default='999')
args.add_argument('--only', default='')
args.add_argument('--keep', default='')
args.add_argument('--again', action='store_true', help='of what --keep has, record nothing')
args.add_argument('--perf', action='append', default=[])
args.add_argument('--examples', type=int, default=0, help='show so many samples of each class')
args = args.parse_args()
args.ringfold, args.victims = os.path.abspath(args.ringfold), os.path.abspath(args.victims)
tmp = args.keep or tempfile.mkdtemp(prefix='ringfold-agree-')
tmp = os.path.abspath(tmp)
os.makedirs(tmp, exist_ok=True)


def need(*tools):
    missing = [t for t in tools if not shutil.which(t)]
    return f'{", ".join(missing)} not installed' if missing else None


def sh(loop):
    return ['sh', '-c', loop]


def prepare_go():
    env = dict(os.environ, GOCACHE=f'{tmp}/gocache', GOFLAGS='-mod=mod', GO111MODULE='off')
    subprocess.run(['go', 'build', '-o', f'{tmp}/goload', f'{HERE}/load.go'], check=True, env=env)


def prepare_java():
    subprocess.run(['javac', '-d', tmp, f'{HERE}/Load.java'], check=True)


def prepare_git():
    subprocess.run(['git', 'init', '-q', f'{tmp}/repo'], check=True)
    env = dict(os.environ, GIT_AUTHOR_NAME='a', GIT_AUTHOR_EMAIL='a', GIT_COMMITTER_NAME='a', GIT_COMMITTER_EMAIL='a')
    for i in range(40):
        for k in range(20):
            with open(f'{tmp}/repo/f{k}', 'a') as f:
                f.write(''.join(f'{i} {k} {n * n * (i + 7)}\n' for n in range(400)))
        subprocess.run(['git', '-C', f'{tmp}/repo', 'add', '.'], check=True)
        subprocess.run(['git', '-C', f'{tmp}/repo', 'commit', '-q', '-m', str(i)], check=True, env=env)


pyperf = next((p for v in ('3.13.0', '3.13', '3.14') for p in (os.path.expanduser(f'~/.pyenv/versions/{v}/bin/python3'),)
               if os.path.exists(p)), shutil.which('python3.13') or 'python3.13')
run_for = str(int(args.seconds) + 3)
GXX = ['g++', '-std=c++17', '-O2', '-c', '-o', f'{tmp}/big.o', f'{HERE}/big.cpp']
OPENSSL = ['openssl', 'speed', '-seconds', '1', 'sha256', 'rsa2048', 'ecdsap256', 'sha1', 'md5', 'aes-256-cbc']
GIT = sh(f'cd {tmp}/repo; for i in 1 2 3 4 5 6; do git log -p --stat >/dev/null; git repack -adfq; git blame f1 >/dev/null; done')
NODE = ['node', '--perf-basic-prof', f'--logfile={tmp}/v8.log', f'{HERE}/load.js', run_for]
JAVA = ['java', '-XX:+PreserveFramePointer', '-cp', tmp, 'Load', run_for]
# name, tools, prepare, command or options
ROWS = [
    ('g++', ['g++'], None, ['--', *GXX]),
    ('sqlite3', ['sqlite3'], None, ['--', 'sqlite3', ':memory:', SQL]),
    ('openssl', ['openssl'], None, ['--', *OPENSSL]),
    ('git', ['git'], prepare_git, ['--', *GIT]),
    ('perl', ['perl'], None, ['--', 'perl', '-e', PERL]),
    ('python3', ['python3'], None, ['--', 'python3', '-c', PY]),
    ('python-perf', [pyperf], None, ['--', pyperf, '-X', 'perf', '-c', PY]),
    ('go', ['go'], prepare_go, ['--', f'{tmp}/goload', run_for]),
    ('node', ['node'], None, ['--', *NODE]),
    ('java', ['java', 'javac'], prepare_java, ['--', *JAVA]),
    ('deepc', [f'{args.victims}/victim-deepc'], None, ['--', f'{args.victims}/victim-deepc', run_for]),
    ('system', [], None, None),
]


def system_mix():
    """All that is there at once, beside programs that live for milliseconds, some in a pid namespace of their own."""
    churn = ('while :; do ls -lR /usr/include/linux; find /usr/share -name "*.h" | head -500 | xargs cat | gzip -c | wc -c; '
             'sh -c "date; true | cat"; done >/dev/null')
    jobs = [sh(churn), ['unshare', '-fpm', '--mount-proc', *sh(churn)]]
    jobs += [sh(f'while :; do {shlex.join(GXX)}; done')] if shutil.which('g++') else []
    jobs += [sh(f'while :; do {shlex.join(GIT)}; done')] if os.path.isdir(f'{tmp}/repo') else []
    jobs += [[f'{tmp}/goload', run_for]] if os.path.exists(f'{tmp}/goload') else []
    jobs += [JAVA] if os.path.exists(f'{tmp}/Load.class') else []
    for argv in OPENSSL, NODE, ['sqlite3', ':memory:', SQL], ['perl', '-e', PERL], [pyperf, '-X', 'perf', '-c', PY]:
        jobs += [argv] if shutil.which(argv[0]) else []
    return ['-a', '--include-idle', '--',
            *sh(' '.join(f'timeout -k 1 {int(args.seconds) + 1} {shlex.join(job)} >/dev/null 2>&1 &' for job in jobs) + ' wait')]


def readers():
    commands = [shlex.split(p) for p in args.perf]
    perf7 = shlex.split(os.environ.get('PERF7', ''))
    if not commands:
        commands = [[shutil.which('perf')]] if shutil.which('perf') else []
        commands += [perf7] if perf7 else []
    yield from map(Perf, commands)
    samply = shlex.split(os.environ.get('SAMPLY', '')) or ([shutil.which('samply')] if shutil.which('samply') else [])
    if not samply and len(perf7) > 1 and perf7[-1] == 'perf':
        samply = [*perf7[:-1], 'samply']
    if samply:
        yield Samply(samply)
    yield Dwfl(os.path.join(os.path.dirname(args.victims), 'live', 'dwfl_script'))
    yield Fold(args.ringfold)


def record(row, path):
    if not args.again:
        done = subprocess.run([args.ringfold, 'record', '-q', '-F', args.freq, '-d', args.seconds, '-o', path, '-o', f'{path}.txt',
                               *(row[3] or system_mix())], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp)
        if done.returncode == 4:
            print('SKIP: not permitted')
            sys.exit(1 if os.environ.get('TEST_NO_SKIP') else 77)
    return read_script(open(f'{path}.txt', errors='surrogateescape'))


# How each reader of this text finds its parts: stackcollapse-perf.pl of FlameGraph, src/import/linux-tools-perf.ts of
# speedscope, src/profile-logic/import/linux-perf.js of Firefox Profiler, perf/regexp.py of FlameScope.
HEAD_READERS = [re.compile(r) for r in (r'^(\S.+?)\s+(\d+)/*(\d+)*\s+', r'\s+(\d+\.\d+):\s+', r'(\S+):\s*$', r' +([0-9.]+): .+?:',
                                         r'^\S.*?\s+(?:\d+\/)?\d+\s+(?:\[\d+\]\s+)?[\d.]+:')]
FRAME_READERS = [re.compile(r) for r in (r'^\s*(\w+)\s*(.+) \((.*)\)', r'^\s*(\w+)\s*(.+) \((\S*)\)')]


def judge_readers(row, path):
    bad = []
    for line in open(path, errors='surrogateescape'):
        readers = FRAME_READERS if line.startswith('\t') else HEAD_READERS if line != '\n' else []
        if not all(r.search(line) for r in readers) and ' (/memfd:' not in line:
            bad.append(line)
    print(f'{row[0]}: {len(bad)} lines that a reader would not take: {"FAILED: " + bad[0].rstrip() if bad else "ok"}')
    return not bad


def judge_fold(row, path):
    done = subprocess.run([args.ringfold, 'fold', '-q', '--include-idle', '-f', 'perf-script', path], stdout=subprocess.PIPE)
    same = done.returncode == 0 and done.stdout == open(f'{path}.txt', 'rb').read()
    ok = same if row[3] else None
    print(f'{row[0]}: fold prints {"the same" if same else "something else"}: {"not judged" if ok is None else "ok" if ok else "FAILED"}')
    return ok


def compare_heads(ours, theirs):
    """The class of a difference between two headers; None = there is none."""
    if ours == theirs:
        return None
    if ours[1:] == theirs[1:] and theirs[0] == f':{theirs[2]}':
        return 'theirs forgot the name of a thread after its EXIT record'
    if '-1' in theirs[1:3] and ours[3:] == theirs[3:]:
        return 'a task that is ending has no id left'
    if ours[1:] == theirs[1:] and ours[0].startswith('kworker/') and theirs[0].startswith('kworker/'):
        return 'a kernel worker changed its name, of which no record tells'
    return 'OTHER HEADER'


def show(classes, examples):
    for (kind, where), n in classes.most_common():
        if kind != 'equal' and (n >= 3 or not kind.startswith('theirs')):
            print(f'    {n:6} {kind} {where}')
        for o, t in examples[kind, where]:
            print(f'      {o.head}')
            for i in range(max(len(o.chain), len(t.chain))):
                print('        %-60s | %s' % tuple(f'{c[i][0]:x} {name(c[i])}' if i < len(c) else '' for c in (o.chain, t.chain)))


def may_be_missing(sample):
    """samply has no idle task, and forgets a thread at its EXIT record, though it is sampled until it is gone."""
    return sample.head[2] in ('0', '-1') or any(f[1].startswith(('do_exit', 'release_task')) for f in sample.chain)


def judge(ours, reader, theirs, classes, against):
    """Prints the classes of what differs from one reader."""
    listed, examples = collections.Counter(), collections.defaultdict(list)
    both = [(o, t) for o, t in zip(ours, theirs) if t]
    heads = collections.Counter(filter(None, (compare_heads(o.head, t.head) for o, t in both)))
    for i, (o, t) in enumerate(zip(ours, theirs)):
        if t:
            listed[classes[i]] += 1
            if classes[i][0] != 'equal' and len(examples[classes[i]]) < args.examples:
                examples[classes[i]].append((o, t))
    for o, t in both:
        if compare_heads(o.head, t.head) == 'OTHER HEADER':
            print(f'    the first other header: {o.head}, theirs {t.head}')
            break
    missing = sum(not t and not may_be_missing(o) for o, t in zip(ours, theirs)) + abs(len(ours) - len(theirs))
    ok = len(ours) > 50 and not missing and not heads['OTHER HEADER'] and not against
    print(f'  {len(ours)} samples, {missing} not theirs; {listed["equal", ""]} equal ({100 * listed["equal", ""] / max(1, len(both)):.2f} %), '
          f'{against} against ours: {"ok" if ok else "FAILED"}')
    for what, n in heads.items():
        print(f'    {n:6} {what}')
    show(listed, examples)
    return ok


def judge_roots(name, ours, read, shares):
    """The share of stacks that reach their root, of samples in which anyone has a frame of user space."""
    roots = Roots()
    everyone = [('ringfold', ours), *((r.name, samples) for r, samples in read)]
    for _, samples in everyone:
        roots.learn(samples)
    counted = [i for i in range(len(ours)) if any(i < len(s) and s[i] and user_part(s[i].chain) for _, s in everyone)]
    for tool, samples in everyone:
        reached = sum(i < len(samples) and samples[i] is not None and roots.reached(samples[i].chain) for i in counted)
        shares[name][tool] = 100 * reached / max(1, len(counted))
    best = max(shares[name].values())
    ok = shares[name]['ringfold'] >= best
    print(f'{name}: {shares[name]["ringfold"]:.2f} % of {len(counted)} stacks reach their root, the best of the others '
          f'{max(v for k, v in shares[name].items() if k != "ringfold"):.2f} %: {"ok" if ok else "FAILED"}')
    return ok, roots


def has_ended(sample, ends):
    """Its task's end was told before: by at most 10 ms, so that it is not another task of that number."""
    at = float(sample.head[4]) * 1e9 # rounded down to microseconds
    return any(at - 1e7 < e <= at + 1000 for e in ends.get((int(sample.head[1]), int(sample.head[2])), []))


def judge_row(row, path, ours, shares):
    """Yields what passed and what did not."""
    yield judge_fold(row, path)
    yield judge_readers(row, f'{path}.txt')
    read = []
    for reader in readers():
        read.append((reader, reader.read(path, ours)))
    ok, roots = judge_roots(row[0], ours, read, shares)
    yield ok
    whole = [roots.reached(o.chain) for o in ours]
    ends = PerfData(path).ends
    classes = [[chains.judge(o.chain, t.chain, r.place, roots, has_ended(o, ends)) if t else ('absent', '')
                for o, t in zip(ours, theirs)] for r, theirs in read]
    agreed = [any(i < len(c) and c[i] == ('equal', '') for c in classes) for i in range(len(ours))]
    for (reader, theirs), found in zip(read, classes):
        print(f'{row[0]} against {reader.name}:', flush=True)
        against = sum(counts_against(c[0], agreed[i], whole[i], theirs[i] and roots.reached(theirs[i].chain)) for i, c in enumerate(found))
        yield judge(ours, reader, theirs, found, against)
        if hasattr(reader, 'reads_report'):
            ok = reader.reads_report(path, ours)
            print(f'  its report counts {"the same" if ok else "something else: FAILED"}')
            yield ok


def show_shares(shares):
    tools = list(dict.fromkeys(t for row in shares.values() for t in row))
    print(f'\nstacks that reach their root, %:\n{"":12}' + ''.join(f'{t:>16}' for t in tools))
    for name, row in shares.items():
        print(f'{name:12}' + ''.join(f'{row[t]:16.2f}' if t in row else f'{"-":>16}' for t in tools))


def main():
    passed = failed = skipped = 0
    shares = collections.defaultdict(dict)
    for row in ROWS:
        if args.only and row[0] not in args.only.split(','):
            continue
        missing = need(*row[1])
        if missing:
            print(f'{row[0]}: SKIP: {missing}')
            skipped += 1
            continue
        if row[2] and not args.again:
            row[2]()
        path = f'{tmp}/{row[0]}.data'
        for ok in judge_row(row, path, record(row, path), shares):
            passed += ok is True
            failed += ok is False
        if not args.keep:
            os.remove(path)
    show_shares(shares)
    print(f'{passed} passed, {failed} failed, {skipped} skipped')
    return 1 if failed or (skipped and os.environ.get('TEST_NO_SKIP')) else 0


try:
    sys.exit(main())
finally:
    if not args.keep:
        shutil.rmtree(tmp, ignore_errors=True)
