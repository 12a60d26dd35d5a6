#!/usr/bin/env python3
"""Runs the notebooks: every shell cell, in order, in one bash for each notebook, as Jupyter would.

  notebooks-md/run.py [NAME.md ...]           runs all cells and rewrites outputs, excerpts, references, pictures, and
                                              the table of minutes in ../README.md
  notebooks-md/run.py --text [NAME.md ...]    runs nothing: excerpts, references and that table alone are renewed
  notebooks-md/run.py --check [NAME.md ...]   runs all cells, or their short forms, in a folder of its own, and compares:
                                              Test Anything Protocol on stdout, exit 1 where text and program disagree

README.md in this folder says how a notebook is written. Python's standard library is all this needs.
"""
import contextlib
import json
import os
import pathlib
import re
import select
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))
sys.dont_write_bytecode = True
from reading import FOLD, SHORT, Reading, minutes  # noqa: E402

ROOT = FOLDER.parent
SECTIONS = ["Questions", "Objectives", "What changed since", "Formulas and measurements", "Exercises",
            "When not to use this", "Key points", "Solutions", "For whoever teaches this"]
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?!\w)")
TOLERANCE = 5e-3  # relative: three digits


class Problem(Exception):
    """Something in a notebook that its author has to mend."""


# ---- reading and writing a notebook ----

class Block:
    """A stretch of prose (fence None), or a fenced block: its fence, the words behind it, and its lines."""

    def __init__(self, lines, fence=None, info=""):
        self.lines, self.fence, self.info = lines, fence, info
        self.language = info.split(" ", 1)[0]
        self.attributes = parse_attributes(info[len(self.language):]) if fence else {}

    @property
    def text(self):
        return "\n".join(self.lines)

    @property
    def blank(self):
        return self.fence is None and not self.text.strip()

    def render(self):
        return self.lines if self.fence is None else [self.fence + self.info, *self.lines, self.fence]


def parse_attributes(text):
    """`name="gemm" time=true` as a dict; the values are JSON, which is what jupytext writes."""
    attributes, decoder, at = {}, json.JSONDecoder(), 0
    while match := re.compile(r"\s*([\w-]+)=").match(text, at):
        try:
            attributes[match[1]], at = decoder.raw_decode(text, match.end())
        except json.JSONDecodeError as error:
            raise Problem(f"the attribute {match[1]} is not JSON: {text.strip()}") from error
    if text[at:].strip():
        raise Problem(f"not an attribute: {text[at:].strip()}")
    return attributes


def parse(text):
    blocks, lines, fence = [], [], None
    for line in text.split("\n"):
        opening = re.match(r"(```+|~~~+)(.*)$", line)
        if fence is None and opening:
            blocks.append(Block(lines))
            lines, fence, info = [], opening[1], opening[2]
        elif fence is not None and line == fence:
            blocks.append(Block(lines, fence, info))
            lines, fence = [], None
        else:
            lines.append(line)
    if fence is not None:
        raise Problem(f"a block that begins with {fence}{info} has no end")
    return blocks + [Block(lines)]


class Notebook:
    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.run_minutes = None  # known when all cells have run
        self.blocks = parse(self.path.read_text(encoding="utf-8"))
        self.cells = [b for b in self.blocks if b.fence and b.language == "bash"]
        self.excerpts = [b for b in self.blocks if b.fence and "file" in b.attributes]
        for number, cell in enumerate(self.cells, 1):
            cell.name = cell.attributes.get("name", f"cell {number}")
            cell.output = self.output_of(cell)

    def output_of(self, cell):
        """The block of language `text` that follows the cell, folded or not, or None."""
        for block in self.blocks[self.blocks.index(cell) + 1:]:
            if not block.blank and not (block.fence is None and FOLD.fullmatch(block.text.strip())):
                return block if block.fence and block.language == "text" else None
        return None

    def set_output(self, cell, lines):
        at = self.blocks.index(cell) + 1
        if cell.output and lines:
            cell.output.lines = lines
        elif cell.output:
            del self.blocks[at:self.blocks.index(cell.output) + 1]
            cell.output = None
        elif lines:
            cell.output = Block(lines, "```", "text")
            self.blocks[at:at] = [Block([""]), cell.output]

    def prose(self):
        return "\n".join(b.text for b in self.blocks if b.fence is None)

    def write(self):
        lines = [line for block in self.blocks for line in block.render()]
        self.path.write_text("\n".join(lines), encoding="utf-8")


