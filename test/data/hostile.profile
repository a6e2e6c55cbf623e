# Names as a hostile process would choose them: forged frames, lines, counts, terminal sequences, broken UTF-8.
stat	samples	31
stat	complete	23
stat	broken	8
stat	user_stacks	31
broken	bad\x1b[31m	5
refused	not;regular	1
stat	targets	command a\x0ab \x22quoted\x22 </script>
stat	event	\xff\xfe
note	two\x0alines and \xe2\x80\xae reversed

# 1-5: labels: forged frame, forged line, spaces, empty, number
frame	label	bash;fake	-
frame	label	a\x0afake;root 1000000	-
frame	label	Web Content 1	-
frame	label		-
frame	label	12	-
# 6-12: counts, ESC, invalid UTF-8, C1, bidi, separators, spaces at the ends
frame	native	f 1000000	app
frame	jit	js 3.5	-
frame	native	\x1b]0;owned\x07\x9b31m	app
frame	native	caf\xc3\xa9 \xc3( \xed\xa0\x80 \xf0\x9f\x92\xa9	app
frame	native	\xc2\x85next\xe2\x80\xa8line\xe2\x81\xa6bidi\xe2\x80\xaeover	app
frame	native	 lead and trail 	app
frame	native	a\x09tab\x0d\x7f	app
# 13-16: modules: forged, brackets, slashes, nothing
frame	native	-	lib;x\x0ay.so	/tmp/lib;x\x0ay.so
frame	native	-	[]	/tmp/[]
frame	native	-	dir/	/tmp/dir/
frame	native	-	-	/only/a/path.so
# 17-20: sort order: a space and a '!' are less than ';'
frame	native	a	app
frame	native	a b	app
frame	native	a!	app
frame	native	a~	app
# 21-22: equal once escaped; a suffix that is part of the name
frame	native	x;y	app
frame	native	x:y	app
frame	native	user_[k]	app
frame	native	<script>alert(1)</script>&\x22'\x5c	app
frame	native	a 2	app

stack	1	1 6
stack	1	2 7
stack	1	3 8
stack	1	4 9
stack	1	5
stack	1	5 10
stack	1	5 11
stack	1	5 12
stack	1	5 13
stack	1	5 14
stack	1	5 15
stack	1	5 16
stack	5	5 17
stack	1	5 17 20
stack	1	5 18
stack	1	5 18 17
stack	1	5 19
stack	1	5 20
stack	2	5 21
stack	3	5 22
stack	1	5 23
stack	1	5 24 23
stack	1	5 25
stack	1	5 25 17
