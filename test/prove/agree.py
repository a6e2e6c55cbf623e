#!/usr/bin/env python3
"""Our stacks against `perf script` on the very same bytes, sample by sample.

usage: agree.py RINGFOLD VICTIMS_DIR [--seconds S] [--freq HZ] [--only NAME,..] [--keep DIR] [--perf CMD]..

Each program is recorded once, into a perf.data and into -f perf-script at the same time. Every perf named by --perf
(default: perf, and perf 7 where PERF7 names one) reads the perf.data with --no-inline, as does `ringfold fold --unwinder
libunwind`, and each sample's chain is held
against ours: first by its address, or where a perf prints offsets in the file (6.1), by those bits of it that mapping
leaves alone. What differs is listed by class: who ends early and where, or where both go different ways. The classes are
explained in docs/differences.md. Fails when a header differs, or when ours is the shorter one or goes another way, and no
perf agrees with ours, in more samples of a row than it may (a column of the table below). Against perf 6.1 alone
nothing is judged: it loses libc in half of the programs that were started by fork and exec. `ringfold fold` of the file
must print what the recording printed, byte for byte (but for -a, where files are gone by then and others' maps spliced).
"""
import argparse, collections, os, re, shlex, shutil, signal, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
FIELDS = '+pid,+tid,+cpu,+time,+period,+event,+ip,+sym,+dso'
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
args.add_argument('--perf', action='append', default=[])
args.add_argument('--examples', type=int, default=0, help='show so many samples of each class')
args = args.parse_args()
args.ringfold, args.victims = os.path.abspath(args.ringfold), os.path.abspath(args.victims)
tmp = args.keep or tempfile.mkdtemp(prefix='ringfold-agree-')
tmp = os.path.abspath(tmp)
os.makedirs(tmp, exist_ok=True)

Sample = collections.namedtuple('Sample', 'head chain')
HEAD = re.compile(r'^(.*?)\s+(-?\d+)/(-?\d+)\s+\[(\d+)\]\s+(\d+\.\d+):\s+(\d+) +(\S+): $')
FRAME = re.compile(r'^\t *([0-9a-f]+) (.*) \((.*)\)$')
KERNEL = 1 << 63


def read_script(lines):
    """Samples by (pid, tid, time, cpu); what a header cannot tell apart keeps its order."""
    samples, chain = [], None
    for number, line in enumerate(lines, 1):
        line = line.rstrip('\n')
        if not line:
            chain = None
        elif chain is None:
            head = HEAD.match(line)
            if not head:
                raise ValueError(f'line {number}: no header: {line!r}')
            chain = []
            samples.append(Sample(head.groups(), chain))
        else:
            frame = FRAME.match(line)
            if not frame:
                raise ValueError(f'line {number}: no frame: {line!r}')
            chain.append((int(frame[1], 16), frame[2], frame[3]))
    return samples


def run_perf(command, path):
    done = subprocess.run([*command, 'script', '-i', path, '--no-inline', '--max-stack', '1024', '-F', FIELDS],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors='surrogateescape')
    return read_script(done.stdout.splitlines())


def run_fold(path):
    done = subprocess.run([args.ringfold, 'fold', '-q', '--include-idle', '--unwinder', 'libunwind', '-f', 'perf-script', path],
                          stdout=subprocess.PIPE, text=True, errors='surrogateescape')
    return read_script(done.stdout.splitlines())


def name(frame):
    symbol = re.sub(r'\+0x[0-9a-f]+$', '', frame[1])
    dso = frame[2].split('/')[-1]
    return f'JIT code' if re.match(r'perf-\d+\.map', dso) else f'{symbol} ({dso})'


def place(frame, by_offset):
    """What mapping leaves alone: the page offset."""
    return frame[0] & 0xfff if by_offset and frame[0] < KERNEL else frame[0]


GO_SWITCH = re.compile(r'runtime\.(systemstack|mstart|mcall|morestack|goexit)\b')


