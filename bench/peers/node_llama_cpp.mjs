// The GGUF file through node-llama-cpp's prebuilt llama.cpp: `node node_llama_cpp.mjs about|speed PACKAGES JOB RESULT`
// answers as worker.py does; `serve PACKAGES JOB`, the job as text, answers node_llama_cpp.py's requests.
// PACKAGES is the folder that has node_modules.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
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
  return { about: `node-llama-cpp ${version}, llama.cpp ${release.release}, prebuilt; ${llama.systemInfo.replace(/[ |]+$/, "")}` };
}

async function open(llama, job) {
  const model = await llama.loadModel({ modelPath: job.file });
  const context = await model.createContext({ contextSize: job.context_length, threads: job.threads });
  return { vocabulary: model.fileInfo.metadata.tokenizer.ggml.tokens.length, sequence: context.getSequence() };
}

async function speed(llama, job) {
  let started = seconds();
  const { sequence } = await open(llama, job);
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

// First the size of the vocabulary, int32; then for every line {tokens, position} that many float32.
async function serve(llama, job) {
  const { vocabulary, sequence } = await open(llama, job);
  process.stdout.write(Buffer.from(Int32Array.of(vocabulary).buffer));
  for await (const line of createInterface({ input: process.stdin })) {
    const { tokens, position } = JSON.parse(line);
    if (position < sequence.nextTokenIndex)
      await sequence.eraseContextTokenRanges([{ start: position, end: sequence.nextTokenIndex }]);
    const last = [tokens.at(-1), { generateNext: { probabilities: true } }];
    const results = await sequence.controlledEvaluate([...tokens.slice(0, -1), last]);
    const logits = new Float32Array(vocabulary).fill(-100);
    for (const [token, probability] of results.at(-1).next.probabilities) logits[token] = Math.log(probability);
    process.stdout.write(Buffer.from(logits.buffer));
  }
}

const llama = await getLlama({ gpu: false, build: "never", progressLogs: false, logLevel: "error" });
if (task === "serve") await serve(llama, JSON.parse(jobFile));
else {
  const measured = task === "about" ? about(llama) : speed(llama, JSON.parse(readFileSync(jobFile, "utf8")));
  writeFileSync(resultFile, JSON.stringify(await measured));
}
await llama.dispose();
