// Runs the tests in a realm of their own, with functions of the candidate's realm. The token comes by standard input,
// and goes out on file descriptor 3 after the last test, by functions that were taken before the candidate began.
"use strict";
const fs = require("fs");
const vm = require("vm");
const write = fs.writeSync;
const { token, program, helpers, test } = JSON.parse(fs.readFileSync(0, "utf8"));

function required(name) {
  if (name !== "js-md5") return require(name);
  return (text) => require("crypto").createHash("md5").update(text).digest("hex");
}

function realm() {
  const shared = { require: required, setTimeout, clearTimeout, URL, TextEncoder, TextDecoder, Buffer };
  shared.console = { log() {}, error() {}, warn() {}, info() {}, debug() {}, assert() {} };
  return vm.createContext(shared);
}

function names(code) {
  return [...code.matchAll(/^ ?(?:const|let|var|function|class)\s+([A-Za-z_$][\w$]*)/gm)].map((found) => found[1]);
}

const own = {
  console: {
    log() {},
    assert(holds, ...words) {
      if (!holds) throw new Error(`assertion failed ${words.join(" ")}`);
    },
  },
};
if (helpers) {
  const question = realm();
  vm.runInContext(helpers + "\n}\n", question);
  const asked = names(helpers).pop(); // The open function is what the candidate is asked for.
  for (const name of names(helpers)) if (name !== asked) own[name] = vm.runInContext(name, question);
}
const [run, look] = [vm.compileFunction, vm.runInContext];
const wanted = new Set(test.match(/[A-Za-z_$][\w$]*/g));
for (const name of [...names(test), ...Object.keys(own), ...Object.getOwnPropertyNames(globalThis)]) wanted.delete(name);
const candidate = realm();
look(program, candidate, { filename: "candidate.js" });
for (const name of wanted) {
  try {
    own[name] = look(name, candidate);
  } catch (error) {
    // A word of the language, a name within the tests, or one that the candidate lacks.
  }
}
run(test, Object.keys(own), { filename: "test.js" })(...Object.values(own));
write(3, token);