# ---- minutes to read and to run: the table in ../README.md ----

def lessons():
    return sorted(FOLDER.glob("[0-9][0-9]_*.md"))


TABLE = re.compile(r"(?<=<!-- minutes, by notebooks-md/run.py -->\n).*?(?=<!-- /minutes -->)", re.S)


def minutes_table():
    lines = ["", "| chapter | minutes to read in full | minutes on the short way | minutes to run |", "|---|---|---|---|"]
    for path in lessons():
        notebook = Notebook(path)
        numbers = " | ".join(minutes(notebook, what) for what in ("read", "short", "run"))
        lines.append(f"| [{path.stem.replace('_', ' ')}](notebooks-md/{path.name}) | {numbers} |")
    return "\n".join(lines) + "\n\n"


def rewrite_readme():
    readme = ROOT / "README.md"
    readme.write_text(TABLE.sub(lambda _: minutes_table(), readme.read_text(encoding="utf-8")), encoding="utf-8")


def check_readme():
    """Yields, as check() does, what is wrong with the table of minutes, and with the length of each short way."""
    table = TABLE.search((ROOT / "README.md").read_text(encoding="utf-8"))
    right = table and table[0] == minutes_table()
    yield "README.md: minutes to read and to run", None if right else "not today's: run notebooks-md/run.py --text"
    for path in lessons():
        reading = Reading(Notebook(path))
        wrong = f"{reading.short} of {reading.words} words" if reading.short > SHORT * reading.words else None
        yield f"{path.stem}: the short way is about half as long", wrong


# ---- excerpts: code that is taken from its source ----

def function_lines(lines, name):
    """From the comment above a function to its last brace."""
    head = re.compile(rf"^[A-Za-z_].*\b{re.escape(name)}\(")
    for first, line in enumerate(lines):
        if head.match(line) and not line.endswith(";"):
            last = first
            while not (lines[last].startswith("}") or line.endswith("}")):
                last += 1
            if first and lines[first - 1].endswith("*/"):
                first -= 1
                while not lines[first].lstrip().startswith("/*"):
                    first -= 1
            return lines[first:last + 1]
    return None


def excerpt(attributes):
    """file="common/tensor/tape.c" function="tape_drop", or from="..." to="...": the lines from the first that holds `from` to
    the next that holds `to`."""
    path = ROOT / attributes["file"]
    if not path.is_file():
        raise Problem(f"there is no file {attributes['file']}")
    lines = path.read_text(encoding="utf-8").split("\n")
    if "function" in attributes:
        found = function_lines(lines, attributes["function"])
        if found is None:
            raise Problem(f"{attributes['file']} has no function {attributes['function']}")
        return found
    first = next((i for i, line in enumerate(lines) if attributes["from"] in line), None)
    last = next((i for i, line in enumerate(lines) if first is not None and i >= first and attributes["to"] in line), None)
    if last is None:
        raise Problem(f"{attributes['file']} has no lines from '{attributes['from']}' to '{attributes['to']}'")
    found = textwrap.dedent("\n".join(lines[first:last + 1]))
    if all(re.match(r"\s*\*|\s*$", line) for line in found.split("\n")):  # inside a comment
        found = textwrap.dedent(re.sub(r"^\s*\*", "", found, flags=re.M))
    return found.split("\n")


# ---- running ----

