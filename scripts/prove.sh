#!/usr/bin/env bash
# The longer proofs. Each prints its table and fails below its bar; what a machine cannot do is skipped aloud.
#
#   scripts/prove.sh programs     real programs under record -a: loss, whole stacks, JIT names, output grammar
#   scripts/prove.sh oracle       our stacks against libunwind and libdwfl on the same samples of real programs
#   scripts/prove.sh churn        20,000 fork+exec a minute: memory and descriptors flat, no sample misplaced
#   scripts/prove.sh accounting   Hz x CPUs x seconds = samples + lost, also while nobody drains the rings
#   scripts/prove.sh agree        our stacks against perf script, samply, libdwfl and libunwind on the same bytes
#                                 (PERF7="CMD.." for a second perf, SAMPLY="CMD..")
#   scripts/prove.sh crash        kill -9 at 20 moments and a full disk: every perf.data reads back
#   scripts/prove.sh inline       --inline against perf script --inline: names and cost (PERF7 as above); each form of DWARF against llvm-symbolizer
#   scripts/prove.sh scale        what folding costs with more samples, binaries, processes
#   scripts/prove.sh dotnet       .NET services in containers with no switch: names by their time, whole stacks, nothing left;
#                                 CPU time per thread in PerfView's parser (TRACEVIEW=CMD)
#   scripts/prove.sh r2r          precompiled .NET code: names against the runtime's own, frames against the machine code
#   scripts/prove.sh runtimes     Node, Java, Python, .NET with their maps on: names, whole stacks, beside perf (PERF7 as above)
#   scripts/prove.sh formats      every format of one recording, opened by go tool pprof, speedscope (SPEEDSCOPE=npm or DIR),
#                                 PerfView's parser (TRACEVIEW=CMD), chromium
#   scripts/prove.sh mutate       10,000 mutated recordings folded under the sanitizers: no crash, 5 s, 512 MiB
#   scripts/prove.sh elf          5,000 mutated ELF files run in while recording, 1,000 cut short while they are read
#   scripts/prove.sh trap         what waiting costs, and pulses for 10 minutes against quota and cooldown
#   scripts/prove.sh containers   real containers (runc, crun, unshare) from the host and from one with hostPID
#
# BUILD names a build directory (default build/release, built when missing).
set -euo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build/release}
proof=${1:-}
case $proof in
programs | oracle | churn | accounting | crash | agree | dotnet | r2r | inline | runtimes | scale | mutate | trap | containers | formats | elf) shift ;;
*)
	sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
	exit 2
	;;
esac
if [ "$proof" = mutate ]; then
	build=${BUILD:-build/test}
	[ -e "$build/build.ninja" ] || meson setup --native-file scripts/dev.ini "$build" >/dev/null
	ninja -C "$build" app/ringfold >/dev/null
	exec python3 test/prove/mutate.py "$build/app/ringfold" test/data/perfdata "$@"
fi
[ -e "$build/build.ninja" ] || meson setup --native-file scripts/release.ini "$build" >/dev/null
ninja -C "$build" >/dev/null
if [ "$proof" = containers ]; then
	exec python3 test/live/containers.py "$build/app/ringfold" . "$build/test/live/roots" "$@"
fi
exec python3 "test/prove/$proof.py" "$build/app/ringfold" "$build/test/victims" "$@"
