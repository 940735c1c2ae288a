/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A call is parsed strictly: whoever writes a member twice or of a wrong type has a bug that is
 * better found at once.
 */
#include "control/api_message.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int check_flag(const json_t *message, const char *name, bool *flag)
{
	const json_t *value = json_object_get(message, name);

	*flag = json_is_true(value);
	return value == NULL || json_is_boolean(value) ? 0 : -EINVAL;
}

static int call_check(struct api_call *call, char why[160])
{
	bool more, upgrade;

	if (!json_is_object(call->message)) {
		snprintf(why, 160, "a call is an object");
		return -EINVAL;
	}
	call->method = json_string_value(json_object_get(call->message, "method"));
	if (call->method == NULL) {
		snprintf(why, 160, "a call has a 'method', which is a string");
		return -EINVAL;
	}
	call->parameters = json_object_get(call->message, "parameters");
	if (call->parameters == NULL || json_is_null(call->parameters)) {
		json_object_set_new(call->message, "parameters", json_object());
		call->parameters = json_object_get(call->message, "parameters");
	}
	if (!json_is_object(call->parameters)) {
		snprintf(why, 160, "'parameters' is an object");
		return -EINVAL;
	}
	/* Every answer is one message, so "more" makes no difference. */
	if (check_flag(call->message, "oneway", &call->oneway) < 0 || check_flag(call->message, "more", &more) < 0 ||
	    check_flag(call->message, "upgrade", &upgrade) < 0) {
		snprintf(why, 160, "'oneway', 'more' and 'upgrade' are booleans");
		return -EINVAL;
	}
	return 0;
}

int api_call_parse(struct api_call *call, const char *text, size_t size, char why[160])
{
	json_error_t error;

	memset(call, 0, sizeof(*call));
	call->message = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
	if (call->message == NULL) {
		snprintf(why, 160, "not JSON: %.130s", error.text);
		return -EINVAL;
	}
	if (call_check(call, why) < 0) {
		api_call_cleanup(call);
		return -EINVAL;
	}
	return 0;
}

void api_call_cleanup(struct api_call *call)
{
	json_decref(call->message);
	memset(call, 0, sizeof(*call));
}

char *api_answer_format(const char *error, json_t *parameters)
{
	json_t *answer = json_object();
	char *text = NULL;

	if (parameters == NULL)
		parameters = json_object();
	if ((error == NULL || json_object_set_new(answer, "error", json_string(error)) == 0) &&
	    json_object_set_new(answer, "parameters", parameters) == 0)
		text = json_dumps(answer, JSON_COMPACT);
	json_decref(answer);
	return text;
}
