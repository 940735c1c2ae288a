#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What lasthop-observer says of processes and CPUs is true, and nothing that it is asked ends it.
#
# It looks whether processes that want to run do, so nothing else may want the CPUs.
#
# test: asan
# test: alone

set -euo pipefail

observer=$LASTHOP_BUILD/lasthop-observer
if [[ ! -x $observer ]]; then
	echo "cannot exist here: lasthop-observer was not built, libbpf, clang or bpftool is missing"
	exit 77
fi
status=0
"$LASTHOP_BUILD/tests/integration/observer_check" "$observer" || status=$?
if ((status == 77)); then
	echo "cannot exist here: the kernel does not permit BPF to us"
fi
exit "$status"
