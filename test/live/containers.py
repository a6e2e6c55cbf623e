#!/usr/bin/env python3
"""Records real containers, from the host and from a container beside them.

usage: containers.py RINGFOLD SOURCE_DIR CACHE_DIR [--seconds S] [--freq HZ] [--keep DIR] [--only NAME,..]

Containers: an OCI bundle under runc and one under crun, each on an overlay root above a Debian made by debootstrap
(kept in CACHE_DIR), and a bare `unshare -p -m` one. In each run a native program, Node and Java with their perf maps,
Go, and programs linked with musl: static, dynamic, stripped. They are recorded with -a, --container and -G from the
host, and with -a and --container from a container that has the host's pids, the host's root at /host, and
links in /var/log/containers.

Fails where less than 99 % of a program's stacks are whole (95 % in one recording, which has few of each), its functions
are not on them, JIT frames have no name, or what was not asked for is in the profile. What the machine cannot do is skipped aloud, and fails
the run when TEST_NO_SKIP is set.
"""
import argparse, collections, json, os, re, shutil, signal, subprocess, sys, tempfile, time

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
LIFETIME = 300  # seconds until a program ends by itself, should we be killed
POD_UID = '0a1b2c3d-0000-1111-2222-333344445555'
# What README.md asks for, and nothing else.
CAPABILITIES = ['CAP_PERFMON', 'CAP_SYS_PTRACE', 'CAP_SYSLOG', 'CAP_CHECKPOINT_RESTORE', 'CAP_DAC_READ_SEARCH',
                'CAP_IPC_LOCK']
MUSL = '/lib/x86_64-linux-musl/libc.so'
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
    return programs


# --- containers ---

class Container:
    """One overlay root with its programs running; `pids` are the host's."""
    def __init__(self, base, lower, work, programs, name):
        self.dir, self.name, self.programs = os.path.join(base, name), name, programs
        self.root = f'{self.dir}/root'
        self.lower, self.work = lower, work
        self.cgroup_pod = None
        for part in 'root', 'upper', 'scratch':
            os.makedirs(f'{self.dir}/{part}')
        # The upper layer on another device than the lower: then inode numbers of the two differ in what they mean.
        must(['mount', '-t', 'tmpfs', '-o', 'size=512m', 'none', f'{self.dir}/scratch'])
        os.makedirs(f'{self.dir}/scratch/upper')
        os.makedirs(f'{self.dir}/scratch/work')
        must(['mount', '-t', 'overlay', '-o', f'lowerdir={lower},upperdir={self.dir}/scratch/upper,'
              f'workdir={self.dir}/scratch/work', 'none', self.root])
        os.makedirs(f'{self.root}/work', exist_ok=True)
        for entry in os.listdir(work):
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
        for path in self.root, f'{self.dir}/scratch':
            for _ in range(50):
                if not run(['umount', path]).returncode:
                    break
                time.sleep(0.1)
            else:
                run(['umount', '-l', path])


class Oci(Container):
    def __init__(self, base, lower, work, programs, runtime, cgroup):
        super().__init__(base, lower, work, programs, runtime)
        self.id = hex_id()
        self.runtime, self.cgroup = runtime, cgroup % self.id if '%s' in cgroup else cgroup
        config = json.loads(must([runtime, 'spec'], cwd=self.dir) or open(f'{self.dir}/config.json').read())
        config['root'] = {'path': self.root, 'readonly': False}
        config['process'].update(terminal=False, args=['sh', '/work/init.sh'])
        config['mounts'] = [m for m in config['mounts'] if m.get('type') != 'cgroup']
        config['linux']['cgroupsPath'] = self.cgroup
        config['linux'].pop('resources', None)
        json.dump(config, open(f'{self.dir}/config.json', 'w'))
        # crun does not know the mixed layout: there, v2 alone is shown to it.
        mixed = os.path.ismount('/sys/fs/cgroup/unified')
        self.wrap = ['unshare', '-m', 'sh', '-c', 'mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup; exec "$@"', '-'] \
            if runtime == 'crun' and mixed else []
        r = subprocess.run(self.wrap + [runtime, 'run', '-d', '-b', self.dir, self.id], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=open(f'{self.dir}/log', 'w'))
        if r.returncode:
            raise RuntimeError(f'{runtime}: {open(f"{self.dir}/log").read().strip()}')
        state = json.loads(must(self.wrap + [runtime, 'state', self.id]))
        self.pid_ns = os.readlink(f'/proc/{state["pid"]}/ns/pid')
        self.label = f'container:{self.id[:12]}'
        self.want = self.id[:10]

    def close(self):
        run(self.wrap + [self.runtime, 'delete', '-f', self.id])
        super().close()


