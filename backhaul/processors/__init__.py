"""The processors that Backhaul brings along: ordinary plug-ins, one file each."""
