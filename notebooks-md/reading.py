"""The short way through a notebook: which parts can wait for a second reading, and how many minutes each way takes.

run.py uses it; README.md in this folder says how a part is marked.
"""
import re

WORDS_A_MINUTE = 180  # prose of this kind; words of code and of outputs are counted like those of prose
SHORT = 0.55  # the largest share of a notebook's words that its short way may have
FOLD = re.compile(r"<details>\n<summary>(.+)</summary>")
MARK = re.compile(r"\*Second reading: .+ Go on at \[([^\]]+)\]\(#([^)]+)\)\.\*")
FOR_LATER = ("Solutions", "For whoever teaches this")  # sections that are not on the short way


def anchor(heading):
    """The name that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


class Reading:
    """Counts the words of a notebook and those on its short way, and looks whether the parts that can wait are marked
    as README.md in this folder says: `problems` has what is wrong."""

    def __init__(self, notebook):
        self.words = self.short = 0
        self.problems = []
        self.section = ""
        self.fold = self.until = None  # the summary of the fold that we are in; the heading at which a mark goes on
        for block in notebook.blocks:
            if block.fence is None:
                for paragraph in block.text.strip("\n").split("\n\n"):
                    if self.fold and paragraph.startswith("\n"):
                        self.problems.append(f"'{self.fold}' has two blank lines in a row: there Jupyter begins a new cell")
                    self.prose(paragraph.strip("\n"))
            elif self.fold and block.language == "bash":
                self.problems.append(f"'{self.fold}' has a cell in it, which Jupyter cannot fold: use a mark")
            else:
                self.count(block.text)
        if self.fold:
            self.problems.append(f"'{self.fold}' has no </details>")
        if self.until:
            self.problems.append(f"a mark goes on at '{self.until}', which is no heading below it")
        text = "\n".join(line for block in notebook.blocks for line in block.render())
        if re.search(r"</summary>\n(?!\n)|[^\n]\n</details>", text):
            self.problems.append("blank lines must stand behind <summary> and before </details>")

    def prose(self, paragraph):
        heading = re.match(r"#+ (.*)", paragraph)
        if heading:
            self.section = heading[1] if paragraph.startswith("## ") else self.section
            self.until = None if self.until == heading[1] else self.until
            if self.fold:
                self.problems.append(f"'{self.fold}' has a heading in it")
        elif fold := FOLD.fullmatch(paragraph):
            if self.fold:
                self.problems.append(f"'{fold[1]}' stands in '{self.fold}'")
            if not self.later() and not fold[1].startswith("Second reading: "):
                self.problems.append(f"'{fold[1]}' does not begin with 'Second reading: '")
            self.fold = fold[1]
            return
        elif paragraph == "</details>" and self.fold:
            self.fold = None
            return
        elif re.search(r"</?details>|</?summary>", paragraph):
            self.problems.append(f"not a fold: {paragraph.splitlines()[0]}")
        elif paragraph.startswith("*Second reading"):
            mark = MARK.fullmatch(" ".join(paragraph.split()))
            if not mark or mark[2] != anchor(mark[1]) or self.until or self.fold:
                self.problems.append(f"not a mark, or one inside another part: {paragraph.splitlines()[0]}")
            self.count(paragraph)
            self.until = mark[1] if mark else None
            return
        self.count(paragraph)

    def later(self):
        return self.section.startswith(FOR_LATER)

    def count(self, text):
        text = re.sub(r"\A---\n.*\n---\Z|<!--.*?-->", "", text, flags=re.S)  # the header; comments
        words = len(text.split())
        self.words += words
        if not (self.fold or self.until or self.later()):
            self.short += words


def minutes(notebook, what):
    """`read` in full, on the `short` way, and to `run` all cells; the last as it was when they ran last."""
    if what == "run":
        known = re.search(r"<!--minutes: run-->(.*?)<!--/-->", notebook.prose())
        return notebook.run_minutes or (known[1] if known else "?")
    reading = Reading(notebook)
    return f"{(reading.words if what == 'read' else reading.short) / WORDS_A_MINUTE:.0f}"