class Shell:
    """One bash; cells share its variables and its folder."""

    def __init__(self, root, seconds):
        self.scratch = pathlib.Path(tempfile.mkdtemp())
        self.seconds = seconds
        environment = dict(os.environ, PWD=str(root / "notebooks-md"), LC_ALL="C.UTF-8", MAKEFLAGS="", TERM="dumb")
        self.bash = subprocess.Popen(["bash", "--norc", "--noprofile"], cwd=root / "notebooks-md", env=environment,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, code):
        """(exit status, lines of stdout and stderr together)"""
        script, out = self.scratch / "cell", self.scratch / "out"
        script.write_text(code + "\n", encoding="utf-8")
        self.bash.stdin.write(f". {script} </dev/null >{out} 2>&1; echo $?\n")
        self.bash.stdin.flush()
        status, end = self.status(time.monotonic() + self.seconds)
        text = out.read_text(encoding="utf-8", errors="replace") if out.exists() else ""
        if status is None:
            raise Problem(f"the cell {end}: {' | '.join(text.splitlines()[-3:])}")
        return status, [line.rstrip() for line in text.rstrip("\n").split("\n")] if text.strip() else []

    def status(self, deadline):
        """What bash answers, and why it did not."""
        answer, pipe = b"", self.bash.stdout.fileno()
        while not answer.endswith(b"\n"):
            if not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
                self.bash.kill()
                return None, f"did not end within {self.seconds} s"
            piece = os.read(pipe, 100)
            if not piece:
                return None, "ended the shell"
            answer += piece
        return int(answer), None

    def close(self):
        self.bash.kill()
        self.bash.wait()
        self.bash.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.bash.stdin.close()
        shutil.rmtree(self.scratch)


def run_cell(shell, cell, code):
    status, lines = shell.run(code)
    expected = cell.attributes.get("status", 0)
    if status != expected:
        raise Problem(f"exit status {status}, not {expected}: " + " | ".join(lines[-3:]))
    return lines


# ---- comparing ----

def masked(line, attributes):
    """What of a line must agree: runs of blanks count as one, masked parts as `#`."""
    if "mask" in attributes:
        line = re.sub(attributes["mask"], "#", line)
    if attributes.get("time"):
        line = NUMBER.sub("#", line)
    return " ".join(line.split())


def same_number(a, b, tolerance):
    if a == b:
        return True
    if not any(c in a + b for c in ".e"):  # whole numbers are counts
        return False
    return abs(float(a) - float(b)) <= tolerance * max(abs(float(a)), abs(float(b)))


def same_line(a, b, attributes):
    a, b = masked(a, attributes), masked(b, attributes)
    if NUMBER.sub("#", a) != NUMBER.sub("#", b):
        return False
    tolerance = attributes.get("tolerance", TOLERANCE)
    return all(same_number(x, y, tolerance) for x, y in zip(NUMBER.findall(a), NUMBER.findall(b)))


def disagreement(cell, lines):
    """None, or how the lines that a cell printed differ from those in the notebook. A short form is compared in the
    lines that its `compare` matches: they must be the first of those in the notebook."""
    stored = cell.output.lines if cell.output else []
    short = "short" in cell.attributes
    if "compare" in cell.attributes:
        pattern = re.compile(cell.attributes["compare"])
        stored, lines = ([line for line in text if pattern.search(line)] for text in (stored, lines))
        if not lines:
            return f"no line matches '{cell.attributes['compare']}'"
    elif short:
        return "a short form needs compare=\"REGEX\""
    if not short and len(stored) != len(lines) or len(lines) > len(stored):
        return f"{len(lines)} lines instead of {len(stored)}"
    for want, got in zip(stored, lines):
        if not same_line(want, got, cell.attributes):
            return f"'{got.strip()}' instead of '{want.strip()}'"
    return None


# ---- numbers in prose ----

REFERENCE = re.compile(r"<!--([\w -]+): (.+?)-->(.*?)<!--/-->")


