/* err, strbuf, escape, reader. */
#include "base/err.h"
#include "base/escape.h"
#include "base/reader.h"
#include "base/strbuf.h"
#include "test/check.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

static void test_err(void)
{
	struct err err = { 0 };
	char big[1000];

	CHECK(err_set(&err, ENOENT, "cannot open %s: %s", "x", "gone") == -ENOENT);
	CHECK(err.code == ENOENT);
	CHECK_STR(err.msg, "cannot open x: gone");
	CHECK(err_prefix(&err, "folder %d", 7) == -ENOENT);
	CHECK_STR(err.msg, "folder 7: cannot open x: gone");

	CHECK(err_set(NULL, EPERM, "%s", "nobody asked") == -EPERM);
	CHECK(err_prefix(NULL, "x") == -EINVAL);
	CHECK(err_oom(&err) == -ENOMEM && err.code == ENOMEM);
	CHECK_STR(err.msg, "out of memory");

	err_set(&err, EINVAL, "two\nlines\033[2J");
	CHECK_STR(err.msg, "two?lines?[2J");

	/* Too long is cut, in front and behind, and stays a string. */
	memset(big, 'b', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	err_set(&err, EINVAL, "%s", big);
	CHECK(strlen(err.msg) == sizeof(err.msg) - 1);
	err_prefix(&err, "p");
	CHECK(strlen(err.msg) == sizeof(err.msg) - 1 && !strncmp(err.msg, "p: bbb", 6));
	for (size_t len = sizeof(err.msg) - 6; len <= sizeof(err.msg) + 2; len++) {
		err_set(&err, EINVAL, "rest");
		err_prefix(&err, "%.*s", (int)len, big);
		CHECK(strlen(err.msg) < sizeof(err.msg) && err.msg[0] == 'b');
	}
	err_set(&err, EINVAL, "rest");
	err_prefix(&err, "%.*s", (int)sizeof(err.msg) - 7, big);
	CHECK_STR(err.msg + sizeof(err.msg) - 10, "bbb: rest");
}

static void test_strbuf(void)
{
	struct strbuf b = { 0 };

	strbuf_deinit(&b);
	strbuf_deinit(NULL);
	strbuf_str(&b, "abc");
	strbuf_char(&b, 'd');
	strbuf_printf(&b, "%d-%s", 42, "x");
	CHECK_STR(b.data, "abcd42-x");
	CHECK(b.len == 8 && !b.failed);
	strbuf_add(&b, "a\0b", 3);
	CHECK(b.len == 11 && b.data[9] == '\0' && b.data[11] == '\0');

	strbuf_clear(&b);
	strbuf_decimal(&b, 0);
	strbuf_char(&b, ' ');
	strbuf_decimal(&b, 1090);
	strbuf_char(&b, ' ');
	strbuf_decimal(&b, UINT64_MAX);
	CHECK_STR(b.data, "0 1090 18446744073709551615");

	strbuf_clear(&b);
	strbuf_hex(&b, "\x00\x9f\xa0\xff", 4);
	CHECK_STR(b.data, "009fa0ff");

	strbuf_clear(&b);
	CHECK(b.len == 0 && b.data[0] == '\0');
	for (int i = 0; i < 1000; i++)
		strbuf_printf(&b, "%050d", i); /* crosses every growth */
	CHECK(b.len == 50000 && !b.failed);
	CHECK_STR(b.data + 49997, "999");
	CHECK(!memcmp(b.data + 50 * 7, "00000000000000000000000000000000000000000000000007", 50));

	/* What cannot be had fails for good, until cleared; the text stays. */
	CHECK(!strbuf_reserve(&b, SIZE_MAX));
	CHECK(b.failed);
	strbuf_str(&b, "more");
	CHECK(b.len == 50000);
	strbuf_clear(&b);
	strbuf_str(&b, "again");
	CHECK_STR(b.data, "again");
	strbuf_deinit(&b);
	CHECK(!b.data && !b.len && !b.cap);
}

static struct strbuf out;

static const char *frame(const char *text, size_t len)
{
	strbuf_clear(&out);
	escape_frame(&out, text, len);
	return out.data;
}

static const char *line(const char *text, size_t max)
{
	strbuf_clear(&out);
	strbuf_str(&out, ""); /* an empty result is a string too */
	escape_line(&out, text, strlen(text), max);
	return out.data;
}

static const char *json(const char *text, size_t len)
{
	strbuf_clear(&out);
	escape_json(&out, text, len);
	return out.data;
}

static void test_escape_frame(void)
{
	static const struct {
		const char *in, *want;
	} rows[] = {
		{ "main", "main" },
		{ "a b;c 12", "a b:c 12" },
		{ ";", ":" },
		{ "a\nb\tc\033[0m\177", "a?b?c?[0m?" },
		{ "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x94\xa5",
		  "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x94\xa5" },
		{ "\xc2\x80\xc2\x85\xc2\x9f\xc2\xa0", "???\xc2\xa0" }, /* C1, then NBSP */
		{ "\xc0\xaf", "??" },                                  /* overlong '/' */
		{ "\xc0\xbb", "??" },                                  /* overlong ';' */
		{ "\xc1\xbf", "??" },
		{ "\xe0\x9f\xbf", "???" },          /* overlong U+07FF */
		{ "\xe0\xa0\x80", "\xe0\xa0\x80" }, /* U+0800 */
		{ "\xed\x9f\xbf\xed\xa0\x80\xed\xbf\xbf", "\xed\x9f\xbf??????" }, /* surrogates */
		{ "\xee\x80\x80", "\xee\x80\x80" },
		{ "\xf0\x8f\xbf\xbf", "????" }, /* overlong U+FFFF */
		{ "\xf0\x90\x80\x80", "\xf0\x90\x80\x80" },
		{ "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf" },
		{ "\xf4\x90\x80\x80", "????" }, /* U+110000 */
		{ "\xf5\x80\x80\x80", "????" },
		{ "\xff\xfe", "??" },
		{ "\x80\xbf", "??" },
		{ "\xe2\x82", "??" },     /* cut at the end */
		{ "\xe2\x82;x", "??:x" }, /* ';' is not swallowed */
		{ "\xf0\x9f\n\x94", "????" },
		{ "\xe2\x80\xae"
		  "abc",
		  "?abc" }, /* U+202E */
		{ "\xe2\x80\xaa\xe2\x80\xab\xe2\x80\xac\xe2\x80\xad", "????" },
		{ "\xe2\x81\xa6\xe2\x81\xa7\xe2\x81\xa8\xe2\x81\xa9", "????" },
		{ "\xe2\x81\xa5", "\xe2\x81\xa5" },
		{ "\xe2\x80\xa8\xe2\x80\xa9", "??" }, /* U+2028, U+2029 */
		{ "\xe2\x80\xaf", "\xe2\x80\xaf" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_STR(frame(rows[i].in, strlen(rows[i].in)), rows[i].want);
	CHECK_STR(frame("", 0), "[unknown]");
	CHECK_STR(frame(NULL, 0), "[unknown]");
	CHECK_STR(frame("a\0b", 3), "a?b");
	CHECK_STR(frame("\xc3\xa9", 1), "?"); /* the rest lies outside */

	/* Every byte alone. */
	for (int c = 0; c < 256; c++) {
		char byte = (char)c;
		char want = c == ';' ? ':' : c < 0x20 || c >= 0x7f ? '?' : byte;

		frame(&byte, 1);
		CHECK_MSG(out.len == 1 && out.data[0] == want, "byte %#x", (unsigned int)c);
	}
}

static void test_escape_line(void)
{
	CHECK_STR(line("a;b\n", 100), "a;b?");
	CHECK_STR(line("", 10), "");
	CHECK_STR(line("12345", 5), "12345");
	CHECK_STR(line("123456", 5), "12345...");
	CHECK_STR(line("1234\xc3\xa9", 5), "1234..."); /* never half a character */
	CHECK_STR(line("1234\xc3\xa9", 6), "1234\xc3\xa9");
	CHECK_STR(line("x", 0), "...");
	CHECK_STR(line("x\xe2\x80\xaey", SIZE_MAX), "x?y");
}

static void test_escape_json(void)
{
	CHECK_STR(json("", 0), "\"\"");
	CHECK_STR(json("a\"b\\c/d", 7), "\"a\\\"b\\\\c/d\"");
	CHECK_STR(json("\n\t\r\0\x1f\x7f", 6), "\"\\n\\t\\u000d\\u0000\\u001f\\u007f\"");
	CHECK_STR(json("\xff\xc3\xa9\xed\xa0\x80", 6),
		  "\"\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
	CHECK_STR(json("vector<int>", 11), "\"vector<int>\"");
	CHECK_STR(json("</script><!--<SCRIPT", 20), "\"\\u003c/script>\\u003c!--\\u003cSCRIPT\"");
	CHECK_STR(json("<", 1), "\"<\"");
	CHECK_STR(json("\xe2\x80\xa8\xe2\x80\xae", 6), "\"\\u2028\\u202e\"");
}

static void test_reader(void)
{
	static const uint8_t bytes[] = { 1, 2, 0, 3, 0, 0,   0,   4, 0,  0,
					 0, 0, 0, 0, 0, 'h', 'i', 0, 'x' };
	struct reader r = reader_init(bytes, sizeof(bytes));

	CHECK(reader_u8(&r) == 1);
	/* The expectations are little-endian; so is every machine this runs on. */
	CHECK(reader_u16(&r) == 2);
	CHECK(reader_u32(&r) == 3);
	CHECK(reader_u64(&r) == 4);
	CHECK_STR(reader_str(&r), "hi");
	CHECK(!r.failed && reader_left(&r) == 1);
	CHECK(!reader_str(&r) && r.failed && reader_left(&r) == 0);

	r = reader_init(bytes, 3);
	CHECK(reader_u32(&r) == 0 && r.failed);
	CHECK(reader_u8(&r) == 0); /* latched */
	CHECK(!reader_bytes(&r, 0));

	r = reader_init(NULL, 0);
	CHECK(!reader_str(&r) && r.failed);
	r = reader_init(bytes, sizeof(bytes));
	CHECK(!reader_bytes(&r, SIZE_MAX) && r.failed);
}

static void test_reader_leb(void)
{
	static const uint8_t bytes[] = {
		0x02, 0x7f, 0x80, 0x01, 0xe5, 0x8e, 0x26, /* 2, 127, 128, 624485 */
		0x7e, 0xff, 0x00, 0x80, 0x7f,             /* -2, 127, -128 */
		0x80, 0x80, 0x00,                         /* 0, padded */
	};
	static const uint8_t longest[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
					   0xff, 0xff, 0xff, 0x01, 0x80 };
	struct reader r = reader_init(bytes, sizeof(bytes));

	CHECK(reader_uleb(&r) == 2 && reader_uleb(&r) == 127);
	CHECK(reader_uleb(&r) == 128 && reader_uleb(&r) == 624485);
	CHECK(reader_sleb(&r) == -2 && reader_sleb(&r) == 127 && reader_sleb(&r) == -128);
	CHECK(reader_uleb(&r) == 0 && !r.failed && !reader_left(&r));
	CHECK(reader_uleb(&r) == 0 && r.failed);
	r = reader_init(longest, sizeof(longest));
	CHECK(reader_uleb(&r) == UINT64_MAX && !r.failed);
	CHECK(reader_uleb(&r) == 0 && r.failed); /* ends within a number */
	CHECK(reader_sleb(&r) == 0 && r.failed);
}

static void test_reader_line(void)
{
	static const char text[] = "one\n\nthree\nlast";
	static const char *const want[] = { "one", "", "three", "last" };
	struct reader r = reader_init(text, strlen(text));
	const char *line_text;
	size_t len, n = 0;

	while (reader_line(&r, &line_text, &len)) {
		CHECK(n < 4 && len == strlen(want[n]) && !memcmp(line_text, want[n], len));
		n++;
	}
	CHECK(n == 4 && !r.failed);

	r = reader_init("a\n", 2);
	CHECK(reader_line(&r, &line_text, &len) && len == 1);
	CHECK(!reader_line(&r, &line_text, &len)); /* no empty line after the last '\n' */
	r = reader_init(NULL, 0);
	CHECK(!reader_line(&r, &line_text, &len));
}

int main(void)
{
	test_err();
	test_strbuf();
	test_escape_frame();
	test_escape_line();
	test_escape_json();
	test_reader();
	test_reader_leb();
	test_reader_line();
	strbuf_deinit(&out);
	return check_done();
}