def compare(ours, theirs, by_offset):
    """The class of a sample."""
    a, b = ([place(f, by_offset) for f in chain] for chain in (ours, theirs))
    if a == b:
        return 'equal', ''
    at = 0
    while at < min(len(a), len(b)) and a[at] == b[at]:
        at += 1
    user = next((i for i, f in enumerate(ours) if f[0] < KERNEL), len(ours))
    after = f'after {name(ours[at - 1])}' if at else 'at the leaf'
    if at < user:
        return 'kernel', after
    if at < len(b) and theirs[at][1:] == ('[unknown]', '[unknown]'):
        return 'theirs goes on in no mapping', after
    for left_out in range(1, len(a) - at):
        if a[at + left_out:] == b[at:]:
            return 'theirs leaves frames out', after
    if at and at < len(b) and GO_SWITCH.match(ours[at - 1][1]):
        return 'theirs takes for a caller what lies behind a Go stack switch', after
    if at < min(len(a), len(b)) and 'sigreturn' in ours[at][1] and b[at] == a[at] - 1:
        return 'theirs takes for a caller the code that a signal handler returns to', after
    # It left one out, and what follows is one of the other classes.
    if at + 1 < len(a) and at < len(b) and a[at + 1] == b[at] and compare(ours[at + 1:], theirs[at:], by_offset)[0].startswith('theirs'):
        return 'theirs leaves frames out', after
    if at == len(b):
        if at == user:
            return 'theirs ends early', 'with no user frame at all'
        return 'theirs ends early', after
    if at == len(a):
        return 'OURS ENDS EARLY', f'{after}, theirs goes on with {name(theirs[at])}'
    return 'different', f'{after}: ours {name(ours[at])}, theirs {name(theirs[at])}'


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
# name, tools, prepare, command or options, samples in 1000 where ours may end early or go another way
ROWS = [
    ('g++', ['g++'], None, ['--', 'g++', '-std=c++17', '-O2', '-c', '-o', f'{tmp}/big.o', f'{HERE}/big.cpp'], 1),
    ('sqlite3', ['sqlite3'], None, ['--', 'sqlite3', ':memory:', SQL], 1),
    ('openssl', ['openssl'], None, ['--', 'openssl', 'speed', '-seconds', '1', 'sha256', 'rsa2048',
                                    'ecdsap256', 'sha1', 'md5', 'aes-256-cbc'], 1),
    ('git', ['git'], prepare_git, ['--', *sh(f'cd {tmp}/repo; for i in 1 2 3 4 5 6; do git log -p --stat >/dev/null; '
                                              'git repack -adfq; git blame f1 >/dev/null; done')], 1),
    ('perl', ['perl'], None, ['--', 'perl', '-e', PERL], 1),
    ('python3', ['python3'], None, ['--', 'python3', '-c', PY], 1),
    ('python-perf', [pyperf], None, ['--', pyperf, '-X', 'perf', '-c', PY], 1),
    ('go', ['go'], prepare_go, ['--', f'{tmp}/goload', run_for], 1),
    ('node', ['node'], None, ['--', 'node', '--perf-basic-prof', f'--logfile={tmp}/v8.log', f'{HERE}/load.js', run_for], 1),
    ('java', ['java', 'javac'], prepare_java, ['--', 'java', '-XX:+PreserveFramePointer', '-cp', tmp, 'Load', run_for], 1),
    ('deepc', [f'{args.victims}/victim-deepc'], None, ['--', f'{args.victims}/victim-deepc', run_for], 1),
    ('system', [], None, ['-a', '--include-idle', '--', *sh(f'for i in 1 2 3 4 5 6 7 8 9; do ls -lR /usr/include; '
                          f'find /usr/share -name "*.h" | head -2000 | xargs cat | gzip -c | wc -c; done >/dev/null')], 2),
]


