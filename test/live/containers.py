#!/usr/bin/env python3
"""Records real containers, from the host and from a container beside them.

usage: containers.py RINGFOLD SOURCE_DIR CACHE_DIR [--seconds S] [--freq HZ] [--keep DIR] [--only NAME,..]

Containers: an OCI bundle under runc and one under crun, each on an overlay root above a Debian made by debootstrap
(kept in CACHE_DIR), and a bare `unshare -p -m` one. In each run a native program, Node and Java with their perf maps,
.NET with no switch, Go, and programs linked with musl: static, dynamic, stripped. They are recorded with -a, --container
and -G from the host, and with -a and --container from a container that has the host's pids, the host's root at /host, and
links in /var/log/containers; several recordings at once.

Fails where less than 99 % of a program's stacks are whole (95 % in one recording, which has few of each), its functions
are not on them, JIT frames have no name, or what was not asked for is in the profile. What the machine cannot do is skipped aloud, and fails
the run when TEST_NO_SKIP is set; but .NET, which Debian does not have, is just left out where there is no SDK.
"""
import argparse, collections, concurrent.futures, glob, json, os, re, shutil, signal, subprocess, sys, tempfile, time, uuid

from checks import cpu_s

args = argparse.ArgumentParser()
args.add_argument('ringfold')
args.add_argument('source')
args.add_argument('cache')
args.add_argument('--seconds', type=int, default=6)
args.add_argument('--freq', default='999')
args.add_argument('--keep', default='', help='directory for the profiles')
args.add_argument('--only', default='', help='runc, crun, unshare')
args = args.parse_args()
args.ringfold = os.path.abspath(args.ringfold)
args.source = os.path.abspath(args.source)
args.cache = os.path.abspath(args.cache)
here = os.path.dirname(os.path.abspath(__file__))
LIFETIME = 600  # seconds until a program ends by itself, should we be killed
# Of this run alone: another one beside us must not have containers in the same pod.
POD_UID = str(uuid.uuid4())
POD = f'web-6d4b75cb6d-{POD_UID[:5]}'
# What README.md asks for, and nothing else.
CAPABILITIES = ['CAP_PERFMON', 'CAP_SYS_PTRACE', 'CAP_SYSLOG', 'CAP_CHECKPOINT_RESTORE', 'CAP_DAC_READ_SEARCH',
                'CAP_IPC_LOCK']
MUSL = '/lib/x86_64-linux-musl/libc.so'
PATIENCE = 240  # seconds for anything that takes one on an idle machine
WARM = 0.5      # seconds of CPU after which a runtime has compiled most of what it will
ENOUGH = 0.06   # seconds of CPU of each program in a recording, which takes LONGEST seconds at most
LONGEST = 20
FEWEST = 3      # samples of a program; with fewer all is recorded again, for longer
failures, skips = [], []
totals = collections.defaultdict(collections.Counter)  # by program


def fail(what):
    failures.append(what)
    print(f'FAILED: {what}', flush=True)


def skip(what):
    skips.append(what)
    print(f'SKIP: {what}', flush=True)


def run(argv, **kw):
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, **kw)


def must(argv, **kw):
    r = run(argv, **kw)
    if r.returncode:
        raise RuntimeError(f'{argv[0]}: {r.stderr.strip() or r.stdout.strip()}')
    return r.stdout


def hex_id():
    return os.urandom(32).hex()


# --- what runs in the containers ---

class Program:
    """Patterns of what must be on its stacks, root first; how many of its JIT frames must have names (%)."""
    def __init__(self, name, argv, frames=(), jit=None, module=None):
        self.name, self.argv, self.frames, self.jit, self.module = name, argv, list(frames), jit, module


