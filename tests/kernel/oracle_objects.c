// SPDX-License-Identifier: MIT
/* The oracle's calls on programs, perf events, links, and on what there is. */
#include "oracle.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int prog_load(struct side *s, const char *name, union bpf_attr attr)
{
	static const struct bpf_insn trivial[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K },
						   { .code = BPF_JMP | BPF_EXIT } };

	if (!attr.insns)
		attr.insns = (u64)trivial;
	if (!attr.insn_cnt)
		attr.insn_cnt = 2;
	if (!attr.license)
		attr.license = (u64) "GPL";
	return oracle_note_fd(s, name, oracle_bpf(s, BPF_PROG_LOAD, &attr, sizeof(attr)));
}
#define PROG(s, name, ...) prog_load(s, name, (union bpf_attr) { __VA_ARGS__ })

static void prog_checks(struct side *s)
{
	char log[256];

	PROG(s, "prog type 0", .prog_type = 0);
	PROG(s, "prog type 1000", .prog_type = 1000);
	PROG(s, "prog too long", .prog_type = BPF_PROG_TYPE_KPROBE, .insn_cnt = 1000001);
	PROG(s, "prog bad insns", .prog_type = BPF_PROG_TYPE_KPROBE, .insns = BAD);
	PROG(s, "prog bad license", .prog_type = BPF_PROG_TYPE_KPROBE, .license = BAD);
	PROG(s, "prog bad flags", .prog_type = BPF_PROG_TYPE_KPROBE, .prog_flags = 1u << 30);
	PROG(s, "prog bad name", .prog_type = BPF_PROG_TYPE_KPROBE, .prog_name = "a b");
	PROG(s, "prog long name", .prog_type = BPF_PROG_TYPE_KPROBE,
	     .prog_name = "0123456789abcdef");
	PROG(s, "prog log without level", .prog_type = BPF_PROG_TYPE_KPROBE, .log_buf = (u64)log,
	     .log_size = sizeof(log));
	PROG(s, "prog log without size", .prog_type = BPF_PROG_TYPE_KPROBE, .log_buf = (u64)log,
	     .log_level = 1);
	PROG(s, "prog log without buffer", .prog_type = BPF_PROG_TYPE_KPROBE, .log_size = 100,
	     .log_level = 1);
	PROG(s, "prog log level 16", .prog_type = BPF_PROG_TYPE_KPROBE, .log_buf = (u64)log,
	     .log_size = sizeof(log), .log_level = 16);
	PROG(s, "prog log size 1", .prog_type = BPF_PROG_TYPE_KPROBE, .log_buf = (u64)log,
	     .log_size = 1, .log_level = 1);
	PROG(s, "prog log bad buffer", .prog_type = BPF_PROG_TYPE_KPROBE, .log_buf = BAD,
	     .log_size = 100, .log_level = 1);
	PROG(s, "prog func info without btf", .prog_type = BPF_PROG_TYPE_KPROBE, .func_info_cnt = 1,
	     .func_info_rec_size = 8, .func_info = (u64)log, .prog_btf_fd = (u32)-1);
	PROG(s, "prog line info with wrong fd", .prog_type = BPF_PROG_TYPE_KPROBE,
	     .line_info_cnt = 1, .line_info_rec_size = 16, .line_info = (u64)log, .prog_btf_fd = 1);
	PROG(s, "prog attach btf", .prog_type = BPF_PROG_TYPE_KPROBE, .attach_btf_id = 1);
	PROG(s, "prog ifindex", .prog_type = BPF_PROG_TYPE_KPROBE, .prog_ifindex = 1);
	PROG(s, "sk_lookup without attach type", .prog_type = BPF_PROG_TYPE_SK_LOOKUP);
	PROG(s, "cgroup skb wrong attach type", .prog_type = BPF_PROG_TYPE_CGROUP_SKB,
	     .expected_attach_type = 99);
	PROG(s, "sockopt without attach type", .prog_type = BPF_PROG_TYPE_CGROUP_SOCKOPT);
	PROG(s, "syscall with attach type", .prog_type = BPF_PROG_TYPE_SYSCALL,
	     .expected_attach_type = 1, .prog_flags = BPF_F_SLEEPABLE);
}

static s64 perf(struct side *s, struct perf_event_attr attr, pid_t pid, int cpu, u64 flags)
{
	if (!attr.size)
		attr.size = sizeof(attr);
	return oracle_call(s, SYS_perf_event_open, (u64)&attr, (u64)(s64)pid, (u64)(s64)cpu,
			   (u64)-1, flags);
}
#define PERF(s, name, pid, cpu, flags, ...)                                                        \
	oracle_note_fd(s, name, perf(s, (struct perf_event_attr) { __VA_ARGS__ }, pid, cpu, flags))

