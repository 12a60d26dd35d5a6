#!/usr/bin/env python3
"""The notebooks agree with the programs; and the tool that says so sees when they do not.
TEST tier: more
TEST seconds: 1800"""
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

CELLS = ("01", "02", "04")  # `make test` runs the cells of these, and reads all; `make test-all` runs all

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("run", ROOT / "notebooks-md" / "run.py")
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)

count = failed = 0


def ok(passed, what, why=""):
    global count, failed
    count += 1
    failed += not passed
    print(("" if passed else "not ") + f"ok {count} - {what}" + (f"\n# {why}" if why and not passed else ""), flush=True)


SECTIONS = "\n\n".join(f"## {s}" for s in run.SECTIONS)


def wrong(body, folder):
    """The names of what a check finds wrong in a notebook with this body."""
    path = pathlib.Path(folder) / "99_test.md"
    path.write_text(f"# 99 test\n\n{SECTIONS}\n\n{body}\n", encoding="utf-8")
    try:
        return {what.split(": ", 1)[1] for what, problem in run.check(path) if problem}
    except run.Problem:
        return {"problem"}


def cell(code, output, attributes=""):
    return f'```bash name="a" {attributes}\n{code}\n```\n\n```text\n{output}\n```\n'


def test_tool(folder):
    A = {"cell a"}
    excerpt = '```c file="tests/tap.h" from="static int tap_count" to="static int tap_count"\n%s\n```\n'
    cases = [
        ("an output that agrees", cell("echo loss 1.234", "loss 1.234"), set()),
        ("blanks and the third digit may differ", cell("echo loss 1.237", "loss    1.234"), set()),
        ("the second digit may not", cell("echo loss 1.25", "loss 1.234"), A),
        ("unless it says so", cell("echo loss 1.25", "loss 1.234", "tolerance=0.05"), set()),
        ("whole numbers must be equal", cell("echo 1001 steps", "1000 steps"), A),
        ("small numbers too are compared", cell("echo 2.0e-09", "1.0e-09"), A),
        ("other words", cell("echo gain 1.234", "loss 1.234"), A),
        ("a line more", cell("echo a; echo b", "a"), A),
        ("a line less", cell("echo a", "a\nb"), A),
        ("no output where there was one", cell("true", "a"), A),
        ("times are masked", cell("echo 5.1 ms", "99 ms", "time=true"), set()),
        ("but their words are not", cell("echo 5.1 s", "99 ms", "time=true"), A),
        ("a masked part", cell("echo 1.5 at 20 ms", "1.5 at 90 ms", r'mask="\\d+ ms"'), set()),
        ("the rest of it", cell("echo 1.6 at 20 ms", "1.5 at 90 ms", r'mask="\\d+ ms"'), A),
        ("a failing cell", cell("echo a; false", "a"), A),
        ("a cell that is to fail", cell("echo a; (exit 3)", "a", "status=3"), set()),
        ("a cell that should have failed", cell("echo a", "a", "status=3"), A),
        ("a cell that ends the shell", cell("exit 0", "a"), A),
        ("stderr belongs to the output", cell("echo a >&2", "a"), set()),
        ("a short form", cell("false", "head\nstep 1\nstep 2", r'short="echo other; echo step 1" compare="^step"'), set()),
        ("that disagrees", cell("false", "head\nstep 1\nstep 2", r'short="echo step 2" compare="^step"'), A),
        ("that prints nothing", cell("false", "step 1", r'short="true" compare="^step"'), A),
        ("that does not say what to compare", cell("false", "a", r'short="echo a"'), A),
        ("cells share a shell", cell("x=7", "") .replace("```text\n\n```\n", "") + cell("echo $x", "7"), set()),
        ("a number in prose that was printed", cell("echo 1234.567", "1234.567") + "It is 1,234.57.", set()),
        ("one that was not", cell("echo 1234.567", "1234.567") + "It is 1234.58.", {"numbers in the prose"}),
        ("a whole number that was not", cell("echo 12", "12") + "It is 13.", {"numbers in the prose"}),
        ("numbers in code, lists, links and titles", "1. `17`\n2. [x](18) in chapter 19 (Knuth, TAOCP, 1968)", set()),
        ("a reference", cell("echo loss 1.5", "loss 1.5") + "<!--a: loss (\\S+)-->1.5<!--/-->", set()),
        ("a stale one", cell("echo loss 1.5", "loss 1.5") + "<!--a: loss (\\S+)-->1.6<!--/-->", {"references"}),
        ("one to nowhere", "<!--b: loss (\\S+)-->1.6<!--/-->", {"references"}),
        ("one that finds nothing", cell("echo a", "a") + "<!--a: loss (\\S+)-->1.6<!--/-->", {"references"}),
        ("an excerpt", excerpt % "static int tap_count, tap_failures;", set()),
        ("a stale excerpt", excerpt % "static int tap_count;", {"excerpt of tests/tap.h"}),
        ("an excerpt of nothing", '```c file="tests/tap.h" function="none"\n```\n', {"excerpt of tests/tap.h"}),
        ("a picture that nobody draws", "![x](images/99_none.png)", {"pictures"}),
        ("a fence without end", "```bash\necho", {"problem"}),
        ("attributes that are not JSON", "```bash name=a\n```", {"problem"}),
    ]
    for what, body, expected in cases:
        found = wrong(body, folder)
        ok(found == expected, f"the check: {what}", f"{found} instead of {expected}")
    path = pathlib.Path(folder) / "99_test.md"
    path.write_text("# 99 test\n")
    ok(any("sections" in what and problem for what, problem in run.check(path)), "the check: missing sections")