def build_programs(dest):
    """Into the directory that every container sees as /work."""
    programs = []
    spin, chain = os.path.join(here, 'spin.c'), ['^main$', '^outer$', '^middle$', '^leaf$']
    prove = os.path.join(args.source, 'test', 'prove')

    def cc(name, argv, frames, module=None):
        must(argv + ['-O2', '-fomit-frame-pointer', '-o', f'{dest}/{name}', spin])
        programs.append(Program(name, [f'/work/{name}', str(LIFETIME)], frames, module=module))

    cc('native', ['cc'], chain)
    if shutil.which('musl-gcc'):
        cc('musl-static', ['musl-gcc', '-static'], chain)
        cc('musl-dynamic', ['musl-gcc'], chain)
        cc('musl-stripped', ['musl-gcc', '-s'], [], module='musl-stripped')
    else:
        skip('musl-gcc is not installed (musl-tools)')
    if shutil.which('go'):
        env = dict(os.environ, GO111MODULE='off', CGO_ENABLED='0', GOCACHE=f'{dest}/../gocache', GOFLAGS='-mod=mod')
        for name, flags in ('go', []), ('go-stripped', ['-ldflags=-s -w']):
            must(['go', 'build', *flags, '-o', f'{dest}/{name}', f'{prove}/load.go'], env=env)
            programs.append(Program(name, [f'/work/{name}', str(LIFETIME)], [r'^main\.']))
    else:
        skip('go is not installed')
    shutil.copy(f'{prove}/load.js', dest)
    # HotSpot's map is a snapshot: what was compiled anew since has no name in it.
    programs.append(Program('node', ['node', '--perf-basic-prof', '/work/load.js', str(LIFETIME)], [r'^(JS|LazyCompile|Function):'], jit=99))
    if shutil.which('javac') and shutil.which('jcmd'):
        must(['javac', '--release', '17', '-d', dest, f'{prove}/Load.java'])
        programs.append(Program('java', ['java', '-Xmx256m', '-XX:+PreserveFramePointer', '-cp', '/work', 'Load',
                                         str(LIFETIME)], [r'\bLoad[.$]'], jit=75))
    else:
        skip('javac and jcmd are not installed')
    if shutil.which('dotnet'):
        os.makedirs(f'{dest}/big')
        publish_dotnet(prove, f'{dest}/big/dotnet')
        # With no switch: its runtime is asked. It unloads nothing, as that may end it while it is asked (README.md).
        programs.append(Program('dotnet', ['/work/big/dotnet', str(LIFETIME), 'no-collectible'], [r'^Shop\.'], jit=99))
    else:
        print('LEFT OUT: .NET: no SDK here, and none in Debian', flush=True)
    return programs


def publish_dotnet(prove, dest):
    """One file that brings its runtime along, made once and kept in the cache."""
    out, source = os.path.join(args.cache, 'dotnet'), f'{prove}/dotnet/Service.cs'
    if not os.path.exists(f'{out}/Service') or os.path.getmtime(f'{out}/Service') < os.path.getmtime(source):
        must(['dotnet', 'publish', '-c', 'Release', '-r', 'linux-x64', '--self-contained', 'true',
              '-p:PublishSingleFile=true', '-o', out, '--artifacts-path', f'{args.cache}/dotnet-obj',
              f'{prove}/dotnet/Service.csproj'])
        os.utime(f'{out}/Service')
    shutil.copy(f'{out}/Service', dest)


# --- containers ---

class Container:
    """One overlay root with its programs running, once it was started; `pids` are the host's. close() takes away all there is."""
    def __init__(self, base, lower, work, programs, name):
        self.dir, self.name, self.programs = os.path.join(base, name), name, programs
        self.root = f'{self.dir}/root'
        self.lower, self.work = lower, work
        self.in_pod = False
        self.cgroup = None

    def start(self):
        self.mount()

    def mount(self):
        work, programs = self.work, self.programs
        for part in 'root', 'scratch':
            os.makedirs(f'{self.dir}/{part}')
        # The upper layer on another device than the lower: then inode numbers of the two differ in what they mean.
        must(['mount', '-t', 'tmpfs', '-o', 'size=512m', 'none', f'{self.dir}/scratch'])
        os.makedirs(f'{self.dir}/scratch/upper')
        os.makedirs(f'{self.dir}/scratch/work')
        # What is big is in a lower layer of its own.
        must(['mount', '-t', 'overlay', '-o', f'lowerdir={os.path.dirname(work)}/layer:{self.lower},'
              f'upperdir={self.dir}/scratch/upper,workdir={self.dir}/scratch/work', 'none', self.root])
        for entry in os.listdir(work):
            if os.path.isfile(f'{work}/{entry}'):
                shutil.copy(os.path.join(work, entry), f'{self.root}/work/')
        if os.path.exists(MUSL):
            os.makedirs(f'{self.root}/lib/x86_64-linux-musl', exist_ok=True)
            shutil.copy(MUSL, self.root + MUSL)
            if not os.path.lexists(f'{self.root}/lib/ld-musl-x86_64.so.1'):
                os.symlink(MUSL, f'{self.root}/lib/ld-musl-x86_64.so.1')
        with open(f'{self.root}/work/init.sh', 'w') as f:
            f.write('rm -rf /tmp/*\n')
            for p in programs:
                f.write(' '.join(f"'{a}'" for a in p.argv) + ' >/dev/null 2>&1 &\n')
            f.write('wait\n')

    def pids(self):
        """By program name, of the processes in the container."""
        found = {}
        for entry in os.listdir('/proc'):
            if not entry.isdigit():
                continue
            try:
                if os.readlink(f'/proc/{entry}/ns/pid') != self.pid_ns:
                    continue
                argv = open(f'/proc/{entry}/cmdline', 'rb').read().split(b'\0')
            except OSError:
                continue
            for p in self.programs:
                if [a.encode() for a in p.argv] == argv[:len(p.argv)]:
                    found[p.name] = int(entry)
        return found

    def close(self):
        unmount(self.root)
        unmount(f'{self.dir}/scratch')


