// Runs a Python program in Pyodide: node run.mjs PYODIDE REPOSITORY PACKAGES PROGRAM
// The repository comes first on the path, and Python packages that need no compiler last.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [folder, repository, packages, program] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(path.join(folder, "pyodide.mjs")));
const python = await loadPyodide();
for (const [at, root] of [["/repository", repository], ["/packages", packages]]) {
  python.FS.mkdir(at);
  python.FS.mount(python.FS.filesystems.NODEFS, { root }, at);
}
python.runPython(`
import sys
sys.path.insert(0, "/repository")
sys.path.append("/packages")
sys.dont_write_bytecode = True
`);
try {
  await python.runPythonAsync(fs.readFileSync(program, "utf8"), { filename: "<program>" });
} catch (error) {
  console.error(String(error));
  process.exit(1);
}
