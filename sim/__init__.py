"""The datacenter: traces in, a run out."""