class Bare(Container):
    def __init__(self, base, lower, work, programs):
        super().__init__(base, lower, work, programs, 'unshare')
        os.makedirs(f'{self.root}/proc', exist_ok=True)
        script = f'mount -t proc proc {self.root}/proc; mount -t tmpfs none {self.root}/tmp; ' \
                 f'exec chroot {self.root} sh /work/init.sh'
        self.process = subprocess.Popen(['unshare', '-p', '-f', '-m', '--kill-child', 'sh', '-c', script],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.cgroup = None
        for _ in range(100):
            kids = open(f'/proc/{self.process.pid}/task/{self.process.pid}/children').read().split()
            if kids:
                break
            time.sleep(0.05)
        self.pid_ns = os.readlink(f'/proc/{kids[0]}/ns/pid')
        self.want = self.label = 'pidns:' + re.search(r'\d+', self.pid_ns).group()

    def close(self):
        self.process.kill()
        self.process.wait()
        super().close()


def wait_until_busy(container, timeout=60):
    """All its programs are there, and Node and Java have compiled something."""
    end = time.time() + timeout
    while time.time() < end and len(container.pids()) < len(container.programs):
        time.sleep(0.2)
    pids = container.pids()
    missing = [p.name for p in container.programs if p.name not in pids]
    if missing:
        raise RuntimeError(f'{container.name}: {", ".join(missing)} did not start')
    return pids


def publish_java(containers):
    """HotSpot writes its map, in the container's /tmp, when asked."""
    for c in containers:
        pid = c.pids().get('java')
        if pid:
            r = run(['jcmd', str(pid), 'Compiler.perfmap'], timeout=60)
            if r.returncode:
                fail(f'{c.name}: jcmd: {r.stderr.strip() or r.stdout.strip()}')


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


def record(what, base, target, during=None, command=None, env=None):
    folded, stats = f'{base}/{what}.folded', f'{base}/{what}.json'
    argv = [*(command or [args.ringfold]), 'record', '-q', '-F', args.freq, '-d', str(args.seconds), '--by', 'container',
            '--annotate', '-o', folded, '--stats', stats, *target]
    p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env)
    if during:
        during()
    err = p.communicate(timeout=args.seconds + 120)[1]
    if p.returncode:
        fail(f'{what}: exit status {p.returncode}: {err.strip()}')
        return None
    if args.keep:
        os.makedirs(args.keep, exist_ok=True)
        shutil.copy(folded, args.keep)
        shutil.copy(stats, args.keep)
    profile = Profile(folded, stats)
    s = profile.stats
    classes = s['idle'] + s['kernel_only'] + s['complete'] + s['truncated'] + sum(s['broken'].values())
    if classes != s['samples']:
        fail(f'{what}: classes add up to {classes} of {s["samples"]}')
    if err.strip():
        print(f'      {what}: {err.strip()}')
    return profile


def percent(part, whole):
    return 100 * part / whole if whole else 0.0


def in_order(frames, wanted):
    rest = iter(re.sub(r'_\[[jki]\]$', '', f) for f in frames)
    return all(any(re.search(w, f) for f in rest) for w in wanted)


