// JNI over LiteRT's C interface for com.google.ai.edge.litert.Native of the host stand-in: signatures and tensors by
// name, as the Android runtime's classes have them. Every failure is thrown as LiteRtException.
#include "litert_c.h"

#include <jni.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#define NATIVE(result, name) extern "C" JNIEXPORT result JNICALL Java_com_google_ai_edge_litert_Native_##name

namespace {

/// Thrown inside, turned into the Java exception at the border.
struct Failure {
  LiteRtStatus status;
  std::string what;
};

void check(LiteRtStatus status, const char* what) {
  if (status != 0) {
    throw Failure{status, std::string(what) + " failed"};
  }
}
#define CHECK(call) check(call, #call)

struct Port {
  std::string name;
  LiteRtRankedTensorType type;
};

struct Signature {
  size_t index;
  std::vector<Port> inputs, outputs;
};

struct Model {
  LiteRtEnvironment* environment = nullptr;
  LiteRtModel* model = nullptr;
  LiteRtCompiledModel* compiled = nullptr;
  std::map<std::string, Signature> signatures;

  ~Model() {
    if (compiled) {
      LiteRtDestroyCompiledModel(compiled);
    }
    if (model) {
      LiteRtDestroyModel(model);
    }
    if (environment) {
      LiteRtDestroyEnvironment(environment);
    }
  }

  void open(const char* path, int threads) {
    // Without a set of accelerators it would look for the libraries of GPUs and NPUs, and say at length what is missing.
    LiteRtEnvOption options[2] = {};
    options[0].tag = kLiteRtEnvOptionTagMinLoggerSeverity;
    options[0].value.type = kLiteRtAnyTypeInt;
    options[0].value.int_value = kLiteRtLogSeverityError;
    options[1].tag = kLiteRtEnvOptionTagAutoRegisterAccelerators;
    options[1].value.type = kLiteRtAnyTypeInt;
    options[1].value.int_value = kLiteRtHwAcceleratorCpu;
    CHECK(LiteRtCreateEnvironment(2, options, &environment));
    CHECK(LiteRtCreateModelFromFile(environment, path, &model));
    read_signatures();
    compile(threads);
  }

  const Signature& signature(const std::string& name) const {
    auto found = signatures.find(name);
    if (found == signatures.end()) {
      throw Failure{kLiteRtStatusErrorNotFound, "The program has no signature " + name};
    }
    return found->second;
  }

 private:
  void read_signatures() {
    size_t count;
    CHECK(LiteRtGetNumModelSignatures(model, &count));
    for (size_t i = 0; i < count; i++) {
      LiteRtSignature* source;
      const char* key;
      CHECK(LiteRtGetModelSignature(model, i, &source));
      CHECK(LiteRtGetSignatureKey(source, &key));
      Signature& signature = signatures[key];
      signature.index = i;
      signature.inputs = ports(source, LiteRtGetNumSignatureInputs, LiteRtGetSignatureInputName,
                               LiteRtGetSignatureInputTensorByIndex);
      signature.outputs = ports(source, LiteRtGetNumSignatureOutputs, LiteRtGetSignatureOutputName,
                                LiteRtGetSignatureOutputTensorByIndex);
    }
  }

  static std::vector<Port> ports(LiteRtSignature* source, LiteRtStatus (*number)(LiteRtSignature*, size_t*),
                                 LiteRtStatus (*name_of)(LiteRtSignature*, size_t, const char**),
                                 LiteRtStatus (*tensor_of)(LiteRtSignature*, size_t, LiteRtTensor**)) {
    size_t count;
    CHECK(number(source, &count));
    std::vector<Port> ports(count);
    for (size_t i = 0; i < count; i++) {
      const char* name;
      LiteRtTensor* tensor;
      CHECK(name_of(source, i, &name));
      CHECK(tensor_of(source, i, &tensor));
      CHECK(LiteRtGetRankedTensorType(tensor, &ports[i].type));
      ports[i].name = name;
    }
    return ports;
  }

