/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Calls to the control plane's API (docs/api.md): one connection per call.
 */
#ifndef LASTHOP_CLI_API_CLIENT_H
#define LASTHOP_CLI_API_CLIENT_H

#include "cli/cli.h"

/*
 * Calls io.lasthop.Control.`method`. `parameters` is consumed. On CLI_OK `*answer` has the answer's
 * parameters, to be freed; otherwise what is wrong has been printed: CLI_FAILED or CLI_UNREACHABLE.
 */
int api_client_call(const struct cli *cli, const char *method, json_t *parameters, json_t **answer);

#endif
