# SPDX-License-Identifier: BSD-3-Clause
"""The contenders: lasthop and the switches it is compared with, each started and stopped the same way."""

from .base import Contender
from .kernel import Kernel
from .lasthop import VARIANTS, Lasthop
from .memcpy import Memcpy
from .ovs import OvsDpdk, OvsNetTap
from .testpmd import Testpmd

CONTENDERS = {c.name: c for c in (Lasthop, OvsDpdk, OvsNetTap, Testpmd, Kernel, Memcpy, *VARIANTS)}

__all__ = ["CONTENDERS", "Contender"]
