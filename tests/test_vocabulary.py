"""One word per idea: words that the project does not use, in package, documentation, tests and README."""

import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each is the left-out word and, after it, what to write.
LEFT_OUT = {
    r"\bskills?\b": "accuracy",
    r"\bprobes?\b": "classifier",
    r"\bnuisances?\b": "technical covariate, batch",
    r"\bprotect(s|ed|ing)?\b": "conserve",
    r"\bguarded\b": "stepwise",
    r"\bthe walk\b|\bwalks?\b": "backward elimination, steps",
    r"\bimplied skill\b|\bimplied_skill\b": "expected from composition",
    r"\bbills?\b|\bbilled\b|zeroing_bill|\bthe price\b": "batch-removal report",
    r"\bverdicts?\b|\boutcomes?\b": "status, summary",
    r"\b(holds?|tells?) (of )?batch\b|\bcarriers?\b": "encodes batch",
    r"\btold the batch\b": "batch-conditioned decoder",
    r"\btaken back\b|\bgiven up\b": "reverted",
    r"\bacting on\b|\bacts? on\b|\bfour verbs\b": "latent-space operations",
    r"\berror[ _]ratios?\b": "relative error",
    r"\bdo_nothing\b|\bwhat if\b": "no-change baseline",
    r"\bnats per nat\b": "exchange rate",
    r"\bteachers?\b|\blearnt\b|\bdealt\b": "training cells, stratified by",
    r"\bon[ _]support\b": "in range",
    r"\brooms\b|\b(a|each|every|one|other|new) room\b|\bhouse\b": "sub-package",
    r"\bshells?\b(?! script)": "staged copy",
    r"\b(a|one) \w+ a (row|panel|dimension|covariate|class|cell|gene|step|line|epoch|picture|file)\b": "one per",
    r"\badjust_for\b": "confounder",
    r"\bfor want of\b|\bwhatever\b": "plain prepositions",
    r"\bbeside\b": "alongside, next to",
    r"\bregularis\w+\b|\bneighbour\w*\b|\bcolour\w*\b|\bbehaviour\b": "American spelling",
    r"\bcentring\b|\bnormalis\w+\b|\blabelled\b": "American spelling, too",
    r"\bprogrammes?\b": "program (American spelling)",
}
SUFFIXES = {".py", ".md", ".inc", ".ipynb", ".toml"}
FOLDERS = ("scbetavae", "docs", "tests", "tutorials", "benchmarks")
# What a word is part of, where it is not ours to choose.
EXCEPTIONS = {
    "tests/test_vocabulary.py": ".*",
    "CHANGELOG.md": r"^\| .* \|$",  # names before they were renamed
    "benchmarks/batch_dimensions.py": "told the batch",  # a label in published rows
}


@functools.cache
def sources():
    """Files that the project wrote, and their lines that are not pictures."""
    lines, files = [], [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    files += [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES]
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        if "/generated/" in name or "/_build/" in name or ".ipynb_checkpoints" in name:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not re.search(EXCEPTIONS.get(name, r"(?!)"), line) and not re.search(r"image/png|shell\.execute", line):
                lines.append((f"{name}:{number}", line))
    return lines


@pytest.mark.parametrize("word", LEFT_OUT)
def test_left_out_words(word):
    found = [f"{where}: {line.strip()[:120]}" for where, line in sources() if re.search(word, line, re.IGNORECASE)]
    assert not found, f"write {LEFT_OUT[word]!r}:\n" + "\n".join(found)
