"""Power modes: what nvpmodel says, and the change to another mode."""
