/* Requests byte by byte as they were seen to work, and replies of all kinds. */
#include "runtimes/dotnet_ipc.h"

#include "test/check.h"

#include <stdio.h>

static void expect_hex(const uint8_t *bytes, size_t size, const char *want)
{
	char text[2 * DOTNET_IPC_MAX_REQUEST + 1] = "";

	for (size_t i = 0; i < size; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	CHECK_STR(text, want);
}

static void test_requests(void)
{
	uint8_t b[DOTNET_IPC_MAX_REQUEST];
	size_t size;

	size = dotnet_ipc_stop(0x1122334455667788, b);
	expect_hex(b, size, "444f544e45545f4950435f563100" "1c00" "0201" "0000" "8877665544332211");
	size = dotnet_ipc_perf_map(true, b);
	expect_hex(b, size, "444f544e45545f4950435f563100" "1800" "0405" "0000" "03000000");
	size = dotnet_ipc_perf_map(false, b);
	expect_hex(b, size, "444f544e45545f4950435f563100" "1400" "0406" "0000");
	size = dotnet_ipc_collect(DOTNET_COLLECT_4, DOTNET_RUNDOWN, b);
	CHECK(size == 139 && b[14] == 139 && b[15] == 0 && b[16] == 2 && b[17] == 5);
	expect_hex(b + 20, 41, "00010000" "01000000" "3800000000000000" "00" "01000000" "0000000000000000" "00000000"
			       "27000000" "4d006900");
	size = dotnet_ipc_collect(DOTNET_COLLECT_4, DOTNET_ASSEMBLIES, b);
	expect_hex(b + 20, 37, "00010000" "01000000" "0800000000000000" "00" "01000000" "0800000000000000" "05000000"
			       "20000000");
	size = dotnet_ipc_collect(DOTNET_COLLECT_1, DOTNET_RUNDOWN, b);
	CHECK(size == 130 && b[14] == 130 && b[17] == 2);
	size = dotnet_ipc_collect(DOTNET_COLLECT_2, DOTNET_LIVE, b);
	CHECK(b[17] == 3 && b[28] == 0 && size == 20 + 8 + 1 + 4 + 8 + 4 + 4 + 64 + 4);
	expect_hex(b + 28, 21, "00" "01000000" "1800000000000000" "05000000" "20000000");
}

static void test_replies(void)
{
	static const char ok[] = "DOTNET_IPC_V1\0\x1c\0\xff\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01Nettrace";
	static const char error[] = "DOTNET_IPC_V1\0\x18\0\xff\xff\0\0\x85\x13\x13\x80";
	struct dotnet_reply r;

	for (size_t i = 0; i < 28; i++)
		CHECK(dotnet_ipc_reply(ok, i).kind == DOTNET_REPLY_MORE);
	r = dotnet_ipc_reply(ok, 36);
	CHECK(r.kind == DOTNET_REPLY_OK && r.bytes == 28 && r.session == 0x0102030405060708);
	r = dotnet_ipc_reply(error, 24);
	CHECK(r.kind == DOTNET_REPLY_ERROR && r.code == DOTNET_UNKNOWN_COMMAND);
	CHECK(dotnet_ipc_reply("DOTNET_IPC_V2", 13).kind == DOTNET_REPLY_BAD);
	CHECK(dotnet_ipc_reply("HTTP/1.1 400 Bad Request", 24).kind == DOTNET_REPLY_BAD);
	/* Of no size, of too much, of another set, of another kind. */
	CHECK(dotnet_ipc_reply("DOTNET_IPC_V1\0\0\0\xff\0\0\0", 20).kind == DOTNET_REPLY_BAD);
	CHECK(dotnet_ipc_reply("DOTNET_IPC_V1\0\xff\xff\xff\0\0\0", 20).kind == DOTNET_REPLY_BAD);
	CHECK(dotnet_ipc_reply("DOTNET_IPC_V1\0\x1c\0\x02\0\0\0", 20).kind == DOTNET_REPLY_BAD);
	CHECK(dotnet_ipc_reply("DOTNET_IPC_V1\0\x1c\0\xff\x01\0\0", 20).kind == DOTNET_REPLY_BAD);
	/* A reply without a number. */
	r = dotnet_ipc_reply("DOTNET_IPC_V1\0\x14\0\xff\0\0\0", 20);
	CHECK(r.kind == DOTNET_REPLY_OK && r.session == 0 && r.bytes == 20);
}

int main(void)
{
	test_requests();
	test_replies();
	return check_done();
}
