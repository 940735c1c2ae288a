# SPDX-License-Identifier: BSD-3-Clause
"""The contenders: lasthop and the switches it is compared with, each started and stopped the same way."""

from .base import Contender
from .lasthop import Lasthop
from .ovs import OvsDpdk
from .testpmd import Testpmd

CONTENDERS = {c.name: c for c in (Lasthop, OvsDpdk, Testpmd)}

__all__ = ["CONTENDERS", "Contender"]
