"""Own a child: spawn it, drain its pipes, end its whole tree, reap it."""

from __future__ import annotations

from rolehost.processes.cgroups import Cgroups
from rolehost.processes.child import Child
from rolehost.processes.exits import Exit
from rolehost.processes.identity import ChildIdentity
from rolehost.processes.lineage import become_subreaper, die_with_parent
from rolehost.processes.output import Output
from rolehost.processes.redirects import Redirects
from rolehost.processes.tree import MARKER, Usage, end_strays
from rolehost.processes.unprivileged import unprivileged_identity, with_own_pids
from rolehost.processes.warm import WarmStarts

__all__ = [
    "MARKER",
    "Cgroups",
    "Child",
    "ChildIdentity",
    "Exit",
    "Output",
    "Redirects",
    "Usage",
    "WarmStarts",
    "become_subreaper",
    "die_with_parent",
    "end_strays",
    "unprivileged_identity",
    "with_own_pids",
]
