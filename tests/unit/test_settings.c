/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What may be set about ports and bridges, and what is said when it may not.
 */
#include "unit.h"

#include "control/settings.h"
#include "virtio/virtio_net.h"

#include <errno.h>
#include <string.h>

static struct port_settings port;
static struct settings_error error;

static void test_port(void **state)
{
	(void)state;
	assert_int_equal(port_settings_parse(&port, "a=/tmp/a.sock", &error), 0);
	assert_string_equal(port.wire.name, "a");
	assert_string_equal(port.wire.path, "/tmp/a.sock");
	assert_string_equal(port.wire.owner, "br0");
	assert_int_equal(port.wire.mode, DP_PORT_SERVER);
	assert_int_equal(port.wire.pairs, 1);
	assert_int_equal(port.wire.mtu, 0);
	assert_int_equal(port.wire.features_off, 0);
	assert_int_equal(port.wire.notify_us, 10);
	assert_int_equal(port.wire.notify_packets, 128);
	assert_int_equal(port.mac_limit, 1024);
	assert_int_equal(port_settings_parse(&port,
					     "vm-1.x=/a,mode=client,bridge=lan,queues=16,mtu=9000,"
					     "wait-us=50,notify-us=0,notify-packets=4096,mac-limit=1,mrg=off,"
					     "event-idx=off",
					     &error),
			 0);
	assert_string_equal(port.wire.name, "vm-1.x");
	assert_string_equal(port.wire.owner, "lan");
	assert_int_equal(port.wire.mode, DP_PORT_CLIENT);
	assert_int_equal(port.wire.pairs, 16);
	assert_int_equal(port.wire.mtu, 9000);
	assert_int_equal(port.wire.wait_us, 50);
	assert_int_equal(port.wire.notify_us, 0);
	assert_int_equal(port.wire.notify_packets, 4096);
	assert_int_equal(port.mac_limit, 1);
	assert_int_equal(port.wire.features_off, VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) | VIRTIO_BIT(29));
}

static void test_given_twice(void **state)
{
	static const char *const wrong[] = {
		"a=/a,mtu=1500,mtu=1500",
		"a=/a,bridge=b,mode=client,bridge=c",
		"a=/a,mrg=off,csum=off,mrg=off",
		"a,driver=tap,device=x,driver=tap",
		"a,driver=tap,device=x,netns=n,netns=n",
	};
	struct bridge_settings bridge;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		assert_int_equal(port_settings_parse(&port, wrong[i], &error), -EINVAL);
		assert_non_null(strstr(error.text, "given twice"));
	}
	assert_int_equal(bridge_settings_parse(&bridge, "b,mac-age=10,mac-age=20", &error), -EINVAL);
	assert_int_equal(
		port_settings_parse(&port, "a,driver=tap,device=x,driver-option=a=1,driver-option=b=2", &error), 0);
	assert_int_equal(port.driver.option_count, 2);
}

static void test_relative_path(void **state)
{
	char cwd[256], expected[300];

	(void)state;
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	snprintf(expected, sizeof(expected), "%s/x.sock", cwd);
	if (strlen(expected) >= DP_PATH_SIZE)
		skip();
	assert_int_equal(port_settings_parse(&port, "a=x.sock", &error), 0);
	assert_string_equal(port.wire.path, expected);
}

static void test_features(void **state)
{
	uint64_t off;

	(void)state;
	/* What may not be offered without it goes with it. */
	assert_int_equal(port_settings_parse(&port, "a=/a,csum=off", &error), 0);
	off = port.wire.features_off;
	assert_true(off & VIRTIO_BIT(VIRTIO_NET_F_CSUM));
	assert_true(off & VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4));
	assert_true(off & VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO6));
	assert_false(off & VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF));
	assert_int_equal(port_settings_parse(&port, "a=/a,host-tso4=off,bit40=off", &error), 0);
	assert_int_equal(port.wire.features_off, VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(40));
}

