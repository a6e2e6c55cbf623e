#!/bin/sh
# usage: record.sh DIRECTORY [PERF7]
# Builds the victim and records it anew, with perf 6.1 and PERF7 (a perf 7). Only needed when a recording of another
# kind is added: stacks and counts are told in test_fold.py.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
p7=${2:-perf}
mkdir -p "$1/root/tmp/rf" /tmp/rf
cd /tmp/rf
gcc -O1 -g0 -fno-omit-frame-pointer -fno-stack-protector -nostdlib -static -Wl,--build-id -Wl,-z,noseparate-code \
	-o victim "$here/victim.c"
strip -g victim
export PERF_BUILDID_DIR=/tmp/rf/cache
dwarf='-F 249 -e cpu-clock --call-graph dwarf,512'
perf record -q $dwarf -o plain.data ./victim
perf record -q -F 249 -e cpu-clock -g -o fp.data ./victim
perf record -q -z $dwarf -o zstd.data ./victim
perf record -q -e page-faults $dwarf -o multi.data ./victim
perf record -q -F 249 -e '{cpu-clock,task-clock}:S' -g -o group.data ./victim
perf record -q --buildid-mmap $dwarf -o buildid.data ./victim
perf record -q $dwarf -o - ./victim >pipe.data
perf record -q --threads $dwarf -o threads.data ./victim
$p7 record -q -z $dwarf -o zstd7.data ./victim
$p7 record -q -F 249 -e cpu-clock/call-graph=dwarf,stack-size=512/ -e page-faults/call-graph=fp/ -o mixed7.data ./victim
cp -r ./*.data "$1"
cp victim "$1/root/tmp/rf/"
readelf -n victim | sed -n 's/.*Build ID: //p' >"$1/build-id"
