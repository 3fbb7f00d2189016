"""Power of the board: modes, clocks, telemetry, governor. Standard library only."""