static void test_driver(void **state)
{
	(void)state;
	assert_int_equal(port_settings_parse(&port, "web,driver=tap,device=eth0,netns=web,queues=2", &error), 0);
	assert_string_equal(port.wire.path, "");
	assert_int_equal(port.wire.flags, DP_PORT_DRIVER);
	assert_int_equal(port.driver.kind, PORT_DRIVER_TAP);
	assert_string_equal(port.driver.device, "eth0");
	assert_string_equal(port.driver.netns, "web");
	assert_int_equal(port.driver.option_count, 0);
	assert_int_equal(port_settings_complete(&port, "/run/x", &error), 0);
	assert_string_equal(port.wire.path, "/run/x/ports/web.sock");
	/* A comma in a value, several options, a path all the same. */
	assert_int_equal(port_settings_parse(&port,
					     "d=/d.sock,driver=dpdk,device=net_af_packet0\\,iface=v0,driver-option=a=1;"
					     "b-2=x=y,netns=/proc/1/ns/net,driver-option=c=",
					     &error),
			 0);
	assert_string_equal(port.driver.device, "net_af_packet0,iface=v0");
	assert_int_equal(port.driver.option_count, 3);
	assert_string_equal(port.driver.options[0], "a=1");
	assert_string_equal(port.driver.options[1], "b-2=x=y");
	assert_string_equal(port.driver.options[2], "c=");
	assert_int_equal(port_settings_complete(&port, "/run/x", &error), 0);
	assert_string_equal(port.wire.path, "/d.sock");
	assert_true(driver_is_supervised(&port.driver));
	/* Who needs neither device nor us; it may even listen. */
	assert_int_equal(port_settings_parse(&port, "e=/e.sock,driver=external,mode=client", &error), 0);
	assert_int_equal(port.wire.flags, DP_PORT_DRIVER);
	assert_false(driver_is_supervised(&port.driver));
	/* And the others have none. */
	assert_int_equal(port_settings_parse(&port, "a=/a.sock", &error), 0);
	assert_int_equal(port.wire.flags, 0);
	assert_false(driver_is_supervised(&port.driver));
}

static void refuse_driver(const char *text, const char *parameter)
{
	assert_int_equal(port_settings_parse(&port, text, &error), -EINVAL);
	assert_string_equal(error.parameter, parameter);
	assert_true(strlen(error.text) > 10);
}

static void test_driver_refused(void **state)
{
	char text[2048], deep[200];
	int used;

	(void)state;
	refuse_driver("a", "port");
	refuse_driver("a,mtu=1500", "port");
	refuse_driver("a,device=x", "driver");
	refuse_driver("a,driver=none,device=x", "driver");
	refuse_driver("a,driver=tap", "device");
	refuse_driver("a,driver=tap,device=", "device");
	refuse_driver("a,driver=tap,device=x/y", "device");
	refuse_driver("a,driver=tap,device=..", "device");
	refuse_driver("a,driver=tap,device=sixteenletters16", "device");
	refuse_driver("a,driver=af_xdp,device=a b", "device");
	refuse_driver("a,driver=tap,device=x\n", "device");
	refuse_driver("a,driver=tap,device=x,netns=a/b", "netns");
	refuse_driver("a,driver=tap,device=x,netns=..", "netns");
	refuse_driver("a,driver=external,netns=b", "netns");
	refuse_driver("a,driver=external,driver-option=b=c", "driver_option");
	refuse_driver("a,driver=tap,device=x,driver-option=b", "driver_option");
	refuse_driver("a,driver=tap,device=x,driver-option=--b=c", "driver_option");
	refuse_driver("a,driver=tap,device=x,driver-option==c", "driver_option");
	refuse_driver("a,driver=tap,device=x,mode=client", "mode");
	refuse_driver("a,driver=tap,device=x,ctrl-vq=off", "features_off");
	used = snprintf(text, sizeof(text), "a,driver=tap,device=x,driver-option=k=0");
	for (int i = 0; i < DRIVER_OPTIONS_MAX; i++)
		used += snprintf(text + used, sizeof(text) - (size_t)used, ";k=%d", i);
	refuse_driver(text, "driver_option");
	/* A directory whose sockets have no room for the name. */
	memset(deep, 'd', sizeof(deep) - 1);
	deep[0] = '/';
	deep[90] = '\0';
	assert_int_equal(port_settings_parse(&port, "a-name-of-some-length,driver=tap,device=x", &error), 0);
	assert_int_equal(port_settings_complete(&port, deep, &error), -EINVAL);
	assert_string_equal(error.parameter, "path");
}

