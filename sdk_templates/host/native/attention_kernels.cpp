// llama::update_cache.out and llama::custom_sdpa.out for float32 and batch 1, registered when this library is loaded.
//
// The attention walks the keys in blocks with a running maximum and sum per query row (online softmax), so that scores
// never leave the first-level cache. All query heads that share a key head, and several tokens of a prompt, are rows of
// one work item: a block of keys is read once for all of them. Work items don't share anything, so the result does not
// depend on the number of threads.
#include <executorch/runtime/kernel/kernel_includes.h>
#include <executorch/runtime/kernel/operator_registry.h>
#include <executorch/runtime/kernel/thread_parallel_interface.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::Kernel;
using executorch::runtime::KernelRuntimeContext;
using executorch::runtime::Span;

namespace {

// --- vectors of the machine's width ----------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
typedef float Floats __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t Ints __attribute__((vector_size(kLanes * sizeof(int32_t))));

inline Floats load(const float* p) {
  Floats v;
  memcpy(&v, p, sizeof v);
  return v;
}

inline void store(float* p, Floats v) {
  memcpy(p, &v, sizeof v);
}

inline Floats splat(float x) {
  return Floats{} + x;
}

/// Sum of all lanes, by halves: one after another would wait for every addition.
inline float sum(Floats v) {
  typedef float Four __attribute__((vector_size(16)));
  Four parts[kLanes / 4];
  memcpy(parts, &v, sizeof v);
  for (int half = kLanes / 8; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) {
      parts[i] += parts[i + half];
    }
  }
  return (parts[0][0] + parts[0][2]) + (parts[0][1] + parts[0][3]);
}

