#!/usr/bin/env python3
"""The notebooks in Jupyter: through jupytext into its format and back they are the same bytes, and with a Bash kernel every
cell runs, in its short form where it has one. Needs packages that `tests/install-packages jupyter` puts into build/jupyter.

TEST tier: all; TEST seconds: 2400
"""
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
OWN = ROOT / "build" / "jupyter" / "bin" / "python"
CELL_SECONDS = 300
sys.dont_write_bytecode = True

if any(importlib.util.find_spec(name) is None for name in ("jupytext", "nbclient", "bash_kernel")):
    if not OWN.exists() or sys.prefix == str(OWN.parent.parent):
        print("1..0 # SKIP jupytext, nbclient and bash_kernel are not installed: tests/install-packages jupyter")
        sys.exit(0)
    os.execv(OWN, [str(OWN), *sys.argv])

import jupytext  # noqa: E402
import nbclient  # noqa: E402

spec = importlib.util.spec_from_file_location("run", ROOT / "notebooks-md" / "run.py")
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)

count = failed = 0


def ok(passed, what, why=""):
    global count, failed
    count += 1
    failed += not passed
    print(("" if passed else "not ") + f"ok {count} - {what}" + (f"\n# {why}" if why and not passed else ""), flush=True)


def first_difference(a, b):
    lines = zip(a.split(b"\n"), b.split(b"\n"))
    return next((f"line {i}: {x} became {y}" for i, (x, y) in enumerate(lines, 1) if x != y), "the ends differ")


def round_trip(path, folder):
    """What the notebook is after a stay in Jupyter's own format."""
    copy = folder / path.name
    shutil.copyfile(path, copy)
    convert = [sys.executable, "-m", "jupytext", "--quiet", "--to"]
    subprocess.run([*convert, "ipynb", copy], check=True)
    copy.unlink()
    subprocess.run([*convert, "md", copy.with_suffix(".ipynb")], check=True)
    return copy.read_bytes()


def run_cells(path, folder):
    """Yields each cell's name and None, or what went wrong; one that is to fail has a tag that says so."""
    run.mirror(folder)
    notebook = jupytext.read(path)
    client = nbclient.NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name=notebook.metadata.kernelspec.name,
                                     resources={"metadata": {"path": str(folder / "notebooks-md")}})
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type != "code":
                continue
            cell.source = cell.metadata.get("short", cell.source)
            wrong = None
            try:
                client.execute_cell(cell, index)
            except nbclient.exceptions.CellExecutionError:
                wrong = " | ".join("".join(o.get("text", "") for o in cell.outputs).splitlines()[-3:])
            failure = next((o.evalue for o in cell.outputs if o.output_type == "error"), "0")
            if failure != str(cell.metadata.get("status", 0)):
                wrong = f"exit status {failure}: {wrong}"
            yield cell.metadata.get("name", f"cell {index}"), wrong


def planted(folder):
    """Both proofs see what is wrong with a notebook that was made wrong."""
    header = (ROOT / "notebooks-md" / "01_autograd.md").read_text(encoding="utf-8").split("\n---\n")[0] + "\n---\n\n"
    path = folder / "99_wrong.md"
    path.write_text(header + '```bash name="b" mask="x"\ntrue\n```\n', encoding="utf-8")
    (folder / "away").mkdir()
    ok(round_trip(path, folder / "away") != path.read_bytes(), "attributes out of order do not come back as they were")
    cells = ('name="fails"\nfalse', 'name="two" status=2 tags=["raises-exception"]\n(exit 3)',
             'name="fine" status=3 tags=["raises-exception"]\n(exit 3)', 'name="still there"\ntrue')
    path.write_text(header + "\n".join(f"```bash {c}\n```\n" for c in cells), encoding="utf-8")
    (folder / "tree").mkdir()
    wrong = [name for name, why in run_cells(path, folder / "tree") if why]
    ok(wrong == ["fails", "two"], "cells that fail, or otherwise than they should, are seen", f"{wrong}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        planted(pathlib.Path(folder))
    paths = sorted((ROOT / "notebooks-md").glob("[0-9][0-9]_*.md"))
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            before, after = path.read_bytes(), round_trip(path, pathlib.Path(folder))
            ok(before == after, f"{path.stem}: to ipynb and back, the same bytes", first_difference(before, after))
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            cells = 0
            try:
                for cells, (name, wrong) in enumerate(run_cells(path, pathlib.Path(folder)), 1):
                    ok(wrong is None, f"{path.stem}: cell {name} in a Bash kernel", wrong)
            except Exception as error:  # the kernel died, or a cell took too long
                ok(False, f"{path.stem}: the cell behind {cells} others", repr(error).replace("\n", " "))
            expected = len(run.Notebook(path).cells)
            ok(cells == expected, f"{path.stem}: all {expected} cells have run", f"{cells} have")
    print(f"1..{count}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
