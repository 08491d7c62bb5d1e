// What stands around the network: pictures to its input, its output to boxes. Plain JavaScript, for Node.js and browsers.
//
// A picture is {width, height, data}: RGB, one byte each, row by row. The rules are those of spec.json, and the results
// are those of OpenCV's INTER_LINEAR and of the Python program to the last bit.

const round = Math.fround; // to float32, where OpenCV computes with float32

/** Fit a picture into a canvas: as large as fits, in the middle; whole numbers only, so that all languages agree. */
export function place(width, height, targetWidth, targetHeight) {
  const wide = targetWidth * height <= targetHeight * width;
  const contentWidth = wide ? targetWidth : Math.max(1, Math.floor((targetHeight * width) / height));
  const contentHeight = wide ? Math.max(1, Math.floor((targetWidth * height) / width)) : targetHeight;
  const left = Math.floor((targetWidth - contentWidth) / 2);
  const top = Math.floor((targetHeight - contentHeight) / 2);
  return { width, height, contentWidth, contentHeight, left, top };
}

/** Draw a picture on a grey canvas; returns {canvas, where}. */
export function letterbox(picture, targetWidth, targetHeight, fill = 114) {
  const where = place(picture.width, picture.height, targetWidth, targetHeight);
  const { contentWidth, contentHeight, left, top } = where;
  const content = resize(picture, contentWidth, contentHeight);
  const data = new Uint8Array(targetWidth * targetHeight * 3).fill(fill);
  for (let y = 0; y < contentHeight; y++) {
    const row = content.data.subarray(y * contentWidth * 3, (y + 1) * contentWidth * 3);
    data.set(row, ((top + y) * targetWidth + left) * 3);
  }
  return { canvas: { width: targetWidth, height: targetHeight, data }, where };
}

/** Bilinear without antialias, as OpenCV's INTER_LINEAR does it for bytes: weights in 2048ths, two shifts. */
export function resize(picture, width, height) {
  if (width === picture.width && height === picture.height) return picture;
  const across = taps(picture.width, width, true);
  const down = taps(picture.height, height, false);
  const data = new Uint8Array(width * height * 3);
  let rows = [];
  for (let y = 0; y < height; y++) {
    const { first, second, weightFirst, weightSecond } = down[y];
    const upper = rows.find((row) => row.y === first) ?? { y: first, sums: sumsOfRow(picture, first, across) };
    const lower =
      second === first ? upper : rows.find((row) => row.y === second) ?? { y: second, sums: sumsOfRow(picture, second, across) };
    rows = [upper, lower];
    const start = y * width * 3;
    for (let i = 0; i < width * 3; i++) {
      const above = (weightFirst * (upper.sums[i] >> 4)) >> 16;
      const below = (weightSecond * (lower.sums[i] >> 4)) >> 16;
      data[start + i] = (above + below + 2) >> 2;
    }
  }
  return { width, height, data };
}

function sumsOfRow(picture, y, across) {
  const sums = new Int32Array(across.length * 3);
  const start = y * picture.width * 3;
  across.forEach(({ first, second, weightFirst, weightSecond }, x) => {
    for (let c = 0; c < 3; c++) {
      const left = picture.data[start + first * 3 + c];
      sums[x * 3 + c] = left * weightFirst + picture.data[start + second * 3 + c] * weightSecond;
    }
  });
  return sums;
}

/** For each of `count` places the two neighbours among `size` and their weights; columns outside count as the last one. */
function taps(size, count, isColumn) {
  const scale = 1 / (count / size);
  return Array.from({ length: count }, (_, place) => {
    const position = round((place + 0.5) * scale - 0.5);
    let first = Math.floor(position);
    let part = round(position - first);
    if (isColumn && (first < 0 || first >= size - 1)) {
      first = first < 0 ? 0 : size - 1;
      part = 0;
    }
    const inside = (index) => Math.min(Math.max(index, 0), size - 1);
    return {
      first: inside(first),
      second: inside(first + 1),
      weightFirst: halfToEven(round(round(1 - part) * 2048)),
      weightSecond: halfToEven(round(part * 2048)),
    };
  });
}

function halfToEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

/** A canvas as Float32Array [3, H, W] from 0 to 1. */
export function toInput(canvas) {
  const plane = canvas.width * canvas.height;
  const input = new Float32Array(3 * plane);
  for (let i = 0; i < plane; i++) {
    for (let c = 0; c < 3; c++) input[c * plane + i] = canvas.data[i * 3 + c] / 255;
  }
  return input;
}

/**
 * From the network's output to boxes on the picture, best first: [{label, score, box: [x1, y1, x2, y2]}].
 *
 * `output` is a Float32Array [4 + classes, anchors]: centre x, centre y, width, height in pixels of the canvas, then one
 * probability per class; `nms` holds confidence, iou, max_detections and max_candidates, as in spec.json.
 */
export function detect(output, rows, where, nms) {
  const anchors = output.length / rows;
  const confidence = round(nms.confidence); // scores are float32
  let candidates = [];
  for (let anchor = 0; anchor < anchors; anchor++) {
    for (let label = 0; label < rows - 4; label++) {
      const score = output[(4 + label) * anchors + anchor];
      if (score > confidence) candidates.push({ anchor, label, score });
    }
  }
  candidates.sort((a, b) => b.score - a.score); // stable: equal scores keep the order of anchors, then classes
  candidates = candidates.slice(0, nms.max_candidates);
  const kept = [];
  for (const candidate of candidates) {
    if (kept.length === nms.max_detections) break;
    const corners = cornersOf(output, anchors, candidate.anchor);
    if (!corners.every(Number.isFinite)) continue;
    const covered = kept.some((other) => other.label === candidate.label && overlap(other.corners, corners) > nms.iou);
    if (!covered) kept.push({ ...candidate, corners });
  }
  return kept
    .map(({ label, score, corners }) => ({ label, score, box: onPicture(corners, where) }))
    .filter(({ box }) => box[2] > box[0] && box[3] > box[1]); // not wholly on the grey border
}

function cornersOf(output, anchors, anchor) {
  const [x, y, width, height] = [0, 1, 2, 3].map((row) => output[row * anchors + anchor]);
  return [x - width / 2, y - height / 2, x + width / 2, y + height / 2].map(round);
}

function overlap(a, b) {
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]);
  return (width * height) / (areas - width * height);
}

function onPicture(corners, where) {
  const clip = (value, limit) => Math.min(Math.max(value, 0), limit);
  return corners.map((value, i) =>
    i % 2 === 0
      ? clip(((value - where.left) * where.width) / where.contentWidth, where.width)
      : clip(((value - where.top) * where.height) / where.contentHeight, where.height),
  );
}
