"""What every sub-package may import, and what imports none of them: checks, wording, keys, results, staging, folders, palette."""
