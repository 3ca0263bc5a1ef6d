// JNI over the C ABI for org.pytorch.executorch.Native of the host stand-in. Names come as UTF-8 bytes, not as Java
// strings: JNI's modified UTF-8 would damage paths with characters outside the basic plane.
#include "satchel_et.h"

#include <jni.h>

#include <cstring>
#include <string>
#include <vector>

#define NATIVE(result, name) \
  extern "C" JNIEXPORT result JNICALL Java_org_pytorch_executorch_Native_##name

namespace {

satchel_et_module* module_of(jlong handle) {
  return reinterpret_cast<satchel_et_module*>(handle);
}

std::string to_string(JNIEnv* env, jbyteArray bytes) {
  std::string text(env->GetArrayLength(bytes), '\0');
  env->GetByteArrayRegion(bytes, 0, static_cast<jsize>(text.size()), reinterpret_cast<jbyte*>(&text[0]));
  return text;
}

/// Calls `list(buffer, capacity)` with a buffer that is large enough; null if it reports an error.
template <typename List>
jbyteArray to_bytes(JNIEnv* env, List list) {
  std::vector<char> text(4096);
  int64_t needed = list(text.data(), text.size());
  if (needed > static_cast<int64_t>(text.size())) {
    text.resize(needed);
    needed = list(text.data(), text.size());
  }
  if (needed < 0) {
    return nullptr;
  }
  jsize length = static_cast<jsize>(strlen(text.data()));
  jbyteArray bytes = env->NewByteArray(length);
  if (bytes) {
    env->SetByteArrayRegion(bytes, 0, length, reinterpret_cast<const jbyte*>(text.data()));
  }
  return bytes;
}

} // namespace

// The handle, or the negative error code.
NATIVE(jlong, open)(JNIEnv* env, jclass, jbyteArray path, jint load_mode, jint threads) {
  satchel_et_module* module = nullptr;
  int32_t error = satchel_et_open(to_string(env, path).c_str(), load_mode, threads, &module);
  return error ? -static_cast<jlong>(error) : reinterpret_cast<jlong>(module);
}

NATIVE(jint, close)(JNIEnv*, jclass, jlong handle) {
  return satchel_et_close(module_of(handle));
}

NATIVE(jint, loadMethod)(JNIEnv* env, jclass, jlong handle, jbyteArray method) {
  return satchel_et_load_method(module_of(handle), to_string(env, method).c_str());
}

NATIVE(jbyteArray, methods)(JNIEnv* env, jclass, jlong handle) {
  return to_bytes(env, [&](char* text, size_t capacity) {
    return satchel_et_methods(module_of(handle), text, capacity);
  });
}

NATIVE(jbyteArray, backends)(JNIEnv* env, jclass, jlong handle, jbyteArray method) {
  std::string name = to_string(env, method);
  return to_bytes(env, [&](char* text, size_t capacity) {
    return satchel_et_backends(module_of(handle), name.c_str(), text, capacity);
  });
}

NATIVE(jbyteArray, log)(JNIEnv* env, jclass) {
  return to_bytes(env, [](char* text, size_t capacity) { return satchel_et_log(text, capacity); });
}

// Input i is kinds[i] with, for a tensor, scalarTypes[i], shapes[i] and the direct buffer buffers[i], else the 64 bits
// scalars[i] (of a double: its raw bits).
NATIVE(jint, execute)(JNIEnv* env, jclass, jlong handle, jbyteArray method, jintArray kinds, jintArray scalar_types,
                      jobjectArray shapes, jobjectArray buffers, jlongArray scalars) {
  jsize count = env->GetArrayLength(kinds);
  std::vector<jint> kind(count), scalar_type(count);
  std::vector<jlong> scalar(count);
  env->GetIntArrayRegion(kinds, 0, count, kind.data());
  env->GetIntArrayRegion(scalar_types, 0, count, scalar_type.data());
  env->GetLongArrayRegion(scalars, 0, count, scalar.data());
  std::vector<satchel_et_value> values(count);
  for (jsize i = 0; i < count; i++) {
    satchel_et_value& value = values[i];
    value.kind = kind[i];
    if (kind[i] == SATCHEL_ET_TENSOR) {
      auto shape = static_cast<jlongArray>(env->GetObjectArrayElement(shapes, i));
      value.scalar_type = scalar_type[i];
      value.rank = env->GetArrayLength(shape);
      if (value.rank > SATCHEL_ET_MAX_RANK) {
        return SATCHEL_ET_INVALID_ARGUMENT;
      }
      env->GetLongArrayRegion(shape, 0, value.rank, reinterpret_cast<jlong*>(value.sizes));
      value.data = env->GetDirectBufferAddress(env->GetObjectArrayElement(buffers, i));
      if (!value.data) {
        return SATCHEL_ET_INVALID_ARGUMENT;
      }
    } else if (kind[i] == SATCHEL_ET_DOUBLE) {
      memcpy(&value.real, &scalar[i], sizeof value.real);
    } else {
      value.integer = scalar[i];
    }
  }
  return satchel_et_execute(module_of(handle), to_string(env, method).c_str(), values.data(), values.size());
}

NATIVE(jint, outputCount)(JNIEnv*, jclass, jlong handle) {
  return static_cast<jint>(satchel_et_output_count(module_of(handle)));
}

// [kind, scalar type, scalar bits, sizes...]
NATIVE(jlongArray, outputInfo)(JNIEnv* env, jclass, jlong handle, jint index) {
  satchel_et_value value;
  if (satchel_et_output(module_of(handle), index, &value)) {
    return nullptr;
  }
  jlong info[3 + SATCHEL_ET_MAX_RANK] = {value.kind, value.scalar_type, value.integer};
  if (value.kind == SATCHEL_ET_DOUBLE) {
    memcpy(&info[2], &value.real, sizeof value.real);
  }
  for (int32_t axis = 0; axis < value.rank; axis++) {
    info[3 + axis] = value.sizes[axis];
  }
  jlongArray array = env->NewLongArray(3 + value.rank);
  if (array) {
    env->SetLongArrayRegion(array, 0, 3 + value.rank, info);
  }
  return array;
}

// A tensor's or string's bytes, borrowed until the module's next call or close.
NATIVE(jobject, outputBuffer)(JNIEnv* env, jclass, jlong handle, jint index) {
  satchel_et_value value;
  if (satchel_et_output(module_of(handle), index, &value)) {
    return nullptr;
  }
  return env->NewDirectByteBuffer(value.data, static_cast<jlong>(value.bytes));
}
