#!/usr/bin/env python3
"""Precompiled .NET code: names against what the runtime itself says of it, frames against the machine code.

usage: r2r.py RINGFOLD VICTIMS_DIR [--only names,frames] [--forms NAME,..] [--cache DIR] [--dlls N]

names   the service of test/prove/dotnet is run in several forms; each method of its rundown that lies in a precompiled image
        must have the same token, type and method in the image's own tables. Then every function of every DLL of the
        installed frameworks must have a name at all.
frames  each instruction of each function, as objdump shows it: what was pushed and taken up to there must be what our rule
        says, in prologues, bodies and epilogues.
Needs the .NET SDK (exit 77 without); frames also objdump.
"""
import argparse, collections, glob, os, re, shutil, signal, struct, subprocess, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rundown

ap = argparse.ArgumentParser()
ap.add_argument('ringfold')
ap.add_argument('victims')
ap.add_argument('--only', default='names,frames')
ap.add_argument('--forms', default='', help='of the service; all when not given')
ap.add_argument('--cache', default='/var/tmp/ringfold-r2r')
ap.add_argument('--dlls', type=int, default=12, help='the largest so many for frames')
args = ap.parse_args()
r2r_list = os.path.join(os.path.abspath(args.victims), '..', 'runtimes', 'r2r_list')
here = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'dotnet')
failures = []

RID = ['-r', 'linux-x64']
SELF = RID + ['--self-contained', 'true']
# How the service is published, its command, its environment.
VARIANTS = {
    'default': ([], None, {}),
    'tc0': (['-p:TieredCompilation=false'], None, {}),
    'r2r': (RID + ['--self-contained', 'false', '-p:PublishReadyToRun=true'], None, {}),
    'single': (SELF + ['-p:PublishSingleFile=true'], 'Service', {}),
    'composite': (SELF + ['-p:PublishReadyToRun=true', '-p:PublishReadyToRunComposite=true'], 'Service', {}),
}


def fail(what):
    failures.append(what)
    print(f'FAILED: {what}', flush=True)


def frameworks():
    """Folders of the newest installed frameworks."""
    out = subprocess.run(['dotnet', '--list-runtimes'], capture_output=True, text=True).stdout
    newest = {}
    for line in out.splitlines():
        m = re.match(r'(\S+) (\S+) \[(.*)\]', line)
        if m:
            newest[m[1]] = f'{m[3]}/{m[2]}'
    return list(newest.values())


def publish(variant):
    props = VARIANTS[variant][0]
    out = f'{args.cache}/{variant}'
    sources = [f'{here}/Service.cs', f'{here}/Service.csproj']
    stamp = f'{out}/.made'
    if os.path.exists(stamp) and all(os.path.getmtime(s) < os.path.getmtime(stamp) for s in sources):
        return out
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    r = subprocess.run(['dotnet', 'publish', '-c', 'Release', '-o', out, '--artifacts-path', f'{args.cache}/obj-{variant}',
                        *props, sources[1]], capture_output=True, text=True)
    if r.returncode:
        raise RuntimeError(r.stdout[-400:])
    open(stamp, 'w').close()
    return out


def sections(path, base=0):
    """(rva, offset in the file, size) of each section of an image."""
    with open(path, 'rb') as f:
        f.seek(base)
        head = f.read(4096)
    pe = struct.unpack_from('<I', head, 0x3c)[0]
    num, opt = struct.unpack_from('<H', head, pe + 6)[0], struct.unpack_from('<H', head, pe + 20)[0]
    for i in range(num):
        at = pe + 24 + opt + 40 * i
        _, va, size, raw = struct.unpack_from('<IIII', head, at + 8)
        yield va, base + raw, size


def list_names(path, dirs, base=0):
    """{rva: (token, type, method)} of the begin of every function."""
    if base:
        return None
    out = subprocess.run([r2r_list, path, *dirs], capture_output=True, text=True)
    names = {}
    for line in out.stdout.split('\n'):
        if line:
            begin, _, token, _, type_name, method = line.split('\t')
            names[int(begin, 16)] = (int(token, 16), type_name, method)
    return names


