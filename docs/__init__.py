"""Pages for people who build on convform: the protocol of subjects in another process."""