  void compile(int threads) {
    LiteRtOptions* options = nullptr;
    CHECK(LiteRtCreateOptions(&options));
    std::unique_ptr<LiteRtOptions, void (*)(LiteRtOptions*)> owned(options, LiteRtDestroyOptions);
    CHECK(LiteRtSetOptionsHardwareAccelerators(options, kLiteRtHwAcceleratorCpu));
    if (threads > 0) { // an empty payload is refused
      // The library keeps its typed CPU options to itself; this TOML is what they come to.
      std::string toml = "num_threads = " + std::to_string(threads) + "\n";
      LiteRtOpaqueOptions* cpu = nullptr;
      CHECK(LiteRtCreateOpaqueOptions("xnnpack", strdup(toml.c_str()), std::free, &cpu));
      if (LiteRtStatus status = LiteRtAddOpaqueOptions(options, cpu)) {
        LiteRtDestroyOpaqueOptions(cpu);
        check(status, "LiteRtAddOpaqueOptions");
      }
    }
    CHECK(LiteRtCreateCompiledModel(environment, model, options, &compiled));
  }
};

// --- Java's types ------------------------------------------------------------------------------------------------

Model& model_of(jlong handle) {
  return *reinterpret_cast<Model*>(handle);
}

LiteRtTensorBuffer* buffer_of(jlong handle) {
  return reinterpret_cast<LiteRtTensorBuffer*>(handle);
}

std::string to_string(JNIEnv* env, jstring text) {
  const char* chars = env->GetStringUTFChars(text, nullptr);
  std::string copy(chars);
  env->ReleaseStringUTFChars(text, chars);
  return copy;
}

/// Runs `body`; a Failure becomes a LiteRtException of the caller, and the result is then a zero.
template <typename Body>
auto guarded(JNIEnv* env, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const Failure& failure) {
    jclass type = env->FindClass("com/google/ai/edge/litert/LiteRtException");
    jmethodID constructor = env->GetMethodID(type, "<init>", "(ILjava/lang/String;)V");
    jstring message = env->NewStringUTF(failure.what.c_str());
    env->Throw(static_cast<jthrowable>(env->NewObject(type, constructor, failure.status, message)));
    return decltype(body())();
  }
}

size_t bytes_of(LiteRtTensorBuffer* buffer) {
  size_t bytes;
  CHECK(LiteRtGetTensorBufferPackedSize(buffer, &bytes));
  return bytes;
}

/// Calls `use(address)` with the buffer's memory.
template <typename Use>
void locked(LiteRtTensorBuffer* buffer, int32_t mode, Use use) {
  void* address;
  CHECK(LiteRtLockTensorBuffer(buffer, &address, mode));
  use(address);
  CHECK(LiteRtUnlockTensorBuffer(buffer));
}

template <typename Use>
void written(LiteRtTensorBuffer* buffer, jsize count, Use use) {
  if (bytes_of(buffer) < static_cast<size_t>(count) * 4) {
    throw Failure{kLiteRtStatusErrorRuntimeFailure, "The array is longer than the tensor"};
  }
  locked(buffer, kLiteRtTensorBufferLockModeWrite, use);
}

/// The buffers in the signature's own order.
std::vector<LiteRtTensorBuffer*> ordered(JNIEnv* env, const std::vector<Port>& ports, jobjectArray names,
                                         jlongArray handles) {
  std::map<std::string, LiteRtTensorBuffer*> given;
  for (jsize i = 0; i < env->GetArrayLength(names); i++) {
    auto name = static_cast<jstring>(env->GetObjectArrayElement(names, i));
    jlong handle;
    env->GetLongArrayRegion(handles, i, 1, &handle);
    given[to_string(env, name)] = buffer_of(handle);
    env->DeleteLocalRef(name);
  }
  std::vector<LiteRtTensorBuffer*> buffers;
  for (const Port& port : ports) {
    auto found = given.find(port.name);
    if (found == given.end()) {
      throw Failure{kLiteRtStatusErrorMissingInputTensor, "There is no buffer for " + port.name};
    }
    buffers.push_back(found->second);
  }
  if (buffers.size() != given.size()) {
    throw Failure{kLiteRtStatusErrorInvalidArgument, "There are buffers for tensors that the signature lacks"};
  }
  return buffers;
}

} // namespace

