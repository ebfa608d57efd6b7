"""The published tasks, one short file each: a module here that defines ``TASKS`` is found by itself."""
