#!/usr/bin/env python3
"""usage: test_help.py RINGFOLD: help, the manual page and the completions name every command and option, and are well-formed."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

RINGFOLD = os.path.abspath(sys.argv[1])
failures = []


def check(what, got, want):
    if got != want:
        failures.append(what)
        print(f"FAIL {what}: {got!r}, not {want!r}")


def out(*args, **more):
    r = subprocess.run([RINGFOLD, *args], capture_output=True, text=True, timeout=60, **more)
    check(f"{args}: status", (r.returncode, r.stderr), (0, ""))
    return r.stdout


def syntax(tool, args, text):
    if shutil.which(tool):
        r = subprocess.run([tool, *args], input=text, capture_output=True, text=True, timeout=60)
        check(f"{tool} {args}", (r.returncode, r.stderr), (0, ""))


def complete(script, words):
    """What bash would offer for the last word."""
    code = script + f"\nCOMP_WORDS=({' '.join(repr(w) for w in words)}); COMP_CWORD={len(words) - 1}; _ringfold; echo ${{COMPREPLY[@]}}"
    return subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, timeout=60).stdout.split()


def complete_in(script, files, words):
    """The same in a directory with these files, one a line."""
    with tempfile.TemporaryDirectory() as d:
        for name in files:
            open(f"{d}/{name}", "w").close()
        code = script + f"\nCOMP_WORDS=({' '.join(repr(w) for w in words)}); COMP_CWORD={len(words) - 1}; _ringfold; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        r = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, timeout=60, cwd=d)
        return r.stdout.splitlines()


def main():
    top = out("--help")
    check("help and --help", out("help"), top)
    commands = re.findall(r"^  (\w+) +\S", top.split("tells more):")[1], re.M)
    check("commands", {"record", "fold", "report", "maps", "doctor", "help"} <= set(commands), True)
    man, bash, zsh, fish = (out("help", f"--{kind}") for kind in ("man", "bash", "zsh", "fish"))
    syntax("bash", ["-n"], bash)
    syntax("zsh", ["-n"], zsh)
    syntax("fish", ["-n"], fish)
    syntax("groff", ["-man", "-ww", "-z"], man)
    for command in commands:
        text = out(command, "--help")
        check(f"help {command}", out("help", command), text)
        check(f"{command}: in the manual", f".SS ringfold {command} " in man, True)
        check(f"{command}: in fish", f"-a {command} -d" in fish, True)
        for option in re.findall(r"^ +(?:-\w, )?--([a-z-]+)", text, re.M):
            if option == "help":
                continue
            check(f"{command} --{option}: in bash", f"--{option}" in complete(bash, ["ringfold", command, f"--{option[:3]}"]), True)
            check(f"{command} --{option}: in fish", f"from {command}' -l {option} " in fish + " ", True)
            check(f"{command} --{option}: in zsh", re.search(rf"--{option}[=\[]", zsh) is not None, True)
            check(f"{command} --{option}: in the manual", "\\-\\-" + option.replace("-", "\\-") in man, True)
    check("bash: commands", complete(bash, ["ringfold", "rec"]), ["record"])
    check("bash: formats", "collapsed" in complete(bash, ["ringfold", "record", "-f", "c"]), True)
    check("bash: pids", str(os.getpid()) in complete(bash, ["ringfold", "record", "-p", ""]), True)
    check("bash: sub-commands", "list" in complete(bash, ["ringfold", "maps", "li"]), True)
    check("bash: files with spaces", complete_in(bash, ["a b.data"], ["ringfold", "fold", "a"]), ["a b.data"])
    check("bash: a program to run", "true" in complete(bash, ["ringfold", "record", "-a", "--", "tru"]), True)
    check("bash: no option of ours behind --", complete(bash, ["ringfold", "record", "--", "true", "--ste"]), [])
    check("bash: what --by may be", complete(bash, ["ringfold", "record", "--by", "po"]), ["pod"])
    check("bash: what an unwinder may be", complete(bash, ["ringfold", "fold", "--unwinder", ""]), ["cfi", "libunwind", "fp"])
    check("bash: formats of diff", complete(bash, ["ringfold", "diff", "-f", ""]), ["text", "collapsed", "html"])
    check("bash: help of a command", complete(bash, ["ringfold", "help", "rep"]), ["report"])
    check("zsh: no name of its own is taken", re.search(r"\b(local|typeset).* commands\b", zsh), None)
    check("the manual: an example ends where its line does", [l for l in man.splitlines() if ".RE" in l and l != ".RE"], [])
    check("bash: options without a command", "--all" in complete(bash, ["ringfold", "-a", "--al"]), True)
    r = subprocess.run([RINGFOLD, "help", "nothing"], capture_output=True, text=True, timeout=60)
    check("an unknown command", (r.returncode, r.stdout), (2, ""))
    with open("/dev/full", "w") as full:
        check("a full disk", subprocess.run([RINGFOLD, "help", "--man"], stdout=full, timeout=60).returncode, 1)
    sys.exit(1 if failures else 0)


main()
