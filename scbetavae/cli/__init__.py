"""Parts of the command line: quiet libraries, progress on standard error, and a folder that is written whole."""
