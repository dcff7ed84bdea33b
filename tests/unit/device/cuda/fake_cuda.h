// A shared library with the functions of CUDA's driver that reprise uses, over
// two GPUs that are not there. What a test may do with it beyond CUDA's
// functions; found by `dlsym`.

#ifndef REPRISE_TESTS_UNIT_DEVICE_CUDA_FAKE_CUDA_H_
#define REPRISE_TESTS_UNIT_DEVICE_CUDA_FAKE_CUDA_H_

extern "C" {

// Lets the function return `result` from now on, without an effect; 0: no more.
// "cuStreamAddCallback!" lets it call back nevertheless.
void FakeCudaFail(const char* function, int result);
// Lets the work before callbacks fail.
void FakeCudaWorkResult(int result);
void FakeCudaVersion(int version);
void FakeCudaCount(int devices);
// What happened, for example "cuMemAlloc(1)" in the context of device 1, or
// "cuMemAlloc(-)" without a context; and forgets it. Valid until the next call.
const char* FakeCudaTakeLog();
// Contexts on this thread's stack.
int FakeCudaDepth();

}  // extern "C"

#endif  // REPRISE_TESTS_UNIT_DEVICE_CUDA_FAKE_CUDA_H_
