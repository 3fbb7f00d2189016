"""Power modes: nvpmodel's answers, and the change to another mode."""
