// node harness.mjs RUNNER_FOLDER CASE_FOLDER: what detector.mjs makes of the cases of test_bundle_languages.py.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [runner, folder] = process.argv.slice(2);
const { detect, letterbox, place, toInput } = await import(pathToFileURL(join(runner, "detector.mjs")));
const { readPicture } = await import(pathToFileURL(join(runner, "picture.mjs")));
const cases = JSON.parse(readFileSync(join(folder, "cases.json"), "utf8"));
for (const { file, width, height } of cases.pictures) {
  const { canvas } = letterbox(await readPicture(join(folder, file)), width, height);
  writeFileSync(join(folder, `${file}.f32`), new Uint8Array(toInput(canvas).buffer));
}
for (const { file, rows, source, target, nms } of cases.outputs) {
  const output = new Float32Array(new Uint8Array(readFileSync(join(folder, file))).buffer);
  const found = detect(output, rows, place(...source, ...target), nms);
  const lines = found.map(({ label, score, box }) => [label, score, ...box].join(" "));
  writeFileSync(join(folder, `${file}.txt`), lines.join("\n"));
}
