/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What lasthop-driver is told: its command line, the kernel's messages about interfaces, systemd's socket; and what the
 * core may believe of a driver's status.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "driver/heartbeat.h"
#include "driver/netif.h"
#include "driver/options.h"
#include "lib/log.h"

#define ARGS_MAX 32

/* Parses a command line, cut at blanks, with what it prints thrown away. */
static int parse(struct options *options, const char *line)
{
	static char text[512];
	char *argv[ARGS_MAX] = {(char[]){"lasthop-driver"}}, *rest = text;
	int argc = 1, out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY), status;

	snprintf(text, sizeof(text), "%s", line);
	while (argc < ARGS_MAX - 1 && (argv[argc] = strtok_r(argc == 1 ? text : NULL, " ", &rest)))
		argc++;
	argv[argc] = NULL;
	fflush(stdout);
	dup2(null, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	status = options_parse(options, argc, argv);
	fflush(stdout);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	close(out);
	close(err);
	close(null);
	return status;
}

static void test_options(void **state)
{
	struct options options;

	(void)state;
	assert_int_equal(parse(&options, "--port /p --kind tap --device t0"), -1);
	assert_string_equal(options.config.port, "/p");
	assert_string_equal(options.config.device, "t0");
	assert_ptr_equal(options.kind, driver_kind_find("tap"));
	assert_int_equal(options.config.queues, 1);
	assert_int_equal(options.config.mtu, 0);
	assert_null(options.config.netns);
	assert_true(options.sandbox);

	assert_int_equal(parse(&options, "--port /p --kind tap --device t0 --netns n --queues 4 --mtu 9000 --user u "
					 "--no-sandbox --log-level 3 --option buffer=512 --option up=no=yes"),
			 -1);
	assert_string_equal(options.config.netns, "n");
	assert_int_equal(options.config.queues, 4);
	assert_int_equal(options.config.mtu, 9000);
	assert_string_equal(options.user, "u");
	assert_false(options.sandbox);
	assert_int_equal(options.log_level, LOG_DEBUG);
	assert_string_equal(driver_option(&options.config, "buffer", "1"), "512");
	assert_string_equal(driver_option(&options.config, "up", "1"), "no=yes");
	assert_string_equal(driver_option(&options.config, "other", "1"), "1");

	assert_int_equal(parse(&options, "--kind tap --device t0 --remove"), -1);
	assert_true(options.remove);
	assert_int_equal(parse(&options, "--help"), EXIT_SUCCESS);
	assert_int_equal(parse(&options, "--version"), EXIT_SUCCESS);
}

static void test_bad_options(void **state)
{
	static const char *const lines[] = {
		"",
		"--port /p",
		"--port /p --kind tap",
		"--kind tap --device t0",
		"--port /p --kind nothing --device t0",
		"--port /p --kind tap --device t0 more",
		"--port /p --kind tap --device t0 --queues 0",
		"--port /p --kind tap --device t0 --queues 65",
		"--port /p --kind tap --device t0 --queues -1",
		"--port /p --kind tap --device t0 --mtu 67",
		"--port /p --kind tap --device t0 --mtu 1e3",
		"--port /p --kind tap --device t0 --option buffer",
		"--port /p --kind tap --device t0 --option =1",
		"--port /p --kind tap --device t0 --option colour=red",
		"--port /p --kind tap --device t0 --unknown",
	};
	struct options options;

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(lines); i++) {
		if (parse(&options, lines[i]) != DRIVER_EXIT_USAGE)
			fail_msg("'%s' was taken", lines[i]);
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_true(netif_name_valid("eth0"));
	assert_true(netif_name_valid("a23456789012345"));
	assert_false(netif_name_valid("a234567890123456"));
	assert_false(netif_name_valid(""));
	assert_false(netif_name_valid("."));
	assert_false(netif_name_valid(".."));
	assert_false(netif_name_valid("a/b"));
	assert_false(netif_name_valid("a b"));
	assert_false(netif_name_valid("tap%d"));
	assert_false(netif_name_valid("a\xc3"));
}

/* A message about interface 7, as the kernel would write it. */
struct message {
	struct nlmsghdr header;
	struct ifinfomsg info;
	uint8_t attributes[256];
};

static struct rtattr *add(struct message *message, unsigned short type, const void *data, size_t size)
{
	struct rtattr *attribute = (void *)((uint8_t *)message + NLMSG_ALIGN(message->header.nlmsg_len));

	attribute->rta_type = type;
	attribute->rta_len = (unsigned short)RTA_LENGTH(size);
	if (size > 0)
		memcpy(RTA_DATA(attribute), data, size);
	message->header.nlmsg_len = (uint32_t)(NLMSG_ALIGN(message->header.nlmsg_len) + RTA_ALIGN(attribute->rta_len));
	return attribute;
}

static struct message link_message(unsigned short type)
{
	return (struct message){
		.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = type},
		.info = {.ifi_index = 7, .ifi_flags = IFF_UP},
	};
}

