# A small machine: a shell in a pipe, a JIT runtime, the kernel at work. test/output/fixture.h tells the syntax.
stat	samples	1260
stat	idle	100
stat	kernel_only	60
stat	complete	1089
stat	truncated	4
stat	broken	7
broken	no_cfi	5
broken	outside	2
stat	user_stacks	1100
stat	lost	3
stat	throttled	1
stat	spliced	6
stat	frames	41000
stat	unknown_frames	12
stat	jit_frames	900
stat	jit_named	860
stat	kernel_frames	4200
stat	distinct_stacks	11
stat	unwind_ns	1234567
stat	symbolize_ns	7654321
stat	peak_rss_kib	20480
stat	unresolved_files	2
refused	gone	1
refused	denied	1
stat	wall_s	5.0021
stat	cpu_s	0.0449
stat	stack_bytes	32768
stat	freq	99
stat	event	cpu-clock
stat	targets	all processes
note	kernel symbols are hidden (kptr_restrict is 2): kernel functions stay unnamed; run as root, or sysctl kernel.kptr_restrict=1

# 1-3: labels
frame	label	my worker	-
frame	label	node	-
frame	label	swapper/0	-
# 4-8: native; 6 and 7 are two places of one function
frame	native	_start	app	/usr/bin/app
frame	native	main	app	/usr/bin/app
frame	native	parse(std::string const&, int)	libparse.so.2	/opt/lib/libparse.so.2
frame	native	parse(std::string const&, int)	libparse.so.2	/opt/lib/libparse.so.2
frame	native	-	libc.so.6	/lib/x86_64-linux-gnu/libc.so.6
# 9-11: kernel
frame	kernel	entry_SYSCALL_64	[kernel]
frame	kernel	vfs_read	[kernel]
frame	kernel	-	[kernel]
# 12-15: JIT, inlined, unknown, vdso
frame	jit	LazyCompile:*run /srv/app.js:12:3	-
frame	jit	-	-
frame	inlined	std::move	app	/usr/bin/app
frame	unknown	-	-
frame	native	-	[vdso]
# 17-18: a mark, recursion
frame	mark	[truncated]	-
frame	native	fib	app	/usr/bin/app

stack	400	1 4 5 6
stack	100	1 4 5 7
stack	200	1 4 5 6 8
stack	10	1 4 5 6 16
stack	150	1 4 5 18 18 18
stack	50	1 4 5 18 14
stack	80	2 4 12 12 13
stack	60	2 4 12 9 10
stack	30	2 4 12 9 11
stack	4	2 17 12
stack	7	1 15
stack	60	3 9 10
stack	9	1 4 5
