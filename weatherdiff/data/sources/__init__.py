"""Behind `open_fields`: files of any kind, here or far away, to one canonical Dataset."""
