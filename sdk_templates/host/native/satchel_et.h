// C ABI over the ExecuTorch runtime: no C++ type and no exception crosses it, so that JNI and Swift can share it.
//
// Every function that returns int32_t returns 0 or an ExecuTorch error code (runtime/core/error.h).
// A module serializes nothing: a call on a module whose other call is still running fails with INVALID_STATE.
#ifndef SATCHEL_ET_H
#define SATCHEL_ET_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define SATCHEL_ET_API
#else
#define SATCHEL_ET_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SATCHEL_ET_MAX_RANK 8

typedef struct satchel_et_module satchel_et_module;

// Kinds of value; the numbers are those of the Android runtime's EValue.
enum {
  SATCHEL_ET_NONE = 0,
  SATCHEL_ET_TENSOR = 1,
  SATCHEL_ET_STRING = 2,
  SATCHEL_ET_DOUBLE = 3,
  SATCHEL_ET_INT = 4,
  SATCHEL_ET_BOOL = 5
};

enum {
  SATCHEL_ET_OK = 0x00,
  SATCHEL_ET_INTERNAL = 0x01,
  SATCHEL_ET_INVALID_STATE = 0x02,
  SATCHEL_ET_INVALID_ARGUMENT = 0x12
};

// Element types of tensors; the numbers are ExecuTorch's ScalarType.
enum { SATCHEL_ET_INT64 = 4, SATCHEL_ET_FLOAT32 = 6 };

typedef struct satchel_et_value {
  int32_t kind;
  int32_t scalar_type;                // TENSOR only
  int32_t rank;                       // TENSOR only
  int64_t sizes[SATCHEL_ET_MAX_RANK]; // TENSOR only, elements
  void* data;                         // TENSOR or STRING. Of an output: borrowed until the module's next call or close
  size_t bytes;                       // TENSOR or STRING
  int64_t integer;                    // INT or BOOL
  double real;                        // DOUBLE
} satchel_et_value;

// load_mode: 0 read the file, 1 map it, 2 map and lock, 3 map and lock if allowed.
// threads: size of the thread pool, 0 = half of the cores. The pool is one per process: don't open a module while
// another one executes.
SATCHEL_ET_API int32_t satchel_et_open(const char* path, int32_t load_mode, int32_t threads, satchel_et_module** out);

// INVALID_STATE while a call is running; the module stays open then.
SATCHEL_ET_API int32_t satchel_et_close(satchel_et_module* module);

SATCHEL_ET_API int32_t satchel_et_load_method(satchel_et_module* module, const char* method);

// Runs a method. The number of inputs must be the method's own: the runtime would silently reuse the previous call's
// pointers for missing ones.
SATCHEL_ET_API int32_t satchel_et_execute(satchel_et_module* module, const char* method,
                                          const satchel_et_value* inputs, size_t count);
SATCHEL_ET_API size_t satchel_et_output_count(satchel_et_module* module);
SATCHEL_ET_API int32_t satchel_et_output(satchel_et_module* module, size_t index, satchel_et_value* out);

// Lists as lines of text, NUL-terminated, cut to capacity. Return the bytes needed, or the negative error code.
SATCHEL_ET_API int64_t satchel_et_methods(satchel_et_module* module, char* text, size_t capacity);
SATCHEL_ET_API int64_t satchel_et_backends(satchel_et_module* module, const char* method, char* text, size_t capacity);
// The runtime's latest warnings and errors, of all modules of the process.
SATCHEL_ET_API int64_t satchel_et_log(char* text, size_t capacity);

// A language model's step: forward(tokens int64 [1, count], start int64 [1]) -> the last position's logits, copied to
// logits[0..capacity). Token ids are not checked here; an id outside the vocabulary can end the process.
SATCHEL_ET_API int32_t satchel_et_forward(satchel_et_module* module, const int64_t* tokens, int32_t count,
                                          int64_t position, float* logits, size_t capacity);

#ifdef __cplusplus
}
#endif

#endif
