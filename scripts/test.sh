#!/bin/bash
# usage: scripts/test.sh [MESON-OPTION...]
# Installs what is missing, builds with the address and undefined-behaviour sanitizers and runs every suite.
# The last line counts: "N passed, N failed, N skipped". Exits non-zero when a test failed or none ran.
#   -Dlive_tests=enabled   what cannot be recorded here is a failure, not a skip
#   CI=1 scripts/test.sh   warnings are errors
#   CC=clang scripts/test.sh   has its own build directory
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/deps.sh test

build=build/test
if [[ ${CC:-cc} != cc && ${CC:-} != gcc ]]; then
	build+=-${CC##*/}
fi
options=(-Dwerror=false -Dlive_tests=auto)
if [[ -n ${CI:-} ]]; then
	options[0]=-Dwerror=true
fi
options+=("$@")
if [[ -f $build/build.ninja ]]; then
	meson configure "$build" "${options[@]}"
else
	rm -rf "$build" # left by a set-up that failed
	meson setup --native-file scripts/dev.ini "$build" "${options[@]}"
fi
meson compile -C "$build"

# A sanitizer's finding ends the test it was found in.
export ASAN_OPTIONS=${ASAN_OPTIONS:-halt_on_error=1:detect_leaks=1:detect_stack_use_after_return=1:print_summary=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1:print_summary=1}

# Times after which a test is ended are those of a machine that has little else to do.
patience=(--timeout-multiplier 5)
logs=$build/meson-logs
rm -f "$logs/testlog.json" "$logs/livelog.json"
status=0
meson test -C "$build" --no-rebuild --print-errorlogs "${patience[@]}" --logbase testlog \
	--suite unit --suite golden --suite fuzz || status=$?
# Live tests count CPU time and samples: nothing else may run beside them, and only one at a time.
meson test -C "$build" --no-rebuild --print-errorlogs "${patience[@]}" --logbase livelog \
	--num-processes 1 --suite live || status=$?

no_skip=0
[[ " ${options[*]} " != *" -Dlive_tests=enabled "* ]] || no_skip=1
python3 - "$status" "$no_skip" "$logs/testlog.json" "$logs/livelog.json" <<'PYTHON'
import json, os, shutil, sys

status, no_skip = int(sys.argv[1]), sys.argv[2] == "1"
passed, failed, skipped = [], [], []
kinds = {"OK": passed, "EXPECTEDFAIL": passed, "SKIP": skipped}  # whatever else there is, it failed
for path in sys.argv[3:]:
    if os.path.exists(path):
        for line in open(path):
            result = json.loads(line)
            kinds.get(result["result"], failed).append(result["name"])

# What no machine has that was set up by our own scripts.
left_out = {"dotnet_files"} if not shutil.which("dotnet") else set()
must_run = [name for name in skipped if name.split(" / ")[-1] not in left_out]

print()
for title, names in ("skipped", skipped), ("failed", failed):
    for name in names:
        print(f"{title}: {name}")
if left_out:
    print("left out: .NET in live tests, as there is no SDK here (Debian has none)")
if not passed and not failed:
    print("no test ran")
elif no_skip and must_run:
    print("nothing may skip with -Dlive_tests=enabled")
elif status and not failed:
    print(f"meson test itself failed (exit status {status})")
print(f"{len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped")
sys.exit(1 if failed or status or not passed or (no_skip and must_run) else 0)
PYTHON
