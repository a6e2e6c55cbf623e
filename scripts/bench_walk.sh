#!/usr/bin/env bash
# Unwinding alone, in nanoseconds per frame, on recordings of five kinds of load (test/unwinder/bench_walk.c). Of each so
# many stacks are walked as framehop's figures were measured with: with more, fewer of them stay in a cache.
#
#   scripts/bench_walk.sh [DIR]     recordings are made in DIR (default: a temporary one) unless they are there
#
# Needs perf and permission to record. BUILD names a release build directory (default build/release).
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(realpath "${BUILD:-build/release}")
[ -e "$build/build.ninja" ] || meson setup --native-file scripts/release.ini "$build" >/dev/null
ninja -C "$build" test/unwinder/bench_walk test/victims/victim-deepc >/dev/null
dir=${1:-}
[ -n "$dir" ] || trap 'rm -rf "$dir"' EXIT
[ -n "$dir" ] || dir=$(mktemp -d)
big=$PWD/test/prove/big.cpp

# record NAME OPTION.. -- COMMAND ARG..
record() {
	local file=$dir/$1.data
	shift
	[ -e "$file" ] || perf record -q -e cpu-clock -F 997 --call-graph dwarf,32768 -o "$file" "$@" >"$dir/log" 2>&1 || true
}

gxx="g++ -std=c++17 -O2 -c -o /dev/null $big"
python='import json,re,random
class Node:
    def __init__(self, depth): self.kids = [Node(depth - 1) for _ in range(3)] if depth else []
    def total(self): return 1 + sum(kid.total() for kid in self.kids)
for i in range(400):
    json.loads(json.dumps([{str(k): [k] * 9} for k in range(900)]), object_hook=lambda d: sorted(d.items()))
    re.sub("(a|b)+", lambda m: m.group(0)[:1], "abab" * 2000)
    sorted((random.random() for _ in range(20000)), key=lambda x: -x)
    Node(8).total()'
distro='for i in 1 2 3; do
	perl -e "my %h; \$h{\$_ % 9973} .= chr 65 + \$_ % 26 for 1..900000; print length join q(), map { sort split // } values %h"
	sqlite3 :memory: "with recursive n(i) as (select 1 union all select i+1 from n where i<700000) select sum(length(hex(i))) from n"
	openssl speed -seconds 1 sha256
	find /usr/share /usr/lib -name "*.py" 2>/dev/null | xargs -n 200 md5sum
	tar cf - /usr/include /usr/share/doc 2>/dev/null | gzip -1 | gzip -dc | sort -u | tail -n 1
	bash -c "for ((i = 0; i < 200000; i++)); do x=\$((x + i)); done"
done >/dev/null 2>&1'
system='for i in $(seq 350); do ls -l /usr/bin | awk "{ s += \$5 } END { print s }"; sed -n "s/a/b/p" /etc/services | sort | head -n 3; done >/dev/null 2>&1 &
	for i in 1 2 3 4 5 6; do gcc -O2 -c -o /dev/null '"$PWD"'/base/opts.c -I'"$PWD"' -D_GNU_SOURCE; done &
	python3 -c "import json, decimal, asyncio, email; print(sum(i * i for i in range(5000000)))" >/dev/null & wait'

record deepc -- "$build/test/victims/victim-deepc" 5
record g++ -- $gxx
record distro -- bash -c "$distro"
record python -- python3 -c "$python"
record system -a -- bash -c "$system"
cd "$dir" && exec "$build/test/unwinder/bench_walk" -s 2 deepc.data:1833 g++.data:5018 distro.data:7669 python.data:6016 \
	system.data:10129
