// The peer of an isolated run in V8: a fresh WebAssembly.Instance for each, with the module and the host calls of
// invocation.py. Neither fuel nor a deadline nor a limit of memory, which V8 does not have.
//
//     node invocation.mjs MODULE
//
// For each line on standard input, a number of runs, it answers one line: nanoseconds of this process's CPU time.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const BYTES = 1024;
const module = new WebAssembly.Module(readFileSync(process.argv[2]));
const context = new Uint8Array(200);
const input = new Uint8Array(BYTES);

function run() {
  let memory;
  let output;
  const host = {
    buffer_read(handle, offset, dst, length) {
      const buffer = handle === 2 ? input : context;
      if (offset > buffer.length || dst + length > memory.buffer.byteLength) return -22;
      const part = buffer.subarray(offset, offset + length);
      new Uint8Array(memory.buffer).set(part, dst);
      return part.length;
    },
    output_write(src, length) {
      if (src + length > memory.buffer.byteLength) return -22;
      output = new Uint8Array(memory.buffer).slice(src, src + length);
      return 0;
    },
  };
  const guest = new WebAssembly.Instance(module, { grafos_tasklet_v0: host }).exports;
  memory = guest.memory;
  guest._grafos_tasklet_init(1, context.length);
  if (guest._grafos_tasklet_run(2, BYTES) !== 0 || output.length !== BYTES) throw new Error("the run failed");
  guest._grafos_tasklet_finalize();
}

for await (const line of createInterface({ input: process.stdin })) {
  const began = process.cpuUsage();
  for (let left = Number(line); left > 0; left--) run();
  const used = process.cpuUsage(began);
  console.log((used.user + used.system) * 1000);
}