def unmount(path):
    for _ in range(50):
        if not os.path.ismount(path) or not run(['umount', path]).returncode:
            return
        time.sleep(0.1)
    run(['umount', '-l', path])


class Oci(Container):
    def __init__(self, base, lower, work, programs, runtime, cgroup):
        super().__init__(base, lower, work, programs, runtime)
        self.id = hex_id()
        self.runtime, self.cgroup = runtime, f'{cgroup}/{self.id}'
        self.label = f'container:{self.id[:12]}'
        self.want = self.id[:10]
        # crun does not know the mixed layout: there, v2 alone is shown to it.
        mixed = os.path.ismount('/sys/fs/cgroup/unified')
        self.wrap = ['unshare', '-m', 'sh', '-c', 'mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup; exec "$@"', '-'] \
            if runtime == 'crun' and mixed else []

    def start(self):
        runtime = self.runtime
        self.mount()
        config = json.loads(must([runtime, 'spec'], cwd=self.dir) or open(f'{self.dir}/config.json').read())
        config['root'] = {'path': self.root, 'readonly': False}
        config['process'].update(terminal=False, args=['sh', '/work/init.sh'])
        config['mounts'] = [m for m in config['mounts'] if m.get('type') != 'cgroup']
        config['linux']['cgroupsPath'] = self.cgroup
        config['linux'].pop('resources', None)
        json.dump(config, open(f'{self.dir}/config.json', 'w'))
        r = subprocess.run(self.wrap + [runtime, 'run', '-d', '-b', self.dir, self.id], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=open(f'{self.dir}/log', 'w'))
        if r.returncode:
            raise RuntimeError(f'{runtime}: {open(f"{self.dir}/log").read().strip()}')
        state = json.loads(must(self.wrap + [runtime, 'state', self.id]))
        self.pid_ns = os.readlink(f'/proc/{state["pid"]}/ns/pid')

    def close(self):
        run(self.wrap + [self.runtime, 'delete', '-f', self.id])
        super().close()


