"""What stands behind each command of the command line, in a module of its own."""