def check_program(what, label, program, stacks):
    """One program in one container."""
    total = sum(stacks.values())
    user = {s: n for s, n in stacks.items() if any(not f.endswith('_[k]') for f in s[2:])}
    users = sum(user.values())
    whole = sum(n for s, n in user.items() if not any(f in ('[broken]', '[truncated]', '[altstack]') for f in s))
    named = sum(n for s, n in user.items() if in_order(s[2:], program.frames))
    jit = sum(n * sum(f.endswith('_[j]') for f in s) for s, n in user.items())
    jit_named = sum(n * sum(f.endswith('_[j]') and not f.startswith('[jit]') for f in s) for s, n in user.items())
    totals[program.name].update(users=users, whole=whole, named=named, jit=jit, jit_named=jit_named)
    problems = []
    if total < 10:
        problems.append('too few samples')
    if users - whole > max(users / 20, 3): # a hundred samples tell no percent
        problems.append('too few whole')
    if program.frames and not named:
        problems.append(f'its functions are in none: {" > ".join(program.frames)}')
    if program.module and not all(any(program.module in f for f in s) for s in user):
        problems.append(f'{program.module} is not in all')
    if program.jit and not jit_named:
        problems.append('no JIT frame has a name')
    print(f'      {label:26} {program.name:14} {total:6} samples {percent(whole, users):6.1f} % whole '
          f'{percent(named, users):6.1f} % through its functions' +
          (f' {percent(jit_named, jit):6.1f} % of {jit} JIT frames named' if program.jit else '') +
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
        check_program(what, label, p, own)


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
    print('from the host, -a', flush=True)
    profile = record('all', base, ['-a'], during=lambda: during_record(containers, names))
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
    for c in containers:
        print(f'from the host, --container {c.want}', flush=True)
        profile = record(f'container-{c.name}', base, ['--container', c.want], during=lambda: during_record([c], names))
        if profile:
            check('--container', profile, c, names)
            check_only('--container', profile, [c.label])
        if c.cgroup:
            print(f'from the host, -G {c.cgroup}', flush=True)
            profile = record(f'cgroup-{c.name}', base, ['-G', c.cgroup], during=lambda: during_record([c], names))
            if profile:
                check('-G', profile, c, names)
                check_only('-G', profile, [c.label])
    if len(containers) > 1:
        two = containers[:2]
        print('from the host, two at once', flush=True)
        profile = record('two', base, ['--container', two[0].want, '--container', two[1].want],
                         during=lambda: during_record(two, names))
        if profile:
            for c in two:
                check('two', profile, c, names)
            check_only('two', profile, [c.label for c in two])


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
    victim = subprocess.Popen([f'{base}/work/native', '60'])
    try:
        with open(f'{path}/cgroup.procs', 'w') as f:
            f.write(str(victim.pid))
        print('a cgroup with a hostile name', flush=True)
        profile = record('hostile', base, ['-a'])
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
    pod = next((c for c in containers if c.cgroup_pod), None)
    try:
        os.makedirs(f'{side.root}/var/log/containers', exist_ok=True)
        if pod:
            os.symlink('/nowhere', f'{side.root}/var/log/containers/web-6d4b75cb6d-hwrzl_shop_app-{pod.id}.log')
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
        side_id = hex_id()
        r = subprocess.run([runtime, 'run', '-d', '-b', side.dir, side_id], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=open(f'{side.dir}/log', 'w'))
        if r.returncode:
            skip(f'a container with the host\'s pids: {open(f"{side.dir}/log").read().strip()}')
            return
        try:
            inside(base, runtime, side_id, '/host' + loader, libraries, containers, names, pod)
        finally:
            run([runtime, 'delete', '-f', side_id])
    finally:
        side.close()


def inside(base, runtime, side_id, loader, libraries, containers, names, pod):
    command = [runtime, 'exec', '--env', 'ASAN_OPTIONS=' + os.environ.get('ASAN_OPTIONS', 'detect_leaks=0'), side_id,
               loader, '--library-path', libraries, '/host' + args.ringfold]

    def record_inside(what, target, during):
        for ext in 'folded', 'json':
            open(f'{base}/{what}.{ext}', 'w').close()
        argv = command + ['record', '-q', '-F', args.freq, '-d', str(args.seconds), '--by', 'container', '--annotate',
                          '-o', f'/out/{what}.folded', '--stats', f'/out/{what}.json', *target]
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        during()
        err = p.communicate(timeout=args.seconds + 120)[1]
        if p.returncode:
            fail(f'{what}: exit status {p.returncode}: {err.strip()}')
            return None
        if args.keep:
            shutil.copy(f'{base}/{what}.folded', args.keep)
        return Profile(f'{base}/{what}.folded', f'{base}/{what}.json')

    def label(c):
        return 'shop/web-6d4b75cb6d-hwrzl/app' if c is pod else c.label

    print('from a container with the host\'s pids, -a', flush=True)
    profile = record_inside('inside-all', ['-a'], lambda: during_record(containers, names))
    if profile:
        for c in containers:
            check('inside -a', profile, c, names, label(c))
    for c in containers:
        want = 'shop/web-6d4b75cb6d-hwrzl' if c is pod else c.want
        print(f'from a container with the host\'s pids, --container {want}', flush=True)
        profile = record_inside(f'inside-{c.name}', ['--container', want], lambda: during_record([c], names))
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


def start_containers(base, lower, work, programs):
    chosen = args.only.split(',') if args.only else ['runc', 'crun', 'unshare']
    containers = []
    makers = [('runc', lambda: Oci(base, lower, work, programs, 'runc', '/ringfold-test-%s/%%s' % os.getpid())),
              ('crun', lambda: Oci(base, lower, work, programs, 'crun', f'/kubepods-test/burstable/pod{POD_UID}/%s')),
              ('unshare', lambda: Bare(base, lower, work, programs))]
    for name, make in makers:
        if name not in chosen:
            continue
        if not shutil.which(name):
            skip(f'{name} is not installed')
            continue
        try:
            containers.append(make())
        except RuntimeError as e:
            skip(f'a container under {name}: {e}')
    return containers


def check_totals(programs):
    for p in programs:
        total = totals[p.name]
        whole, named = (percent(total[key], total['users']) for key in ('whole', 'named'))
        jit = percent(total['jit_named'], total['jit'])
        print(f'in all {p.name:14} {total["users"]:6} user stacks {whole:6.2f} % whole {named:6.2f} % through its '
              'functions' + (f' {jit:6.2f} % of {total["jit"]} JIT frames named' if p.jit else ''))
        if whole < 99:
            fail(f'{p.name}: {whole:.2f} % of its stacks are whole')
        # A runtime also compiles and collects garbage on threads of its own.
        if p.frames and named < (30 if p.jit or p.name.startswith('go') else 95):
            fail(f'{p.name}: its functions are on {named:.2f} % of its stacks')
        if p.jit and jit < p.jit:
            fail(f'{p.name}: {jit:.2f} % of its JIT frames have names')


def leave_nothing(names):
    """Perf maps belong into the containers; none is copied to the host."""
    left = [f'/tmp/perf-{pid}.map' for pid in names.pids if os.path.exists(f'/tmp/perf-{pid}.map')]
    if left:
        fail(f'left on the host: {left}')


def remove_cgroups():
    for hierarchy in ['/sys/fs/cgroup'] + [f'/sys/fs/cgroup/{d}' for d in os.listdir('/sys/fs/cgroup')]:
        for top in f'ringfold-test-{os.getpid()}', 'kubepods-test':
            for path, _, _ in os.walk(f'{hierarchy}/{top}', topdown=False):
                try:
                    os.rmdir(path)
                except OSError:
                    pass


def main():
    if os.geteuid():
        skip('containers need root')
        return
    base = tempfile.mkdtemp(prefix='ringfold-containers-', dir='/var/tmp')
    os.chmod(base, 0o755)
    os.makedirs(f'{base}/work')
    os.makedirs(args.cache, exist_ok=True)
    containers = []
    try:
        lower = make_root()
        programs = build_programs(f'{base}/work')
        containers = start_containers(base, lower, f'{base}/work', programs)
        for c in containers:
            c.cgroup_pod = POD_UID if c.name == 'crun' else None
        if not containers:
            skip('there is no container')
            return
        names = Names(containers)
        for c in containers:
            wait_until_busy(c)
        time.sleep(5) # most of what is compiled is by now
        publish_java(containers)
        names.look()
        refusals(containers)
        from_host(base, containers, names)
        if any(shutil.which(r) for r in ('runc', 'crun')):
            from_container(base, lower, f'{base}/work', containers, names)
        hostile(base)
        check_totals(programs)
        leave_nothing(names)
    finally:
        for c in containers:
            c.close()
        remove_cgroups()
        shutil.rmtree(base, ignore_errors=True)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
main()
print(f'{len(failures)} failed, {len(skips)} skipped')
if failures or (skips and os.environ.get('TEST_NO_SKIP')):
    sys.exit(1)
sys.exit(77 if skips and not failures and skips[-1] in ('containers need root', 'there is no container') else 0)
