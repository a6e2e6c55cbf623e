/* 512 functions, each called through its own PLT entry. */
#define F1(n) void f_##n(void); __attribute__((noinline)) void f_##n(void) { __asm__ volatile(""); }
#define C1(n) f_##n();
#define EACH8(m, n) m(n##0) m(n##1) m(n##2) m(n##3) m(n##4) m(n##5) m(n##6) m(n##7)
#define EACH64(m, n) EACH8(m, n##0) EACH8(m, n##1) EACH8(m, n##2) EACH8(m, n##3) \
	EACH8(m, n##4) EACH8(m, n##5) EACH8(m, n##6) EACH8(m, n##7)
#define EACH512(m) EACH64(m, a) EACH64(m, b) EACH64(m, c) EACH64(m, d) \
	EACH64(m, e) EACH64(m, f) EACH64(m, g) EACH64(m, h)

EACH512(F1)

void bind_all(void);
void bind_all(void)
{
	EACH512(C1)
	__asm__ volatile("" ::: "memory");
}