// The path is UTF-8 and not a Java string: JNI's modified UTF-8 would damage characters outside the basic plane.
NATIVE(jlong, open)(JNIEnv* env, jclass, jbyteArray path, jint threads) {
  return guarded(env, [&]() -> jlong {
    std::string name(env->GetArrayLength(path), '\0');
    env->GetByteArrayRegion(path, 0, static_cast<jsize>(name.size()), reinterpret_cast<jbyte*>(&name[0]));
    auto model = std::make_unique<Model>();
    model->open(name.c_str(), threads);
    return reinterpret_cast<jlong>(model.release());
  });
}

NATIVE(void, close)(JNIEnv*, jclass, jlong model) {
  delete &model_of(model);
}

NATIVE(jlong, createBuffer)(JNIEnv* env, jclass, jlong handle, jstring signature_name, jstring name, jboolean output) {
  return guarded(env, [&]() -> jlong {
    Model& model = model_of(handle);
    const Signature& signature = model.signature(to_string(env, signature_name));
    const std::vector<Port>& ports = output ? signature.outputs : signature.inputs;
    const std::string wanted = to_string(env, name);
    for (size_t i = 0; i < ports.size(); i++) {
      if (ports[i].name == wanted) {
        auto requirements_of = output ? LiteRtGetCompiledModelOutputBufferRequirements
                                      : LiteRtGetCompiledModelInputBufferRequirements;
        LiteRtTensorBufferRequirements* requirements;
        LiteRtTensorBuffer* buffer;
        CHECK(requirements_of(model.compiled, signature.index, i, &requirements));
        CHECK(LiteRtCreateManagedTensorBufferFromRequirements(model.environment, &ports[i].type, requirements, &buffer));
        return reinterpret_cast<jlong>(buffer);
      }
    }
    throw Failure{kLiteRtStatusErrorNotFound, "The signature has no tensor " + wanted};
  });
}

NATIVE(void, freeBuffer)(JNIEnv*, jclass, jlong buffer) {
  LiteRtDestroyTensorBuffer(buffer_of(buffer));
}

NATIVE(void, writeInt)(JNIEnv* env, jclass, jlong buffer, jintArray data) {
  guarded(env, [&] {
    jsize count = env->GetArrayLength(data);
    written(buffer_of(buffer), count, [&](void* to) {
      env->GetIntArrayRegion(data, 0, count, static_cast<jint*>(to));
    });
  });
}

NATIVE(void, writeFloat)(JNIEnv* env, jclass, jlong buffer, jfloatArray data) {
  guarded(env, [&] {
    jsize count = env->GetArrayLength(data);
    written(buffer_of(buffer), count, [&](void* to) {
      env->GetFloatArrayRegion(data, 0, count, static_cast<jfloat*>(to));
    });
  });
}

NATIVE(jintArray, readInt)(JNIEnv* env, jclass, jlong buffer) {
  return guarded(env, [&] {
    auto count = static_cast<jsize>(bytes_of(buffer_of(buffer)) / sizeof(jint));
    jintArray data = env->NewIntArray(count);
    if (data) {
      locked(buffer_of(buffer), kLiteRtTensorBufferLockModeRead, [&](void* from) {
        env->SetIntArrayRegion(data, 0, count, static_cast<const jint*>(from));
      });
    }
    return data;
  });
}

NATIVE(jfloatArray, readFloat)(JNIEnv* env, jclass, jlong buffer) {
  return guarded(env, [&] {
    auto count = static_cast<jsize>(bytes_of(buffer_of(buffer)) / sizeof(jfloat));
    jfloatArray data = env->NewFloatArray(count);
    if (data) {
      locked(buffer_of(buffer), kLiteRtTensorBufferLockModeRead, [&](void* from) {
        env->SetFloatArrayRegion(data, 0, count, static_cast<const jfloat*>(from));
      });
    }
    return data;
  });
}

NATIVE(void, run)(JNIEnv* env, jclass, jlong handle, jstring signature_name, jobjectArray input_names,
                  jlongArray inputs, jobjectArray output_names, jlongArray outputs) {
  guarded(env, [&] {
    Model& model = model_of(handle);
    const Signature& signature = model.signature(to_string(env, signature_name));
    std::vector<LiteRtTensorBuffer*> in = ordered(env, signature.inputs, input_names, inputs);
    std::vector<LiteRtTensorBuffer*> out = ordered(env, signature.outputs, output_names, outputs);
    CHECK(LiteRtRunCompiledModel(model.compiled, signature.index, in.size(), in.data(), out.size(), out.data()));
  });
}