def test_rewrite(folder):
    """What `run.py` writes, its own check accepts, and writing again changes nothing."""
    path = pathlib.Path(folder) / "99_again.md"
    body = ('```bash name="a"\necho loss 1.5; echo\necho\n```\n\nText <!--a: loss (\\S+)-->0<!--/-->.\n\n'
            '```bash\ntrue\n```\n\n```text\ngone\n```\n\n```c file="tests/tap.h" function="close_to"\n```\n')
    path.write_text(f"# 99 test\n\n{SECTIONS}\n\n{body}", encoding="utf-8")
    problems = run.rewrite(path)
    once = path.read_text(encoding="utf-8")
    ok(not problems and "```text\nloss 1.5\n```" in once and "-->1.5<!--/-->" in once and "gone" not in once,
       "rewriting fills in outputs and references", str(problems))
    ok("/* |got - want| <=" in once and "        want, tolerance);\n}" not in once.split("```")[0], "... and excerpts")
    ok(not [p for _, p in run.check(path) if p], "the check accepts it")
    run.rewrite(path)
    ok(path.read_text(encoding="utf-8") == once, "rewriting again changes nothing")


def fold(inside, summary="Second reading: x"):
    return f"<details>\n<summary>{summary}</summary>\n\n{inside}\n\n</details>"


def test_short_way(folder):
    """The marks of what can wait, and the words that are counted."""
    MARK = "*Second reading: x. Go on at [Go on, here](#go-on-here).*"
    WRONG = {"what can wait is marked"}
    cases = [
        ("a fold", "a b\n\n" + fold("c d"), set()),
        ("a folded output", cell("echo a", "a").replace("```text\na\n```", fold("```text\na\n```")), set()),
        ("one that disagrees", cell("echo a", "a").replace("```text\na\n```", fold("```text\nb\n```")), {"cell a"}),
        ("a fold with another summary", fold("c", "Notes"), WRONG),
        ("a fold in a fold", fold(fold("c")), WRONG),
        ("a fold without end", "<details>\n<summary>Second reading: x</summary>\n\nc", WRONG),
        ("an end without a fold", "c\n\n</details>", WRONG),
        ("no blank line behind a summary", fold("c").replace("</summary>\n", "</summary>"), WRONG),
        ("no blank line before the end", fold("c").replace("\n\n</details>", "\n</details>"), WRONG),
        ("a cell in a fold", fold("```bash\ntrue\n```"), WRONG),
        ("a heading in a fold", fold("## c"), WRONG),
        ("two blank lines in a fold", fold("c\n\n\nd"), WRONG),
        ("a mark", MARK + "\n\n```bash\ntrue\n```\n\n## Go on, here", set()),
        ("a mark over two lines", MARK.replace("Go on at", "Go on\nat") + "\n\n## Go on, here", set()),
        ("a mark to nowhere", "## Go on, here\n\n" + MARK, WRONG),
        ("a mark with another link", MARK.replace("(#go-on-here)", "(#go-on)") + "\n\n## Go on, here", WRONG),
        ("a mark that does not link", "*Second reading: x.*", WRONG),
        ("a mark inside another's part", f"{MARK}\n\n{MARK}\n\n## Go on, here", WRONG),
    ]
    for what, body, expected in cases:
        found = wrong("## Lesson\n\n" + body, folder)
        ok(found == expected, f"the short way: {what}", f"{found} instead of {expected}")

    path = pathlib.Path(folder) / "98_test.md"
    path.write_text(f"---\nx: y\n---\n\n# 98\n\na <!--no: words--> b\n\n{fold('c d e')}\n\n```bash\nf g\n```\n\n"
                    f"{MARK}\n\nh\n\n```text\ni j\n```\n\n## Go on, here\n\nk\n\n## Solutions\n\nl m\n")
    reading = run.Reading(run.Notebook(path))
    counted, mark = (reading.words, reading.short), len(MARK.split())
    ok(counted == (21 + mark, 11 + mark), "the short way: its words", f"{counted}")


