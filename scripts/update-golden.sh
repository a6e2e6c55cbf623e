#!/bin/sh
# usage: scripts/update-golden.sh [BUILD_DIR]
#
# Writes the expected output of every format (test/data/golden/) anew from what the code says now. Review the
# difference like code: git diff test/data/golden
set -eu

cd "$(dirname "$0")/.."
build=${1:-build}
if [ ! -d "$build" ]; then
	meson setup "$build" >&2
fi
ninja -C "$build" test/output/test_golden >&2
set --
for fixture in test/data/*.profile; do
	set -- "$@" "$(basename "$fixture" .profile)"
done
UPDATE_GOLDEN=1 LC_ALL=C "$build/test/output/test_golden" test/data "$@"
git --no-pager diff --stat -- test/data/golden >&2 || true
