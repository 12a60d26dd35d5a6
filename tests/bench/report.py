"""The tables of make bench."""
import re
import statistics


def spread(values, form="{:.0f}"):
    """median (least - most)"""
    low, high = form.format(min(values)), form.format(max(values))
    return form.format(statistics.median(values)) + (f" ({low} - {high})" if low != high else "")


def megabytes(count):
    return f"{count * 1e-6:.0f}" if count else "-"


class Report:
    """Prints as it goes and keeps all of it."""

    def __init__(self):
        self.lines = []

    def say(self, text=""):
        self.lines.append(text)
        print(text, flush=True)

    def table(self, head, rows):
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        align = [str.ljust] + [str.rjust] * (len(head) - 1)
        for row in [head, ["-" * w for w in widths], *rows]:
            self.say("| " + " | ".join(align[i](cell, widths[i]) for i, cell in enumerate(row)) + " |")
        self.say()

    def write(self, path, whole):
        """A report that is not whole replaces its sections in the file, and says in each on what machine it was made."""
        made = sections("\n".join(self.lines))
        if not whole and path.exists():
            (_, head), *parts = made.items()
            about = head.split("\n\n", 1)[1]
            made = sections(path.read_text()) | {title: f"{title}\n\n{about}{text[len(title):].lstrip()}" for title, text in parts}
        path.write_text("".join(made.values()))


def sections(text):
    """title -> text with the title, of a file's sections; what stands before the first belongs to the file's own title"""
    parts = re.split(r"^(?=### )", text, flags=re.M)
    return {part.split("\n", 1)[0]: part.rstrip() + "\n\n" for part in parts}
