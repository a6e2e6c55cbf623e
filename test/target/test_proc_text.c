#include "target/proc_text.h"
#include "test/check.h"

#include <errno.h>
#include <string.h>

struct maps {
	struct proc_map map[8];
	int len;
	int stop_at; /* 0 = never */
};

static int keep(void *data, const struct proc_map *map)
{
	struct maps *maps = data;

	if (maps->len < 8)
		maps->map[maps->len] = *map;
	maps->len++;
	return maps->len == maps->stop_at ? 42 : 0;
}

static struct maps parsed;

static int parse(const char *text, size_t *bad)
{
	memset(&parsed, 0, sizeof(parsed));
	return proc_maps_parse(text, strlen(text), keep, &parsed, bad);
}

static void test_maps(void)
{
	size_t bad = 99;

	CHECK(parse("55d0c0a00000-55d0c0a21000 r-xp 00002000 fe:00 123456789                  /usr/bin/a b\n"
		    "7f0000000000-7f0000001000 rw-s 00000000 00:0f 0 \n"
		    "7ffc00000000-7ffc00001000 ---p 00000000 00:00 0          [stack]\n"
		    "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]\n"
		    "10-20 rwxp ffffffffffffffff ffffffff:ffffffff 18446744073709551615 /a\\012b\\134 (deleted)",
		    &bad) == 0);
	CHECK(bad == 0);
	CHECK(parsed.len == 5);
	CHECK(parsed.map[0].start == 0x55d0c0a00000 && parsed.map[0].end == 0x55d0c0a21000);
	CHECK(parsed.map[0].pgoff == 0x2000 && parsed.map[0].maj == 0xfe && parsed.map[0].min == 0);
	CHECK(parsed.map[0].ino == 123456789);
	CHECK(parsed.map[0].readable && !parsed.map[0].writable && parsed.map[0].executable);
	CHECK(!parsed.map[0].shared);
	CHECK_STR(parsed.map[0].path, "/usr/bin/a b");
	CHECK(parsed.map[1].shared && parsed.map[1].writable && parsed.map[1].min == 15);
	CHECK_STR(parsed.map[1].path, "");
	CHECK(!parsed.map[2].readable && !parsed.map[2].executable);
	CHECK_STR(parsed.map[2].path, "[stack]");
	CHECK(parsed.map[3].end == 0xffffffffff601000 && parsed.map[3].executable);
	CHECK(parsed.map[4].ino == UINT64_MAX && parsed.map[4].maj == UINT32_MAX);
	CHECK(parsed.map[4].pgoff == UINT64_MAX);
	CHECK_STR(parsed.map[4].path, "/a\nb\\134 (deleted)");
}

static void test_bad_maps(void)
{
	static const char *const lines[] = {
		"",
		"garbage",
		"20-10 r-xp 0 0:0 0",
		"10-10 r-xp 0 0:0 0",
		"10000000000000000-20000000000000000 r-xp 0 0:0 0",
		"-10-20 r-xp 0 0:0 0",
		"0x10-0x20 r-xp 0 0:0 0",
		"10-20 rxwp 0 0:0 0",
		"10-20 r-xq 0 0:0 0",
		"10-20 r-xp 0 0 0",
		"10-20 r-xp 0 100000000:0 0",
		"10-20 r-xp 0 0:0 18446744073709551616",
		"10-20 r-xp 0 0:0 12/x",
		"10-20 r-xp 0 0:0",
		"10-20",
	};
	size_t bad;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		char text[256];

		snprintf(text, sizeof(text), "%s\n30-40 r-xp 0 0:0 0 /good\n", lines[i]);
		CHECK(parse(text, &bad) == 0);
		CHECK_MSG(bad == 1 && parsed.len == 1, "%s", lines[i]);
		CHECK_STR(parsed.map[0].path, "/good");
	}
	CHECK(proc_maps_parse("10-20 r-xp 0 0:0 0 /a\0b\n", 24, keep, &parsed, &bad) == 0 &&
	      bad == 1);
	CHECK(parse("x\ny\n", NULL) == 0 && parsed.len == 0);
}

