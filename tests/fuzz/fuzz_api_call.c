/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Calls to the API as a client may write them, executed on a control plane without a data plane. Its
 * directory does not exist, so that every change fails at the state file: after each call there is
 * what was there before, and every answer is one that can be parsed.
 *
 * Input: a call without its NUL.
 */
#include "control/api.h"
#include "lib/log.h"

#include <stdlib.h>
#include <string.h>

#define must_hold(condition)              \
	do {                              \
		if (!(condition))         \
			__builtin_trap(); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct control control;

static void begin(void)
{
	struct bridge_settings bridge = {.name = "br0", .mac_age = 300};
	struct port_settings port;
	struct settings_error error;

	log_init("fuzz_api_call", -1);
	must_hold(control_init(&control, "/nonexistent") == 0);
	must_hold(control_intend_bridge(&control, &bridge) == 0);
	must_hold(port_settings_parse(&port, "a=/a", &error) == 0);
	must_hold(control_intend_port(&control, &port) == 0);
}

static void check_answer(char *text)
{
	json_t *answer;

	must_hold(text != NULL);
	answer = json_loads(text, 0, NULL);
	must_hold(json_is_object(json_object_get(answer, "parameters")));
	json_decref(answer);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool begun;
	struct api_call call;
	char why[160] = "";

	if (!begun)
		begin();
	begun = true;
	if (api_call_parse(&call, (const char *)data, size, why) < 0) {
		must_hold(why[0] != '\0');
		return 0;
	}
	check_answer(api_execute(&control, &call));
	api_call_cleanup(&call);
	must_hold(LIST_FIRST(&control.fwd.bridges) != NULL);
	must_hold(LIST_NEXT(LIST_FIRST(&control.fwd.bridges), next) == NULL);
	must_hold(TAILQ_FIRST(&control.ports) != NULL);
	must_hold(TAILQ_NEXT(TAILQ_FIRST(&control.ports), next) == NULL);
	return 0;
}
