// Detect objects with an ONNX model: node onnx_inference.mjs --image photo.png, or --self-check.
//
// Needs onnxruntime-node, or onnxruntime-web, which is slower but has no compiled part (npm install; --runtime chooses).

import { readFile, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { detect, letterbox, toInput } from "./detector.mjs";
import { readPicture } from "./picture.mjs";

const BUNDLE = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const RUNTIMES = ["onnxruntime-node", "onnxruntime-web"];

const HELP = `Detect objects with an ONNX model: node onnx_inference.mjs --image photo.png

  --image FILE          picture to look at
  --json FILE           write what was found
  --conf-thresh X       least score, exclusive; default: of spec.json
  --iou-thresh X        largest overlap within a class; default: of spec.json
  --max-detections N    per picture; default: of spec.json
  --model FILE          model file; default: that of the bundle
  --spec FILE           default: spec.json of the bundle
  --runtime NAME        ${RUNTIMES.join(" or ")}; default: what is installed
  --self-check          reproduce the golden output; ends with 1 if it differs`;

let options = {};

function readOptions() {
  const text = { type: "string" };
  const known = { model: text, image: text, json: text, runtime: text, spec: { ...text, default: join(BUNDLE, "spec.json") } };
  for (const name of ["conf-thresh", "iou-thresh", "max-detections"]) known[name] = text;
  for (const name of ["self-check", "help"]) known[name] = { type: "boolean", default: false };
  return parseArgs({ options: known }).values;
}

async function loadRuntime() {
  for (const name of options.runtime ? [options.runtime] : RUNTIMES) {
    try {
      const module = await import(name);
      return module.InferenceSession ? module : module.default;
    } catch (error) {
      if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
    }
  }
  throw new Error(`none of ${RUNTIMES.join(", ")} is installed; run npm install in ${dirname(fileURLToPath(import.meta.url))}`);
}

/** Load the model; returns a function from Float32Array [3, H, W] to Float32Array [4 + classes, anchors]. */
async function openModel(spec, folder) {
  const ort = await loadRuntime();
  const bytes = await readFile(options.model ?? join(folder, spec.model.file));
  const session = await ort.InferenceSession.create(bytes, { logSeverityLevel: 3 });
  const { name, width, height } = spec.input;
  return async (input) => {
    const results = await session.run({ [name]: new ort.Tensor("float32", input, [1, 3, height, width]) });
    return results[spec.output.name].data;
  };
}

function largestDifference(found, expected, from = 0, to = expected.length) {
  if (found.length !== expected.length) return Infinity;
  let largest = 0;
  for (let i = from; i < to; i++) {
    const difference = Math.abs(found[i] - expected[i]);
    if (!(difference <= largest)) largest = Number.isNaN(difference) ? Infinity : difference;
  }
  return largest;
}

function compareDetections(found, wanted) {
  const labels = (list) => list.map(({ label }) => label).join();
  if (labels(found) !== labels(wanted)) return Infinity;
  const numbers = (list) => list.flatMap(({ box, score }) => [...box, score]);
  return largestDifference(numbers(found), numbers(wanted));
}

async function selfCheck(spec, folder, model) {
  const { golden } = spec;
  const floats = async ({ file }) => {
    const bytes = await readFile(join(folder, file));
    return new Float32Array(new Uint8Array(bytes).buffer);
  };
  const [given, expected] = [await floats(golden.input), await floats(golden.output)];
  const wanted = JSON.parse(await readFile(join(folder, golden.detections.file), "utf8"));
  const picture = await readPicture(join(folder, golden.picture.file));
  const { canvas, where } = letterbox(picture, spec.input.width, spec.input.height, spec.letterbox.fill[0]);
  const output = await model(given);
  const [, rows, anchors] = golden.output.shape;
  const allowed = golden.tolerances;
  const steps = [
    ["picture to input, grey levels", largestDifference(toInput(canvas), given) * 255, allowed.pixels],
    ["input to output, boxes in px", largestDifference(output, expected, 0, 4 * anchors), allowed.boxes],
    ["input to output, scores", largestDifference(output, expected, 4 * anchors), allowed.scores],
    ["output to detections", compareDetections(detect(expected, rows, where, golden.nms), wanted), allowed.detections],
  ];
  for (const [name, difference, limit] of steps) {
    console.log(`${difference <= limit ? "ok  " : "FAIL"} ${name}: ${difference.toPrecision(3)} (allowed ${limit})`);
  }
  const passed = steps.every(([, difference, limit]) => difference <= limit);
  console.log(passed ? "The golden output is reproduced" : "The golden output is NOT reproduced");
  return passed ? 0 : 1;
}

function number(name, fallback, most = Infinity) {
  const text = options[name];
  if (text === undefined) return fallback;
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0 && value <= most))
    throw new Error(`--${name} must be a number from 0 ${most === Infinity ? "on" : `to ${most}`}, not ${text}`);
  return value;
}

async function predict(spec, model) {
  const nms = {
    ...spec.nms,
    confidence: number("conf-thresh", spec.nms.confidence, 1),
    iou: number("iou-thresh", spec.nms.iou, 1),
    max_detections: number("max-detections", spec.nms.max_detections),
  };
  const picture = await readPicture(options.image);
  const { canvas, where } = letterbox(picture, spec.input.width, spec.input.height, spec.letterbox.fill[0]);
  const found = detect(await model(toInput(canvas)), spec.output.shape[1], where, nms);
  console.log(`Found ${found.length} detections`);
  found.forEach(({ label, score, box }, row) => {
    const corners = box.map((value) => value.toFixed(1)).join(", ");
    console.log(`  [${row}] Class ${label} (${spec.classes[label]}): ${score.toFixed(3)} [${corners}]`);
  });
  if (options.json) {
    const detections = found.map(({ label, score, box }) => ({ label, name: spec.classes[label], score, box }));
    const record = { image: options.image, width: picture.width, height: picture.height, detections };
    await writeFile(options.json, `${JSON.stringify(record, null, 1)}\n`);
  }
  return 0;
}

async function main() {
  options = readOptions();
  if (options.help) {
    console.log(HELP);
    return 0;
  }
  const spec = JSON.parse(await readFile(options.spec, "utf8"));
  const folder = dirname(resolve(options.spec));
  if (!options["self-check"] && !options.image) throw new Error("give a picture with --image, or --self-check");
  const model = await openModel(spec, folder);
  return options["self-check"] ? selfCheck(spec, folder, model) : predict(spec, model);
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`Error: ${error.message.split("\n")[0]}`);
  process.exitCode = 1;
}
