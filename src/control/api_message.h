/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The messages of the API: JSON objects in the shape that varlink defines, each ended by a NUL.
 * Pure functions, any thread.
 */
#ifndef LASTHOP_CONTROL_API_MESSAGE_H
#define LASTHOP_CONTROL_API_MESSAGE_H

#include "lib/compiler.h"

#include <jansson.h>

#define API_CALL_MAX    65536 /* bytes of a call; answers may be longer */
#define API_INTERFACE   "io.lasthop.Control"
#define API_SOCKET_NAME "api.sock"

struct api_call {
	json_t *message;    /* owns what the others point to */
	const char *method; /* "io.lasthop.Control.ListPorts" */
	json_t *parameters; /* an object, maybe empty */
	bool oneway;        /* no answer is wanted */
};

/*
 * Parses a call without its NUL. 0, or -EINVAL with the reason in `why`: this is no call, and what
 * follows on the connection cannot be trusted to be one either.
 */
int api_call_parse(struct api_call *call, const char *text, size_t size, char why[160]) must_check;
void api_call_cleanup(struct api_call *call);

/*
 * An answer's text, ended by its NUL, to be freed; NULL: no memory. `parameters` is consumed and
 * may be NULL. `error`: the full name of an error, or NULL.
 */
char *api_answer_format(const char *error, json_t *parameters);

#endif