static void test_map_limits(void)
{
	const char *line = "10-20 r-xp 0 0:0 0 /a\n10-20 r-xp 0 0:0 0 /b\n10-20 r-xp 0 0:0 0 /c\n";
	static char text[10000];
	size_t bad;

	memset(&parsed, 0, sizeof(parsed));
	parsed.stop_at = 2;
	CHECK(proc_maps_parse(line, strlen(line), keep, &parsed, &bad) == 42 && parsed.len == 2);
	/*
	 * A path longer than fits is cut, never overrun; so is one whose escapes straddle the end.
	 */
	strcpy(text, "10-20 r-xp 0 0:0 0 /");
	memset(text + strlen(text), 'x', 9000);
	CHECK(parse(text, &bad) == 0 && bad == 0 && parsed.len == 1);
	CHECK(strlen(parsed.map[0].path) == sizeof(parsed.map[0].path) - 1);
}

static int status(const char *text, struct proc_status *ret)
{
	return proc_status_parse(text, strlen(text), ret);
}

static void test_status(void)
{
	struct proc_status s = { 0 };

	CHECK(status("Name:\tTgid:\\n1 \\\\x\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4242\nNgid:\t0\n"
		     "Pid:\t4243\nPPid:\t17\nTracerPid:\t0\nUid:\t1000\t1001\t1002\t1003\n"
		     "Gid:\t5\t5\t5\t5\nNStgid:\t4242\t8\t2\nNSpid:\t4243\t9\t3\n",
		     &s) == 0);
	CHECK(s.tgid == 4242 && s.ppid == 17 && s.nspid == 3 && s.uid == 1000 && s.euid == 1001);
	CHECK_STR(s.name, "Tgid:\n1 \\x");
	CHECK(status("Tgid:\t7\nUid:\t0\t4294967294\t0\t0\n", &s) == 0);
	CHECK(s.nspid == 7 && s.euid == 4294967294u && s.ppid == 0);
	CHECK_STR(s.name, "");
	CHECK(status("Name:\t0123456789012345678901234567890123456789012345678901234567890123456789\n"
		     "Tgid:\t7\nUid:\t0\t0\t0\t0\nNSpid:\t\n",
		     &s) == 0);
	CHECK(strlen(s.name) == 63 && s.nspid == 7);
	CHECK(s.peak_kib == 0);
	CHECK(status("Tgid:\t7\nUid:\t0\t0\t0\t0\nVmPeak:\t    9001 kB\nVmHWM:\t    1234 kB\n"
		     "RssAnon:\t     700 kB\nRssFile:\t     500 kB\n", &s) == 0);
	CHECK(s.peak_kib == 1234 && s.file_kib == 500);
	CHECK(status("Tgid:\t7\nUid:\t0\t0\t0\t0\nVmHWM:\t1234\nVmHWM:\t-1 kB\n", &s) == 0);
	CHECK(s.peak_kib == 0);
	CHECK(status("Tgid:\t7\nUid:\t0\t0\t0\t0\nNSpid:\t\n", &s) == 0);
	CHECK(status("Uid:\t0\t0\t0\t0\n", &s) == -EBADMSG);
	CHECK(status("Tgid:\t7\n", &s) == -EBADMSG);
	CHECK(status("Tgid:\t0\nUid:\t0\t0\t0\t0\n", &s) == -EBADMSG);
	CHECK(status("Tgid:\t-7\nUid:\t0\t0\t0\t0\n", &s) == -EBADMSG);
	CHECK(status("Tgid:\t2147483648\nUid:\t0\t0\t0\t0\n", &s) == -EBADMSG);
	CHECK(status("Tgid:\t7\nUid:\t0\n", &s) == -EBADMSG);
	CHECK(status(" Tgid:\t7\nUid:\t0\t0\t0\t0\n", &s) == -EBADMSG);
	CHECK(status("", &s) == -EBADMSG);
	CHECK(s.tgid == 7); /* untouched by failures */
}

