// Loaded into Azurite before anything else: its time is the one that the file of PARLEY_CLOCK_FILE says, in
// milliseconds. A test that waits for a visibility time-out, a lease or the end of a signature moves the file, not itself.
"use strict";
const fs = require("node:fs");

const file = process.env.PARLEY_CLOCK_FILE;
const RealDate = Date;

function now() {
  const text = fs.readFileSync(file, "utf8");
  return text === "" ? RealDate.now() : Number(text);
}

class DrivenDate extends RealDate {
  constructor(...given) {
    if (given.length === 0) {
      super(now());
    } else {
      super(...given);
    }
  }

  static now() {
    return now();
  }
}

globalThis.Date = DrivenDate;
