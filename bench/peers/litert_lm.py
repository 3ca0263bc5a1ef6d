"""A .litertlm in LiteRT-LM's engine, by the benchmark that comes with it.

It makes up token ids of its own and gives no logits, so only its speed can be set beside the others'. It keeps
repacked weights in a cache folder, as it does for an app: the load time is that of every start but the first.
"""

from importlib.metadata import version

import litert_lm

from peers.job import Job, Speed
from peers.measure import peak_mb


def about() -> str:
    return f"litert-lm-api {version('litert-lm-api')}"


def speed(job: Job, bare_mb: float) -> Speed:
    litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
    passes = [
        litert_lm.Benchmark(
            job.file,
            litert_lm.Backend.CPU(thread_count=job.threads),
            prefill_tokens=len(prompt),
            decode_tokens=len(answer),
            max_num_tokens=job.context_length,
            cache_dir=job.cache,
        ).run()
        for prompt, answer in zip(job.prompts, job.answers, strict=True)
    ]
    return Speed(
        load_s=passes[0].init_time_in_second,
        prefill_tps=max(one.last_prefill_tokens_per_second for one in passes),
        decode_tps=max(one.last_decode_tokens_per_second for one in passes),
        peak_mb=peak_mb(),
        bare_mb=bare_mb,
    )
