// Writes jcs_vectors.jsonl: what an ECMAScript engine makes of the texts of canonical_vectors.jsonl, and of 500 doubles.
//
// Run it in this folder after make_vectors.py: node make_vectors.js. RFC 8785 is defined by ECMAScript: strings and numbers
// as JSON.stringify writes them, keys in the order of Array.sort. The same input gives the same file.

const fs = require("fs");

function jcs(node) {
  if (Array.isArray(node)) return "[" + node.map(jcs).join(",") + "]";
  if (node === null || typeof node !== "object") return JSON.stringify(node);
  const keys = Object.keys(node).sort();
  return "{" + keys.map((key) => JSON.stringify(key) + ":" + jcs(node[key])).join(",") + "}";
}

// A linear congruential generator (Knuth's MMIX constants): Math.random has no seed.
let state = 20260115n;
function random64() {
  state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn;
  return state;
}

const lines = [];
for (const line of fs.readFileSync("canonical_vectors.jsonl", "utf8").trim().split("\n")) {
  const text = JSON.parse(line).text;
  lines.push({ text, jcs: jcs(JSON.parse(text)) });
}
const view = new DataView(new ArrayBuffer(8));
while (lines.length < 650) {
  view.setBigUint64(0, random64());
  const number = view.getFloat64(0);
  // 17 digits are enough to name a double, and never its shortest form by accident.
  if (Number.isFinite(number)) lines.push({ text: number.toExponential(16), jcs: JSON.stringify(number) });
}
fs.writeFileSync("jcs_vectors.jsonl", lines.map((line) => JSON.stringify(line) + "\n").join(""));