def resolve(notebook, match):
    """The value of <!--cell: REGEX-->value<!--/-->: the first group of the first match in the cell's output; that of
    <!--minutes: WHAT-->value<!--/--> as minutes() says."""
    if match[1] == "minutes":
        return minutes(notebook, match[2])
    cell = next((c for c in notebook.cells if c.name == match[1]), None)
    if cell is None:
        raise Problem(f"a reference names the cell {match[1]}, which is not there")
    found = re.search(match[2], cell.output.text if cell.output else "", re.M)
    if not found:
        raise Problem(f"the output of {match[1]} has no '{match[2]}'")
    return found[1]


def update_references(notebook):
    for block in notebook.blocks:
        if block.fence is None:
            text = REFERENCE.sub(lambda m: f"<!--{m[1]}: {m[2]}-->{resolve(notebook, m)}<!--/-->", block.text)
            block.lines = text.split("\n")


def stale_references(notebook):
    return [f"{m[1]}: {m[3]} should be {value}" for m in REFERENCE.finditer(notebook.prose())
            if (value := resolve(notebook, m)) != m[3]]


def plain(number):
    return number.replace(",", "").lstrip("+")


def unknown_numbers(notebook):
    """Numbers of the prose that no cell prints and no code holds. A decimal number may be a rounded one."""
    prose = REFERENCE.sub("", notebook.prose())
    prose = re.sub(r"\A---\n.*?\n---\n", "", prose, flags=re.S)                # the header
    prose = re.sub(r"<!--.*?-->|<[^>]*>|`[^`\n]*`|\]\([^)]*\)", " ", prose, flags=re.S)  # comments, tags, code, links
    prose = re.sub(r"\b[Cc]hapters? \d\d(?:(?:,| and| to) \d\d)*", " ", prose)
    prose = re.sub(r"^# \d\d|^ *\d+\. ", " ", prose, flags=re.M)               # the title; numbered lists
    prose = re.sub(r"\(([A-Z][^()]*), (?:1[89]|20)\d\d\)", " ", prose)         # (Author, Title, 2008)
    known = set()
    for block in notebook.blocks:
        if block.fence:
            known.update(plain(n) for n in re.findall(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", block.text + " " + block.info))
    decimals = [n for n in known if "." in n and "e" not in n]
    unknown = []
    for number in map(plain, re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", prose)):
        number = number.rstrip(",")
        places = len(number.partition(".")[2])
        rounded = places > 0 and any(f"{float(n):.{places}f}" == number for n in decimals)
        if number not in known and not rounded:
            unknown.append(number)
    return unknown


# ---- pictures ----

def picture_name(notebook, source):
    return f"{notebook.path.stem[:2]}_{pathlib.Path(source).name}"


def cell_pictures(cell):
    return cell.attributes.get("pictures", "").split()


def missing_pictures(notebook):
    prose = notebook.prose()
    names = [picture_name(notebook, p) for cell in notebook.cells for p in cell_pictures(cell)]
    shown = re.findall(r"!\[[^\]]*\]\(images/([^)]*)\)", prose)
    problems = [f"images/{name} is not there" for name in shown if not (FOLDER / "images" / name).is_file()]
    problems += [f"images/{name} is shown, but no cell draws it" for name in shown if name not in names]
    return problems + [f"images/{name} is drawn, but not shown" for name in names if name not in shown]


# ---- the two commands ----

def rewrite(path, cells=True):
    """Runs a notebook in the working tree and writes what came out into it; without `cells`, only excerpts and references
    are renewed. Returns the problems."""
    notebook = Notebook(path)
    if cells:
        run_cells(notebook)
    for block in notebook.excerpts:
        block.lines = excerpt(block.attributes)
    update_references(notebook)
    notebook.write()
    problems = missing_pictures(notebook)
    problems += [f"the number {n} in the prose is in no output and no code" for n in unknown_numbers(notebook)]
    return problems


def run_cells(notebook):
    shell, start = Shell(ROOT, 1200), time.monotonic()
    try:
        for cell in notebook.cells:
            print(f"{notebook.path.name}: {cell.name}", file=sys.stderr)
            notebook.set_output(cell, run_cell(shell, cell, cell.text))
            for source in cell_pictures(cell):
                shutil.copyfile(ROOT / source, FOLDER / "images" / picture_name(notebook, source))
        notebook.run_minutes = f"{max(1, (time.monotonic() - start) / 60):.0f}"
    finally:
        shell.close()


def mirror(folder):
    """A working tree for a check: everything is a link to this one, but runs/ and notebooks-md/ are its own."""
    for entry in ROOT.iterdir():
        if entry.name not in ("runs", "notebooks-md"):
            (folder / entry.name).symlink_to(entry)
    (folder / "notebooks-md").mkdir()
    for entry in FOLDER.iterdir():
        (folder / "notebooks-md" / entry.name).symlink_to(entry)


def check(path, cells=True):
    """Yields (what, None or what is wrong with it) for everything in a notebook that can be wrong; without `cells`, nothing
    is run."""
    notebook = Notebook(path)
    name = notebook.path.stem
    headings = re.findall(r"^#+ (.*)$", notebook.prose(), re.M)
    missing = [s for s in SECTIONS if not any(h.startswith(s) for h in headings)]
    yield f"{name}: has its sections", ("missing: " + ", ".join(missing)) if missing else None
    for block in notebook.excerpts:
        try:
            wrong = None if block.lines == excerpt(block.attributes) else "the source has changed: run make notebooks"
        except Problem as problem:
            wrong = str(problem)
        yield f"{name}: excerpt of {block.attributes['file']}", wrong
    for what, problems in (("pictures", missing_pictures), ("references", stale_references)):
        try:
            yield f"{name}: {what}", "; ".join(problems(notebook)) or None
        except Problem as problem:
            yield f"{name}: {what}", str(problem)
    yield f"{name}: what can wait is marked", "; ".join(Reading(notebook).problems) or None
    unknown = unknown_numbers(notebook)
    yield f"{name}: numbers in the prose", (", ".join(unknown) + " in no output and no code") if unknown else None
    if not cells:
        return
    with tempfile.TemporaryDirectory() as folder:
        mirror(pathlib.Path(folder))
        shell = Shell(pathlib.Path(folder), 300)
        try:
            for cell in notebook.cells:
                try:
                    wrong = disagreement(cell, run_cell(shell, cell, cell.attributes.get("short", cell.text)))
                except Problem as problem:
                    wrong = str(problem)
                yield f"{name}: cell {cell.name}", wrong
        finally:
            shell.close()


def main(arguments):
    unknown = [a for a in arguments if a.startswith("--") and a not in ("--check", "--text")]
    if unknown:
        print(__doc__)
        return 0 if unknown == ["--help"] else 2
    checking, cells = "--check" in arguments, "--text" not in arguments
    paths = [FOLDER / pathlib.Path(a).name for a in arguments if not a.startswith("--")]
    paths = paths or lessons()
    count = failed = 0
    for path in paths:
        try:
            results = check(path) if checking else ((path.name, p) for p in rewrite(path, cells))
            for what, wrong in results:
                count += 1
                failed += wrong is not None
                if checking:
                    print(("not " if wrong else "") + f"ok {count} - {what}" + (f"\n# {wrong}" if wrong else ""), flush=True)
                else:
                    print(f"{what}: {wrong}", file=sys.stderr)
        except Problem as problem:
            count, failed = count + 1, failed + 1
            print(f"not ok {count} - {path.name}\n# {problem}" if checking else f"{path.name}: {problem}",
                  file=sys.stdout if checking else sys.stderr)
    if checking:
        for what, wrong in check_readme():
            count += 1
            failed += wrong is not None
            print(("not " if wrong else "") + f"ok {count} - {what}" + (f"\n# {wrong}" if wrong else ""))
        print(f"1..{count}")
    else:
        rewrite_readme()
    return 1 if failed or (checking and not count) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