static void test_netlink(void **state)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 9}, no_carrier = 0;
	struct message message = link_message(RTM_NEWLINK);
	const uint32_t mtu = 9000, queues = 2, disabled = 1;
	struct rtattr *info, *data;
	struct netif netif;
	bool gone = true;

	(void)state;
	add(&message, IFLA_IFNAME, "tap0", 5);
	add(&message, IFLA_MTU, &mtu, sizeof(mtu));
	add(&message, IFLA_ADDRESS, mac, sizeof(mac));
	add(&message, IFLA_CARRIER, &no_carrier, 1);
	info = add(&message, IFLA_LINKINFO, NULL, 0);
	add(&message, IFLA_INFO_KIND, "tun", 4);
	data = add(&message, IFLA_INFO_DATA, NULL, 0);
	add(&message, IFLA_TUN_NUM_QUEUES, &queues, sizeof(queues));
	add(&message, IFLA_TUN_NUM_DISABLED_QUEUES, &disabled, sizeof(disabled));
	data->rta_len = (unsigned short)((uint8_t *)&message + message.header.nlmsg_len - (uint8_t *)data);
	info->rta_len = (unsigned short)((uint8_t *)&message + message.header.nlmsg_len - (uint8_t *)info);

	assert_int_equal(netif_parse(&message.header, &netif, &gone), 0);
	assert_false(gone);
	assert_int_equal(netif.ifindex, 7);
	assert_string_equal(netif.name, "tap0");
	assert_string_equal(netif.kind, "tun");
	assert_int_equal(netif.mtu, 9000);
	assert_memory_equal(netif.mac, mac, 6);
	assert_true(netif.up);
	assert_false(netif.carrier);
	assert_int_equal(netif.tun_queues, 3);

	/* Cut anywhere, it says less, and nothing that is not in it. */
	for (uint32_t size = 0; size < message.header.nlmsg_len; size++) {
		struct message *cut = malloc(max(size, (uint32_t)sizeof(struct nlmsghdr)));

		assert_non_null(cut);
		memcpy(cut, &message, max(size, (uint32_t)sizeof(struct nlmsghdr)));
		cut->header.nlmsg_len = size;
		if (netif_parse(&cut->header, &netif, &gone) == 0)
			assert_int_equal(netif.ifindex, 7);
		else
			assert_true(size < NLMSG_LENGTH(sizeof(struct ifinfomsg)));
		free(cut);
	}

	message = link_message(RTM_DELLINK);
	assert_int_equal(netif_parse(&message.header, &netif, &gone), 0);
	assert_true(gone);
	message = link_message(RTM_NEWADDR);
	assert_int_equal(netif_parse(&message.header, &netif, &gone), -ENOMSG);
}

static void test_find(void **state)
{
	struct netif netif;

	(void)state;
	assert_int_equal(netif_find("lo", &netif), 0);
	assert_int_equal(netif.ifindex, (int)if_nametoindex("lo"));
	assert_string_equal(netif.name, "lo");
	assert_true(netif.mtu > 0);
	assert_int_equal(netif_find("lh-no-such-if", &netif), -ENODEV);
	assert_int_equal(netif_find("much-too-long-a-name", &netif), -EINVAL);
}

static void test_status(void **state)
{
	struct driver_status good = {.version = DRIVER_STATUS_VERSION, .link = 1, .kind = "tap", .device = "t0"};
	struct driver_status status, bad;

	(void)state;
	assert_true(driver_status_parse(&status, &good, sizeof(good)));
	assert_memory_equal(&status, &good, sizeof(good));
	assert_false(driver_status_parse(&status, &good, sizeof(good) - 1));
	assert_false(driver_status_parse(&status, &good, 0));
	bad = good;
	bad.version++;
	assert_false(driver_status_parse(&status, &bad, sizeof(bad)));
	bad = good;
	bad.link = 2;
	assert_false(driver_status_parse(&status, &bad, sizeof(bad)));
	bad = good;
	bad.reserved = 1;
	assert_false(driver_status_parse(&status, &bad, sizeof(bad)));
	bad = good;
	memset(bad.kind, 'x', sizeof(bad.kind));
	assert_false(driver_status_parse(&status, &bad, sizeof(bad)));
	bad = good;
	bad.device[1] = '\033';
	assert_false(driver_status_parse(&status, &bad, sizeof(bad)));
	bad = good;
	bad.mode[5] = 'x';
	assert_false(driver_status_parse(&status, &bad, sizeof(bad)));
	assert_string_equal(driver_drop_name(DRIVER_DROP_TOO_LONG), "too-long");
	assert_string_equal(driver_drop_name(DRIVER_DROP_COUNT), "unknown");
}

static void expect_notice(int sock, const char *wanted)
{
	char text[64] = {0};

	assert_true(recv(sock, text, sizeof(text) - 1, MSG_DONTWAIT) > 0);
	assert_string_equal(text, wanted);
}

static void test_notify(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct heartbeat beat;
	char dir[64];

	(void)state;
	log_set_level(LOG_ERROR);
	assert_non_null(unit_temporary_dir(dir));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", dir);
	assert_int_equal(bind(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	setenv("NOTIFY_SOCKET", address.sun_path, 1);
	heartbeat_open(&beat);
	assert_int_equal(heartbeat_answered(&beat, 0), 0);
	expect_notice(sock, "READY=1\nWATCHDOG=1");
	assert_int_equal(heartbeat_answered(&beat, -EREMOTEIO), 0);
	expect_notice(sock, "WATCHDOG=1");
	heartbeat_close(&beat);
	close(sock);
	unlink(address.sun_path);
	rmdir(dir);

	heartbeat_open(&beat);
	assert_int_equal(beat.notify_fd, -1);
	setenv("NOTIFY_SOCKET", "nonsense", 1);
	heartbeat_open(&beat);
	assert_int_equal(beat.notify_fd, -1);
	unsetenv("NOTIFY_SOCKET");
	heartbeat_open(&beat);
	assert_int_equal(beat.notify_fd, -1);
	assert_int_equal(heartbeat_answered(&beat, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options), cmocka_unit_test(test_bad_options), cmocka_unit_test(test_names),
		cmocka_unit_test(test_netlink), cmocka_unit_test(test_find),        cmocka_unit_test(test_status),
		cmocka_unit_test(test_notify),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