u32 oracle_uprobe_type(void)
{
	FILE *f = fopen("/sys/bus/event_source/devices/uprobe/type", "r");
	u32 type = 0;

	if (!f || fscanf(f, "%u", &type) != 1)
		type = 0;
	if (f)
		fclose(f);
	return type;
}

/* A place in this program's file where a probe may be put. */
static __attribute__((noinline)) int probed(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

static u64 probe_offset(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	u64 start, end, offset, found = 0, address = (u64)probed;
	char line[4096];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) == 3 &&
		    address >= start && address < end)
			found = address - start + offset;
	if (f)
		fclose(f);
	return found;
}

static s64 ioc(struct side *s, int fd, u64 cmd, u64 arg)
{
	return oracle_call(s, SYS_ioctl, (u64)fd, cmd, arg, 0, 0);
}

static void perf_events(struct side *s, int prog, int tracepoint_prog)
{
	u32 type = oracle_uprobe_type();
	u64 exe = (u64) "/proc/self/exe", id = 0;
	u8 large[4096] = { 0 };
	u32 query[4] = { 0 };
	int event, output, clock, link;

	PERF(s, "perf flags", -1, 0, 1u << 20, .type = type, .config1 = exe);
	PERF(s, "perf pid and cpu -1", -1, -1, 0, .type = type, .config1 = exe);
	PERF(s, "perf no such cpu", -1, 100000, 0, .type = type, .config1 = exe);
	PERF(s, "perf no such pid", 0x3fffffff, -1, 0, .type = type, .config1 = exe);
	PERF(s, "perf no path", -1, 0, 0, .type = type);
	PERF(s, "perf bad path", -1, 0, 0, .type = type, .config1 = BAD);
	PERF(s, "perf empty path", -1, 0, 0, .type = type, .config1 = (u64) "");
	PERF(s, "perf no such file", -1, 0, 0, .type = type, .config1 = (u64) "/no/such/file");
	PERF(s, "perf directory", -1, 0, 0, .type = type, .config1 = (u64) "/");
	PERF(s, "perf offset", -1, 0, 0, .type = type, .config1 = exe, .config2 = 1ull << 40);
	PERF(s, "perf ref_ctr odd", -1, 0, 0, .type = type, .config1 = exe,
	     .config2 = probe_offset(), .config = 3ull << 32);
	PERF(s, "perf size 1", -1, 0, 0, .type = type, .size = 1, .config1 = exe);
	PERF(s, "perf size 8192", -1, 0, 0, .type = type, .size = 8192, .config1 = exe);
	PERF(s, "perf unknown type", -1, 0, 0, .type = 12345);
	PERF(s, "perf sample type", -1, 0, 0, .type = type, .config1 = exe,
	     .sample_type = 1ull << 40);
	PERF(s, "perf read format", -1, 0, 0, .type = type, .config1 = exe,
	     .read_format = 1ull << 40);
	memcpy(large, &(struct perf_event_attr) { .type = type, .size = 4096 },
	       sizeof(struct perf_event_attr));
	large[4000] = 1;
	oracle_note(s, "perf unknown bytes",
		    oracle_call(s, SYS_perf_event_open, (u64)large, (u64)-1, 0, (u64)-1, 0));
	oracle_note(s, "perf size told", *(u32 *)(void *)(large + 4) >= 64);
	oracle_note(s, "perf bad attr",
		    oracle_call(s, SYS_perf_event_open, BAD, (u64)-1, 0, (u64)-1, 0));

	output = PERF(s, "bpf output", -1, 0, PERF_FLAG_FD_CLOEXEC, .type = PERF_TYPE_SOFTWARE,
		      .config = PERF_COUNT_SW_BPF_OUTPUT, .sample_type = PERF_SAMPLE_RAW,
		      .sample_period = 1, .wakeup_events = 1);
	clock = PERF(s, "clock", -1, 0, 0, .type = PERF_TYPE_SOFTWARE,
		     .config = PERF_COUNT_SW_CPU_CLOCK, .sample_period = 1000000000, .disabled = 1);
	PERF(s, "clock too fast", -1, 0, 0, .type = PERF_TYPE_SOFTWARE,
	     .config = PERF_COUNT_SW_CPU_CLOCK, .freq = 1, .sample_freq = 100000000, .disabled = 1);
	event = PERF(s, "uprobe", getpid(), -1, PERF_FLAG_FD_CLOEXEC, .type = type, .config1 = exe,
		     .config2 = probe_offset(), .disabled = 1);

	oracle_note(s, "ioctl enable", ioc(s, output, PERF_EVENT_IOC_ENABLE, 0));
	oracle_note(s, "ioctl id", ioc(s, output, PERF_EVENT_IOC_ID, (u64)&id));
	oracle_note(s, "ioctl id bad", ioc(s, output, PERF_EVENT_IOC_ID, BAD));
	oracle_note(s, "ioctl unknown", ioc(s, output, 0x24ff, 0));
	oracle_note(s, "set bpf bad fd", ioc(s, event, PERF_EVENT_IOC_SET_BPF, (u64)-1));
	oracle_note(s, "set bpf wrong fd", ioc(s, event, PERF_EVENT_IOC_SET_BPF, (u64)output));
	oracle_note(s, "set bpf wrong type",
		    ioc(s, event, PERF_EVENT_IOC_SET_BPF, (u64)tracepoint_prog));
	oracle_note(s, "clock set bpf wrong type",
		    ioc(s, clock, PERF_EVENT_IOC_SET_BPF, (u64)prog));
	oracle_note(s, "query", ioc(s, event, PERF_EVENT_IOC_QUERY_BPF, (u64)query));
	oracle_note(s, "period", ioc(s, clock, PERF_EVENT_IOC_PERIOD, BAD));
	id = 0;
	oracle_note(s, "period 0", ioc(s, clock, PERF_EVENT_IOC_PERIOD, (u64)&id));

	BPF(s, "link bad prog", BPF_LINK_CREATE, .link_create = { .prog_fd = (u32)-1 });
	BPF(s, "link bad target", BPF_LINK_CREATE,
	    .link_create = {
		    .prog_fd = prog, .target_fd = (u32)-1, .attach_type = BPF_PERF_EVENT });
	BPF(s, "link wrong target", BPF_LINK_CREATE,
	    .link_create = { .prog_fd = prog, .target_fd = prog, .attach_type = BPF_PERF_EVENT });
	BPF(s, "link flags", BPF_LINK_CREATE,
	    .link_create = { .prog_fd = prog,
			     .target_fd = event,
			     .attach_type = BPF_PERF_EVENT,
			     .flags = 1 });
	BPF(s, "link wrong attach type", BPF_LINK_CREATE,
	    .link_create = { .prog_fd = prog, .target_fd = event, .attach_type = BPF_XDP });
	BPF(s, "link attach type 1000", BPF_LINK_CREATE,
	    .link_create = { .prog_fd = prog, .target_fd = event, .attach_type = 1000 });
	BPF(s, "link wrong prog", BPF_LINK_CREATE,
	    .link_create = { .prog_fd = tracepoint_prog,
			     .target_fd = event,
			     .attach_type = BPF_PERF_EVENT });
	BPF(s, "link tracepoint bad target", BPF_LINK_CREATE,
	    .link_create = { .prog_fd = tracepoint_prog,
			     .target_fd = (u32)-1,
			     .attach_type = BPF_PERF_EVENT });
	link = BPF_FD(s, "link", BPF_LINK_CREATE,
		      .link_create = {
			      .prog_fd = prog, .target_fd = event, .attach_type = BPF_PERF_EVENT });
	BPF(s, "link again", BPF_LINK_CREATE,
	    .link_create = { .prog_fd = prog, .target_fd = event, .attach_type = BPF_PERF_EVENT });
	oracle_note(s, "set bpf again", ioc(s, event, PERF_EVENT_IOC_SET_BPF, (u64)prog));
	BPF(s, "link detach", BPF_LINK_DETACH, .link_detach.link_fd = link);
	BPF(s, "link detach bad", BPF_LINK_DETACH, .link_detach.link_fd = (u32)-1);
	BPF(s, "link detach wrong", BPF_LINK_DETACH, .link_detach.link_fd = prog);
	BPF(s, "link update", BPF_LINK_UPDATE,
	    .link_update = { .link_fd = link, .new_prog_fd = prog });
	BPF(s, "link update flags", BPF_LINK_UPDATE,
	    .link_update = { .link_fd = link, .new_prog_fd = prog, .flags = 1 });
	oracle_maps_of_objects(s, prog, output);
}

