#include "satchel_et.h"

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/runtime/platform/platform.h>
#include <executorch/runtime/platform/runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

// The wheel ships libexecutorch_threadpool but not its header; these are the members that are called here.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  size_t get_thread_count() const;
  bool _unsafe_reset_threadpool(uint32_t thread_count);
};
ThreadPool* get_threadpool();
} // namespace executorch::extension::threadpool

using executorch::extension::from_blob;
using executorch::extension::Module;
using executorch::extension::TensorPtr;
using executorch::runtime::Error;
using executorch::runtime::EValue;

struct satchel_et_module {
  std::unique_ptr<Module> module;
  std::vector<EValue> outputs;
  std::mutex busy;
};

namespace {

constexpr size_t kLogLines = 64;

std::mutex log_mutex;
std::deque<std::string> log_lines;

void keep_log_line(et_timestamp_t, et_pal_log_level_t level, const char* file, const char*, size_t line,
                   const char* message, size_t) {
  if (level == et_pal_log_level_t::kDebug || level == et_pal_log_level_t::kInfo) {
    return;
  }
  const char* slash = file ? strrchr(file, '/') : nullptr;
  std::string text = std::string(slash ? slash + 1 : (file ? file : "?")) + ":" + std::to_string(line) + " " + message;
  if (level == et_pal_log_level_t::kFatal) { // the process ends right after this: nobody will read the kept lines
    fprintf(stderr, "%s\n", text.c_str());
    fflush(stderr);
  }
  std::lock_guard<std::mutex> guard(log_mutex);
  if (log_lines.size() >= kLogLines) {
    log_lines.pop_front();
  }
  log_lines.push_back(std::move(text));
}

void initialize_runtime() {
  static std::once_flag once;
  std::call_once(once, [] {
    executorch::runtime::runtime_init();
    executorch::runtime::register_pal(executorch::runtime::PalImpl::create(keep_log_line, __FILE__));
  });
}

int32_t code(Error error) {
  return static_cast<int32_t>(error);
}

/// Runs `body`, turning every C++ exception into an error code.
template <typename Body>
int32_t guarded(Body body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return code(Error::MemoryAllocationFailed);
  } catch (...) {
    return code(Error::Internal);
  }
}

int64_t copy_text(const std::string& text, char* buffer, size_t capacity) {
  if (buffer && capacity) {
    size_t bytes = std::min(text.size(), capacity - 1);
    memcpy(buffer, text.data(), bytes);
    buffer[bytes] = 0;
  }
  return static_cast<int64_t>(text.size()) + 1;
}

template <typename Lines>
std::string join_lines(const Lines& lines) {
  std::string text;
  for (const auto& line : lines) {
    text += line;
    text += '\n';
  }
  return text;
}

Module::LoadMode to_load_mode(int32_t mode) {
  switch (mode) {
    case 0:
      return Module::LoadMode::File;
    case 2:
      return Module::LoadMode::MmapUseMlock;
    case 3:
      return Module::LoadMode::MmapUseMlockIgnoreErrors;
    default:
      return Module::LoadMode::Mmap;
  }
}

void resize_thread_pool(int32_t threads) {
  uint32_t wanted = threads > 0 ? static_cast<uint32_t>(threads) : std::max(1u, std::thread::hardware_concurrency() / 2);
  auto* pool = executorch::extension::threadpool::get_threadpool();
  if (pool && pool->get_thread_count() != wanted) {
    pool->_unsafe_reset_threadpool(wanted);
  }
}

bool append_input(const satchel_et_value& value, std::vector<EValue>& inputs, std::vector<TensorPtr>& tensors) {
  switch (value.kind) {
    case SATCHEL_ET_TENSOR: {
      if (value.rank < 0 || value.rank > SATCHEL_ET_MAX_RANK || !value.data) {
        return false;
      }
      std::vector<executorch::aten::SizesType> sizes(value.sizes, value.sizes + value.rank);
      tensors.push_back(
          from_blob(value.data, sizes, static_cast<executorch::aten::ScalarType>(value.scalar_type)));
      inputs.emplace_back(*tensors.back());
      return true;
    }
    case SATCHEL_ET_INT:
      inputs.emplace_back(value.integer);
      return true;
    case SATCHEL_ET_BOOL:
      inputs.emplace_back(value.integer != 0);
      return true;
    case SATCHEL_ET_DOUBLE:
      inputs.emplace_back(value.real);
      return true;
    default:
      return false;
  }
}

} // namespace