static void test_driver_json(void **state)
{
	struct port_settings again;
	json_t *json;

	(void)state;
	assert_int_equal(port_settings_parse(&port, "a=/a,driver=af_packet,device=x,netns=n,driver-option=k=v", &error),
			 0);
	json = port_settings_to_json(&port);
	assert_non_null(json_object_get(json, "driver"));
	assert_int_equal(port_settings_from_json(&again, json, &error), 0);
	assert_true(driver_settings_equal(&again.driver, &port.driver));
	json_decref(json);
	again.driver.options[0][2] = 'w';
	assert_false(driver_settings_equal(&again.driver, &port.driver));
	assert_true(driver_settings_same_device(&again.driver, &port.driver));
	again.driver.netns[0] = 'm';
	assert_false(driver_settings_same_device(&again.driver, &port.driver));
	assert_int_equal(port_settings_parse(&port, "a=/a", &error), 0);
	json = port_settings_to_json(&port);
	assert_null(json_object_get(json, "driver"));
	json_decref(json);
}

static void test_json_round_trip(void **state)
{
	struct port_settings again;
	json_t *json;

	(void)state;
	assert_int_equal(port_settings_parse(&port,
					     "a=/tmp/a,mode=client,queues=2,ctrl-vq=off,csum=off,"
					     "bit63=off,mtu=1500,wait-us=7,notify-us=10000,notify-packets=1,"
					     "mac-limit=9,bridge=b",
					     &error),
			 0);
	json = port_settings_to_json(&port);
	assert_non_null(json);
	assert_int_equal(port_settings_from_json(&again, json, &error), 0);
	assert_memory_equal(&again, &port, sizeof(port));
	json_decref(json);
}

static void refuse_port(const char *text, const char *parameter)
{
	error = (struct settings_error){0};
	if (port_settings_parse(&port, text, &error) == 0)
		fail_msg("'%s' was taken", text);
	assert_string_equal(error.parameter, parameter);
	assert_true(strlen(error.text) > 10);
}

static void test_port_refused(void **state)
{
	char text[400];

	(void)state;
	refuse_port("", "port");
	refuse_port("a", "port");
	refuse_port("=/a", "name");
	refuse_port("a b=/a", "name");
	refuse_port("-a=/a", "name");
	refuse_port("..=/a", "name");
	refuse_port("a/b=/a", "name");
	refuse_port("abcdefghijklmnopqrstuvwxyz123456=/a", "name");
	refuse_port("a=", "path");
	refuse_port("a=/tmp/", "path");
	refuse_port("a=/a,mode=both", "mode");
	refuse_port("a=/a,mode", "mode");
	refuse_port("a=/a,bridge=", "bridge");
	refuse_port("a=/a,queues=0", "queues");
	refuse_port("a=/a,queues=17", "queues");
	refuse_port("a=/a,queues=two", "queues");
	refuse_port("a=/a,queues=", "queues");
	refuse_port("a=/a,queues=99999999999999999999", "queues");
	refuse_port("a=/a,mtu=67", "mtu");
	refuse_port("a=/a,mtu=65536", "mtu");
	refuse_port("a=/a,wait-us=-1", "wait_us");
	refuse_port("a=/a,notify-us=10001", "notify_us");
	refuse_port("a=/a,notify-us=-1", "notify_us");
	refuse_port("a=/a,notify-packets=0", "notify_packets");
	refuse_port("a=/a,notify-packets=4097", "notify_packets");
	refuse_port("a=/a,mac-limit=0", "mac_limit");
	refuse_port("a=/a,csum=on", "csum");
	refuse_port("a=/a,bit64=off", "bit64");
	refuse_port("a=/a,colour=off", "colour");
	snprintf(text, sizeof(text), "a=/%0107d", 0);
	refuse_port(text, "path");
	snprintf(text, sizeof(text), "a=/%0106d", 0);
	assert_int_equal(port_settings_parse(&port, text, &error), 0);
}