static void multi_links(struct side *s)
{
	struct {
		u32 prog_fd, target_fd, attach_type, flags;
		u64 path, offsets, ref_ctr_offsets, cookies;
		u32 cnt, multi_flags, pid;
		u32 rest[20];
	} attr;
	u64 offsets[2] = { 0x40, (u64)-1 };
	int prog = PROG(s, "multi prog", .prog_type = BPF_PROG_TYPE_KPROBE,
			.expected_attach_type = 48);

	if (prog < 0)
		return;
#define MULTI(name, ...)                                                                           \
	do {                                                                                       \
		memset(&attr, 0, sizeof(attr));                                                    \
		attr.prog_fd = (u32)prog;                                                          \
		attr.attach_type = 48;                                                             \
		attr.path = (u64) "/proc/self/exe";                                                \
		attr.offsets = (u64)offsets;                                                       \
		attr.cnt = 1;                                                                      \
		__VA_ARGS__;                                                                       \
		oracle_note_fd(s, name, oracle_bpf(s, BPF_LINK_CREATE, &attr, sizeof(attr)));      \
	} while (0)
	MULTI("multi no path", attr.path = 0);
	MULTI("multi bad path", attr.path = BAD);
	MULTI("multi empty path", attr.path = (u64) "");
	MULTI("multi no such file", attr.path = (u64) "/no/such/file");
	MULTI("multi directory", attr.path = (u64) "/");
	MULTI("multi no offsets", attr.offsets = 0);
	MULTI("multi bad offsets", attr.offsets = BAD);
	MULTI("multi bad cookies", attr.cookies = BAD);
	MULTI("multi no count", attr.cnt = 0);
	MULTI("multi large count", attr.cnt = 1u << 21);
	MULTI("multi bad flags", attr.multi_flags = 8);
	MULTI("multi flags", attr.flags = 1);
	MULTI("multi no such pid", attr.pid = 0x3fffffff);
	MULTI("multi negative offset", attr.cnt = 2);
	MULTI("multi perf attach type", attr.attach_type = BPF_PERF_EVENT);
	MULTI("multi tail", attr.rest[5] = 1);
}

