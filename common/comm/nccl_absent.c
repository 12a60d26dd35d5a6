/* What a program built without NCCL has in place of nccl_calls.c. */
#include "common/comm/nccl_calls.h"

const CommBackend *comm_nccl(void) { return NULL; }
