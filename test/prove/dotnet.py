#!/usr/bin/env python3
"""Services of .NET in containers with a user of their own and no switch: every managed frame named and by its own time, every
stack whole, the callers of frameless methods there, and nothing left behind.

usage: dotnet.py RINGFOLD VICTIMS_DIR [--only NAME,..] [--seconds S] [--freq HZ] [--keep DIR] [--cache DIR]

One row per variant of test/prove/dotnet/Service.cs (see VARIANTS) and of Web.cs, a Kestrel application under load. What
names are held against is a second event session that this script keeps in the process from its start on. `perfview` is a
bundle of it in PerfView's own parser (TRACEVIEW=COMMAND, which shows as JSON what TraceEvent sees in a .trace.zip): methods
named, CPU time per thread as the scheduler counted it. Needs the .NET SDK, runc and root: exit 77 without.
"""
import argparse, bisect, collections, glob, hashlib, json, os, re, shutil, signal, socket, struct, subprocess, sys, tempfile, threading, time

ap = argparse.ArgumentParser()
ap.add_argument('ringfold')
ap.add_argument('victims')
ap.add_argument('--only', default='')
ap.add_argument('--seconds', type=float, default=10)
ap.add_argument('--freq', default='99')
ap.add_argument('--keep', default='')
ap.add_argument('--cache', default='/var/tmp/ringfold-dotnet')
args = ap.parse_args()
ringfold = os.path.abspath(args.ringfold)
nettrace_list = os.path.join(os.path.abspath(args.victims), '..', 'runtimes', 'nettrace_list')
here = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'dotnet')
UID = 4711
failures = []

# name: (project, publish properties, command in /work or None = dotnet Name.dll, environment)
RID = ['-r', 'linux-x64']
VARIANTS = {
    'default': ('Service', [], None, {}),
    'tc0': ('Service', ['-p:TieredCompilation=false'], None, {}),
    'r2r': ('Service', RID + ['--self-contained', 'false', '-p:PublishReadyToRun=true'], None, {}),
    'self-contained': ('Service', RID + ['--self-contained', 'true'], '/work/Service', {}),
    'single': ('Service', RID + ['--self-contained', 'true', '-p:PublishSingleFile=true'], '/work/Service', {}),
    'single-compressed': ('Service', RID + ['--self-contained', 'true', '-p:PublishSingleFile=true',
                                            '-p:EnableCompressionInSingleFile=true'], '/work/Service', {}),
    'composite': ('Service', RID + ['--self-contained', 'true', '-p:PublishReadyToRun=true',
                                    '-p:PublishReadyToRunComposite=true'], '/work/Service', {}),
    'web': ('Web', [], None, {}),
    'osr': ('Osr', [], None, {}),
    'no-diagnostics': ('Service', [], None, {'DOTNET_EnableDiagnostics': '0'}),
}


def fail(what):
    failures.append(what)
    print(f'FAILED: {what}', flush=True)


def must(argv, **kw):
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, **kw)
    if r.returncode:
        raise RuntimeError(f'{" ".join(argv[:3])}: {(r.stderr.strip() or r.stdout.strip())[-600:]}')
    return r.stdout


def publish(variant):
    project, props, _, _ = VARIANTS[variant]
    out = f'{args.cache}/{variant}'
    sources = [f'{here}/{project}.cs', f'{here}/{project}.csproj']
    stamp = f'{out}/.made'
    wanted = hashlib.sha256(b''.join(open(s, 'rb').read() for s in sources) + repr(props).encode()).hexdigest()
    if os.path.exists(stamp):
        made = open(stamp).read()
        if made == wanted or not made and all(os.path.getmtime(s) < os.path.getmtime(stamp) for s in sources):
            return out
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    must(['dotnet', 'publish', '-c', 'Release', '-o', out, '--artifacts-path', f'{args.cache}/obj-{variant}', *props, sources[1]])
    with open(stamp, 'w') as f:
        f.write(wanted)
    return out


# --- a container ---

