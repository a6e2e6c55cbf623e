#!/usr/bin/env python3
"""Programs whose runtimes publish names of their code: how much of it has a name, and how many stacks are whole.

usage: runtimes.py RINGFOLD VICTIMS_DIR [--seconds S] [--freq HZ] [--only NAME,..] [--no-perf]

A row fails below 99 % of JIT frames named (90 % for the map that a JVM writes at its exit), or of user stacks whole down to the thread's first frame, or when a sample is
lost. Beside it what perf makes of its own recording of the same program (PERF7="CMD.." adds a second perf): stacks that
end in _start, clone or the kernel, and frames in code without a file that have a name. What is not installed is skipped
aloud, and fails the run when TEST_NO_SKIP is set.
"""
import argparse, collections, glob, json, os, re, shutil, signal, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
args = argparse.ArgumentParser()
args.add_argument('ringfold')
args.add_argument('victims')
args.add_argument('--seconds', type=int, default=6)
args.add_argument('--freq', default='999')
args.add_argument('--only', default='')
args.add_argument('--no-perf', action='store_true')
args = args.parse_args()
tmp = tempfile.mkdtemp(prefix='ringfold-runtimes-')
BAR = 99.0
# What the JVM has freed by then is not in the map that it writes as it exits.
NAMED_BAR = {'java at exit': 90.0}
WARM = 3
ENOUGH, ATTEMPTS = 250, 3 # samples; a crowded machine may give fewer, or lose some to its other work, but not each time
skipped = []


def need(*tools):
    missing = [t for t in tools if not (shutil.which(t) or os.access(t, os.X_OK))]
    return f'{", ".join(missing)} not installed' if missing else None


def python(minor):
    """A CPython 3.MINOR: the system's, or one that pyenv has built."""
    name = f'python3.{minor}'
    if shutil.which(name) and 'shims' not in shutil.which(name):
        return shutil.which(name)
    found = sorted(glob.glob(os.path.expanduser(f'~/.pyenv/versions/3.{minor}.*/bin/{name}')))
    return found[-1] if found else name


def dotnet_service():
    missing = need('dotnet')
    if missing:
        return missing
    if os.path.exists(f'{tmp}/net/out/Service.dll'):
        return None
    os.makedirs(f'{tmp}/net')
    for name in ('Service.cs', 'Service.csproj'):
        shutil.copy(f'{HERE}/dotnet/{name}', f'{tmp}/net')
    env = dict(os.environ, DOTNET_CLI_TELEMETRY_OPTOUT='1', DOTNET_NOLOGO='1')
    done = subprocess.run(['dotnet', 'publish', '-c', 'Release', '-o', 'out'], cwd=f'{tmp}/net', env=env, capture_output=True,
                          text=True)
    return None if done.returncode == 0 else 'the service cannot be built: ' + done.stdout[-300:]


def java_load():
    missing = need('java', 'javac', 'jcmd')
    if not missing:
        subprocess.run(['javac', '-d', tmp, f'{HERE}/Load.java'], check=True)
    return missing


LIFE = str(args.seconds + 20)
JAVA = ['java', '-XX:+PreserveFramePointer', '-cp', tmp, 'Load', LIFE]
# name: (what is missing, command, environment, how)
#   how: jcmd = the map is asked for each second; exit = what it publishes is whole only when it has ended; keep = options
ROWS = {
    'node': (lambda: need('node'), ['node', '--perf-basic-prof', '--interpreted-frames-native-stack', f'{HERE}/load.js', LIFE], {}, ''),
    'node --perf-prof': (lambda: need('node'), ['node', '--perf-prof', f'{HERE}/load.js', '{short}'], {}, 'exit'),
    'java': (java_load, JAVA, {}, 'jcmd'),
    'java at exit': (java_load, JAVA[:1] + ['-XX:+UnlockDiagnosticVMOptions', '-XX:+DumpPerfMapAtExit'] + JAVA[1:-1] + ['{short}'],
                      {}, 'exit'),
    'python 3.12': (lambda: need(python(12)), [python(12), '-X', 'perf', f'{HERE}/load.py', LIFE], {}, ''),
    'python 3.13': (lambda: need(python(13)), [python(13), '-X', 'perf', f'{HERE}/load.py', LIFE], {}, ''),
    'python 3.13 perf_jit': (lambda: need(python(13)), [python(13), '-X', 'perf_jit', f'{HERE}/load.py', '{short}'], {}, 'exit'),
    'dotnet': (dotnet_service, ['dotnet', f'{tmp}/net/out/Service.dll', LIFE], {'DOTNET_PerfMapEnabled': '3'}, 'dotnet'),
    'dotnet all JIT': (dotnet_service, ['dotnet', f'{tmp}/net/out/Service.dll', LIFE],
                        {'DOTNET_PerfMapEnabled': '3', 'DOTNET_ReadyToRun': '0', 'DOTNET_TieredCompilation': '0'}, 'dotnet'),
}