static int start(const char *text, uint64_t *ret)
{
	return proc_stat_start_time(text, strlen(text), ret);
}

static void test_stat(void)
{
	uint64_t ticks = 0;

	CHECK(start("1 (a) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 33 1000 200\n", &ticks) ==
	      0);
	CHECK(ticks == 33);
	CHECK(start("1 (a) R 9 (x)\n) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 "
		    "18446744073709551615",
		    &ticks) == 0);
	CHECK(ticks == UINT64_MAX);
	CHECK(start("1 (a) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0", &ticks) == -EBADMSG);
	CHECK(start("1 (a) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 ", &ticks) == -EBADMSG);
	CHECK(start("1 (a) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 x", &ticks) == -EBADMSG);
	CHECK(start("1 (a) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 18446744073709551616",
		    &ticks) == -EBADMSG);
	CHECK(start("1 a S 0", &ticks) == -EBADMSG);
	CHECK(start("1 (a)", &ticks) == -EBADMSG);
	CHECK(start("", &ticks) == -EBADMSG);
}

static char seen_cgroups[1024];

static int print_cgroup(void *data, const struct proc_cgroup *line)
{
	size_t len = strlen(seen_cgroups);

	snprintf(seen_cgroups + len, sizeof(seen_cgroups) - len, "%s[%.200s]%.200s\n",
		 line->unified ? "unified" : "", line->controllers, line->path);
	return !strcmp(line->path, "/stop") ? 42 : 0;
}

static int cgroups(const char *text)
{
	seen_cgroups[0] = '\0';
	return proc_cgroup_each(text, strlen(text), print_cgroup, NULL);
}

static void test_cgroup(void)
{
	CHECK(cgroups("0::/kubepods.slice/cri-containerd-ab:cd.scope\n") == 0);
	CHECK_STR(seen_cgroups, "unified[]/kubepods.slice/cri-containerd-ab:cd.scope\n");
	CHECK(cgroups("bad\n12:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/y (deleted)\n0::/z") == 0);
	CHECK_STR(seen_cgroups, "[cpu,cpuacct]/docker/x\n[name=systemd]/docker/y\nunified[]/z\n");
	/* A controller line may not pass for the unified one. */
	CHECK(cgroups("5::/v1\n0:cpu:/v2\n") == 0);
	CHECK_STR(seen_cgroups, "[]/v1\n[cpu]/v2\n");
	CHECK(cgroups("0::/stop\n0::/x\n") == 42);
	CHECK_STR(seen_cgroups, "unified[]/stop\n");
	CHECK(cgroups("0::\n0:\n::/x\nx::/x\n0::x\n") == 0);
	CHECK_STR(seen_cgroups, "");
	CHECK(proc_cgroup_each("0::/a\0b\n", 8, print_cgroup, NULL) == 0);
	CHECK_STR(seen_cgroups, "");
}

static int print_mount(void *data, const struct proc_cgroup_mount *mount)
{
	size_t len = strlen(seen_cgroups);

	snprintf(seen_cgroups + len, sizeof(seen_cgroups) - len, "%u:%u %d %.200s|%.200s|%.200s\n", mount->maj,
		 mount->min, mount->unified, mount->root, mount->point, mount->options);
	return 0;
}

static void mounts(const char *text)
{
	seen_cgroups[0] = '\0';
	CHECK(proc_cgroup_mounts(text, strlen(text), print_mount, NULL) == 0);
}