class Bundle:
    """The images that a single-file program maps, cut out of it so that r2r_list can be asked."""
    def __init__(self, path, dir):
        self.data = open(path, 'rb').read()
        self.dir = dir
        os.makedirs(dir, exist_ok=True)
        marker = bytes.fromhex('8b1202b96a612038727b930214d7a03213f5b9e6efae3318ee3b2dce24b36aae')
        at = struct.unpack_from('<Q', self.data, self.data.index(marker) - 8)[0]
        major, _, num = struct.unpack_from('<IIi', self.data, at)
        at += 12
        at += 1 + self.data[at] + 40
        self.files = []
        for _ in range(num):
            offset, size = struct.unpack_from('<QQ', self.data, at)
            at += 24 if major >= 6 else 16
            at += 1
            length = self.data[at]
            name = self.data[at + 1:at + 1 + length].decode()
            at += 1 + length
            self.files.append((offset, size, name))
            if name.endswith('.dll'):
                with open(f'{dir}/{name}', 'wb') as f:
                    f.write(self.data[offset:offset + size])

    def at(self, offset):
        for start, size, name in self.files:
            if start <= offset < start + size:
                return start, f'{self.dir}/{name}'
        return None


def run_service(variant, dirs):
    out = publish(variant)
    _, command, env = VARIANTS[variant]
    argv = [f'{out}/{command}'] if command else ['dotnet', f'{out}/Service.dll']
    p = subprocess.Popen([*argv, '60'], env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(5)
        maps = open(f'/proc/{p.pid}/maps').read()
        data = rundown.rundown(rundown.wait_socket(p.pid))
    finally:
        p.send_signal(signal.SIGKILL)
        p.wait()
    methods, _ = rundown.parse(data)
    regions = []
    for line in maps.splitlines():
        f = line.split(None, 5)
        if len(f) == 6 and 'x' in f[1] and f[5].startswith('/'):
            start, end = (int(x, 16) for x in f[0].split('-'))
            regions.append((start, end, int(f[2], 16), f[5]))
    bundle = Bundle(argv[0], f'{args.cache}/cut-{variant}') if 'single' in variant else None
    told = collections.defaultdict(dict)
    nowhere = 0
    for addr, (size, token, flags, type_name, method, module) in methods.items():
        if flags & 8:
            continue
        for start, end, pgoff, path in regions:
            if start <= addr < end:
                offset = addr - start + pgoff
                base = 0
                if bundle and not path.endswith('.dll'):
                    base, path = bundle.at(offset)
                told[path][offset - base] = (token, type_name, method)
                break
        else:
            nowhere += 1
    shared = same = 0
    for path, places in told.items():
        names = list_names(path, dirs)
        table = list(sections(path))
        for offset, said in places.items():
            rva = next(offset - raw + va for va, raw, size in table if raw <= offset < raw + size)
            shared += 1
            if names.get(rva) == said:
                same += 1
            else:
                fail(f'{variant}: {os.path.basename(path)} {rva:x}: {names.get(rva)} is not {said}')
    print(f'{variant:12} {len(told):3} images {shared:6} methods of the rundown {same:6} the same, {nowhere} in no file', flush=True)
    if shared < 500:
        fail(f'{variant}: only {shared} methods')


def prove_names(dirs):
    for variant in args.forms.split(',') if args.forms else VARIANTS:
        try:
            run_service(variant, dirs)
        except RuntimeError as e:
            print(f'SKIPPED: {variant}: {e}')
    functions = named = images = 0
    for path in sorted(p for d in dirs for p in glob.glob(f'{d}/*.dll')):
        err = subprocess.run([r2r_list, path, *dirs], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True).stderr
        m = re.match(r'(\d+) functions, (\d+) named', err)
        if m:
            images += 1
            functions += int(m[1])
            named += int(m[2])
            if m[1] != m[2]:
                fail(f'{os.path.basename(path)}: {err.strip()}')
    print(f'frameworks   {images:3} images {functions:6} functions, {named} named', flush=True)


# --- frames ---

REGS = {n: i for i, n in enumerate(['rbp', 'rbx', 'r12', 'r13', 'r14', 'r15'])}
TRACKED = [6, 3, 12, 13, 14, 15]


def text_of(path, dir):
    """The section of code as a file of its own, and its RVA."""
    va, raw, size = next(iter(sections(path)))
    with open(path, 'rb') as f:
        f.seek(raw)
        data = f.read(size)
    out = f'{dir}/text.bin'
    open(out, 'wb').write(data)
    return out, va


def instructions(path, va, first, last):
    p = subprocess.Popen(['objdump', '-D', '-b', 'binary', '-m', 'i386:x86-64', '-M', 'intel', '--no-show-raw-insn',
                          f'--adjust-vma={va:#x}', f'--start-address={first:#x}', f'--stop-address={last:#x}', path],
                         stdout=subprocess.PIPE, text=True)
    for line in p.stdout:
        at, colon, rest = line.partition(':\t')
        if colon:
            yield int(at.strip(), 16), rest.split('#')[0].strip()


class Frame:
    def __init__(self):
        self.depth = 0
        self.saved = {}
        self.fp = None      # CFA = rbp + this

    def copy(self):
        f = Frame()
        f.depth, f.saved, f.fp = self.depth, dict(self.saved), self.fp
        return f


def expected(frame, by_fp):
    slots = [frame.saved.get(r, 0) for r in REGS]
    if by_fp:
        return f'6+{frame.fp}', slots
    return f'7+{frame.depth + 8}', slots


NUM = r'(0x[0-9a-f]+|\d+)'


def step(frame, text, probe):
    """What an instruction does to the frame; the size that a probe takes."""
    if m := re.fullmatch(r'push\s+(\w+)', text):
        frame.depth += 8
        if m[1] in REGS and m[1] not in frame.saved:
            frame.saved[m[1]] = frame.depth // 8 + 1
    elif m := re.fullmatch(r'pop\s+(\w+)', text):
        if m[1] in REGS and frame.saved.get(m[1]) == frame.depth // 8 + 1:
            del frame.saved[m[1]]
        frame.depth -= 8
    elif m := re.fullmatch(rf'sub\s+rsp,{NUM}', text):
        frame.depth += int(m[1], 0)
    elif m := re.fullmatch(rf'add\s+rsp,{NUM}', text):
        size = int(m[1], 0)
        frame.depth += (1 << 64) - size if size >> 63 else -size
    elif m := re.fullmatch(rf'lea\s+r11,\[rsp-{NUM}\]', text):
        return int(m[1], 0)
    elif text.replace(' ', '') == 'movrsp,r11' and probe:
        frame.depth += probe
    elif re.fullmatch(r'mov\s+rbp,rsp', text):
        frame.fp = frame.depth + 8
    elif m := re.fullmatch(rf'lea\s+rbp,\[rsp(?:\+{NUM})?\]', text):
        frame.fp = frame.depth + 8 - int(m[1] or '0', 0)
    elif m := re.fullmatch(rf'lea\s+rsp,\[rbp(?:([-+]){NUM})?\]', text):
        if frame.fp is not None:
            frame.depth = frame.fp - 8 + int(m[2] or '0', 0) * (-1 if m[1] == '+' else 1)
    elif re.fullmatch(r'mov\s+rsp,rbp', text) and frame.fp is not None:
        frame.depth = frame.fp - 8
    return probe


def leaves(text, begin, end):
    """The frame is gone behind this."""
    if text.startswith('ret'):
        return True
    if not re.match(r'(rex\.\w+ )?jmp', text):
        return False
    m = re.search(r'jmp\s+(0x[0-9a-f]+)$', text)
    return not m or not begin <= int(m[1], 16) < end


def check_function(code, begin, end, rules, by_fp_functions):
    """Differences of one function: [(place, instruction, ours, theirs)]."""
    frame, body = Frame(), None
    probe, in_prologue, bad, places = 0, True, [], 0
    uses_fp = begin in by_fp_functions
    for at, text in code:
        # By rbp only where the prologue has set it for a body whose rsp moves about; else everything counts from rsp.
        ours = rules.get(at, '-')
        want, slots = expected(frame, uses_fp and ours.startswith('6'))
        theirs = f'{want} ' + ' '.join(map(str, slots))
        places += 1
        if ours != theirs:
            bad.append((at, text, ours, theirs))
        if body is None or not re.match(r'(add\s+rsp|lea\s+rsp|mov\s+rsp,rbp|pop|ret|vzeroupper)', text):
            before = frame.copy()
            probe = step(frame, text, probe)
            if uses_fp and body is not None and text.startswith(('push', 'sub')):
                frame = before # room for stackalloc
            if not re.match(r'(push|sub\s+rsp|lea\s+r11,\[rsp-|mov\s+rsp,r11|mov\s+rbp,rsp|lea\s+rbp,\[rsp)', text) and \
               not (probe and text.startswith('call') and not frame.depth - before.depth and in_prologue):
                in_prologue = False
            if not in_prologue:
                body = frame.copy() if body is None else body
        else:
            step(frame, text, 0)
        if leaves(text, begin, end) and body is not None:
            frame = body.copy()
        elif leaves(text, begin, end):
            frame = Frame()
    return bad, places


def prove_frames(dirs):
    if not shutil.which('objdump'):
        print('SKIPPED: frames need objdump')
        return
    work = f'{args.cache}/frames'
    os.makedirs(work, exist_ok=True)
    dlls = sorted((p for d in dirs for p in glob.glob(f'{d}/*.dll')), key=os.path.getsize, reverse=True)
    total = differ = 0
    for path in dlls[:args.dlls]:
        out = subprocess.run([r2r_list, '-u', path], capture_output=True, text=True).stdout
        functions = []
        for line in out.splitlines():
            begin, end, rule = line.split('\t')
            functions.append((int(begin, 16), int(end, 16), rule))
        if not functions:
            continue
        by_fp = {b for b, _, rule in functions if rule.startswith('6')}
        text, va = text_of(path, work)
        starts = {b: e for b, e, _ in functions}
        code, current, end = {}, None, 0
        for at, insn in instructions(text, va, functions[0][0], max(e for _, e, _ in functions)):
            if at in starts:
                current, end = at, starts[at]
                code[current] = []
            if current is not None and at < end:
                code[current].append((at, insn))
        asked = '\n'.join(f'{at:x}' for insns in code.values() for at, _ in insns)
        answers = subprocess.run([r2r_list, '-x', path], input=asked, capture_output=True, text=True).stdout
        rules = {}
        for line in answers.splitlines():
            at, rule = line.split('\t')
            rules[int(at, 16)] = rule
        bad, places, shown = 0, 0, 0
        for begin, insns in code.items():
            wrong, n = check_function(insns, begin, starts[begin], rules, by_fp)
            places += n
            bad += len(wrong)
            for at, insn, ours, theirs in wrong[:1]:
                if shown < 5:
                    print(f'  {os.path.basename(path)} {begin:x} at {at:x}: {insn}: ours {ours}, the code {theirs}')
                    shown += 1
        total += places
        differ += bad
        print(f'{os.path.basename(path):45} {len(code):6} functions {places:8} places {bad:5} differ', flush=True)
    print(f'frames: {total} places, {differ} differ ({100 * differ / max(total, 1):.5f} %)')
    if differ * 100000 > total:
        fail('frames: more than 1 of 100,000 places differ')


def main():
    if not shutil.which('dotnet'):
        print('SKIPPED: no .NET SDK')
        sys.exit(77)
    dirs = frameworks()
    if 'names' in args.only:
        prove_names(dirs)
    if 'frames' in args.only:
        prove_frames(dirs)
    sys.exit(1 if failures else 0)


main()
