"""What a machine tells of its power, loads and heat."""
