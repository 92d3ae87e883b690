"""Turn arrays into Zarr 3 nodes with type, key, checksums and a completion mark, and back: see docs/store-format.md."""

from brainsim.store.layout import ArraySpec
from brainsim.store.node_types import NODE_TYPES, NodeType
from brainsim.store.records import NodeInfo
from brainsim.store.repair import Repair
from brainsim.store.store import Store
from brainsim.store.verify import Damage
from brainsim.store.writer import NodeWriter

__all__ = ["NODE_TYPES", "ArraySpec", "Damage", "NodeInfo", "NodeType", "NodeWriter", "Repair", "Store"]
