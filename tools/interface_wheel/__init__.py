"""
Interface packages into wheels, one step a module.

`interfaces` says what is to be built and checks that it can be, `generation` calls the rosidl
generators, `compilation` calls gcc and g++, `packing` zips. build_interface_wheel.py runs them.

"""