static void test_cgroup_mounts(void)
{
	mounts("30 23 0:27 /../.. /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	       "31 23 0:28 / /sys/fs/cgroup/perf_event rw - cgroup cgroup rw,perf_event\n"
	       "32 23 8:1 / /mnt rw shared:1 master:2 - ext4 /dev/sda rw\n"
	       "33 23 0:29 /docker/a /host/sys/fs/cgroup/my\\040group rw - cgroup none rw,cpu,cpuacct");
	CHECK_STR(seen_cgroups, "0:27 1 /../..|/sys/fs/cgroup|rw,nsdelegate\n"
				"0:28 0 /|/sys/fs/cgroup/perf_event|rw,perf_event\n"
				"0:29 0 /docker/a|/host/sys/fs/cgroup/my group|rw,cpu,cpuacct\n");
	mounts("\n30\n30 23 0:27 / /x rw\n30 23 0:27 / /x rw - cgroup2\n30 23 0:27 / /x rw - cgroup2 c\n"
	       "30 23 x:27 / /x rw - cgroup2 c rw\n30 23 0:27 /\\000 /x rw - cgroup2 c rw\n");
	CHECK_STR(seen_cgroups, "");
}

static void test_uidmap(void)
{
	uid_t uid = 7;
	const char *text = "         1       5000      10\n         0     100000      1\n";

	CHECK(proc_uidmap_root(text, strlen(text), &uid) == 0 && uid == 100000);
	text = "0 0 4294967295\n";
	CHECK(proc_uidmap_root(text, strlen(text), &uid) == 0 && uid == 0);
	text = "1 5000 10\n0 5 0\n0\nx\n";
	uid = 7;
	CHECK(proc_uidmap_root(text, strlen(text), &uid) == -EBADMSG && uid == 7);
	CHECK(proc_uidmap_root("", 0, &uid) == -EBADMSG);
}

static int cpus(const char *text, uint8_t *bits, size_t max)
{
	return cpulist_parse(text, strlen(text), bits, max);
}

static void test_cpulist(void)
{
	uint8_t bits[3] = { 0xff, 0xff, 0xa5 };

	CHECK(cpus("0-3,7\n", bits, 16) == 5);
	CHECK(bits[0] == 0x8f && bits[1] == 0 && bits[2] == 0xa5);
	CHECK(cpus("0,8-9", bits, 9) == 2);
	CHECK(bits[0] == 0x01 && bits[1] == 0x01);
	CHECK(cpus("1,1,0-2", bits, 16) == 3);
	CHECK(cpus("0-4294967295", bits, 16) == 16 && bits[0] == 0xff && bits[1] == 0xff);
	CHECK(cpus("4294967295", bits, 16) == 0);
	CHECK(cpus("\n", bits, 16) == 0 && bits[0] == 0);
	CHECK(cpus("", bits, 16) == 0);
	CHECK(cpus("0", bits, 0) == 0);
	CHECK(bits[2] == 0xa5);
	CHECK(cpus("3-1", bits, 16) == -EBADMSG);
	CHECK(cpus("1,", bits, 16) == -EBADMSG);
	CHECK(cpus(",1", bits, 16) == -EBADMSG);
	CHECK(cpus("1-", bits, 16) == -EBADMSG);
	CHECK(cpus("-1", bits, 16) == -EBADMSG);
	CHECK(cpus("1 2", bits, 16) == -EBADMSG);
	CHECK(cpus("4294967296", bits, 16) == -EBADMSG);
	CHECK(cpus("0-3:1/2", bits, 16) == -EBADMSG);
}

static void test_jit_paths(void)
{
	static const char *const jit[] = {
		"", "//anon", "[anon:v8]", "[anon_shmem:x]", "[heap]", "[stack]", "/memfd:doublemapper (deleted)", "/dev/zero",
		"/dev/zero (deleted)", "/SYSV00000000 (deleted)", "anon_inode:[x]", "/anon_hugepage (deleted)",
	};
	static const char *const files[] = { "/usr/bin/x", "/dev/zero2", "[vdso]", "[vsyscall]", "[uprobes]", "/home/SYSV" };

	for (size_t i = 0; i < sizeof(jit) / sizeof(jit[0]); i++)
		CHECK(proc_is_jit_path(jit[i]));
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		CHECK(!proc_is_jit_path(files[i]));
}

int main(void)
{
	test_maps();
	test_jit_paths();
	test_bad_maps();
	test_map_limits();
	test_status();
	test_stat();
	test_cgroup();
	test_cgroup_mounts();
	test_uidmap();
	test_cpulist();
	return check_done();
}
