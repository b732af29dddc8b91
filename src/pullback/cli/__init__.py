"""The command line: words to parts; the only place that prints."""
