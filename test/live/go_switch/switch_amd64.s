#include "textflag.h"
#include "funcdata.h"

TEXT ·nothing(SB), NOSPLIT, $0-0
	RET

DATA ·closure+0(SB)/8, $·nothing(SB)
GLOBL ·closure(SB), NOPTR|RODATA, $8

// func switches(n int)
TEXT ·switches(SB), 0, $16-8
	NO_LOCAL_POINTERS
again:
	MOVQ (TLS), R14 // the goroutine, which systemstack takes from there and leaves another in
	LEAQ ·closure(SB), AX
	MOVQ AX, 0(SP)
	CALL runtime·systemstack(SB)
	DECQ n+0(FP)
	JNZ again
	RET