class Container:
    """The host's /usr read-only, a /tmp of its own, pid, mount, network, ipc namespaces, user 4711, no variable."""
    def __init__(self, dir, work, command, env):
        self.id = 'ringfold-dotnet-' + os.urandom(4).hex()
        self.dir = dir
        root = f'{dir}/root'
        for d in 'usr', 'etc', 'proc', 'dev', 'sys', 'tmp', 'work', 'root':
            os.makedirs(f'{root}/{d}')
        os.chmod(f'{root}/tmp', 0o1777)  # runc gives the mount the mode of what it covers
        for link in 'bin', 'lib', 'lib64', 'sbin':
            if os.path.islink('/' + link):
                os.symlink(os.readlink('/' + link), f'{root}/{link}')
        must(['runc', 'spec'], cwd=dir)
        config = json.load(open(f'{dir}/config.json'))
        config['root'] = {'path': root, 'readonly': True}
        config['process'].update(terminal=False, args=command, cwd='/work', user={'uid': UID, 'gid': UID},
                                 env=['PATH=/usr/bin:/bin'] + [f'{k}={v}' for k, v in env.items()])
        config['mounts'] = [m for m in config['mounts'] if m.get('type') != 'cgroup'] + [
            {'destination': '/usr', 'source': '/usr', 'type': 'bind', 'options': ['rbind', 'ro']},
            {'destination': '/etc', 'source': '/etc', 'type': 'bind', 'options': ['rbind', 'ro']},
            {'destination': '/work', 'source': work, 'type': 'bind', 'options': ['rbind', 'ro']},
            {'destination': '/tmp', 'source': 'tmpfs', 'type': 'tmpfs', 'options': ['nosuid', 'nodev', 'mode=1777']}]
        config['linux'].pop('resources', None)
        json.dump(config, open(f'{dir}/config.json', 'w'))
        r = subprocess.run(['runc', 'run', '-d', '-b', dir, self.id], stdin=subprocess.DEVNULL,
                           stdout=open(f'{dir}/out', 'w'), stderr=subprocess.STDOUT)
        if r.returncode:
            raise RuntimeError(open(f'{dir}/out').read())
        self.pid = json.loads(must(['runc', 'state', self.id]))['pid']

    def wait_for(self, text, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            out = open(f'{self.dir}/out').read()
            if text in out:
                return
            if not os.path.exists(f'/proc/{self.pid}'):
                break
            time.sleep(0.02)
        raise RuntimeError(f'the service did not start: {open(f"{self.dir}/out").read()[-500:]}')

    def close(self):
        subprocess.run(['runc', 'delete', '-f', self.id], capture_output=True)


# --- the runtime, asked by this script ---

def start_ticks(pid):
    return int(open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()[19])


def connect(pid):
    nspid = re.search(r'^NSpid:.*?(\d+)$', open(f'/proc/{pid}/status').read(), re.M).group(1)
    fd = os.open(f'/proc/{pid}/root/tmp', os.O_PATH)
    try:
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(10)
        s.connect(f'/proc/self/fd/{fd}/dotnet-diagnostic-{nspid}-{start_ticks(pid)}-socket')
    finally:
        os.close(fd)
    return s


def receive(s, n):
    got = b''
    while len(got) < n:
        piece = s.recv(n - len(got))
        if not piece:
            raise EOFError
        got += piece
    return got


def request(s, command, payload):
    s.sendall(b'DOTNET_IPC_V1\0' + struct.pack('<HBBH', 20 + len(payload), 2, command, 0) + payload)
    head = receive(s, 20)
    body = receive(s, struct.unpack('<H', head[14:16])[0] - 20)
    if head[17]:
        raise RuntimeError(f'the runtime says {body.hex()}')
    return struct.unpack('<Q', body)[0]


compared = collections.Counter()


def build_events():
    out = f'{args.cache}/events'
    if not os.path.exists(f'{out}/Events.dll') or os.path.getmtime(f'{out}/Events.dll') < os.path.getmtime(f'{here}/Events.cs'):
        must(['dotnet', 'build', '-c', 'Release', '-o', out, '--artifacts-path', f'{args.cache}/obj-events', f'{here}/Events.csproj'])
    return f'{out}/Events.dll'


def compare_readings(path):
    """Our reading of a stream and TraceEvent's, event by event."""
    try:
        theirs = must(['dotnet', build_events(), path]).splitlines()
    except RuntimeError as e:
        if not compared['skipped']:
            print(f'SKIP: TraceEvent: {e}', flush=True)
        compared['skipped'] += 1
        return
    ours = must([nettrace_list, '-r', path]).splitlines()
    different = sum((collections.Counter(theirs) - collections.Counter(ours)).values()) + \
        sum((collections.Counter(ours) - collections.Counter(theirs)).values())
    compared['events'] += len(theirs)
    compared['different'] += different
    if different:
        fail(f'{path}: {different} of {len(theirs)} events are not as TraceEvent reads them')


class Truth:
    """A live session from the start of the process on."""
    def __init__(self, pid, path):
        self.pid, self.path, self.bytes = pid, path, []
        end = time.time() + 20
        while True:
            try:
                self.s = connect(pid)
                break
            except OSError:
                if time.time() > end:
                    raise
                time.sleep(0.002)
        name = 'Microsoft-Windows-DotNETRuntime'
        text = struct.pack('<I', len(name) + 1) + (name + '\0').encode('utf-16le')
        self.id = request(self.s, 5, struct.pack('<IIQBIQI', 256, 1, 0, 0, 1, 0x38, 5) + text + struct.pack('<I', 0))
        self.s.settimeout(None)
        self.thread = threading.Thread(target=self.drain, daemon=True)
        self.thread.start()

    def drain(self):
        while True:
            piece = self.s.recv(1 << 16)
            if not piece:
                break
            self.bytes.append(piece)

    def stop(self):
        request(connect(self.pid), 1, struct.pack('<Q', self.id))
        self.thread.join(20)
        with open(self.path, 'wb') as f:
            f.write(b''.join(self.bytes))
        compare_readings(self.path)
        r = subprocess.run([nettrace_list, self.path], capture_output=True, text=True, errors='replace')
        if 'whole' not in r.stderr or ' 0 odd, 0 lost' not in r.stderr:
            fail(f'the second session: {r.stderr.strip()}')
        return r.stdout


class Methods:
    """Who had which addresses when, by the runtime's loads and unloads."""
    def __init__(self, text):
        self.by_page = collections.defaultdict(list)
        live = {}
        events = [line.split(' ', 7) for line in text.splitlines()]
        for f in sorted(events, key=lambda f: int(f[1])):  # threads' events come after each other
            if f[0] == 'load':
                start, size = int(f[2], 16), int(f[3], 16)
                m = [int(f[1]), 1 << 63, start, start + size, f[7]]
                live[start] = m
                for page in range(start >> 12, ((start + size - 1) >> 12) + 1):
                    self.by_page[page].append(m)
            elif f[0] == 'unload' and int(f[2], 16) in live:
                live.pop(int(f[2], 16))[1] = int(f[1])

    def at(self, addr, t):
        """(names that held the address at that time, or within 2 ms of it; whether any ever did)"""
        near, ever = set(), False
        for since, until, start, end, name in self.by_page.get(addr >> 12, ()):
            if start <= addr < end:
                ever = True
                if since - 2e6 <= t <= until + 2e6:
                    near.add(name)
        return near, ever


# --- what the recording says ---

def samples(path):
    """(comm, time in ns, frames leaf first as (address, name, module))"""
    head = re.compile(r'^(.*?) +(\d+)/(\d+) +(?:\[\d+\] +)?(\d+)\.(\d+): ')
    frame = re.compile(r'^\t *([0-9a-f]+) (.*) \((.*)\)$')
    comm, t, frames = None, 0, []
    for line in open(path, errors='replace'):
        line = line.rstrip('\n')
        if line.startswith('\t'):
            m = frame.match(line)
            frames.append((int(m.group(1), 16), re.sub(r'\+0x[0-9a-f]+$', '', m.group(2)), m.group(3)))
            continue
        if comm is not None and frames:
            yield comm, t, frames
        comm = None
        m = head.match(line)
        if m:
            comm, t, frames = m.group(1), int(m.group(4)) * 10**9 + int(m.group(5)) * 1000, []
    if comm is not None and frames:
        yield comm, t, frames


def cpu_ns(pid):
    return time.clock_gettime_ns(~pid << 3 | 2)


def threads(pid):
    found = []
    for task in glob.glob(f'/proc/{pid}/task/*/comm'):
        try:
            found.append(open(task).read().strip())
        except OSError:
            pass
    return found


def sessions(pid):
    return sum('EventPipe' in t for t in threads(pid))


def sessions_left(pid, before, seconds=20):
    """More than `before`, after a time that a crowded machine's runtime needs to end their threads."""
    end = time.time() + seconds
    while sessions(pid) > before and time.time() < end:
        time.sleep(0.05)
    return sessions(pid) - before


def readers(pid):
    """Who else reads event sessions of the process: one that does not read keeps its runtime from answering anybody."""
    try:
        lines = subprocess.run(['ss', '-xpna'], capture_output=True, text=True).stdout.splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        if f'pid={pid},' in line and ' ESTAB ' in line and 'dotnet-diagnostic' in line:
            peer = re.search(r'\* (\d+)', line).group(1)
            found += [f'{other.split("users:")[-1].strip()} ({line.split()[3]} bytes unread)' for other in lines
                      if f' {peer} ' in other and 'dotnet-diagnostic' not in other]
    return found


def percent(part, whole):
    return 100.0 * part / whole if whole else 100.0


def load_web(pid, until):
    """Requests from inside its network namespace, by a child."""
    return subprocess.Popen(['nsenter', '-t', str(pid), '-n', sys.executable, f'{here}/load.py', str(until)],
                            stdout=subprocess.PIPE, text=True)


def prove(variant, base):
    project, _, command, env = VARIANTS[variant]
    work = publish(variant)
    out = f'{base}/{variant}'
    os.makedirs(out)
    diagnostics = 'DOTNET_EnableDiagnostics' not in env
    argv = ([command] if command else ['/usr/bin/dotnet', f'/work/{project}.dll']) + [str(args.seconds * 3 + 60)]
    c = Container(out, work, argv, env)
    load = truth = None
    try:
        truth = Truth(c.pid, f'{out}/truth.nettrace') if diagnostics else None
        c.wait_for('ready')
        if project == 'Web':
            load = load_web(c.pid, args.seconds + 12)
        time.sleep(5)
        threads_before = sessions(c.pid)
        files_before = sorted(os.listdir(f'/proc/{c.pid}/root/tmp'))
        r = subprocess.run([ringfold, 'record', '-p', str(c.pid), '-F', args.freq, '-d', str(args.seconds), '-o', f'{out}/p.data.txt',
                            '-o', f'{out}/p.folded', '-o', f'{out}/p.data', '--stats', f'{out}/stats.json', '-v'], capture_output=True, text=True)
        if r.returncode:
            fail(f'{variant}: ringfold exits {r.returncode}: {r.stderr.strip()[-300:]}')
            return
        open(f'{out}/stderr', 'w').write(r.stderr)
        if 'does not answer' in r.stderr:
            print(f'    its sessions are read by {readers(c.pid)}', flush=True)
        # While it is there, as its files are.
        must([ringfold, 'fold', '-q', f'{out}/p.data', '-o', f'{out}/q.folded'])
        threads_left = sessions_left(c.pid, threads_before)
        files_left = sorted(set(os.listdir(f'/proc/{c.pid}/root/tmp')) - set(files_before))
        methods = Methods(truth.stop()) if truth else None
    finally:
        if load:
            load.kill()
        c.close()
    stats = json.load(open(f'{out}/stats.json'))
    recorded, folded = (collections.Counter(dict((s, int(n)) for s, n in (l.rsplit(' ', 1) for l in open(f'{out}/{f}.folded')))) for f in 'pq')
    differ = sum((recorded - folded).values())
    count = collections.Counter()
    wrong = collections.Counter()
    for comm, t, frames in samples(f'{out}/p.data.txt'):
        for i, (addr, name, module) in enumerate(frames):
            precompiled = module.endswith('.dll')
            jit = module.endswith('.map') or '/' not in module and not module.startswith('[') and not module.endswith('.so')
            if not precompiled and not jit:
                continue
            count['managed'] += 1
            count['unnamed'] += name in ('[unknown]', '')
            count['precompiled'] += precompiled
            count['precompiled_unnamed'] += precompiled and name in ('[unknown]', '')
            count['stubs'] += name == '[.NET stub]'
            if name in ('[unknown]', '') and len(wrong) < 1000:
                wrong[('unnamed', module)] += 1
            if methods and jit and name not in ('[unknown]', '', '[.NET stub]'):
                near, ever = methods.at(addr if i == 0 else addr - 1, t)
                count['checked'] += bool(near)
                # Where the second session knows of no method at that time it contradicts only a name that it knows elsewhere in time.
                bad = near and name not in near or not near and ever
                count['contradicted'] += bool(bad)
                if bad:
                    wrong[(name, ' or '.join(sorted(near)) or 'nothing then')] += 1
        names = [n for _, n, _ in frames]
        if comm.replace('_', ' ').startswith('hot') and 'Shop.Hot::Spin' in names:
            at = names.index('Shop.Hot::Spin')
            count['spin'] += 1
            count['spin_whole'] += names[at + 1:at + 3] == ['Shop.Hot::Fold', 'Shop.Hot::Round']
    named = percent(count['managed'] - count['unnamed'], count['managed'])
    whole = percent(stats['complete'], stats['user_stacks'])
    callers = percent(count['spin_whole'], count['spin'])
    asked = re.search(r'asked in (\d+) ms', r.stderr)
    print(f'{variant:18} {stats["samples"]:7} {count["managed"]:8} {named:7.2f} {count["stubs"]:6} {count["checked"]:8} '
          f'{count["contradicted"]:5} {whole:7.2f} {callers:8.2f} {stats.get("no_method_starts", -1):6} '
          f'{asked.group(1) if asked else "-":>6} {threads_left:4} {len(files_left):5} {differ:5}', flush=True)
    for what, n in wrong.most_common(5):
        print(f'    {n:6} {what}')
    bar = 99.5 if diagnostics else 0
    files = percent(count['precompiled'] - count['precompiled_unnamed'], count['precompiled'])
    for ok, what in ((count['managed'] > 200, 'too few managed frames to tell'), (named >= bar, f'{named:.2f} % of managed frames named'),
                     (files >= 99.5, f'{files:.2f} % of precompiled frames named'),
                     (count['contradicted'] == 0, f'{count["contradicted"]} names contradicted'),
                     (whole >= (99 if diagnostics else 0), f'{whole:.2f} % of stacks whole'),
                     (project == 'Web' or not diagnostics or (callers >= 99.5 and count['spin'] > 20), f'the frameless caller in {callers:.2f} % of {count["spin"]}'),
                     # What goes by frame pointer may lack callers, and says so.
                     (diagnostics or stats['no_method_starts'] > 0.5 * stats['samples'], f'{stats["no_method_starts"]} samples without method starts'),
                     (differ == 0, f'{differ} stacks of the folded recording differ'),
                     (threads_left <= 0, 'a session is left'), (not files_left, f'files are left: {files_left}')):
        if not ok:
            fail(f'{variant}: {what}')


def tree(pid):
    """The process and all below it."""
    found = [pid]
    for stat in glob.glob('/proc/[0-9]*/stat'):
        try:
            text = open(stat).read()
        except OSError:
            continue
        if int(text.rsplit(')', 1)[1].split()[1]) == pid:
            found += tree(int(text.split()[0]))
    return found


def where_it_is(pid):
    """What each of our processes waits for."""
    told = []
    for p in tree(pid):
        try:
            stack = open(f'/proc/{p}/stack').read().split()[1::2][:6]
            told.append(f'{open(f"/proc/{p}/comm").read().strip()} {p} {open(f"/proc/{p}/syscall").read().split()[:2]} {stack}')
        except OSError:
            pass
    return '; '.join(told)


def late(base):
    """A runtime that does not get to answer for 4 s: its names come all the same, and where it never does no session is left."""
    work, out = publish('default'), f'{base}/late'
    os.makedirs(out)
    c = Container(out, work, ['/usr/bin/dotnet', '/work/Service.dll', '120'], {})
    try:
        c.wait_for('ready')
        time.sleep(1)
        before = sessions(c.pid)
        argv = [ringfold, 'record', '-p', str(c.pid), '-F', args.freq, '-o', f'{out}/p.folded', '--stats', f'{out}/stats.json']
        os.kill(c.pid, signal.SIGSTOP)
        subprocess.run([*argv, '-q', '-d', '1'], capture_output=True)
        os.kill(c.pid, signal.SIGCONT)
        time.sleep(2)
        left = sessions_left(c.pid, before)
        if left > 0:
            fail(f'late: {left} sessions are left where nobody answered')
        os.kill(c.pid, signal.SIGSTOP)
        r = subprocess.Popen([*argv, '-d', '12'], stderr=subprocess.PIPE, text=True)
        time.sleep(4)
        os.kill(c.pid, signal.SIGCONT)
        told = r.communicate()[1]
        held = readers(c.pid)
        stats = json.load(open(f'{out}/stats.json'))
        named = percent(stats['jit_named'], stats['jit_frames'])
        left = sessions_left(c.pid, before)
        print(f'late: {stats["jit_frames"]} JIT frames, {named:.2f} % named, {left} sessions left', flush=True)
        if 'are known now' not in told or named < 99 or stats['jit_frames'] < 100 or left > 0:
            fail(f'late: {told.strip()[-400:]}; its sessions are read by {held}')
    finally:
        try:
            os.kill(c.pid, signal.SIGCONT)
        except OSError:
            pass
        c.close()


def ways_out(base):
    """Ctrl-C, each of our processes killed in turn, the end of the target: no session is left there, and none of us."""
    work, out = publish('default'), f'{base}/ways'
    os.makedirs(out)
    c = Container(out, work, ['/usr/bin/dotnet', '/work/Service.dll', '400'], {})
    try:
        c.wait_for('ready')
        time.sleep(1)
        before, which = sessions(c.pid), -1
        while which < 16:
            r = subprocess.Popen([ringfold, 'record', '-q', '-p', str(c.pid), '-d', '6', '-o', f'{out}/p.folded'], stderr=subprocess.DEVNULL)
            end = time.time() + 20
            while sessions(c.pid) <= before and time.time() < end and r.poll() is None:
                time.sleep(0.05)
            time.sleep(0.8)
            ours = tree(r.pid)
            during = sessions(c.pid) - before
            if which >= len(ours):
                r.kill()
                r.wait()
                break
            try:
                who = 'Ctrl-C' if which < 0 else f'kill -9 {open(f"/proc/{ours[which]}/comm").read().strip()} ({which})'
                os.kill(ours[max(which, 0)], signal.SIGINT if which < 0 else signal.SIGKILL)
            except OSError:  # it had just been replaced
                r.wait()
                sessions_left(c.pid, before)
                continue
            try:
                r.wait(60)
            except subprocess.TimeoutExpired:
                fail(f'{who}: it does not end: {where_it_is(r.pid)}')
                r.kill()
                r.wait()
            left = sessions_left(c.pid, before)
            end = time.time() + 20
            while time.time() < end and any(map(alive, ours)):
                time.sleep(0.05)
            of_us, before = sum(map(alive, ours)), min(before, before + left)
            print(f'way out: {who:32} sessions {during} before, {left} after; {of_us} of our {len(ours)} processes left', flush=True)
            if left > 0 or of_us or not during:
                fail(f'{who}: {left} sessions, {of_us} processes are left')
            which += 1
        r = subprocess.Popen([ringfold, 'record', '-q', '-p', str(c.pid), '-d', '60', '-o', f'{out}/p.folded'], stderr=subprocess.DEVNULL)
        time.sleep(3)
        ours = tree(r.pid)
        os.kill(c.pid, signal.SIGKILL)
        try:
            status = r.wait(30)
        except subprocess.TimeoutExpired:
            status = where_it_is(r.pid)
            r.kill()
            r.wait()
        print(f'way out: end of the target: status {status}, {sum(map(alive, ours))} of our {len(ours)} processes left', flush=True)
        if status != 0 or any(map(alive, ours)):
            fail(f'end of the target: {status}')
    finally:
        c.close()


class Clocks(threading.Thread):
    """CPU time of each thread of a process, looked at 20 times a second."""
    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.over, self.seen = pid, threading.Event(), collections.defaultdict(list)
        self.start()

    def run(self):
        while not self.over.wait(0.05):
            for path in glob.glob(f'/proc/{self.pid}/task/*/schedstat'):
                try:
                    ns = int(open(path).read().split()[0])
                    self.seen[int(path.split('/')[4])].append((time.monotonic_ns(), ns))
                except (OSError, IndexError):
                    pass

    def at(self, tid, t):
        """CPU time of a thread at that time; between two looks in proportion."""
        looks = self.seen[tid]
        i = bisect.bisect_left(looks, (t, 0))
        if i == 0 or i == len(looks):
            return looks[min(i, len(looks) - 1)][1]
        (t0, c0), (t1, c1) = looks[i - 1], looks[i]
        return c0 + (c1 - c0) * (t - t0) / (t1 - t0)


def osr(base):
    """Methods that go on by on-stack replacement: once in a stack, and their caller is there."""
    work, out = publish('osr'), f'{base}/osr'
    os.makedirs(out)
    c = Container(out, work, ['/usr/bin/dotnet', '/work/Osr.dll', '24'], {})
    try:
        c.wait_for('ready')
        time.sleep(1)
        must([ringfold, 'record', '-q', '-p', str(c.pid), '-F', '299', '-d', '40', '-o', f'{out}/p.folded', '-o', f'{out}/p.data',
              '--stats', f'{out}/stats.json'])
        must([ringfold, 'fold', '-q', f'{out}/p.data', '-o', f'{out}/q.folded'])
    finally:
        c.close()
    total, good, twice = collections.Counter(), collections.Counter(), 0
    for line in open(f'{out}/p.folded'):
        stack, n = line.rsplit(' ', 1)
        frames = stack.split(';')
        for name in 'Calls', 'Plain', 'Handles':
            name = f'Shop.Osr::{name}'
            if name in frames:
                at = frames.index(name)
                total[name] += int(n)
                good[name] += int(n) * (frames[at - 1] == 'Shop.Osr::Caller')
                twice += int(n) * (frames.count(name) > 1 and name != 'Shop.Osr::Handles')  # its finally is another frame of it
    stats = json.load(open(f'{out}/stats.json'))
    whole = percent(stats['complete'], stats['user_stacks'])
    p, q = (sorted(l for l in open(f'{out}/{f}.folded') if 'Shop.' in l) for f in 'pq')
    same = p == q
    print(f'osr: {dict(total)}, with their caller {percent(sum(good.values()), sum(total.values())):.2f} %, twice {twice}, '
          f'{whole:.2f} % whole, folded {"the same" if same else "otherwise"}', flush=True)
    if len(total) < 3 or min(total.values()) < 20 or sum(good.values()) < .995 * sum(total.values()) or twice or whole < 99 or not same:
        fail('osr')


def perfview(base):
    command = os.environ.get('TRACEVIEW')
    if not command:
        print('SKIP: perfview: TRACEVIEW is not set', flush=True)
        return
    seconds = max(args.seconds, 30)
    work, out = publish('default'), f'{base}/perfview'
    os.makedirs(out)
    c = Container(out, work, ['/usr/bin/dotnet', '/work/Service.dll', str(seconds + 90)], {})
    clocks = None
    try:
        c.wait_for('ready')
        time.sleep(5)
        clocks = Clocks(c.pid)
        must([ringfold, 'bundle', f'{out}/p', '-q', '-p', str(c.pid), '-F', '999', '-d', str(seconds), '-o', f'{out}/p.data.txt'])
    finally:
        if clocks:
            clocks.over.set()
        c.close()
    seen = json.loads(must([command, f'{out}/p.trace.zip'], timeout=300))
    times = [t for _, t, _ in samples(f'{out}/p.data.txt')]
    since, until = min(times) - 10**9 / 999, max(times)
    far, told = 0, []
    for name, ms in seen['thread'].items():
        tid = int(re.search(r'Thread.*?(\d+)\D*$', name).group(1))
        cpu = (clocks.at(tid, until) - clocks.at(tid, since)) / 1e6 if clocks.seen[tid] else 0
        if cpu > 1000:
            told.append(f'{tid} {ms:.0f} of {cpu:.0f} ms')
            far = max(far, abs(ms / cpu - 1))
    methods = [m for m in seen['self'] if 'Shop.' in m or 'System.' in m]
    unnamed = sum(ms for m, ms in seen['self'].items() if ('?' in m or 'unknown' in m.lower()) and '.so' not in m) / seen['weight_ms']
    spin = [m for m in seen['self'] if 'Hot.Spin' in m or 'Hot::Spin' in m]
    print(f'perfview: {seen["samples"]} samples, {seen["broken"]} broken; {len(methods)} managed methods, {unnamed * 100:.2f} % unnamed; '
          f'CPU of {len(told)} threads right to {far * 100:.2f} %: {", ".join(told)}', flush=True)
    if not told or far > .02 or seen['broken'] or not spin or unnamed > .005:
        fail(f'perfview: {far * 100:.2f} % off, {seen["broken"]} broken, {spin}, {unnamed * 100:.2f} % unnamed')


def alive(pid):
    try:
        return open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()[0] != 'Z'
    except OSError:
        return False


def cost(base):
    """What asking costs a service of some thousand methods: CPU of its process, and the longest pause of a thread that only beats."""
    work, out = publish('default'), f'{base}/cost'
    os.makedirs(out)
    # No container: this part is what a quiet machine is needed for, and nothing but the service should run.
    c = subprocess.Popen(['dotnet', f'{work}/Service.dll', '60', 'idle'], stdout=open(f'{out}/out', 'w'))
    try:
        while 'ready' not in open(f'{out}/out').read():
            time.sleep(0.1)
        time.sleep(1)
        cpus, pauses, rest = [], [], []

        def beats(since, until):
            found = re.findall(r'^beat (\d+) (\d+)$', open(f'{out}/out').read(), re.M)
            return [int(us) / 1000 for t, us in found if since < int(t) <= until]
        for _ in range(5):
            t0, busy0 = time.monotonic_ns(), idle_cpu(c.pid)
            time.sleep(1)
            t1, busy1 = time.monotonic_ns(), idle_cpu(c.pid)
            r = subprocess.run([ringfold, 'record', '-p', str(c.pid), '-F', '9', '-d', '0.3', '-o', f'{out}/p.folded'], capture_output=True, text=True)
            time.sleep(0.3)
            t2, busy2 = time.monotonic_ns(), idle_cpu(c.pid)
            cpus.append((busy2 - busy1 - (busy1 - busy0) * (t2 - t1) / (t1 - t0)) / 1e6)
            rest.append(max(beats(t0, t1), default=0))
            pauses.append(max(beats(t1, t2), default=0))
        methods = re.search(r'(\d+) methods', r.stderr)
        print(f'cost: {methods.group(1) if methods else "?"} methods; CPU of the process for start and end: ' +
              ', '.join(f'{v:.0f}' for v in cpus) + ' ms; longest pause ' + ', '.join(f'{v:.1f}' for v in pauses) +
              ' ms, beside ' + ', '.join(f'{v:.1f}' for v in rest) + ' ms without', flush=True)
        if sorted(cpus)[2] > 80:
            fail(f'cost: {sorted(cpus)[2]:.0f} ms CPU')
        if sorted(pauses)[2] > 20:
            fail(f'cost: a pause of {sorted(pauses)[2]:.1f} ms')
    finally:
        c.kill()
        c.wait()


def unloads(base):
    """A service that unloads 20 assemblies a second lives through 60 recordings, most of which say that they did not ask."""
    work, out = publish('default'), f'{base}/unloads'
    os.makedirs(out)
    c = Container(out, work, ['/usr/bin/dotnet', '/work/Service.dll', '600', 'no-dynamic', 'unloads'], {})
    not_asked = 0
    try:
        c.wait_for('ready')
        time.sleep(3)
        for i in range(60):
            r = subprocess.run([ringfold, 'record', '-p', str(c.pid), '-d', '0.1', '-o', f'{out}/p.folded'], capture_output=True, text=True)
            not_asked += 'it unloads assemblies all the time' in r.stderr
            if not alive(c.pid):
                fail(f'unloads: the service died at recording {i}: {open(f"{c.dir}/out").read()[:300]}')
                return
    finally:
        c.close()
    print(f'unloads            60 recordings, {not_asked} did not ask')
    if not_asked < 30:
        fail(f'unloads: only {not_asked} of 60 did not ask')


def idle_cpu(pid):
    """CPU time of all threads but the one that beats, as far as they live; threads that ended are in the process's."""
    return cpu_ns(pid) - int(open(f'/proc/{pid}/schedstat').read().split()[0])


def main():
    if not shutil.which('dotnet') or not shutil.which('runc') or os.geteuid():
        print('SKIP: needs the .NET SDK, runc and root', file=sys.stderr)
        return 77
    if not os.path.exists(nettrace_list):
        raise SystemExit(f'{nettrace_list} is not built')
    os.makedirs(args.cache, exist_ok=True)
    print(f'{"variant":18} {"samples":>7} {"managed":>8} {"named%":>7} {"stubs":>6} {"checked":>8} {"wrong":>5} {"whole%":>7} '
          f'{"callers%":>8} {"nostart":>6} {"ms":>6} {"left":>4} {"files":>5} {"fold≠":>5}', flush=True)
    with tempfile.TemporaryDirectory(prefix='ringfold-dotnet-') as scratch:
        base = args.keep or scratch
        os.makedirs(base, exist_ok=True)
        os.chmod(scratch, 0o755)
        for variant in args.only.split(',') if args.only else [*VARIANTS, 'ways-out', 'late', 'unloads', 'perfview', 'cost']:
            try:
                {'cost': cost, 'ways-out': ways_out, 'late': late, 'unloads': unloads, 'perfview': perfview, 'osr': osr}.get(variant, lambda base: prove(variant, base))(base)
            except (RuntimeError, OSError, EOFError) as e:
                fail(f'{variant}: {e}')
    print(f'nettrace: {compared["events"]} events read as TraceEvent 4.0.0 reads them, {compared["different"]} differently')
    return 1 if failures else 0


sys.exit(main())
