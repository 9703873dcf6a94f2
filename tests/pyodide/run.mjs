// Runs a Python program in Pyodide, with the repository mounted: node run.mjs PYODIDE REPOSITORY PROGRAM
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [folder, repository, program] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(path.join(folder, "pyodide.mjs")));
const python = await loadPyodide();
python.FS.mkdir("/repository");
python.FS.mount(python.FS.filesystems.NODEFS, { root: repository }, "/repository");
python.runPython("import sys; sys.path.insert(0, '/repository'); sys.dont_write_bytecode = True");
try {
  await python.runPythonAsync(fs.readFileSync(program, "utf8"), { filename: "<program>" });
} catch (error) {
  console.error(String(error));
  process.exit(1);
}
