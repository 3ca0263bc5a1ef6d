// The GGUF file through node-llama-cpp's prebuilt llama.cpp: `node node_llama_cpp.mjs about|speed PACKAGES JOB RESULT`.
// PACKAGES is the folder that has node_modules. Answers as worker.py does.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const megabytes = () => (Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]) * 1024) / 1e6;
const seconds = () => performance.now() / 1000;
const bare = megabytes();
const [task, packages, jobFile, resultFile] = process.argv.slice(2);
const require = createRequire(join(packages, "package.json"));
const { getLlama } = await import(pathToFileURL(require.resolve("node-llama-cpp")));
const greedy = { generateNext: { token: true, options: { temperature: 0 } } };

async function about(llama) {
  const file = join(packages, "node_modules", "node-llama-cpp", "package.json");
  const version = JSON.parse(readFileSync(file, "utf8")).version;
  const release = llama.llamaCppRelease;
  return { about: `node-llama-cpp ${version}, llama.cpp ${release.release}, prebuilt; ${llama.systemInfo}` };
}

async function speed(llama, job) {
  let started = seconds();
  const model = await llama.loadModel({ modelPath: job.file });
  const context = await model.createContext({ contextSize: job.context_length, threads: job.threads });
  const sequence = context.getSequence();
  await sequence.controlledEvaluate([[job.prompts[0][0], greedy]]);
  const load = seconds() - started;
  const prefill = [];
  const decode = [];
  for (let pass = 0; pass < job.prompts.length; pass++) {
    const [prompt, answer] = [job.prompts[pass], job.answers[pass]];
    await sequence.clearHistory();
    started = seconds();
    await sequence.controlledEvaluate([...prompt.slice(0, -1), [prompt.at(-1), greedy]]);
    prefill.push(prompt.length / (seconds() - started));
    started = seconds();
    for (const token of answer) await sequence.controlledEvaluate([[token, greedy]]);
    decode.push(answer.length / (seconds() - started));
  }
  return {
    load_s: load,
    prefill_tps: Math.max(...prefill),
    decode_tps: Math.max(...decode),
    peak_mb: megabytes(),
    bare_mb: bare,
  };
}

const llama = await getLlama({ gpu: false, build: "never", progressLogs: false, logLevel: "error" });
const result = task === "about" ? await about(llama) : await speed(llama, JSON.parse(readFileSync(jobFile, "utf8")));
writeFileSync(resultFile, JSON.stringify(result));
await llama.dispose();
