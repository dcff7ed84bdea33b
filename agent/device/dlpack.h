// Tensors of other libraries, in and out without a copy, by DLPack
// (dlpack/dlpack.h of Debian's libdlpack-dev, version 0.6): those of PyTorch,
// JAX, CuPy, NumPy and others.
//
// DLPack says nothing of streams. For a GPU, who hands a tensor over must let
// the work that made it be ordered before the work that reads it: by the
// streams of a call or a reply (`StreamSet`) on our side, and by `stream` of
// `__dlpack__` on the side of Python.
//
// Every function may be called on any thread, and none throws. Quantities are
// checked, but nobody can check that a pointer is to as much memory as it says.

#ifndef REPRISE_AGENT_DEVICE_DLPACK_H_
#define REPRISE_AGENT_DEVICE_DLPACK_H_

#include "absl/status/statusor.h"
#include "agent/device/devices.h"
#include "agent/device/tensor.h"
#include "dlpack/dlpack.h"

namespace reprise {

// A view of the tensor's bytes. It shares the storage until its `deleter` is
// called, which the consumer must do once, on any thread. Memory that is
// borrowed (`BorrowCpu`) must live until then.
//
// `data` is the address of the first element and `byte_offset` is 0, because
// some consumers ignore that. A bool has code 6, as in later versions of DLPack
// and in PyTorch. `requires_grad` gets lost.
//
// For a GPU, call `RecordUse` of the storage before, with the stream on which
// the consumer will work: it may call the deleter while that work still runs.
//
// INVALID_ARGUMENT for a tensor out of the bounds of its storage.
absl::StatusOr<DLManagedTensor*> ToDlpack(const Tensor& tensor);

// A tensor whose storage keeps `managed` alive and in the end calls its
// deleter, once: for memory of the host as soon as nobody has the storage, for
// that of a GPU when also the streams that used it are done (`GpuMemory::Adopt`
// says on which thread). A null deleter is not called.
//
// Taken are memory of the host, pinned too, as "cpu:0", and that of a GPU of
// `devices`, which must outlive this call only; all types of `DType`; strides
// that are null (row-major) or not negative. `devices` may be null: then CPUs
// alone.
//
// INVALID_ARGUMENT for anything else; then the caller still owns `managed`.
absl::StatusOr<Tensor> FromDlpack(DLManagedTensor* managed, Devices* devices);

}  // namespace reprise

#endif  // REPRISE_AGENT_DEVICE_DLPACK_H_
