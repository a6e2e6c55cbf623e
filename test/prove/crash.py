#!/usr/bin/env python3
"""A recording that is killed, or that runs into a full disk, leaves a perf.data that reads back.

usage: crash.py RINGFOLD VICTIMS_DIR [--kills N] [--seed N]

Kills `ringfold record -o FILE` with SIGKILL at N random moments. Each file must: contradict itself nowhere; hold every
sample up to one second before the kill; say that it is not finished (no feature bits); give what its header counts to
`perf script`, and that with all whole records behind it, which were written when the header was not yet, to `ringfold
fold`, which must say that it is not finished. The build-ids are in it: a program that changed since gives no names.
Then a disk of 3 MiB (a tmpfs, or a limit on the size of files where that may not be mounted): the failure is said and
the exit status is 1, what was flushed reads back, the other output is whole.
"""
import argparse, os, random, re, resource, shutil, signal, struct, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from perfdata import PerfData

args = argparse.ArgumentParser()
args.add_argument('ringfold')
args.add_argument('victims')
args.add_argument('--kills', type=int, default=20)
args.add_argument('--seed', type=int, default=int(time.time()))
args = args.parse_args()
random.seed(args.seed)
tmp = tempfile.mkdtemp(prefix='ringfold-crash-')
failures = []


def check(ok, what):
    if not ok:
        failures.append(what)
        print('FAILED:', what, flush=True)


def read_by_perf(path):
    if not shutil.which('perf'):
        return None
    done = subprocess.run(['perf', 'script', '-i', path, '--no-inline', '-F', 'comm,pid,time,event'],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors='replace')
    check(done.returncode == 0, f'perf script exits {done.returncode}')
    return len(re.findall(r'^ *\S.*? \d+ +\d+\.\d+: ', done.stdout, re.M))


def read_by_fold(path, unfinished):
    done = subprocess.run([args.ringfold, 'fold', '--include-idle', path], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, errors='replace')
    if not done.stdout: # killed before the first sample
        check(done.returncode == 3, f'fold of nothing exits {done.returncode}: {done.stderr}')
    else:
        check(done.returncode == 0, f'fold exits {done.returncode}: {done.stderr}')
    if unfinished:
        check('not finished' in done.stderr or 'unfinished' in done.stderr, f'fold does not say that it is unfinished: {done.stderr}')
    return sum(int(line.rsplit(' ', 1)[1]) for line in done.stdout.splitlines())


def read_back(path, finished):
    data = PerfData(path)
    check(data.finished == finished, f'features: {data.features}')
    for name, got, want in (('perf script', read_by_perf(path), data.samples),
                            ('fold', read_by_fold(path, not finished) if has_fold else None, data.samples_to_end)):
        check(got is None or got == want, f'{name} finds {got} of {want} samples')
    return data


def start(*argv):
    return subprocess.Popen([args.ringfold, 'record', '-F', '499', '-q', *argv], stderr=subprocess.PIPE, text=True)


def inode(path):
    return os.stat(path).st_ino if os.path.exists(path) else None


def kill_at_random(opened):
    """Seconds between the last sample in the file and the kill; `opened`: not before it has opened the file."""
    before = inode(path)
    record = start('-p', pids, '-o', path)
    give_up = time.monotonic() + 60
    while opened and inode(path) in (None, before) and record.poll() is None and time.monotonic() < give_up:
        time.sleep(0.01)
    time.sleep(0.2 + random.random() * 3)
    record.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    record.communicate()
    if inode(path) in (None, before) or not os.path.getsize(path):
        print('  before it had opened the file')
        return 0
    data = read_back(path, finished=False)
    if not data.samples: # just opened
        return 0
    missing = killed - data.last_ns / 1e9
    print(f'  {data.samples} samples, the last {missing:.2f} s before the kill, {data.data_size} bytes', flush=True)
    return missing


def other_build_id(program):
    """The same program with another build-id: as a new build of it would have."""
    with open(program, 'rb') as f:
        raw = f.read()
    note = struct.pack('<III', 4, 20, 3) + b'GNU\0' # elf(5): NT_GNU_BUILD_ID
    at = raw.index(note) + len(note)
    os.unlink(program) # it runs
    with open(program, 'wb') as f:
        f.write(raw[:at] + bytes(b ^ 0xff for b in raw[at:at + 20]) + raw[at + 20:])
    os.chmod(program, 0o755)