static void refuse_json(const char *text, const char *parameter)
{
	json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);

	error = (struct settings_error){0};
	assert_non_null(json);
	if (port_settings_from_json(&port, json, &error) == 0)
		fail_msg("'%s' was taken", text);
	assert_string_equal(error.parameter, parameter);
	json_decref(json);
}

static void test_json_refused(void **state)
{
	(void)state;
	refuse_json("[]", "parameters");
	refuse_json("7", "parameters");
	refuse_json("{}", "name");
	refuse_json("{\"name\": 7}", "name");
	refuse_json("{\"name\": \"a\"}", "path");
	refuse_json("{\"name\": \"a\", \"driver\": \"tap\"}", "path");
	refuse_json("{\"name\": \"a\", \"driver\": {}}", "driver");
	refuse_json("{\"name\": \"a\", \"driver\": {\"kind\": \"tap\", \"device\": 7}}", "device");
	refuse_json("{\"name\": \"a\", \"driver\": {\"kind\": \"tap\", \"device\": \"x\", \"mode\": 1}}", "mode");
	refuse_json("{\"name\": \"a\", \"driver\": {\"kind\": \"tap\", \"device\": \"x\", \"options\": {}}}",
		    "driver_option");
	refuse_json("{\"name\": \"a\", \"path\": \"a.sock\"}", "path");
	refuse_json("{\"name\": \"a\", \"path\": \"/a\", \"x\": 1}", "x");
	refuse_json("{\"name\": \"a\", \"path\": \"/a\", \"queues\": 1.5}", "queues");
	refuse_json("{\"name\": \"a\", \"path\": \"/a\", \"queues\": \"1\"}", "queues");
	refuse_json("{\"name\": \"a\", \"path\": \"/a\", \"mode\": 0}", "mode");
	refuse_json("{\"name\": \"a\", \"path\": \"/a\", \"features_off\": {}}", "features_off");
	refuse_json("{\"name\": \"a\", \"path\": \"/a\", \"features_off\": [1]}", "features_off");
	refuse_json("{\"name\": \"a\", \"path\": \"/a\", \"features_off\": [\"x\"]}", "features_off");
}

static void test_bridge(void **state)
{
	struct bridge_settings bridge;

	(void)state;
	assert_int_equal(bridge_settings_parse(&bridge, "lan", &error), 0);
	assert_string_equal(bridge.name, "lan");
	assert_int_equal(bridge.mac_age, 300);
	assert_int_equal(bridge_settings_parse(&bridge, "lan,mac-age=10", &error), 0);
	assert_int_equal(bridge.mac_age, 10);
	assert_int_equal(bridge_settings_parse(&bridge, "lan,mac-age=9", &error), -EINVAL);
	assert_string_equal(error.parameter, "mac_age");
	assert_int_equal(bridge_settings_parse(&bridge, "lan,age=9", &error), -EINVAL);
	assert_int_equal(bridge_settings_parse(&bridge, "", &error), -EINVAL);
	assert_string_equal(error.parameter, "name");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_port),
		cmocka_unit_test(test_given_twice),
		cmocka_unit_test(test_relative_path),
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_json_round_trip),
		cmocka_unit_test(test_port_refused),
		cmocka_unit_test(test_json_refused),
		cmocka_unit_test(test_bridge),
		cmocka_unit_test(test_driver),
		cmocka_unit_test(test_driver_json),
		cmocka_unit_test(test_driver_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
