"""The commands of graphpipe-fn; each module has add_arguments() and run()."""
