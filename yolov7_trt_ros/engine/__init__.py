"""The only package that knows inference engines; `open.open_detector` chooses one."""
