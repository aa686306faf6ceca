"""Behind `prepare` and `FieldStore`: what is written, how, and how far it is to be trusted."""