class Bare(Container):
    def __init__(self, base, lower, work, programs):
        super().__init__(base, lower, work, programs, 'unshare')
        self.process = None

    def start(self):
        self.mount()
        os.makedirs(f'{self.root}/proc', exist_ok=True)
        script = f'mount -t proc proc {self.root}/proc; mount -t tmpfs none {self.root}/tmp; ' \
                 f'exec chroot {self.root} sh /work/init.sh'
        self.process = subprocess.Popen(['unshare', '-p', '-f', '-m', '--kill-child', 'sh', '-c', script],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.time() + PATIENCE
        while not (kids := open(f'/proc/{self.process.pid}/task/{self.process.pid}/children').read().split()):
            if time.time() > end or self.process.poll() is not None:
                raise RuntimeError('unshare has no child')
            time.sleep(0.05)
        self.pid_ns = os.readlink(f'/proc/{kids[0]}/ns/pid')
        self.want = self.label = 'pidns:' + re.search(r'\d+', self.pid_ns).group()

    def close(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        super().close()


def wait_until_busy(containers):
    """
    All their programs are there, and those that compile have worked long enough for most of it. Returns how long must be
    recorded until each was seen, which depends on what else the machine does.
    """
    start = time.time()
    end = start + PATIENCE
    waiting = [(c, p) for c in containers for p in c.programs]
    while waiting and time.time() < end:
        time.sleep(0.2)
        pids = {c.name: c.pids() for c in containers}
        waiting = [(c, p) for c, p in waiting if p.name not in pids[c.name] or
                   cpu_s(pids[c.name][p.name]) < (WARM if p.jit else 0)]
    if waiting:
        raise RuntimeError(', '.join(f'{p.name} in {c.name}' for c, p in waiting) + f' did not work {PATIENCE} s after its start')
    share = min(cpu_s(c.pids()[p.name]) for c in containers for p in c.programs) / (time.time() - start)
    return min(max(args.seconds, round(ENOUGH / max(share, 0.001))), LONGEST)


def publish_java(containers):
    """HotSpot writes its map, in the container's /tmp, when asked."""
    def ask(c):
        pid = c.pids().get('java')
        r = run(['jcmd', str(pid), 'Compiler.perfmap'], timeout=PATIENCE) if pid else None
        if r and r.returncode:
            fail(f'{c.name}: jcmd: {r.stderr.strip() or r.stdout.strip()}')
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(ask, containers))


# --- profiles ---

class Profile:
    def __init__(self, path, stats):
        self.stacks = collections.Counter()
        for line in open(path, encoding='utf-8'):
            stack, count = line.rstrip('\n').rsplit(' ', 1)
            self.stacks[tuple(stack.split(';'))] += int(count)
        self.stats = json.load(open(stats))

    def samples(self, first, second=None):
        return sum(n for s, n in self.stacks.items() if s[0] == first and (second is None or s[1] == second))


class Recording:
    """One that runs, with the files it writes; of ours by `command` (argv before the arguments) and where that sees them (`seen`)."""
    def __init__(self, what, base, target, command=None, seen=None):
        self.what = what
        self.folded, self.stats = f'{base}/{what}.folded', f'{base}/{what}.json'
        if seen:
            open(self.folded, 'w').close()
            open(self.stats, 'w').close()
        argv = [*(command or [args.ringfold]), 'record', '-F', args.freq, '-d', str(args.seconds), '--by',
                'container', '--annotate', '-o', f'{seen or base}/{what}.folded', '--stats', f'{seen or base}/{what}.json',
                *target]
        self.errors = open(f'{base}/{what}.err', 'w+')
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=self.errors)

    def finish(self):
        """Its profile; None when it failed."""
        try:
            status = self.process.wait(timeout=args.seconds + PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            status = 'none: it did not end'
        self.errors.seek(0)
        err = self.errors.read().strip()
        self.errors.close()
        if status:
            fail(f'{self.what}: exit status {status}: {err}')
            return None
        if args.keep:
            os.makedirs(args.keep, exist_ok=True)
            shutil.copy(self.folded, args.keep)
            shutil.copy(self.stats, args.keep)
        profile = Profile(self.folded, self.stats)
        # A runtime that gets no CPU does not tell in time what it compiled, which the recording says.
        profile.silent = {int(pid) for pid in re.findall(r'process (\d+): not all of its \.NET methods are known: '
                                                         r'its runtime (?:takes its time|does not answer)', err)}
        s = profile.stats
        classes = s['idle'] + s['kernel_only'] + s['complete'] + s['truncated'] + sum(s['broken'].values())
        if classes != s['samples']:
            fail(f'{self.what}: classes add up to {classes} of {s["samples"]}')
        for line in err.splitlines():
            if 'warning' in line:
                print(f'      {self.what}: {line}')
        return profile


def at_once(recordings, during):
    """Profiles of recordings that run at the same time."""
    try:
        during()
    finally:
        profiles = [r.finish() for r in recordings]
    return profiles


def saw_all(profile, containers, names, label):
    return all(sum(n for s, n in profile.stacks.items() if s[0] == label(c) and s[1] in names[c.name][p.name]) >= FEWEST
               for c in containers for p in c.programs)


def record_all(recordings, during, wanted, names, label=lambda c: c.label):
    """
    Profiles of recordings(), which starts them at the same time; `wanted`: of which containers each must have samples of all
    programs. On a crowded machine one may get no CPU for seconds.
    """
    while True:
        profiles = at_once(recordings(), during)
        if args.seconds >= LONGEST or all(profile is None or saw_all(profile, containers, names, label)
                                          for profile, containers in zip(profiles, wanted)):
            return profiles
        args.seconds = min(2 * args.seconds, LONGEST)
        print(f'too few samples: again for {args.seconds} s', flush=True)


def percent(part, whole):
    return 100 * part / whole if whole else 0.0


def in_order(frames, wanted):
    rest = iter(re.sub(r'_\[[jki]\]$', '', f) for f in frames)
    return all(any(re.search(w, f) for f in rest) for w in wanted)


def check_program(what, label, program, stacks, silent=False):
    """One program in one container; `silent`: its runtime did not tell in time what it compiled."""
    total = sum(stacks.values())
    user = {s: n for s, n in stacks.items() if any(not f.endswith('_[k]') for f in s[2:])}
    users = sum(user.values())
    whole = sum(n for s, n in user.items() if not any(f in ('[broken]', '[truncated]', '[altstack]') for f in s))
    named = sum(n for s, n in user.items() if in_order(s[2:], program.frames))
    jit = sum(n * sum(f.endswith('_[j]') for f in s) for s, n in user.items())
    jit_named = sum(n * sum(f.endswith('_[j]') and not f.startswith('[jit]') for f in s) for s, n in user.items())
    silent = silent and jit_named < jit
    totals[program.name].update(seen=1, silent=silent)
    if not silent:
        totals[program.name].update(users=users, whole=whole, named=named, jit=jit, jit_named=jit_named)
    problems = []
    if total < FEWEST:
        problems.append('too few samples')
    if users - whole > max(users / 20, 3): # a hundred samples tell no percent
        problems.append('too few whole')
    if program.frames and not named and not silent:
        problems.append(f'its functions are in none: {" > ".join(program.frames)}')
    if program.module and not all(any(program.module in f for f in s) for s in user):
        problems.append(f'{program.module} is not in all')
    if program.jit and not jit_named and not silent:
        problems.append('no JIT frame has a name')
    print(f'      {label:26} {program.name:14} {total:6} samples {percent(whole, users):6.1f} % whole '
          f'{percent(named, users):6.1f} % through its functions' +
          (f' {percent(jit_named, jit):6.1f} % of {jit} JIT frames named' if program.jit else '') +
          ('  its runtime did not tell in time' if silent else '') +
          (f'  FAILED: {", ".join(problems)}' if problems else ''), flush=True)
    for p in problems:
        failures.append(f'{what}: {label}: {program.name}: {p}')


def threads_of(pid):
    names = set()
    for tid in os.listdir(f'/proc/{pid}/task'):
        try:
            names.add(open(f'/proc/{pid}/task/{tid}/comm').read().rstrip('\n'))
        except OSError:
            pass
    return names


def check(what, profile, container, names, label=None):
    label = label or container.label
    mine = {s: n for s, n in profile.stacks.items() if s[0] == label}
    if not mine:
        fail(f'{what}: nothing of {label}; there are {sorted({s[0] for s in profile.stacks})}')
        return
    for p in container.programs:
        own = {s: n for s, n in mine.items() if s[1] in names[container.name][p.name]}
        check_program(what, label, p, own, silent=container.pids().get(p.name) in profile.silent)


def check_only(what, profile, labels):
    """Nothing else is in it. Whatever the container itself runs besides (its shell) may be."""
    for first in {s[0] for s in profile.stacks} - set(labels):
        fail(f'{what}: {profile.samples(first)} samples of {first}, which was not asked for')


class Names(dict):
    """By container and program, the names of its threads, which come and go."""
    def __init__(self, containers):
        super().__init__({c.name: collections.defaultdict(set) for c in containers})
        self.containers, self.pids = containers, set()

    def look(self):
        for c in self.containers:
            for name, pid in c.pids().items():
                self[c.name][name] |= threads_of(pid)
                self.pids.add(pid)


def from_host(base, containers, names):
    labels = [c.label for c in containers]
    during = lambda: during_record(containers, names)
    profile, = record_all(lambda: [Recording('all', base, ['-a'])], during, [containers], names)
    print('from the host, -a', flush=True)
    if profile:
        for c in containers:
            check('-a', profile, c, names)
        for first in {s[0] for s in profile.stacks}:
            if first not in labels and not first.startswith(('[host]', 'container:', 'pidns:', '[unknown]')):
                fail(f'-a: the first frame {first}')
        # Of what ran beside us: a process that was gone before its first sample was read, and its parents too.
        lost = profile.samples('[unknown]')
        if lost > 2 + profile.samples('[host]') / 500:
            fail(f'-a: {lost} samples are of no known container: {sorted({s[1] for s in profile.stacks if s[0] == "[unknown]"})}')
    profiles = record_all(lambda: [Recording(f'container-{c.name}', base, ['--container', c.want]) for c in containers], during,
                          [[c] for c in containers], names)
    for c, profile in zip(containers, profiles):
        print(f'from the host, --container {c.want}', flush=True)
        if profile:
            check('--container', profile, c, names)
            check_only('--container', profile, [c.label])
    by_cgroup, two = [c for c in containers if c.cgroup], containers[:2]
    targets = [(f'cgroup-{c.name}', ['-G', c.cgroup], [c]) for c in by_cgroup]
    if len(two) == 2:
        targets.append(('two', ['--container', two[0].want, '--container', two[1].want], two))
    profiles = record_all(lambda: [Recording(what, base, target) for what, target, _ in targets], during,
                          [of for _, _, of in targets], names)
    for c, profile in zip(by_cgroup, profiles):
        print(f'from the host, -G {c.cgroup}', flush=True)
        if profile:
            check('-G', profile, c, names)
            check_only('-G', profile, [c.label])
    if len(two) == 2:
        print('from the host, two at once', flush=True)
        if profiles[-1]:
            for c in two:
                check('two', profiles[-1], c, names)
            check_only('two', profiles[-1], [c.label for c in two])


def during_record(containers, names):
    time.sleep(max(0, args.seconds - 3))
    publish_java(containers)
    names.look()


def refusals(containers):
    r = run([args.ringfold, 'record', '--container', 'fedcba98', '-d', '1', '-o', '/dev/null', '-f', 'collapsed'])
    if r.returncode != 1 or any(c.label not in r.stderr for c in containers):
        fail(f'an unknown container: {r.returncode} {r.stderr.strip()}')
    print('      ' + r.stderr.strip())
    if any(c.label.startswith('container:') for c in containers):
        r = run([args.ringfold, 'record', '--container', 'container:', '-d', '1', '-o', '/dev/null', '-f', 'collapsed'])
        oci = [c for c in containers if c.label.startswith('container:')]
        if len(oci) > 1 and (r.returncode != 1 or any(c.label not in r.stderr for c in oci)):
            fail(f'an ambiguous container: {r.returncode} {r.stderr.strip()}')
        print('      ' + r.stderr.strip())


def hostile(base):
    """A cgroup whose name would be frames of its own, and a line."""
    v2 = '/sys/fs/cgroup/unified' if os.path.ismount('/sys/fs/cgroup/unified') else '/sys/fs/cgroup'
    path = f'{v2}/lxc.payload.x;[host];\x1b[2Jmain 7'
    try:
        os.mkdir(path)
    except OSError as e:
        skip(f'a cgroup with a hostile name: {e}')
        return
    victim = subprocess.Popen([f'{base}/work/native', str(LIFETIME)])
    try:
        with open(f'{path}/cgroup.procs', 'w') as f:
            f.write(str(victim.pid))
        print('a cgroup with a hostile name', flush=True)
        profile, = at_once([Recording('hostile', base, ['-a'])], lambda: None)
        text = open(f'{base}/hostile.folded', encoding='utf-8').read()
        mine = {s[0] for s in profile.stacks if s[0].startswith('lxc:')} if profile else set()
        print(f'      {mine}')
        if len(mine) != 1 or any(c < ' ' and c != '\n' for c in text) or '[host]' in next(iter(mine)).split(';')[1:]:
            fail(f'the hostile cgroup is told as {mine}')
        if profile and not any(s[:2] == (next(iter(mine)), 'native') for s in profile.stacks):
            fail('the comm is not right below the hostile cgroup')
    finally:
        victim.kill()
        victim.wait()
        for _ in range(50):
            try:
                os.rmdir(path)
                break
            except OSError:
                time.sleep(0.1)


# --- from a container ---

def library_path():
    """Of everything the program is linked with, seen from where the host's root is /host."""
    dirs = []
    loader = None
    for line in must(['ldd', args.ringfold]).splitlines():
        path = re.search(r'(/\S+) \(0x', line)
        if not path:
            continue
        path = os.path.realpath(path.group(1))
        if 'ld-linux' in path:
            loader = path
        elif os.path.dirname(path) not in dirs:
            dirs.append(os.path.dirname(path))
    return loader, ':'.join('/host' + d for d in dirs)


def from_container(base, lower, work, containers, names):
    """A container with the host's pids, as a DaemonSet with hostPID is. Its own root is another one than the host's."""
    side = Container(base, lower, work, [], 'side')
    runtime = next((r for r in ('runc', 'crun') if shutil.which(r)), None)
    loader, libraries = library_path()
    pod = next((c for c in containers if c.in_pod), None)
    side_id = hex_id()
    try:
        side.start()
        os.makedirs(f'{side.root}/var/log/containers', exist_ok=True)
        if pod:
            os.symlink('/nowhere', f'{side.root}/var/log/containers/{POD}_shop_app-{pod.id}.log')
        os.makedirs(f'{side.root}/out')
        os.makedirs(f'{side.root}/host')
        must([runtime, 'spec'], cwd=side.dir)
        config = json.load(open(f'{side.dir}/config.json'))
        for kind, caps in config['process']['capabilities'].items():
            caps[:] = CAPABILITIES if kind in ('bounding', 'effective', 'permitted') else []
        config['root'] = {'path': side.root, 'readonly': False}
        config['process'].update(terminal=False, args=['sleep', str(LIFETIME)], noNewPrivileges=False)
        config['process']['rlimits'] = []
        # With a view of cgroups of its own, as Kubernetes gives under cgroup v2: others lie above it.
        config['linux']['namespaces'] = [n for n in config['linux']['namespaces']
                                         if n['type'] not in ('pid', 'cgroup')] + [{'type': 'cgroup'}]
        config['linux'].pop('resources', None)
        config['linux'].pop('seccomp', None)
        config['linux']['maskedPaths'] = []
        config['mounts'] = [m for m in config['mounts'] if m.get('type') != 'cgroup'] + [
            {'destination': '/host', 'type': 'bind', 'source': '/', 'options': ['rbind', 'ro']},
            {'destination': '/out', 'type': 'bind', 'source': base, 'options': ['bind', 'rw']}]
        json.dump(config, open(f'{side.dir}/config.json', 'w'))
        r = subprocess.run([runtime, 'run', '-d', '-b', side.dir, side_id], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=open(f'{side.dir}/log', 'w'))
        if r.returncode:
            skip(f'a container with the host\'s pids: {open(f"{side.dir}/log").read().strip()}')
            return
        inside(base, runtime, side_id, '/host' + loader, libraries, containers, names, pod)
    finally:
        run([runtime, 'delete', '-f', side_id])
        side.close()


def inside(base, runtime, side_id, loader, libraries, containers, names, pod):
    command = [runtime, 'exec', '--env', 'ASAN_OPTIONS=' + os.environ.get('ASAN_OPTIONS', 'detect_leaks=0'), side_id,
               loader, '--library-path', libraries, '/host' + args.ringfold]

    def start(what, target):
        return Recording(what, base, target, command, '/out')

    def label(c):
        return f'shop/{POD}/app' if c is pod else c.label

    def want(c):
        return f'shop/{POD}' if c is pod else c.want

    during = lambda: during_record(containers, names)
    profile, = record_all(lambda: [start('inside-all', ['-a'])], during, [containers], names, label)
    print('from a container with the host\'s pids, -a', flush=True)
    if profile:
        for c in containers:
            check('inside -a', profile, c, names, label(c))
    profiles = record_all(lambda: [start(f'inside-{c.name}', ['--container', want(c)]) for c in containers], during,
                          [[c] for c in containers], names, label)
    for c, profile in zip(containers, profiles):
        print(f'from a container with the host\'s pids, --container {want(c)}', flush=True)
        if profile:
            check('inside --container', profile, c, names, label(c))
            check_only('inside --container', profile, [label(c)])


# --- all of it ---

def make_root():
    """The Debian below all overlays; the host's own root where none can be made."""
    path = os.path.join(args.cache, 'debian')
    r = run([os.path.join(args.source, 'scripts', 'container-root.sh'), path])
    if not r.returncode:
        return path
    skip(f'a root of its own: {r.stderr.strip()}; the containers stand on the host\'s')
    return '/'


def start_containers(base, lower, work, programs, containers):
    chosen = args.only.split(',') if args.only else ['runc', 'crun', 'unshare']
    makers = [('runc', lambda: Oci(base, lower, work, programs, 'runc', f'/ringfold-test-{os.getpid()}')),
              ('crun', lambda: Oci(base, lower, work, programs, 'crun', f'/kubepods-test-{os.getpid()}/burstable/pod{POD_UID}')),
              ('unshare', lambda: Bare(base, lower, work, programs))]
    for name, make in makers:
        if name not in chosen:
            continue
        if not shutil.which(name):
            skip(f'{name} is not installed')
            continue
        containers.append(make())
        try:
            containers[-1].start()
            containers[-1].in_pod = name == 'crun'
        except RuntimeError as e:
            containers.pop().close()
            skip(f'a container under {name}: {e}')


def check_totals(programs):
    for p in programs:
        total = totals[p.name]
        whole, named = (percent(total[key], total['users']) for key in ('whole', 'named'))
        jit = percent(total['jit_named'], total['jit'])
        print(f'in all {p.name:14} {total["users"]:6} user stacks {whole:6.2f} % whole {named:6.2f} % through its '
              'functions' + (f' {jit:6.2f} % of {total["jit"]} JIT frames named' if p.jit else ''))
        if total['silent'] * 2 > total['seen']:
            fail(f'{p.name}: its runtime told nothing in {total["silent"]} of {total["seen"]} recordings')
        if whole < 99:
            fail(f'{p.name}: {whole:.2f} % of its stacks are whole')
        # A runtime also compiles and collects garbage on threads of its own.
        if p.frames and named < (30 if p.jit or p.name.startswith('go') else 95):
            fail(f'{p.name}: its functions are on {named:.2f} % of its stacks')
        if p.jit and jit < p.jit:
            fail(f'{p.name}: {jit:.2f} % of its JIT frames have names')


def leave_nothing(names, began):
    """Perf maps belong into the containers; none is copied to the host. Others may be there, of earlier processes."""
    paths = [f'/tmp/perf-{pid}.map' for pid in names.pids]
    left = [path for path in paths if os.path.exists(path) and os.path.getctime(path) >= began]
    if left:
        fail(f'left on the host: {left}')


def remove_cgroups():
    for hierarchy in ['/sys/fs/cgroup'] + [f'/sys/fs/cgroup/{d}' for d in os.listdir('/sys/fs/cgroup')]:
        for top in f'ringfold-test-{os.getpid()}', f'kubepods-test-{os.getpid()}':
            for path, _, _ in os.walk(f'{hierarchy}/{top}', topdown=False):
                try:
                    os.rmdir(path)
                except OSError:
                    pass


def sweep():
    """What earlier runs left that were killed; a run's directory has its pid in its name."""
    for base in glob.glob('/var/tmp/ringfold-containers-*-*'):
        pid = base.split('-')[2]
        if not pid.isdigit() or os.path.exists(f'/proc/{pid}'):
            continue
        mounts = [line.split()[1] for line in open('/proc/self/mounts')]
        for path in sorted((m for m in mounts if m.startswith(base + '/')), reverse=True):
            run(['umount', '-l', path])
        shutil.rmtree(base, ignore_errors=True)


def main():
    if os.geteuid():
        skip('containers need root')
        return
    sweep()
    base = tempfile.mkdtemp(prefix=f'ringfold-containers-{os.getpid()}-', dir='/var/tmp')
    os.chmod(base, 0o755)
    os.makedirs(f'{base}/work')
    os.makedirs(f'{base}/layer/work')
    os.makedirs(args.cache, exist_ok=True)
    containers = []
    began = time.time()

    def told(what):
        print(f'-- {time.time() - began:.0f} s: {what}', flush=True)

    try:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            root = pool.submit(make_root)
            programs = build_programs(f'{base}/work')
            lower = root.result()
        if os.path.isdir(f'{base}/work/big'):
            os.rename(f'{base}/work/big', f'{base}/layer/work/big')
        told('the root and the programs are made')
        start_containers(base, lower, f'{base}/work', programs, containers)
        if not containers:
            skip('there is no container')
            return
        names = Names(containers)
        args.seconds = wait_until_busy(containers)
        told(f'all programs work; each recording takes {args.seconds} s')
        publish_java(containers)
        names.look()
        refusals(containers)
        from_host(base, containers, names)
        told('recorded from the host')
        if any(shutil.which(r) for r in ('runc', 'crun')):
            from_container(base, lower, f'{base}/work', containers, names)
            told('recorded from a container')
        hostile(base)
        check_totals(programs)
        leave_nothing(names, began)
    finally:
        for c in containers:
            c.close()
        remove_cgroups()
        shutil.rmtree(base, ignore_errors=True)
        told('the end')


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
main()
print(f'{len(failures)} failed, {len(skips)} skipped')
if failures or (skips and os.environ.get('TEST_NO_SKIP')):
    sys.exit(1)
sys.exit(77 if skips and not failures and skips[-1] in ('containers need root', 'there is no container') else 0)
