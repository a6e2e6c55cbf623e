# Samples one by one: two events, kernel callers, JIT code, what is in no mapping, names that would forge lines.
stat	samples	7
stat	complete	5
stat	kernel_only	1
stat	truncated	1
stat	event	cycles
event	cycles
event	page-faults:u

# 1-2: labels
frame	label	app	-
frame	label	we;b co\x0antent	-
# 3-6: native; 5 without a symbol, 6 without an address
frame	native	_start	app	/usr/bin/app	55d0c0de1020	20
frame	native	ns::work(int, char const*)	libwork.so.2	/opt/li b/libwork.so.2	7f00deadbeef	1f
frame	native	-	libc.so.6	/lib/libc.so.6	7f0012345678
frame	native	main	app	/usr/bin/app
# 7-9: kernel
frame	kernel	do_syscall_64	[kernel]	-	ffffffff81001000	10
frame	kernel	vfs_read	[kernel]	-	ffffffff81002000	0
frame	kernel	ext4_read	ext4	-	ffffffffc0000010	3
# 10-13: JIT, unknown, inlined, vdso
frame	jit	LazyCompile:*run /srv/app.js:12:3	[jit]	-	2abc00001234	14
frame	jit	-	[jit]	-	2abc00009999
frame	unknown	-	-	-	deadbeef
frame	inlined	std::move	app	/usr/bin/app	55d0c0de1044	4
frame	native	__vdso_gettimeofday	[vdso]	-	7ffe00000a10	0
# 15-16
frame	mark	[truncated]	-
frame	native	two\x0alines	app	/usr/bin/app	55d0c0de1060	0
# 17-19: modules that readers cannot take
frame	native	inner	[]	[()]	7f0000000001	1
frame	native	deep	so	/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/so	7f0000000002	2
frame	native	long	x	/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx	7f0000000003	3

sample	1000000999	250000	0	42	42	0	app	1 3 4
sample	1000001000	250000	0	42	43	0	my thread	1 3 4 14
sample	1000001000	1	1	42	42	1	app	1 3 4 7 8 9
sample	12345000001999	18446744073709551615	1023	4194304	4194305	0	we;b co\x0antent	2 15 10 12 11
sample	12345000002000	7	-	42	42	0	-	1 5 6
sample	12345000003000	7	0	0	0	0	swapper	1 7 8
# Names that readers would take for a pid, or for perf's name of a nameless thread
sample	12345000003500	7	0	42	46	0	worker 3/4 [x]	1 3 17
sample	12345000003600	7	0	42	47	0	:42 x y	1 3 18 19
sample	12345000004000	7	0	-1	-1	7	app	1 3 13 16
