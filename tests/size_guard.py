"""Hold files under 400 lines and functions under 60; an exception needs a sentence here, with its reason."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

FILE_LINES = 400
FUNCTION_LINES = 60
# path or path:function -> the sentence that excuses it
EXCEPTIONS: dict[str, str] = {}


def _functions(path: Path) -> list[tuple[str, int]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        (node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def main() -> int:
    """Print what is too large and return the number of breaches."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    breaches, spans = [], []
    for path in map(Path, listing.stdout.split()):
        if not path.exists():
            continue
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > FILE_LINES and str(path) not in EXCEPTIONS:
            breaches.append(f"{path}: {lines} lines, the ceiling is {FILE_LINES}: split it by idea")
        for name, span in _functions(path):
            if "tests" not in path.parts:
                spans.append(span)
            if span > FUNCTION_LINES and f"{path}:{name}" not in EXCEPTIONS:
                breaches.append(f"{path}:{name}: {span} lines, the ceiling is {FUNCTION_LINES}")
    print("\n".join(breaches))
    if spans:
        print(f"functions: {len(spans)}, median {statistics.median(spans):g} lines, longest {max(spans)}")
    return len(breaches)


if __name__ == "__main__":
    sys.exit(main())
