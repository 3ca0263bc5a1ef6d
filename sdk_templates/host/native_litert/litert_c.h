// The part of LiteRT's C interface that the host engine calls, declared by hand: the wheel has the library and no headers.
// (LiteRT 2.1 to 2.3, litert/c/*.h.) Every enum is a 32-bit int.
#ifndef SATCHEL_LITERT_C_H
#define SATCHEL_LITERT_C_H

#include <cstddef>
#include <cstdint>

extern "C" {

typedef int32_t LiteRtStatus; // 0 is success
enum : LiteRtStatus {
  kLiteRtStatusErrorInvalidArgument = 1,
  kLiteRtStatusErrorRuntimeFailure = 3,
  kLiteRtStatusErrorMissingInputTensor = 4,
  kLiteRtStatusErrorNotFound = 6
};

struct LiteRtEnvironment;
struct LiteRtModel;
struct LiteRtSignature;
struct LiteRtTensor;
struct LiteRtOptions;
struct LiteRtOpaqueOptions;
struct LiteRtCompiledModel;
struct LiteRtTensorBuffer;
struct LiteRtTensorBufferRequirements;

struct LiteRtAny {
  int32_t type; // 2: an integer
  union {
    int64_t int_value;
    const void* pointer_value;
  };
};

struct LiteRtEnvOption {
  int32_t tag;
  LiteRtAny value;
};
enum : int32_t {
  kLiteRtAnyTypeInt = 2,
  kLiteRtEnvOptionTagAutoRegisterAccelerators = 24, // value: a set of hardware
  kLiteRtEnvOptionTagMinLoggerSeverity = 25
};
enum : int32_t { kLiteRtHwAcceleratorCpu = 1, kLiteRtLogSeverityError = 3 };

struct LiteRtLayout {
  unsigned rank : 7;
  unsigned has_strides : 1;
  int32_t dimensions[8];
  uint32_t strides[8];
};

struct LiteRtRankedTensorType {
  int32_t element_type;
  LiteRtLayout layout;
};
enum : int32_t { kLiteRtTensorBufferLockModeRead = 0, kLiteRtTensorBufferLockModeWrite = 1 };

static_assert(sizeof(LiteRtAny) == 16 && sizeof(LiteRtEnvOption) == 24, "as the library was compiled");
static_assert(sizeof(LiteRtLayout) == 68 && sizeof(LiteRtRankedTensorType) == 72, "as the library was compiled");

LiteRtStatus LiteRtCreateEnvironment(int count, const LiteRtEnvOption* options, LiteRtEnvironment** environment);
void LiteRtDestroyEnvironment(LiteRtEnvironment* environment);

LiteRtStatus LiteRtCreateModelFromFile(LiteRtEnvironment* environment, const char* path, LiteRtModel** model);
void LiteRtDestroyModel(LiteRtModel* model);
LiteRtStatus LiteRtGetNumModelSignatures(LiteRtModel* model, size_t* count);
LiteRtStatus LiteRtGetModelSignature(LiteRtModel* model, size_t index, LiteRtSignature** signature);
LiteRtStatus LiteRtGetSignatureKey(LiteRtSignature* signature, const char** key);
LiteRtStatus LiteRtGetNumSignatureInputs(LiteRtSignature* signature, size_t* count);
LiteRtStatus LiteRtGetSignatureInputName(LiteRtSignature* signature, size_t index, const char** name);
LiteRtStatus LiteRtGetSignatureInputTensorByIndex(LiteRtSignature* signature, size_t index, LiteRtTensor** tensor);
LiteRtStatus LiteRtGetNumSignatureOutputs(LiteRtSignature* signature, size_t* count);
LiteRtStatus LiteRtGetSignatureOutputName(LiteRtSignature* signature, size_t index, const char** name);
LiteRtStatus LiteRtGetSignatureOutputTensorByIndex(LiteRtSignature* signature, size_t index, LiteRtTensor** tensor);
LiteRtStatus LiteRtGetRankedTensorType(LiteRtTensor* tensor, LiteRtRankedTensorType* type);

LiteRtStatus LiteRtCreateOptions(LiteRtOptions** options);
void LiteRtDestroyOptions(LiteRtOptions* options);
LiteRtStatus LiteRtSetOptionsHardwareAccelerators(LiteRtOptions* options, int32_t hardware);
// The payload is freed by `destroy`; adding hands the ownership over.
LiteRtStatus LiteRtCreateOpaqueOptions(const char* identifier, void* payload, void (*destroy)(void*),
                                       LiteRtOpaqueOptions** options);
void LiteRtDestroyOpaqueOptions(LiteRtOpaqueOptions* options);
LiteRtStatus LiteRtAddOpaqueOptions(LiteRtOptions* options, LiteRtOpaqueOptions* opaque);

LiteRtStatus LiteRtCreateCompiledModel(LiteRtEnvironment* environment, LiteRtModel* model, LiteRtOptions* options,
                                       LiteRtCompiledModel** compiled);
void LiteRtDestroyCompiledModel(LiteRtCompiledModel* compiled);
// The requirements stay the compiled model's.
LiteRtStatus LiteRtGetCompiledModelInputBufferRequirements(LiteRtCompiledModel* compiled, size_t signature,
                                                           size_t input, LiteRtTensorBufferRequirements** requirements);
LiteRtStatus LiteRtGetCompiledModelOutputBufferRequirements(LiteRtCompiledModel* compiled, size_t signature,
                                                            size_t output,
                                                            LiteRtTensorBufferRequirements** requirements);
LiteRtStatus LiteRtRunCompiledModel(LiteRtCompiledModel* compiled, size_t signature, size_t input_count,
                                    LiteRtTensorBuffer** inputs, size_t output_count, LiteRtTensorBuffer** outputs);

LiteRtStatus LiteRtCreateManagedTensorBufferFromRequirements(LiteRtEnvironment* environment,
                                                             const LiteRtRankedTensorType* type,
                                                             LiteRtTensorBufferRequirements* requirements,
                                                             LiteRtTensorBuffer** buffer);
LiteRtStatus LiteRtGetTensorBufferPackedSize(LiteRtTensorBuffer* buffer, size_t* bytes);
LiteRtStatus LiteRtLockTensorBuffer(LiteRtTensorBuffer* buffer, void** address, int32_t mode);
LiteRtStatus LiteRtUnlockTensorBuffer(LiteRtTensorBuffer* buffer);
void LiteRtDestroyTensorBuffer(LiteRtTensorBuffer* buffer);

} // extern "C"

#endif
