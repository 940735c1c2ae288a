/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reads what an operator wants to be left to the kernel. The text is the operator's own, so what is not understood is
 * answered with what would be.
 */
#include "driver/xdp_keep.h"

#include "lib/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A number of at most 16 bits with nothing behind it. base as strtoul has it. */
static bool keep_number(const char *text, int base, uint16_t *number)
{
	unsigned long value;
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return false;
	value = strtoul(text, &end, base);
	*number = (uint16_t)value;
	return *end == '\0' && value > 0 && value <= UINT16_MAX;
}

static bool keep_mac(struct xdp_keep_rule *rule, const char *text)
{
	static const char digits[] = "0123456789abcdef";

	/* Two digits, a colon between bytes. */
	for (unsigned int i = 0; i < 18; i++) {
		char c = text[i];
		const char *digit = strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);

		if (i == 17)
			return c == '\0';
		if (i % 3 == 2) {
			if (c != ':')
				return false;
			continue;
		}
		if (c == '\0' || digit == NULL)
			return false;
		rule->mac[i / 3] = (uint8_t)(rule->mac[i / 3] << 4 | (digit - digits));
	}
	return false;
}

static bool keep_ip(struct xdp_keep_rule *rule, const char *text)
{
	if (inet_pton(AF_INET, text, rule->ip) == 1)
		rule->ip_version = 4;
	else if (inet_pton(AF_INET6, text, rule->ip) == 1)
		rule->ip_version = 6;
	return rule->ip_version != 0;
}

static bool keep_port(struct xdp_keep_rule *rule, char *text)
{
	char *protocol = strchr(text, '/');

	if (protocol != NULL) {
		*protocol++ = '\0';
		if (strcmp(protocol, "tcp") == 0)
			rule->protocol = IPPROTO_TCP;
		else if (strcmp(protocol, "udp") == 0)
			rule->protocol = IPPROTO_UDP;
		else
			return false;
	}
	if (!keep_number(text, 10, &rule->port))
		return false;
	rule->port = htons(rule->port);
	return true;
}

static bool keep_ethertype(struct xdp_keep_rule *rule, const char *text)
{
	if (!keep_number(text, 0, &rule->ethertype))
		return false;
	rule->ethertype = htons(rule->ethertype);
	return true;
}

static bool keep_condition(struct xdp_keep_rule *rule, char *text, const uint8_t own_mac[6])
{
	char *argument = strchr(text, ':');
	uint32_t condition;
	bool ok;

	if (argument != NULL)
		*argument++ = '\0';
	if (strcmp(text, "mac") == 0) {
		condition = XDP_KEEP_MAC;
		ok = argument == NULL || keep_mac(rule, argument);
		if (argument == NULL)
			memcpy(rule->mac, own_mac, sizeof(rule->mac));
	} else if (strcmp(text, "arp") == 0 || strcmp(text, "lldp") == 0) {
		condition = XDP_KEEP_ETHERTYPE;
		ok = argument == NULL;
		rule->ethertype = htons(text[0] == 'a' ? ETH_P_ARP : ETH_P_LLDP);
	} else if (argument == NULL) {
		return false;
	} else if (strcmp(text, "ethertype") == 0) {
		condition = XDP_KEEP_ETHERTYPE;
		ok = keep_ethertype(rule, argument);
	} else if (strcmp(text, "ip") == 0) {
		condition = XDP_KEEP_IP;
		ok = keep_ip(rule, argument);
	} else if (strcmp(text, "port") == 0) {
		condition = XDP_KEEP_PORT;
		ok = keep_port(rule, argument);
	} else {
		return false;
	}
	/* Twice the same condition cannot be meant. */
	if (!ok || (rule->conditions & condition))
		return false;
	rule->conditions |= condition;
	return true;
}

int xdp_keep_add(struct xdp_keep *keep, const char *text, const uint8_t own_mac[6])
{
	struct xdp_keep_rule rule = {0};
	char copy[160], *rest = copy, *condition;

	if (keep->count == XDP_KEEP_RULES) {
		log_error("keep=%s: there is room for %u rules", text, XDP_KEEP_RULES);
		return -E2BIG;
	}
	if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy))
		copy[0] = '\0';
	while ((condition = strsep(&rest, "+")) != NULL) {
		if (!keep_condition(&rule, condition, own_mac)) {
			log_error("keep=%s is not understood: conditions, joined by +, are mac, mac:AA:BB:CC:DD:EE:FF, "
				  "ethertype:0xNNNN, arp, lldp, ip:ADDRESS, port:N, port:N/tcp, port:N/udp",
				  text);
			return -EINVAL;
		}
	}
	keep->rules[keep->count++] = rule;
	return 0;
}
