"""Chains of samples as each tool prints them, and what tells two of them apart: for agree.py."""
import collections, json, os, re, struct, subprocess

Sample = collections.namedtuple('Sample', 'head chain') # chain: (address, symbol, file), leaf first
HEAD = re.compile(r'^(.*?)\s+(-?\d+)/(-?\d+)\s+\[(\d+)\]\s+(\d+\.\d+):\s+(\d+) +(\S+): $')
FRAME = re.compile(r'^\t *([0-9a-f]+) (.*) \((.*)\)$')
FIELDS = '+pid,+tid,+cpu,+time,+period,+event,+ip,+sym,+dso'
KERNEL = 1 << 63
JIT = re.compile(r'(perf-\d+\.map|jitted-\d+-\d+\.so)$')


def read_script(lines):
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


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors='surrogateescape')
    if done.returncode:
        print(f'  {command[0]} exits {done.returncode}')
    return done.stdout.splitlines()


def user_part(chain):
    return [f for f in chain if f[0] < KERNEL]


def kernel_part(chain):
    return [f for f in chain if f[0] >= KERNEL]


def base(path):
    return path.split('/')[-1].removesuffix(' (deleted)')


class Perf:
    """`perf script --no-inline`. Up to 6.9 it prints offsets in the file for addresses of user space."""
    reads_headers = True

    def __init__(self, command):
        version = subprocess.run([*command, '--version'], stdout=subprocess.PIPE, text=True).stdout.strip()
        self.command, self.name = command, version.replace(' version', '')
        self.by_offset = re.search(r'version (5\.1[3-9]|6\.[0-9]\b)', version) is not None

    def read(self, path, ours):
        return read_script(run([*self.command, 'script', '-i', path, '--no-inline', '--max-stack', '1024', '-F', FIELDS]))

    def place(self, frame):
        """What mapping leaves alone is the place in the page."""
        return frame[0] & 0xfff if self.by_offset and frame[0] < KERNEL else frame[0]

    def reads_report(self, path, ours):
        """`perf report` counts what we counted."""
        done = subprocess.run([*self.command, 'report', '-i', path, '--stdio', '--no-inline', '--no-children', '--sort', 'pid',
                               '-g', 'none'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors='surrogateescape')
        count = re.search(r'^# Event count \(approx\.\): (\d+)$', done.stdout, re.M)
        return done.returncode == 0 and count and int(count[1]) == sum(int(s.head[5]) for s in ours)


class Fold:
    """Our own, with libunwind for the walk."""
    reads_headers, by_offset, name = True, False, 'libunwind'

    def __init__(self, ringfold):
        self.ringfold = ringfold

    def read(self, path, ours):
        return read_script(run([self.ringfold, 'fold', '-q', '--include-idle', '--unwinder', 'libunwind', '-f', 'perf-script', path]))

    def place(self, frame):
        return frame[0]


class Dwfl:
    """test/live/dwfl_script.c: user space alone; names are those that ours has for the same address."""
    reads_headers, by_offset, name = False, False, 'libdwfl'

    def __init__(self, program):
        self.program = program

    def read(self, path, ours):
        names = {(s.head[1], f[0]): f for s in ours for f in s.chain}
        samples = []
        for line in run([self.program, path]):
            if not line.startswith('\t'):
                ids, time_ns = line.split()
                pid, tid = ids.split('/')
                o = ours[len(samples)] if len(samples) < len(ours) else None
                gone = '-1' in (pid, tid) # a task that is ending has no id left
                if not o or (not gone and o.head[1:3] != (pid, tid)) or abs(float(o.head[4]) - int(time_ns) / 1e9) > 2e-6:
                    print(f'  libdwfl: sample {len(samples)} is another one')
                    return []
                samples.append(Sample(o.head, kernel_part(o.chain)))
            else:
                at, file = line[1:].split(' ', 1)
                at = int(at, 16)
                samples[-1].chain.append(names.get((samples[-1].head[1], at), (at, '[unknown]', file)))
        return samples

    def place(self, frame):
        return frame[0]


class Samply:
    """
    What `samply import` writes: user space, by the address in the file, of which the place in the page is compared, and the
    file's name; JIT code by its name. A sample without a thread's number has none there.
    """
    reads_headers, by_offset, name = False, True, 'samply'

    def __init__(self, command):
        self.command = command
        version = subprocess.run([*command, '--version'], stdout=subprocess.PIPE, text=True).stdout.strip()
        self.name = version or 'samply'

    def read(self, path, ours):
        out = f'{path}.samply.json'
        run([*self.command, 'import', '--save-only', '-o', out, path])
        try:
            with open(out) as f:
                profile = json.load(f)
            os.remove(out)
        except (OSError, ValueError) as e:
            print(f'  samply: {e}')
            return []
        theirs = collections.defaultdict(list)
        for thread in profile['threads']:
            tid, at = str(thread['tid']).split('.')[0], 0.0
            for delta, stack in zip(thread['samples']['timeDeltas'], thread['samples']['stack']):
                at += delta
                theirs[tid].append((at, thread, stack))
        for them in theirs.values():
            them.sort(key=lambda t: t[0])
        return self.align(profile, theirs, ours)

    def align(self, profile, theirs, ours):
        """By thread and time, of which samply's begins with the first sample."""
        first, cache, samples = min((float(s.head[4]) for s in ours), default=0), {}, []
        used = collections.Counter()
        for o in ours:
            them, at = theirs.get(o.head[2], []), (float(o.head[4]) - first) * 1000
            i = used[o.head[2]]
            while i < len(them) and them[i][0] < at - 0.002:
                i += 1
            if i < len(them) and them[i][0] < at + 0.002:
                samples.append(Sample(o.head, kernel_part(o.chain) + self.chain(profile, them[i][1], them[i][2], cache)))
                i += 1
            else:
                samples.append(None)
            used[o.head[2]] = i
        return samples

    def frame(self, profile, thread, at):
        """None: a label, which stands above the frame of JavaScript it is about; or a frame of the kernel."""
        table, funcs = thread['frameTable'], thread['funcTable']
        if profile['meta']['categories'][table['category'][at]]['name'] == 'Kernel':
            return None
        func = table['func'][at]
        resource, symbol = funcs['resource'][func], thread['stringArray'][funcs['name'][func]]
        if resource is None or resource < 0:
            return (int(symbol, 16), '[unknown]', '[unknown]') if re.fullmatch(r'0x[0-9a-f]+', symbol) else None
        path = profile['libs'][thread['resourceTable']['lib'][resource]]['path']
        return table['address'][at], '[unknown]' if symbol.startswith('0x') else symbol, path

    def chain(self, profile, thread, stack, cache):
        if stack is None:
            return []
        key = id(thread), stack
        if key not in cache:
            frames, node = [], stack
            while node is not None:
                frame = self.frame(profile, thread, thread['stackTable']['frame'][node])
                if frame:
                    frames.append(frame)
                node = thread['stackTable']['prefix'][node]
            cache[key] = frames
        return cache[key]

    def place(self, frame):
        if frame[0] >= KERNEL:
            return frame[0]
        if JIT.search(frame[2]) and frame[1] != '[unknown]':
            return re.sub(r'\+0x[0-9a-f]+$', '', frame[1])
        return frame[0] & 0xfff, '' if frame[2] == '[unknown]' or JIT.search(frame[2]) else base(frame[2])


def name(frame):
    symbol = re.sub(r'\+0x[0-9a-f]+$', '', frame[1])
    return 'JIT code' if JIT.search(frame[2]) else f'{symbol} ({base(frame[2])})'


# Where a thread or a program begins: in the program or ld.so, in libc, in Go, on each of its stacks.
ROOT = re.compile(r'^(_start|clone3?|__clone3?|__clone_internal|ret_from_fork\S*|__start_context|_rt0_amd64\S*|'
                  r'runtime\.(goexit|mstart|systemstack|mcall|morestack|rt0_go|clone)(\.abi0)?)(@\S+)?$')


class Roots:
    """
    Whether a stack reaches its root: the outermost frame is one of ROOT by its name, or, where the tool has none for it, by
    the place in the page that such a frame has in another tool's stacks, or lies in the 64 bytes behind the entry point that the ELF
    header tells.
    """

    def __init__(self):
        self.places, self.entries = set(), {}

    @staticmethod
    def named(frame):
        return ROOT.match(re.sub(r'\+0x[0-9a-f]+$', '', frame[1])) is not None

    def learn(self, samples):
        for s in samples:
            if s and s.chain and s.chain[-1][0] < KERNEL and self.named(s.chain[-1]):
                self.places.add((base(s.chain[-1][2]), s.chain[-1][0] & 0xfff))

    def entry(self, path):
        if path not in self.entries:
            self.entries[path] = None
            try:
                with open(path, 'rb') as f:
                    head = f.read(32)
                if head[:5] == b'\x7fELF\x02':
                    self.entries[path] = struct.unpack_from('<Q', head, 24)[0] & 0xfff
            except OSError:
                pass
        return self.entries[path]

    def reached(self, chain):
        if not chain or chain[-1][0] >= KERNEL:
            return False
        at, symbol, path = chain[-1]
        if symbol != '[unknown]':
            return self.named(chain[-1])
        return (base(path), at & 0xfff) in self.places or self.at_entry(chain[-1])

    def at_entry(self, frame):
        entry = self.entry(frame[2])
        return entry is not None and ((frame[0] & 0xfff) - entry) & 0xfff < 64

    def nothing_behind(self, chain, goes_on):
        """A program's first function, or a thread's, if this is the new thread: the one that called clone has callers."""
        if not chain or chain[-1][0] >= KERNEL:
            return False
        symbol, user = re.sub(r'\+0x[0-9a-f]+$', '', chain[-1][1]), user_part(chain)
        if re.match(r'(__)?clone3?$', symbol):
            return len(user) > 1 or any(f[1].startswith('ret_from_fork') for f in kernel_part(chain)) or goes_on[1:] == ('[unknown]', 'anon')
        return symbol == '_start' or (symbol == '[unknown]' and self.at_entry(chain[-1]))


GO_SWITCH = re.compile(r'runtime\.(systemstack|mstart|mcall|morestack|goexit)\b')
NO_CODE = '[unknown]', '[stack]', '[heap]'
SWITCHED = 'theirs takes for a caller what lies behind a Go stack switch'
OURS = 'OURS ENDS EARLY', 'OURS ENDS AT A STACK SWITCH', 'different', 'kernel' # everything else is explained in docs/differences.md


def is_part(some, of):
    """All of the one stands in the other, in its order."""
    rest = iter(of)
    return all(one in rest for one in some)


def explain(ours, theirs, a, b):
    """What theirs did wrong at its first frame, which is not ours; None = that does not show. a, b: their places."""
    if b and theirs[0][1] == '[unknown]' and theirs[0][2] in NO_CODE:
        return 'theirs goes on where no code is'
    if b and is_part(b, a):
        return 'theirs leaves frames out'
    # It may have left out the one before as well.
    for i in range(min(2, len(ours)) if b else 0):
        if 'sigreturn' in ours[i][1] and (theirs[0][0] + 1 - ours[i][0]) % 0x1000 == 0:
            return 'theirs takes for a caller the code that a signal handler returns to'
    # It left one out, and what follows is one of the others.
    if len(a) > 1 and b and a[1] == b[0]:
        same = 0
        while same + 1 < len(a) and same < len(b) and a[1 + same] == b[same]:
            same += 1
        if same < len(b) and explain(ours[1 + same:], theirs[same:], a[1 + same:], b[same:]):
            return 'theirs leaves frames out'
    return None


def compare(ours, theirs, place):
    """The class of a sample, and where the two part."""
    a, b = ([place(f) for f in chain] for chain in (ours, theirs))
    if a == b:
        return 'equal', ''
    at = 0
    while at < min(len(a), len(b)) and a[at] == b[at]:
        at += 1
    user = next((i for i, f in enumerate(ours) if f[0] < KERNEL), len(ours))
    after = f'after {name(ours[at - 1])}' if at else 'at the leaf'
    if at < user:
        return 'kernel', after
    why = explain(ours[at:], theirs[at:], a[at:], b[at:])
    if why:
        return why, after
    if at and at < len(b) and GO_SWITCH.match(ours[at - 1][1]):
        return 'OURS ENDS AT A STACK SWITCH' if at == len(a) else SWITCHED, after
    if at == len(b):
        return 'theirs ends early', 'with no user frame at all' if at == user else after
    if at == len(a):
        return 'OURS ENDS EARLY', f'{after}, theirs goes on with {name(theirs[at])}'
    return 'different', f'{after}: ours {name(ours[at])}, theirs {name(theirs[at])}'


def judge(ours, theirs, place, roots, ended=False):
    """The same, where it matters who gets to a root. ended: the sample is younger than the record of its task's end."""
    found, whole, their_whole = compare(ours, theirs, place), roots.reached(ours), roots.reached(theirs)
    if found[0] == 'OURS ENDS EARLY' and roots.nothing_behind(ours, theirs[len(ours)]):
        return 'theirs goes on behind the first function', found[1]
    # The kernel told of the end of the process a moment ago, and since 6.16 before it gives its memory back.
    if found[0] == 'OURS ENDS EARLY' and not user_part(ours) and (ended or any(f[1].startswith('perf_event_exit_task') for f in ours)):
        return 'theirs remembers what an ended process had mapped', found[1]
    # Of two that go different ways, the one that gets to a root is right and the one that ends nowhere is not.
    if found[0] == 'different' and whole and not their_whole:
        return 'theirs goes astray', found[1]
    return (SWITCHED, found[1]) if found[0] == 'OURS ENDS AT A STACK SWITCH' and not their_whole else found


def counts_against(kind, agreed, whole, their_whole):
    if kind not in OURS:
        return False
    return kind != 'different' or not agreed or (their_whole and not whole)