static void ids_and_info(struct side *s, int prog)
{
	int fd = MAP(s, "info map", .map_type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 8,
		     .max_entries = 3, .map_name = "named");
	struct bpf_map_info map_info = { 0 };
	struct bpf_prog_info prog_info = { 0 };
	u8 large[4096] = { 0 };
	u32 ids[4];
	union bpf_attr attr;

	BPF(s, "next id too large", BPF_MAP_GET_NEXT_ID, .start_id = 0x7fffffff);
	BPF(s, "next id at end", BPF_MAP_GET_NEXT_ID, .start_id = 0x7ffffffe);
	BPF(s, "next id first", BPF_MAP_GET_NEXT_ID, .start_id = 0);
	BPF(s, "prog next id first", BPF_PROG_GET_NEXT_ID, .start_id = 0);
	BPF(s, "link next id at end", BPF_LINK_GET_NEXT_ID, .start_id = 0x7ffffffe);
	BPF(s, "next id with more", BPF_MAP_GET_NEXT_ID, .start_id = 0, .open_flags = 1);
	BPF(s, "fd by id none", BPF_MAP_GET_FD_BY_ID, .map_id = 0x7ffffffe);
	BPF(s, "fd by id flags", BPF_MAP_GET_FD_BY_ID, .map_id = 0x7ffffffe, .open_flags = 1);
	BPF(s, "prog fd by id none", BPF_PROG_GET_FD_BY_ID, .prog_id = 0x7ffffffe);
	BPF(s, "prog fd by id flags", BPF_PROG_GET_FD_BY_ID, .prog_id = 0x7ffffffe,
	    .open_flags = 8);
	BPF(s, "btf fd by id none", BPF_BTF_GET_FD_BY_ID, .btf_id = 0x7ffffffe);
	BPF(s, "link fd by id none", BPF_LINK_GET_FD_BY_ID, .link_id = 0x7ffffffe);

	BPF(s, "info bad fd", BPF_OBJ_GET_INFO_BY_FD,
	    .info = { .bpf_fd = (u32)-1, .info_len = 10, .info = (u64)&map_info });
	BPF(s, "info wrong fd", BPF_OBJ_GET_INFO_BY_FD,
	    .info = { .bpf_fd = 1, .info_len = 10, .info = (u64)&map_info });
	BPF(s, "info bad address", BPF_OBJ_GET_INFO_BY_FD,
	    .info = { .bpf_fd = fd, .info_len = 10, .info = BAD });
	attr = (union bpf_attr) { .info = {
					  .bpf_fd = fd, .info_len = 24, .info = (u64)&map_info } };
	oracle_note(s, "info short", oracle_bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));
	oracle_note(s, "info short length", attr.info.info_len);
	oracle_note(s, "info short value size", map_info.value_size);
	oracle_note(s, "info short name", map_info.name[0]);
	large[4000] = 1;
	attr = (union bpf_attr) { .info = { .bpf_fd = fd, .info_len = 4096, .info = (u64)large } };
	oracle_note(s, "info large", oracle_bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));
	large[4000] = 0;
	oracle_note(s, "info large zero",
		    oracle_bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));
	attr.info.info_len = 4097;
	oracle_note(s, "info above a page",
		    oracle_bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));
	attr = (union bpf_attr) {
		.info = { .bpf_fd = fd, .info_len = sizeof(map_info), .info = (u64)&map_info }
	};
	oracle_note(s, "info map", oracle_bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));
	oracle_note(s, "info map name", strcmp(map_info.name, "named"));
	oracle_note(s, "info map type", map_info.type);
	oracle_note(s, "info map entries", map_info.max_entries);

	prog_info.nr_map_ids = 4;
	prog_info.map_ids = (u64)ids;
	attr = (union bpf_attr) {
		.info = { .bpf_fd = prog, .info_len = sizeof(prog_info), .info = (u64)&prog_info }
	};
	oracle_note(s, "info prog", oracle_bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));
	oracle_note(s, "info prog maps", prog_info.nr_map_ids);
	oracle_note(s, "info prog xlated", prog_info.xlated_prog_len);
	oracle_note(s, "info prog type", prog_info.type);
	oracle_note(s, "info prog gpl", prog_info.gpl_compatible);
	oracle_note(s, "info prog uid", prog_info.created_by_uid);
	oracle_note(s, "info prog func info", prog_info.nr_func_info);
	prog_info = (struct bpf_prog_info) { .xlated_prog_len = 16, .xlated_prog_insns = BAD };
	oracle_note(s, "info prog bad insns",
		    oracle_bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));

	BPF(s, "test run of kprobe", BPF_PROG_TEST_RUN, .test = { .prog_fd = prog });
	BPF(s, "test run ctx without size", BPF_PROG_TEST_RUN,
	    .test = { .prog_fd = prog, .ctx_in = (u64)ids });
	BPF(s, "test run bad fd", BPF_PROG_TEST_RUN, .test = { .prog_fd = (u32)-1 });
	BPF(s, "bind map", BPF_PROG_BIND_MAP, .prog_bind_map = { .prog_fd = prog, .map_fd = fd });
	BPF(s, "bind map again", BPF_PROG_BIND_MAP,
	    .prog_bind_map = { .prog_fd = prog, .map_fd = fd });
	BPF(s, "bind map flags", BPF_PROG_BIND_MAP,
	    .prog_bind_map = { .prog_fd = prog, .map_fd = fd, .flags = 1 });
	BPF(s, "bind map bad", BPF_PROG_BIND_MAP,
	    .prog_bind_map = { .prog_fd = prog, .map_fd = prog });
	prog_info = (struct bpf_prog_info) { .nr_map_ids = 0 };
	oracle_note(s, "info after bind",
		    oracle_bpf(s, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr)));
	oracle_note(s, "info after bind maps", prog_info.nr_map_ids);
	BPF_FD(s, "enable stats", BPF_ENABLE_STATS, .enable_stats.type = 0);
	BPF(s, "enable stats type", BPF_ENABLE_STATS, .enable_stats.type = 5);
	BPF(s, "pin null", BPF_OBJ_PIN, .bpf_fd = fd);
	BPF(s, "pin flags", BPF_OBJ_PIN, .bpf_fd = fd, .file_flags = 1);
	BPF(s, "pin bad fd", BPF_OBJ_PIN, .bpf_fd = (u32)-1, .pathname = (u64) "/sys/fs/bpf/x");
	BPF(s, "pin not there", BPF_OBJ_PIN, .bpf_fd = fd, .pathname = (u64) "/tmp/ubpf-run-pin");
	BPF(s, "get with fd", BPF_OBJ_GET, .bpf_fd = fd, .pathname = (u64) "/sys/fs/bpf/x");
	BPF(s, "get none", BPF_OBJ_GET, .pathname = (u64) "/sys/fs/bpf/no-such-pin");
}

void oracle_objects(struct side *s)
{
	int prog, tracepoint_prog;

	prog_checks(s);
	prog = PROG(s, "kprobe", .prog_type = BPF_PROG_TYPE_KPROBE, .prog_name = "oracle");
	tracepoint_prog = PROG(s, "tracepoint", .prog_type = BPF_PROG_TYPE_TRACEPOINT);
	ids_and_info(s, prog);
	perf_events(s, prog, tracepoint_prog);
	multi_links(s);
}