/// exp(x) for x <= 0, relative error below 2e-7; exactly 0 where x < -87, so that a masked score (-infinity) counts
/// nothing. exp(x) = 2^n * exp(r) with |r| <= ln(2)/2 and the Taylor polynomial of degree 7 for exp(r).
inline Floats exp_of_nonpositive(Floats x) {
  const Floats lowest = splat(-87.0f);
  const Ints vanishes = x < lowest;
  x = vanishes ? lowest : x;
  const float round = 12582912.0f; // 1.5 * 2^23: adding it leaves the rounded integer in the low bits
  const Floats shifted = x * 1.44269504f + round;
  const Floats n = shifted - round;
  Floats r = x - n * 0.693359375f; // ln(2) in two parts, the first exact in few bits
  r = r + n * 2.12194440e-4f;
  Floats p = splat(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  Ints bits;
  memcpy(&bits, &shifted, sizeof bits);
  Ints exponent = (bits - 0x4B400000 + 127) << 23;
  Floats power;
  memcpy(&power, &exponent, sizeof power);
  return vanishes ? Floats{} : p * power;
}

// --- one work item ---------------------------------------------------------------------------------------------

constexpr int64_t kBlock = 64;        // keys per block
constexpr int64_t kTileTokens = 16;   // prompt tokens per work item
constexpr int64_t kPackedRows = 8;    // from this many rows on, turning a block of keys round pays
constexpr int64_t kAhead = 16;        // keys to ask the memory for in advance: the caches' own guess is bad at strides
constexpr float kNoScoreYet = -1e30f; // a finite start keeps (-infinity) - maximum from becoming NaN

static_assert(kBlock % kLanes == 0, "a block of scores must be whole vectors");

struct Problem {
  const float* q;    // [tokens, heads, dim]
  const float* k;    // [context, kv_heads, dim]
  const float* v;    // [context, kv_heads, dim]
  const float* mask; // [tokens, mask_columns] added to the scores, or null
  float* out;        // [tokens, heads, dim]
  int64_t tokens, heads, kv_heads, dim, group;
  int64_t start, keys, mask_columns;
  bool causal;
  float scale;
};

struct Scratch {
  int64_t dim;                                // rounded up to whole vectors; the tail is zero
  std::vector<float> q, acc, scores, k, v;    // [rows, dim], [rows, dim], [rows, kBlock], [dim, kBlock] or rows, rows
  std::vector<float> maximum, total;          // per row

  Scratch(int64_t rows, int64_t padded)
      : dim(padded), q(rows * padded), acc(rows * padded), scores(rows * kBlock), k(kBlock * padded),
        v(kBlock * padded), maximum(rows), total(rows) {}
};

/// scores[r, j] = q[r] . k[j] for R rows, the keys turned round to [dim, kBlock]: no sums across lanes.
template <int R>
inline void score_rows(const float* q, const float* k_turned, float* scores, int64_t dim) {
  constexpr int kVectors = kBlock / kLanes;
  constexpr int kStep = kVectors < 4 ? kVectors : 4;
  for (int j = 0; j < kVectors; j += kStep) {
    Floats s[R][kStep] = {};
    for (int64_t d = 0; d < dim; d++) {
      Floats key[kStep];
      for (int i = 0; i < kStep; i++) {
        key[i] = load(k_turned + d * kBlock + (j + i) * kLanes);
      }
      for (int r = 0; r < R; r++) {
        const Floats query = splat(q[r * dim + d]);
        for (int i = 0; i < kStep; i++) {
          s[r][i] += query * key[i];
        }
      }
    }
    for (int r = 0; r < R; r++) {
      for (int i = 0; i < kStep; i++) {
        store(scores + r * kBlock + (j + i) * kLanes, s[r][i]);
      }
    }
  }
}

/// acc[r] += sum over j of scores[r, j] * v[j], for R rows and N vectors of a row.
template <int R, int N>
inline void add_values(const float* scores, const float* v, int64_t v_stride, float* acc, int64_t dim, int64_t count) {
  Floats a[R][N];
  for (int r = 0; r < R; r++) {
    for (int i = 0; i < N; i++) {
      a[r][i] = load(acc + r * dim + i * kLanes);
    }
  }
  for (int64_t j = 0; j < count; j++) {
    Floats value[N];
    for (int i = 0; i < N; i++) {
      if (R < 4) { // few rows: little to compute while the values come
        __builtin_prefetch(v + (j + kAhead) * v_stride + i * kLanes);
      }
      value[i] = load(v + j * v_stride + i * kLanes);
    }
    for (int r = 0; r < R; r++) {
      const Floats weight = splat(scores[r * kBlock + j]);
      for (int i = 0; i < N; i++) {
        a[r][i] += weight * value[i];
      }
    }
  }
  for (int r = 0; r < R; r++) {
    for (int i = 0; i < N; i++) {
      store(acc + r * dim + i * kLanes, a[r][i]);
    }
  }
}

template <int R>
inline void add_values(const float* scores, const float* v, int64_t v_stride, float* acc, int64_t dim, int64_t count) {
  int64_t d = 0;
  for (; d + 4 * kLanes <= dim; d += 4 * kLanes) {
    add_values<R, 4>(scores, v + d, v_stride, acc + d, dim, count);
  }
  for (; d < dim; d += kLanes) {
    add_values<R, 1>(scores, v + d, v_stride, acc + d, dim, count);
  }
}

/// scores[r, j] = q[r] . k[j] for a few rows, the keys as they lie in the cache.
inline void score_few_rows(const float* q, int64_t rows, const float* k, int64_t k_stride, float* scores, int64_t dim,
                           int64_t count) {
  for (int64_t j = 0; j < count; j++) {
    const float* key = k + j * k_stride;
    for (int64_t d = 0; d < dim; d += 16) {
      __builtin_prefetch(key + kAhead * k_stride + d);
    }
    for (int64_t r = 0; r < rows; r++) {
      Floats s = {};
      for (int64_t d = 0; d < dim; d += kLanes) {
        s += load(q + r * dim + d) * load(key + d);
      }
      scores[r * kBlock + j] = sum(s);
    }
  }
}

/// True if no token of the tile may look at any key of the block.
bool block_is_masked(const Problem& p, int64_t token, int64_t tokens, int64_t first, int64_t count) {
  for (int64_t t = token; t < token + tokens; t++) {
    const float* row = p.mask + t * p.mask_columns + first;
    for (int64_t j = 0; j < count; j++) {
      if (row[j] != -std::numeric_limits<float>::infinity()) {
        return false;
      }
    }
  }
  return true;
}

/// Turns one row's scores of a block into weights against the running maximum, and rescales what was summed before.
void soften(float* scores, float* acc, float& maximum, float& total, int64_t dim) {
  Floats peak = splat(maximum);
  for (int64_t j = 0; j < kBlock; j += kLanes) {
    const Floats s = load(scores + j);
    peak = s > peak ? s : peak;
  }
  float highest = maximum;
  for (int i = 0; i < kLanes; i++) {
    highest = std::max(highest, peak[i]);
  }
  if (highest > maximum) {
    const float shrink = exp_of_nonpositive(splat(maximum - highest))[0];
    total *= shrink;
    for (int64_t d = 0; d < dim; d += kLanes) {
      store(acc + d, load(acc + d) * shrink);
    }
    maximum = highest;
  }
  Floats weights = {};
  for (int64_t j = 0; j < kBlock; j += kLanes) {
    const Floats w = exp_of_nonpositive(load(scores + j) - highest);
    store(scores + j, w);
    weights += w;
  }
  total += sum(weights);
}

/// All query rows of one key head and of `tokens` tokens from `token` on.
void attend(const Problem& p, int64_t kv_head, int64_t token, int64_t tokens, Scratch& scratch) {
  const int64_t dim = scratch.dim;
  const int64_t rows = tokens * p.group;
  const int64_t stride = p.kv_heads * p.dim;
  const bool padded = dim != p.dim;
  const bool turned = rows >= kPackedRows;

  for (int64_t r = 0; r < rows; r++) { // row r: token r / group, query head r % group of this key head
    const float* q = p.q + ((token + r / p.group) * p.heads + kv_head * p.group + r % p.group) * p.dim;
    float* row = scratch.q.data() + r * dim;
    for (int64_t d = 0; d < p.dim; d++) {
      row[d] = q[d] * p.scale;
    }
  }
  std::fill_n(scratch.acc.data(), rows * dim, 0.0f);
  std::fill_n(scratch.maximum.data(), rows, kNoScoreYet);
  std::fill_n(scratch.total.data(), rows, 0.0f);

  const int64_t last = p.causal ? std::min(p.keys, p.start + token + tokens) : p.keys;
  for (int64_t first = 0; first < last; first += kBlock) {
    const int64_t count = std::min(kBlock, last - first);
    if (p.mask && block_is_masked(p, token, tokens, first, count)) {
      continue;
    }
    const float* k = p.k + first * stride + kv_head * p.dim;
    const float* v = p.v + first * stride + kv_head * p.dim;
    int64_t v_stride = stride;
    float* scores = scratch.scores.data();
    if (turned) {
      float* packed = scratch.k.data();
      for (int64_t j = 0; j < count; j++) {
        for (int64_t d = 0; d < p.dim; d++) {
          packed[d * kBlock + j] = k[j * stride + d];
        }
      }
      int64_t r = 0;
      for (; r + 4 <= rows; r += 4) {
        score_rows<4>(scratch.q.data() + r * dim, packed, scores + r * kBlock, dim);
      }
      for (; r < rows; r++) {
        score_rows<1>(scratch.q.data() + r * dim, packed, scores + r * kBlock, dim);
      }
    } else if (padded) {
      for (int64_t j = 0; j < count; j++) {
        memcpy(scratch.k.data() + j * dim, k + j * stride, p.dim * sizeof(float));
      }
      score_few_rows(scratch.q.data(), rows, scratch.k.data(), dim, scores, dim, count);
    } else {
      score_few_rows(scratch.q.data(), rows, k, stride, scores, dim, count);
    }
    if (padded) {
      for (int64_t j = 0; j < count; j++) {
        memcpy(scratch.v.data() + j * dim, v + j * stride, p.dim * sizeof(float));
      }
      v = scratch.v.data();
      v_stride = dim;
    }
    for (int64_t r = 0; r < rows; r++) {
      const int64_t t = token + r / p.group;
      float* row = scores + r * kBlock;
      if (p.mask) {
        const float* mask = p.mask + t * p.mask_columns + first;
        for (int64_t j = 0; j < count; j++) {
          row[j] += mask[j];
        }
      }
      const int64_t visible = p.causal ? std::clamp<int64_t>(p.start + t + 1 - first, 0, count) : count;
      std::fill(row + visible, row + kBlock, -std::numeric_limits<float>::infinity());
      soften(row, scratch.acc.data() + r * dim, scratch.maximum[r], scratch.total[r], dim);
    }
    for (int64_t r = 0; r < rows; r += 4) {
      float* acc = scratch.acc.data() + r * dim;
      switch (std::min<int64_t>(4, rows - r)) {
        case 4:
          add_values<4>(scores + r * kBlock, v, v_stride, acc, dim, count);
          break;
        case 3:
          add_values<3>(scores + r * kBlock, v, v_stride, acc, dim, count);
          break;
        case 2:
          add_values<2>(scores + r * kBlock, v, v_stride, acc, dim, count);
          break;
        default:
          add_values<1>(scores + r * kBlock, v, v_stride, acc, dim, count);
      }
    }
  }

  for (int64_t r = 0; r < rows; r++) {
    float* out = p.out + ((token + r / p.group) * p.heads + kv_head * p.group + r % p.group) * p.dim;
    const float* acc = scratch.acc.data() + r * dim;
    const float inverse = scratch.total[r] > 0 ? 1.0f / scratch.total[r] : 0.0f; // nothing visible: zeros
    for (int64_t d = 0; d < p.dim; d++) {
      out[d] = acc[d] * inverse;
    }
  }
}

// --- the operators ---------------------------------------------------------------------------------------------

/// llama::update_cache.out(value [1, n, heads, dim], cache [1, context, heads, dim], start, out)
void update_cache(KernelRuntimeContext& context, Span<EValue*> arguments) {
  const Tensor& value = arguments[0]->toTensor();
  Tensor cache = arguments[1]->toTensor();
  const int64_t start = arguments[2]->toInt();
  const bool fits = value.dim() == 4 && cache.dim() == 4 && value.size(0) == 1 && cache.size(0) == 1 &&
      value.size(2) == cache.size(2) && value.size(3) == cache.size(3) &&
      value.scalar_type() == cache.scalar_type() && start >= 0 && start + value.size(1) <= cache.size(1);
  if (!fits) {
    context.fail(Error::InvalidArgument);
    return;
  }
  const size_t row = static_cast<size_t>(cache.size(2) * cache.size(3)) * cache.element_size();
  memcpy(static_cast<char*>(cache.mutable_data_ptr()) + start * row, value.const_data_ptr(), value.size(1) * row);
}

/// llama::custom_sdpa.out(query [1, n, heads, dim], key and value [1, context, kv_heads, dim], start,
/// mask [n, columns] or none, dropout, causal, scale or none, out [1, n, heads, dim])
void custom_sdpa(KernelRuntimeContext& context, Span<EValue*> arguments) {
  const Tensor& query = arguments[0]->toTensor();
  const Tensor& key = arguments[1]->toTensor();
  const Tensor& value = arguments[2]->toTensor();
  const auto mask = arguments[4]->toOptional<Tensor>();
  const auto scale = arguments[7]->toOptional<double>();
  Tensor out = arguments[8]->toTensor();

  auto is_float = [](const Tensor& tensor) { return tensor.scalar_type() == ScalarType::Float; };
  bool fits = query.dim() == 4 && key.dim() == 4 && value.dim() == 4 && query.size(0) == 1 && key.size(0) == 1 &&
      is_float(query) && is_float(key) && is_float(value) && is_float(out) && key.size(3) == query.size(3) &&
      value.size(1) == key.size(1) && value.size(2) == key.size(2) && value.size(3) == key.size(3) &&
      key.size(2) > 0 && query.size(2) % key.size(2) == 0;
  if (!fits) {
    context.fail(Error::InvalidArgument);
    return;
  }

  Problem p = {};
  p.tokens = query.size(1);
  p.heads = query.size(2);
  p.dim = query.size(3);
  p.kv_heads = key.size(2);
  p.group = p.heads / p.kv_heads;
  p.start = arguments[3]->toInt();
  p.causal = arguments[6]->toBool();
  p.keys = key.size(1);
  fits = p.start >= 0 && p.start + p.tokens <= p.keys;
  if (mask.has_value()) {
    const Tensor& m = mask.value();
    fits = fits && m.dim() == 2 && m.size(0) == p.tokens && m.size(1) <= p.keys && is_float(m);
    p.mask = m.const_data_ptr<float>();
    p.mask_columns = m.size(1);
    p.keys = m.size(1);
  } else if (!p.causal) {
    p.keys = p.start + p.tokens; // what was written so far
  }
  if (!fits || executorch::runtime::resize_tensor(out, query.sizes()) != Error::Ok) {
    context.fail(Error::InvalidArgument);
    return;
  }
  p.q = query.const_data_ptr<float>();
  p.k = key.const_data_ptr<float>();
  p.v = value.const_data_ptr<float>();
  p.out = out.mutable_data_ptr<float>();
  p.scale = scale.has_value() ? static_cast<float>(scale.value()) : 1.0f / std::sqrt(static_cast<float>(p.dim));

  const int64_t padded = (p.dim + kLanes - 1) / kLanes * kLanes;
  const int64_t tile = std::min(kTileTokens, p.tokens);
  const int64_t tiles = (p.tokens + tile - 1) / tile;
  executorch::extension::parallel_for(0, tiles * p.kv_heads, 1, [&](int64_t begin, int64_t end) {
    Scratch scratch(tile * p.group, padded);
    for (int64_t item = begin; item < end; item++) {
      const int64_t token = item / p.kv_heads * tile;
      attend(p, item % p.kv_heads, token, std::min(tile, p.tokens - token), scratch);
    }
  });
}

Kernel kernels[] = {
    Kernel("llama::update_cache.out", update_cache),
    Kernel("llama::custom_sdpa.out", custom_sdpa),
};
[[maybe_unused]] Error registered = executorch::runtime::register_kernels({kernels, 2});

} // namespace
