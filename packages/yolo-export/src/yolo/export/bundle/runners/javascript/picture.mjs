// Reading pictures as {width, height, data}, RGB: PNG of eight bits and PPM by itself, others by the package sharp.

import { readFile } from "node:fs/promises";
import { inflateSync } from "node:zlib";

const CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }; // by the colour type of a PNG

/** Read a picture file. */
export async function readPicture(path) {
  const bytes = await readFile(path);
  if (bytes.subarray(0, 2).toString("latin1") === "P6") return readPpm(bytes);
  const isPng = bytes.length > 29 && bytes.readUInt32BE(0) === 0x89504e47;
  if (isPng && bytes[24] === 8 && bytes[28] === 0) return readPng(bytes); // eight bits, rows in order
  let sharp;
  try {
    sharp = (await import("sharp")).default;
  } catch {
    throw new Error(`${path} is neither PPM nor a PNG of eight bits; npm install sharp reads others`);
  }
  const turned = sharp(bytes).rotate().toColourspace("srgb").removeAlpha(); // rotate() without an angle obeys EXIF
  const { data, info } = await turned.raw().toBuffer({ resolveWithObject: true }).catch((error) => {
    throw new Error(`${path} cannot be read as a picture: ${error.message}`);
  });
  if (info.channels !== 3) throw new Error(`${path} has ${info.channels} channels, not three colours`);
  return { width: info.width, height: info.height, data: new Uint8Array(data) };
}

function readPpm(bytes) {
  const numbers = [];
  let at = 2;
  while (numbers.length < 3) {
    while (/\s/.test(String.fromCharCode(bytes[at]))) at++;
    if (bytes[at] === 35) while (bytes[at] !== 10) at++; // a comment
    else {
      let text = "";
      while (bytes[at] >= 48 && bytes[at] <= 57) text += String.fromCharCode(bytes[at++]);
      if (!text) throw new Error("the PPM file has a damaged header");
      numbers.push(Number(text));
    }
  }
  const [width, height, most] = numbers;
  const data = new Uint8Array(bytes.subarray(at + 1, at + 1 + width * height * 3));
  if (most !== 255 || data.length !== width * height * 3) throw new Error("the PPM file is damaged, or not of eight bits");
  return { width, height, data };
}

// Portable Network Graphics (third edition), sections 5, 7, 9 and 11.
function readPng(bytes) {
  const [width, height, colour] = [bytes.readUInt32BE(16), bytes.readUInt32BE(20), bytes[25]];
  const parts = [];
  let palette = null;
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = bytes.readUInt32BE(at);
    const name = bytes.subarray(at + 4, at + 8).toString("latin1");
    if (name === "IDAT") parts.push(bytes.subarray(at + 8, at + 8 + length));
    if (name === "PLTE") palette = bytes.subarray(at + 8, at + 8 + length);
    at += length + 12;
  }
  const channels = CHANNELS[colour];
  const stride = width * channels;
  const lines = inflateSync(Buffer.concat(parts));
  if (lines.length < (stride + 1) * height) throw new Error("the PNG file is damaged");
  const raw = new Uint8Array(stride * height);
  for (let y = 0; y < height; y++) unfilter(lines, raw, y, stride, channels);
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) {
      const value = raw[i * channels + (channels > 2 ? c : 0)];
      data[i * 3 + c] = colour === 3 ? palette[value * 3 + c] : value;
    }
  }
  return { width, height, data };
}

function unfilter(lines, raw, y, stride, channels) {
  const kind = lines[y * (stride + 1)];
  for (let i = 0; i < stride; i++) {
    const left = i < channels ? 0 : raw[y * stride + i - channels];
    const up = y === 0 ? 0 : raw[(y - 1) * stride + i];
    const corner = y === 0 || i < channels ? 0 : raw[(y - 1) * stride + i - channels];
    const guess = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][kind];
    raw[y * stride + i] = lines[y * (stride + 1) + 1 + i] + guess;
  }
}

function paeth(left, up, corner) {
  const guess = left + up - corner;
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
  return a <= b && a <= c ? left : b <= c ? up : corner;
}
