"""The governor: which clocks to allow. Pure, no hardware."""
