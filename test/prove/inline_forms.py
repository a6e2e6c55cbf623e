"""Inlined functions in each form DWARF comes in, against llvm-symbolizer at every third byte of the code. For inline.py.

Names must be the same in the same order, and files and lines too, but for the name of the function that has the code: llvm
takes the ELF symbol's. What llvm-symbolizer (14) cannot read, dwz's shared files, is held against the same program before dwz.
"""
import collections, os, shutil, subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = [f'{HERE}/inline.cpp', f'{HERE}/inline_more.cpp']
STEP = 3
FORMS = (
    ('gcc', 'DWARF 4', 'g++ -gdwarf-4'),
    ('gcc', 'DWARF 5', 'g++ -gdwarf-5'),
    ('gcc', '64-bit DWARF', 'g++ -gdwarf-5 -gdwarf64'),
    ('gcc', '-g1', 'g++ -g1'),
    ('gcc', '-O3 -g3, hot and cold', 'g++ -O3 -g3 -funroll-loops'),
    ('gcc', '-flto', 'g++ -g -flto'),
    ('gcc', 'sections left out', 'g++ -g -ffunction-sections -Wl,--gc-sections'),
    ('gcc', 'packed', 'g++ -g -gz'),
    ('gcc', 'type units', 'g++ -gdwarf-5 -fdebug-types-section'),
    ('gcc', 'not PIE', 'g++ -g -no-pie'),
    ('gcc', '.dwo 4', 'g++ -gdwarf-4 -gsplit-dwarf'),
    ('gcc', '.dwo 5', 'g++ -gdwarf-5 -gsplit-dwarf'),
    ('gcc', '.dwp 4', 'g++ -gdwarf-4 -gsplit-dwarf', 'dwp'),
    ('gcc', 'dwz', 'g++ -gdwarf-5', 'dwz'),
    ('gcc', 'dwz, -flto', 'g++ -g -flto', 'dwz'),
    ('gcc', 'dwz, shared file', 'g++ -gdwarf-5', 'dwz -m'),
    ('clang', 'DWARF 4', 'clang++ -gdwarf-4'),
    ('clang', 'DWARF 5', 'clang++ -gdwarf-5'),
    ('clang', '64-bit DWARF', 'clang++ -gdwarf-5 -gdwarf64'),
    ('clang', '-gmlt', 'clang++ -gmlt'),
    ('clang', '-flto', 'clang++ -g -flto'),
    ('clang', 'a section each', 'clang++ -g -ffunction-sections -fbasic-block-sections=all'),
    ('clang', 'short template names', 'clang++ -g -Xclang -gsimple-template-names=simple'),
    ('clang', '.dwo 4', 'clang++ -gdwarf-4 -gsplit-dwarf'),
    ('clang', '.dwo 5', 'clang++ -gdwarf-5 -gsplit-dwarf'),
    ('clang', '.dwo in the objects', 'clang++ -gdwarf-5 -gsplit-dwarf=single'),
    ('clang', '.dwp 4', 'clang++ -gdwarf-4 -gsplit-dwarf', 'dwp'),
    ('clang', '.dwp 5', 'clang++ -gdwarf-5 -gsplit-dwarf', 'llvm-dwp'),
)


def text(*command, **kw):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **kw).stdout


def code_of(program):
    """Every third address in the sections of code."""
    ret = []
    for line in text('readelf', '-SW', program).replace('[ ', '[').split('\n'):
        words = line.split()
        if len(words) > 6 and words[1].startswith('.text'):
            ret += range(int(words[3], 16), int(words[3], 16) + int(words[5], 16), STEP)
    return ret


def pairs(lines):
    """(name, FILE:LINE) of each frame; of paths the last part, of columns nothing."""
    return [(n, ':'.join(p.split('/')[-1].split(':')[:2])) for n, p in zip(lines[::2], lines[1::2])]


def ask_ours(bench, program, addrs):
    ret, at = {}, None
    out = text(bench, '-p', program, input=''.join(f'{a:#x}\n' for a in addrs)).split('\n')
    block = []
    for line in out + ['0x0']:
        if line.startswith('0x'):
            if at is not None:
                ret[at] = pairs(block)
            at, block = int(line, 16), []
        elif line:
            block.append(line)
    return ret


def ask_llvm(program, addrs):
    # Demangled by c++filt, which spells as we do.
    out = text('llvm-symbolizer', '--no-demangle', '--inlines', '--functions=linkage', '--obj=' + program,
               input=''.join(f'{a:#x}\n' for a in addrs))
    blocks = text('c++filt', input=out).split('\n\n')
    all_of_it = {a: pairs([line for line in b.split('\n') if line]) for a, b in zip(addrs, blocks)}
    return {a: frames for a, frames in all_of_it.items() if len(frames) > 1}


def build(name, command, after):
    """False: this machine cannot."""
    tools = [command.split()[0]] + ([after.split()[0]] if after else [])
    if not all(shutil.which(t) for t in tools):
        return False
    objects = []
    for source in SOURCES:
        objects.append(f'{name}-{os.path.basename(source)}.o')
        subprocess.run([*command.split()[:1], '-O2', *command.split()[1:], '-c', source, '-o', objects[-1]], check=True,
                       stderr=subprocess.DEVNULL)
    linked = subprocess.run([*command.split()[:1], '-O2', *command.split()[1:], *objects, '-o', name],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if linked.returncode:
        return False
    shutil.copy(name, name + '.plain')
    if after == 'dwz':
        subprocess.run(['dwz', name], check=True)
    elif after == 'dwz -m':
        shutil.copy(name, name + '.twin')
        subprocess.run(['dwz', '-m', os.path.abspath(name + '.alt'), '-M', os.path.abspath(name + '.alt'), name,
                        name + '.twin'], check=True)
    elif after:
        subprocess.run([after, '-e', name, '-o', name + '.dwp'], check=True, timeout=60, stderr=subprocess.DEVNULL)
        for o in objects:
            os.path.exists(o[:-2] + '.dwo') and os.unlink(o[:-2] + '.dwo')
    return True


def equal(mine, theirs):
    return [n for n, _ in mine[:-1]] == [n for n, _ in theirs[:-1]] and [p for _, p in mine] == [p for _, p in theirs]


def run(bench):
    """How many forms failed."""
    failed = 0
    if not shutil.which('llvm-symbolizer'):
        print('SKIP: forms of DWARF: llvm-symbolizer is not installed')
        return bool(os.environ.get('TEST_NO_SKIP'))
    print(f'\n{"compiler":<10} {"form":<24} {"places":>8} {"inlined":>8} {"same %":>8}')
    for i, (compiler, form, command, *after) in enumerate(FORMS):
        name, after = f'form{i}', (after or [None])[0]
        if not build(name, command, after):
            print(f'{compiler:<10} {form:<24} SKIP: not on this machine')
            continue
        addrs = code_of(name)
        mine = ask_ours(bench, name, addrs)
        theirs = ask_ours(bench, name + '.plain', addrs) if after == 'dwz -m' else ask_llvm(name, addrs)
        both = sorted(set(mine) | set(theirs))
        odd = [a for a in both if not equal(mine.get(a, []), theirs.get(a, []))]
        ok = both and len(odd) <= 0.001 * len(both)
        failed += not ok
        print(f'{compiler:<10} {form:<24} {len(addrs):>8} {len(both):>8} {100 * (1 - len(odd) / max(len(both), 1)):>8.2f} '
              f'{"ok" if ok else "FAILED"}')
        for a in odd[:2]:
            print(f'  differs at {a:x}: ours {mine.get(a)}, theirs {theirs.get(a)}'[:400])
    return failed
