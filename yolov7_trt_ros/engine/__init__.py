"""The only folder that knows inference engines. `open.open_detector` chooses one."""