def test_readme(folder):
    """The table of minutes, and the limit on a short way, in a tree of two notebooks."""
    root, old = pathlib.Path(folder) / "tree", (run.ROOT, run.FOLDER)
    run.ROOT, run.FOLDER = root, root / "notebooks-md"
    run.FOLDER.mkdir(parents=True)
    (root / "README.md").write_text("# x\n\n<!-- minutes, by notebooks-md/run.py -->\n\n<!-- /minutes -->\n")
    for name, words in (("01_a", 3600), ("02_b", 900)):
        (run.FOLDER / f"{name}.md").write_text(
            f"# x\n\n<!--minutes: run-->7<!--/-->{' a' * words}\n\n{fold('b ' * 2700)}\n")
    try:
        ok(any("minutes" in what and problem for what, problem in run.check_readme()), "README: a stale table is seen")
        run.rewrite_readme()
        text = (root / "README.md").read_text()
        ok("| [01 a](notebooks-md/01_a.md) | 35 | 20 | 7 |\n| [02 b]" in text, "README: the table is written", text)
        long = [what for what, problem in run.check_readme() if problem]
        ok(long == ["01_a: the short way is about half as long"], "README: a short way that is too long is seen", str(long))
    finally:
        run.ROOT, run.FOLDER = old


def report(folder, *arguments):
    done = subprocess.run([sys.executable, ROOT / "notebooks-md" / "report.py", arguments[0], folder, *arguments[1:]],
                          capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_report(folder):
    (pathlib.Path(folder) / "report.json").write_text(json.dumps(
        {"loss": 0.5, "tokens": 12000, "memory": [{"a": {"peak": 3}}, {"a": {"peak": 5}}], "none": None}))
    status, text = report(folder, "par", "loss <= 0.5", "memory.a.peak <= 2 + 3")
    ok(status == 0 and text.count("PASS") == 2, "par: passed", text)
    status, text = report(folder, "par", "sum(memory.a.peak) <= 8", "sum(memory.a.peak) >= 8")
    ok(status == 0 and text.count("PASS") == 2, "sum: all devices together", text)
    status, text = report(folder, "par", "loss < 0.5", "tokens >= 10")
    ok(status == 1 and text.count("FAIL") == 1, "par: failed", text)
    status, text = report(folder, "table", "what: 4 * 3000 = tokens", "half: 1 = loss")
    ok(status == 0 and "12,000" in text and text.rstrip().endswith("0.5"), "table", text)
    for bad in ("none <= 1", "nothing <= 1", "loss", "__import__('os') <= 1", "loss <="):
        status, text = report(folder, "par", bad)
        ok(status == 1 and text.startswith("report.py: error:"), f"par refuses '{bad}'", text)


def test_jupyter(path):
    """What test_notebooks_jupyter.py needs Jupyter for, as far as it can be seen without."""
    cells = run.Notebook(path).cells
    names = [c.name for c in cells if list(c.attributes) != sorted(c.attributes)]
    ok(not names, f"{path.stem}: attributes in the order of the alphabet, as Jupyter keeps them", ", ".join(names))
    names = [c.name for c in cells if ("status" in c.attributes) != ("raises-exception" in c.attributes.get("tags", []))]
    ok(not names, f"{path.stem}: a cell that is to fail, and no other, tells Jupyter so", ", ".join(names))


with tempfile.TemporaryDirectory() as scratch:
    test_tool(scratch)
    test_rewrite(scratch)
    test_short_way(scratch)
    test_readme(scratch)
    test_report(scratch)
for notebook in sorted((ROOT / "notebooks-md").glob("[0-9][0-9]_*.md")):
    test_jupyter(notebook)
    for what, problem in run.check(notebook, cells=notebook.name[:2] in CELLS or "TEST_ALL" in os.environ):
        ok(problem is None, what, problem or "")
for what, problem in run.check_readme():
    ok(problem is None, what, problem or "")
print(f"1..{count}")
sys.exit(1 if failed else 0)
