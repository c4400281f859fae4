"""From a packed network to the formats of other programs."""