def build_ids_of_killed():
    """A program that changed since is not used to name what was recorded of the one before, though there is no table of build-ids."""
    program, saved = f'{tmp}/deepc', f'{tmp}/ids.data'
    shutil.copy(victim, program)
    runs = subprocess.Popen([program, '100000'], stdout=subprocess.DEVNULL)
    record = start('-p', str(runs.pid), '-o', saved)
    give_up = time.monotonic() + 60
    try:
        while time.monotonic() < give_up and record.poll() is None:
            time.sleep(0.1)
            if os.path.exists(saved) and os.path.getsize(saved) > 104 and PerfData(saved).samples > 20:
                break
    finally:
        record.kill()
        record.communicate()
        runs.kill()
        runs.wait()
    data = PerfData(saved)
    check(not data.finished and data.samples > 20, f'{data.samples} samples, features {data.features}')
    check(program in data.build_ids, f'build-ids: {data.build_ids}')

    def names():
        return subprocess.run([args.ringfold, 'fold', '-q', saved], stdout=subprocess.PIPE, text=True).stdout

    check(has_fold and 'deep::' in names(), 'the program has no names')
    other_build_id(program)
    check(has_fold and 'deep::' not in names() and '[deepc]' in names(), 'names are taken of another program')


has_fold = subprocess.run([args.ringfold, 'fold', '--help'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
victim = os.path.join(args.victims, 'victim-deepc')
busy = [subprocess.Popen([victim, '100000'], stdout=subprocess.DEVNULL) for _ in range(os.cpu_count() or 1)]
pids = ','.join(str(p.pid) for p in busy)
try:
    path = f'{tmp}/killed.data'
    probe = start('-p', pids, '-d', '0.1', '-o', path)
    words = probe.communicate()[1]
    if probe.returncode == 4:
        print(f'SKIP: {words.strip()}')
        sys.exit(1 if os.environ.get('TEST_NO_SKIP') else 77)
    check(probe.returncode == 0, f'exit {probe.returncode}: {words}')
    read_back(path, finished=True)
    print(f'kill -9 at {args.kills} moments (--seed {args.seed})')
    for i in range(args.kills):
        # Once more where it is late: a machine that stands still for a second brings no samples either.
        missing = kill_at_random(i == 0)
        if missing > 1.2:
            missing = kill_at_random(True)
        check(missing <= 1.2, f'the last {missing:.2f} s are not there')
    check(os.path.exists(path + '.old'), 'the file before is kept as .old')
    print('build-ids of a killed recording')
    build_ids_of_killed()

    disk = f'{tmp}/disk'
    os.mkdir(disk)
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=3m', 'none', disk], stderr=subprocess.DEVNULL).returncode == 0
    limit = None if mounted else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
    print('a full disk:', 'tmpfs of 3 MiB' if mounted else 'files of at most 3 MiB')
    try:
        record = subprocess.run([args.ringfold, 'record', '-F', '999', '-q', '-p', pids, '-d', '3', '-o', f'{disk}/full.data',
                                 '-o', f'{tmp}/other.folded'], stderr=subprocess.PIPE, text=True, preexec_fn=limit)
        print('  ' + record.stderr.strip())
        check(record.returncode == 1, f'exit {record.returncode}')
        check(re.search(r'full\.data.*bytes.*(No space left|File too large)', record.stderr), 'it is not said')
        check(record.stderr.count('error') == 1, 'it is said more than once')
        data = read_back(f'{disk}/full.data', finished=False)
        check(data.data_size > 1 << 20 and data.samples > 20, f'{data.samples} samples in {data.data_size} bytes')
        other = sum(int(line.rsplit(' ', 1)[1]) for line in open(f'{tmp}/other.folded'))
        check(other > data.samples, f'the other output has {other} samples, the file {data.samples}')
        print(f'  {data.samples} samples read back, {other} in the other output')
    finally:
        if mounted:
            subprocess.run(['umount', disk])
finally:
    for p in busy:
        p.kill()
    shutil.rmtree(tmp, ignore_errors=True)
print('FAILED' if failures else 'passed')
sys.exit(1 if failures else 0)