def perfs():
    found = [shlex.split(p) for p in args.perf]
    if not found:
        found = [[shutil.which('perf')]] if shutil.which('perf') else []
        if os.environ.get('PERF7'):
            found.append(shlex.split(os.environ['PERF7']))
    for command in found:
        version = subprocess.run([*command, '--version'], stdout=subprocess.PIPE, text=True).stdout.strip()
        yield {'command': command, 'version': version, 'alone': len(found) == 1,
               'by_offset': re.search(r'version (5\.1[3-9]|6\.[0-9]\b)', version) is not None}


def record(row, path):
    done = subprocess.run([args.ringfold, 'record', '-q', '-F', args.freq, '-d', args.seconds, '-o', path, '-o', f'{path}.txt',
                           *row[3]], stdout=subprocess.DEVNULL, cwd=tmp)
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
    ok = None if '-a' in row[3] else same
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


def judge(row, ours, reader, agreed):
    """Prints the classes; True, False, or None where nothing can be judged."""
    classes, examples = collections.Counter(), collections.defaultdict(list)
    theirs, worse = reader['samples'], 0
    heads = collections.Counter(filter(None, (compare_heads(o.head, t.head) for o, t in zip(ours, theirs))))
    for i, (o, t) in enumerate(zip(ours, theirs)):
        what = compare(o.chain, t.chain, reader['by_offset'])
        classes[what] += 1
        if what[0] != 'equal' and len(examples[what]) < args.examples:
            examples[what].append((o, t))
        worse += what[0] in ('OURS ENDS EARLY', 'different', 'kernel') and not agreed[i]
    for o, t in zip(ours, theirs):
        if compare_heads(o.head, t.head) == 'OTHER HEADER':
            print(f'    the first other header: {o.head}, theirs {t.head}')
            break
    total = max(1, len(ours))
    ok = len(ours) > 50 and len(ours) == len(theirs) and not heads['OTHER HEADER'] and worse * 1000 <= row[4] * total
    if reader['alone'] and reader['by_offset']:
        ok = None
    print(f'  {len(ours)} samples, theirs {len(theirs)}; {classes["equal", ""]} equal ({100 * classes["equal", ""] / total:.2f} %), '
          f'{worse} where nobody agrees with ours: {"not judged" if ok is None else "ok" if ok else "FAILED"}')
    for what, n in heads.items():
        print(f'    {n:6} {what}')
    show(classes, examples)
    return ok


def main():
    passed = failed = skipped = 0
    readers = list(perfs())
    if not readers:
        print('no perf is installed: only fold is judged')
    for row in ROWS:
        if args.only and row[0] not in args.only.split(','):
            continue
        missing = need(*row[1])
        if missing:
            print(f'{row[0]}: SKIP: {missing}')
            skipped += 1
            continue
        if row[2]:
            row[2]()
        path = f'{tmp}/{row[0]}.data'
        ours = record(row, path)
        for ok in judge_fold(row, path), judge_readers(row, f'{path}.txt'):
            passed += ok is True
            failed += ok is False
        for r in readers:
            r['samples'] = run_perf(r['command'], path)
        libunwind = {'version': 'fold --unwinder libunwind', 'alone': False, 'by_offset': False, 'samples': run_fold(path)}
        agreed = [any(i < len(r['samples']) and compare(o.chain, r['samples'][i].chain, r['by_offset'])[0] == 'equal'
                      for r in readers) for i, o in enumerate(ours)]
        for r in [*readers, libunwind]:
            print(f'{row[0]} against {r["version"]}:', flush=True)
            ok = judge(row, ours, r, agreed)
            passed += ok is True
            failed += ok is False
        if not args.keep:
            os.remove(path)
    print(f'{passed} passed, {failed} failed, {skipped} skipped')
    return 1 if failed or (skipped and os.environ.get('TEST_NO_SKIP')) else 0


try:
    sys.exit(main())
finally:
    if not args.keep:
        shutil.rmtree(tmp, ignore_errors=True)