extern "C" {

int32_t satchel_et_open(const char* path, int32_t load_mode, int32_t threads, satchel_et_module** out) {
  return guarded([&]() -> int32_t {
    initialize_runtime();
    auto handle = std::make_unique<satchel_et_module>();
    handle->module = std::make_unique<Module>(path, to_load_mode(load_mode));
    Error error = handle->module->load();
    if (error != Error::Ok) {
      return code(error);
    }
    resize_thread_pool(threads);
    *out = handle.release();
    return SATCHEL_ET_OK;
  });
}

int32_t satchel_et_close(satchel_et_module* module) {
  if (!module) {
    return SATCHEL_ET_OK;
  }
  if (!module->busy.try_lock()) {
    return SATCHEL_ET_INVALID_STATE;
  }
  module->outputs.clear();
  module->module.reset();
  module->busy.unlock();
  delete module;
  return SATCHEL_ET_OK;
}

int32_t satchel_et_load_method(satchel_et_module* module, const char* method) {
  return guarded([&]() -> int32_t {
    std::unique_lock<std::mutex> lock(module->busy, std::try_to_lock);
    if (!lock.owns_lock()) {
      return SATCHEL_ET_INVALID_STATE;
    }
    return code(module->module->load_method(method));
  });
}

int32_t satchel_et_execute(satchel_et_module* module, const char* method, const satchel_et_value* inputs,
                           size_t count) {
  return guarded([&]() -> int32_t {
    std::unique_lock<std::mutex> lock(module->busy, std::try_to_lock);
    if (!lock.owns_lock()) {
      return SATCHEL_ET_INVALID_STATE;
    }
    auto meta = module->module->method_meta(method);
    if (!meta.ok()) {
      return code(meta.error());
    }
    if (meta->num_inputs() != count) {
      return SATCHEL_ET_INVALID_ARGUMENT;
    }
    std::vector<EValue> values;
    std::vector<TensorPtr> tensors; // owners of what `values` points to
    values.reserve(count);
    for (size_t i = 0; i < count; i++) {
      if (!append_input(inputs[i], values, tensors)) {
        return SATCHEL_ET_INVALID_ARGUMENT;
      }
    }
    module->outputs.clear();
    auto result = module->module->execute(method, values);
    if (!result.ok()) {
      return code(result.error());
    }
    module->outputs = std::move(result.get());
    return SATCHEL_ET_OK;
  });
}

size_t satchel_et_output_count(satchel_et_module* module) {
  return module->outputs.size();
}

int32_t satchel_et_output(satchel_et_module* module, size_t index, satchel_et_value* out) {
  if (index >= module->outputs.size()) {
    return SATCHEL_ET_INVALID_ARGUMENT;
  }
  *out = satchel_et_value{};
  EValue& value = module->outputs[index];
  if (value.isTensor()) {
    auto tensor = value.toTensor();
    if (tensor.dim() > SATCHEL_ET_MAX_RANK) {
      return SATCHEL_ET_INVALID_ARGUMENT;
    }
    out->kind = SATCHEL_ET_TENSOR;
    out->scalar_type = static_cast<int32_t>(tensor.scalar_type());
    out->rank = static_cast<int32_t>(tensor.dim());
    for (int32_t axis = 0; axis < out->rank; axis++) {
      out->sizes[axis] = tensor.size(axis);
    }
    out->data = tensor.mutable_data_ptr();
    out->bytes = tensor.nbytes();
  } else if (value.isInt()) {
    out->kind = SATCHEL_ET_INT;
    out->integer = value.toInt();
  } else if (value.isBool()) {
    out->kind = SATCHEL_ET_BOOL;
    out->integer = value.toBool();
  } else if (value.isDouble()) {
    out->kind = SATCHEL_ET_DOUBLE;
    out->real = value.toDouble();
  } else if (value.isString()) {
    auto text = value.toString();
    out->kind = SATCHEL_ET_STRING;
    out->data = const_cast<char*>(text.data());
    out->bytes = text.size();
  }
  return SATCHEL_ET_OK;
}

int64_t satchel_et_methods(satchel_et_module* module, char* text, size_t capacity) {
  auto names = module->module->method_names();
  return names.ok() ? copy_text(join_lines(names.get()), text, capacity) : -static_cast<int64_t>(names.error());
}

int64_t satchel_et_backends(satchel_et_module* module, const char* method, char* text, size_t capacity) {
  auto meta = module->module->method_meta(method);
  if (!meta.ok()) {
    return -static_cast<int64_t>(meta.error());
  }
  std::vector<std::string> names;
  for (size_t i = 0; i < meta->num_backends(); i++) {
    auto name = meta->get_backend_name(i);
    if (name.ok()) {
      names.emplace_back(name.get());
    }
  }
  return copy_text(join_lines(names), text, capacity);
}

int64_t satchel_et_log(char* text, size_t capacity) {
  std::lock_guard<std::mutex> guard(log_mutex);
  return copy_text(join_lines(log_lines), text, capacity);
}

int32_t satchel_et_forward(satchel_et_module* module, const int64_t* tokens, int32_t count, int64_t position,
                           float* logits, size_t capacity) {
  satchel_et_value inputs[2] = {};
  inputs[0].kind = inputs[1].kind = SATCHEL_ET_TENSOR;
  inputs[0].scalar_type = inputs[1].scalar_type = SATCHEL_ET_INT64;
  inputs[0].rank = 2;
  inputs[0].sizes[0] = 1;
  inputs[0].sizes[1] = count;
  inputs[0].data = const_cast<int64_t*>(tokens);
  inputs[1].rank = 1;
  inputs[1].sizes[0] = 1;
  inputs[1].data = &position;
  if (int32_t error = satchel_et_execute(module, "forward", inputs, 2)) {
    return error;
  }
  satchel_et_value output;
  if (int32_t error = satchel_et_output(module, 0, &output)) {
    return error;
  }
  if (output.kind != SATCHEL_ET_TENSOR || output.scalar_type != SATCHEL_ET_FLOAT32 || output.rank < 1) {
    return SATCHEL_ET_INVALID_ARGUMENT;
  }
  size_t vocabulary = static_cast<size_t>(output.sizes[output.rank - 1]);
  size_t row = vocabulary * sizeof(float);
  if (vocabulary > capacity || output.bytes < row) {
    return SATCHEL_ET_INVALID_ARGUMENT;
  }
  memcpy(logits, static_cast<const char*>(output.data) + output.bytes - row, row);
  return SATCHEL_ET_OK;
}

} // extern "C"
