"""The governor: chooses clocks. Pure, no hardware."""