def start(row):
    _, command, env, how = ROWS[row]
    life = args.seconds if how == 'exit' else LIFE
    command = [str(life) if word == '{short}' else word for word in command]
    return subprocess.Popen(command, cwd=tmp, env=dict(os.environ, **env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                            start_new_session=True)


def forget(pid):
    for path in (f'/tmp/perf-{pid}.map', f'/tmp/perfinfo-{pid}.map', f'/tmp/jit-{pid}.dump', f'{tmp}/jit-{pid}.dump'):
        if os.path.exists(path):
            os.unlink(path)


def stop(program):
    if program.poll() is None:
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    forget(program.pid)


def ask_jvm(pid):
    """What a person or a loop in a shell does."""
    subprocess.run(['jcmd', str(pid), 'Compiler.perfmap'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def record(row):
    """--stats of our recording, and of what it says of the runtime."""
    how = ROWS[row][3]
    program = start(row)
    if how != 'exit':
        time.sleep(WARM)
    stats = f'{tmp}/stats.json'
    options = ['-p', str(program.pid), '-F', args.freq, '-q', '-o', f'{tmp}/out.folded', '--stats', stats]
    options += [] if how == 'exit' else ['-d', str(args.seconds)]
    options += ['--no-dotnet'] if how == 'dotnet' else []
    recorder = subprocess.Popen([args.ringfold, 'record', *options])
    while how == 'jcmd' and recorder.poll() is None:
        ask_jvm(program.pid)
        time.sleep(1)
    status = recorder.wait(timeout=args.seconds + 60)
    stop(program)
    if status:
        sys.exit(f'{row}: ringfold ended with {status}')
    return json.load(open(stats))


ROOTS = re.compile(r'^(_start|_dl_start_user|__?clone3?|clone3?|ret_from_fork\w*|entry_SYSCALL\w*)$')
FRAME = re.compile(r'^\s+([0-9a-f]+) (.*) \(([^()]*(?:\([^()]*\))?[^()]*)\)$')


def perf_figures(perf, path):
    """(share of samples that end in a root, share of JIT frames with a name) as perf script tells them."""
    roots = samples = jit = named = 0
    last = None
    script = subprocess.Popen([*perf, 'script', '-i', path, '--no-inline', '--max-stack', '2048', '-F', 'ip,sym,dso'],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors='replace')
    for line in script.stdout:
        match = FRAME.match(line.rstrip('\n'))
        if match:
            last = match.group(2).split('+0x')[0]
            dso = match.group(3)
            if re.search(r'perf-\d+\.map|//anon|\[anon|memfd:|jitted-|^\[unknown\]$', dso):
                jit += 1
                named += match.group(2) != '[unknown]'
        elif not line.strip() and last is not None:
            samples += 1
            roots += bool(ROOTS.match(last))
            last = None
    script.wait()
    return 100 * roots / samples if samples else 0, 100 * named / jit if jit else 0


def perf_row(row, perfs):
    program = start(row)
    if ROWS[row][3] != 'exit':
        time.sleep(WARM)
    path = f'{tmp}/perf.data'
    if ROWS[row][3] == 'jcmd':
        ask_jvm(program.pid)
    subprocess.run(['perf', 'record', '-q', '-k', '1', '-F', args.freq, '-e', 'cpu-clock', '--call-graph', 'dwarf,32768', '-p',
                    str(program.pid), '-o', path, '--', 'sleep', '3'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if ROWS[row][3] == 'jcmd':
        ask_jvm(program.pid)
    found = [perf_figures(perf, path) for perf in perfs]
    stop(program)
    return ' '.join(f'{root:6.1f} {name:6.1f}' for root, name in found)


perfs = [] if args.no_perf or not shutil.which('perf') else [['perf']]
if perfs and os.environ.get('PERF7'):
    perfs.append(os.environ['PERF7'].split())
failed = False
print(f'{"":22} {"samples":>8} {"lost":>5} {"whole %":>8} {"JIT frames":>11} {"named %":>8} {"reads":>6} {"us/s":>6}'
      + ''.join(f'   {name} root %, named %' for name in ('perf', 'perf 7')[:len(perfs)]))
only = [name for name in args.only.split(',') if name]
try:
    for row, (missing, _, _, how) in ROWS.items():
        if only and row not in only:
            continue
        why = missing()
        if why:
            print(f'{row:22} SKIPPED: {why}')
            skipped.append(row)
            continue
        for _ in range(ATTEMPTS):
            s = record(row)
            if not s['lost'] and s['samples'] >= ENOUGH:
                break
        runtime = collections.Counter()
        for one in s['runtimes'].values():
            runtime.update(one)
        whole = 100 * s['complete'] / s['user_stacks'] if s['user_stacks'] else 0
        named = 100 * s['jit_named'] / s['jit_frames'] if s['jit_frames'] else 0
        ok = whole >= BAR and named >= NAMED_BAR.get(row, BAR) and not s['lost'] and s['samples'] >= ENOUGH
        failed |= not ok
        print(f'{row:22} {s["samples"]:8,} {s["lost"]:5} {whole:8.2f} {s["jit_frames"]:11,} {named:8.2f} {runtime["reads"]:6} '
              f'{runtime["read_ns"] / 1000 / max(s["wall_s"], 1):6.0f}  '
              f'{perf_row(row, perfs) if perfs else ""}{"" if ok else "   BELOW THE BAR " + json.dumps(s["broken"])}', flush=True)
finally:
    shutil.rmtree(tmp, ignore_errors=True)
if skipped and os.environ.get('TEST_NO_SKIP'):
    failed = True
sys.exit(1 if failed else 0)
