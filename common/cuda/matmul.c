/* Matrix products on a GPU: cublasLt behind one function.
 *
 * cublasLt counts matrices by columns: our C (M,N) is its C^T (N,M), so that C = A B is C^T = B^T A^T, and its left operand is
 * our B. A plan holds all that depends on shapes, types and alignments: it is made once, and a step makes none. Algorithms
 * are those whose bits are the same each time: sums that are cut into pieces are added up in a fixed order, in the type that
 * they were formed in. */
#include "common/cuda/kernels_cuda.h"
#include "common/cuda/launched.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>

/* ---- every call is checked ---- */

#define CUBLAS(call) cublas_check((call), #call)
static void cublas_check(cublasStatus_t status, const char *call) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    const char *hint = status == CUBLAS_STATUS_ALLOC_FAILED
                           ? "make the model or the batch smaller, or end what "
                             "else holds the GPU's memory"
                       : status == CUBLAS_STATUS_NOT_INITIALIZED || status == CUBLAS_STATUS_ARCH_MISMATCH
                           ? "install cuBLAS and a driver that know this GPU"
                           : NULL;
    fail(1, hint, "%.*s: %s (%s)", (int)strcspn(call, "("), call, cublasLtGetStatusName(status),
         cublasLtGetStatusString(status));
}

/* ---- plans ---- */

typedef struct {
    int64_t M, N, K;
    int64_t a_at, b_at, c_at; /* addresses are multiples of so many bytes */
    ElementType in, out;
    int a_t, b_t, bias;
} Product;

typedef struct Plan Plan;
struct Plan {
    Product product;
    cublasLtMatmulDesc_t description;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algorithm;
    bool adds_bias;
    Plan *next;
};

/* A process has one GPU. Plans are few: one for each product of a model, forward and backward. */
enum { PLAN_LISTS = 64 };
static cublasLtHandle_t handle;
static Plan *plans[PLAN_LISTS];

static cudaDataType_t data_type(ElementType type) {
    return type == TYPE_BF16 ? CUDA_R_16BF : type == TYPE_F64 ? CUDA_R_64F : CUDA_R_32F;
}

static void set(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t what, const void *value,
                size_t bytes) {
    CUBLAS(cublasLtMatmulDescSetAttribute(description, what, value, bytes));
}

static void prefer(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t what,
                   const void *value, size_t bytes) {
    CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, what, value, bytes));
}

/* An algorithm for the plan as it stands; false: there is none. */
static bool find_algorithm(Plan *plan, size_t workspace) {
    const Product *p = &plan->product;
    uint32_t left = (uint32_t)p->b_at, right = (uint32_t)p->a_at, result = (uint32_t)p->c_at;
    uint32_t in_type_of_sums = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    cublasLtMatmulPreference_t preference;
    CUBLAS(cublasLtMatmulPreferenceCreate(&preference));
    prefer(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace);
    prefer(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &in_type_of_sums, sizeof in_type_of_sums);
    prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &left, sizeof left);
    prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &right, sizeof right);
    prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &result, sizeof result);
    prefer(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &result, sizeof result);
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, plan->description, plan->b, plan->a,
                                                           plan->c, plan->c, preference, 1, &found, &count);
    CUBLAS(cublasLtMatmulPreferenceDestroy(preference));
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && count == 0))
        return false;
    cublas_check(status, "cublasLtMatmulAlgoGetHeuristic");
    plan->algorithm = found.algo;
    return true;
}

static void set_bias(const Plan *plan, const void *bias) {
    set(plan->description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
}

static Plan *plan_new(const Product *p, const void *bias, size_t workspace) {
    Plan *plan = xcalloc(1, sizeof *plan);
    plan->product = *p;
    bool wide = p->in == TYPE_F64; /* f32 is f32: no product in TF32, which has 10 bits */
    CUBLAS(cublasLtMatmulDescCreate(&plan->description, wide ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                    data_type(TYPE_REAL)));
    cublasOperation_t left = p->b_t ? CUBLAS_OP_T : CUBLAS_OP_N, right = p->a_t ? CUBLAS_OP_T : CUBLAS_OP_N;
    set(plan->description, CUBLASLT_MATMUL_DESC_TRANSA, &left, sizeof left);
    set(plan->description, CUBLASLT_MATMUL_DESC_TRANSB, &right, sizeof right);
    int64_t lda = p->a_t ? p->M : p->K, ldb = p->b_t ? p->K : p->N;
    cudaDataType_t in = data_type(p->in);
    CUBLAS(cublasLtMatrixLayoutCreate(&plan->a, in, (uint64_t)lda, (uint64_t)(p->a_t ? p->K : p->M), lda));
    CUBLAS(cublasLtMatrixLayoutCreate(&plan->b, in, (uint64_t)ldb, (uint64_t)(p->b_t ? p->N : p->K), ldb));
    CUBLAS(cublasLtMatrixLayoutCreate(&plan->c, data_type(p->out), (uint64_t)p->N, (uint64_t)p->M, p->N));
    /* a bias is of real; cublasLt adds one of the result's type */
    plan->adds_bias = p->bias && p->out == TYPE_REAL;
    if (plan->adds_bias) {
        cublasLtEpilogue_t end = CUBLASLT_EPILOGUE_BIAS;
        set(plan->description, CUBLASLT_MATMUL_DESC_EPILOGUE, &end, sizeof end);
        set_bias(plan, bias);
        plan->adds_bias = find_algorithm(plan, workspace);
    }
    if (!plan->adds_bias) {
        cublasLtEpilogue_t end = CUBLASLT_EPILOGUE_DEFAULT;
        set(plan->description, CUBLASLT_MATMUL_DESC_EPILOGUE, &end, sizeof end);
        CHECK(find_algorithm(plan, workspace), "install a newer cuBLAS",
              "cublasLt has no product for (%lld, %lld) from %lld", (long long)p->M, (long long)p->N,
              (long long)p->K);
    }
    return plan;
}

static const Plan *plan_for(const Product *p, const void *bias, size_t workspace) {
    if (!handle) CUBLAS(cublasLtCreate(&handle));
    Plan **list = &plans[(uint64_t)(p->M * 31 + p->N * 37 + p->K * 41 + p->a_t + 2 * p->b_t) % PLAN_LISTS];
    for (Plan *plan = *list; plan; plan = plan->next)
        if (memcmp(&plan->product, p, sizeof *p) == 0) {
            if (plan->adds_bias) set_bias(plan, bias);
            return plan;
        }
    Plan *plan = plan_new(p, bias, workspace);
    plan->next = *list;
    return *list = plan;
}

/* ---- the product ---- */

/* Where the result is too small to keep a GPU busy, sums over K are cut into pieces, which meet in scratch: as many as make
 * PIECES elements together, each over DEEP products or more. */
int64_t cuda_matmul_scratch(const Queue *q, int64_t M, int64_t N, int64_t K, bool b_t) {
    (void)q, (void)b_t;
    enum { PIECES = 2 << 20, DEEP = 128 };
    if (M == 0 || N == 0) return 0;
    int64_t pieces = min64(PIECES / (M * N), K / DEEP);
    return pieces > 1 ? pieces * M * N : 0;
}

/* The power of 2 that the address is a multiple of, up to the 16 bytes that a thread reads at once. */
static int64_t alignment(const Tensor *t) {
    uintptr_t at = (uintptr_t)t->data | 16;
    return (int64_t)(at & (~at + 1));
}

void cuda_matmul(Queue *q, const Tensor *A, bool a_t, const Tensor *B, bool b_t, const Tensor *bias,
                 Tensor *C, bool add) {
    Product p;
    memset(&p, 0, sizeof p); /* between its members as well: plans are compared as bytes */
    p.M = tensor_rows(C), p.N = tensor_columns(C), p.K = a_t ? tensor_rows(A) : tensor_columns(A);
    ASSERT((a_t ? tensor_columns(A) : tensor_rows(A)) == p.M);
    ASSERT((b_t ? tensor_rows(B) : tensor_columns(B)) == p.N &&
           (b_t ? tensor_columns(B) : tensor_rows(B)) == p.K);
    ASSERT(A->type == B->type && (A->type == C->type || (A->type == TYPE_BF16 && C->type == TYPE_REAL)));
    ASSERT(!bias || (tensor_count(bias) == p.N && bias->type == TYPE_REAL && !add));
    if (p.M == 0 || p.N == 0) return;
    if (p.K == 0) { /* sums of nothing */
        if (!add) cuda_zero(q, C);
        if (bias) cuda_add_row(q, C, bias, C);
        return;
    }
    p.in = A->type, p.out = C->type, p.a_t = a_t, p.b_t = b_t, p.bias = bias != NULL;
    p.a_at = alignment(A), p.b_at = alignment(B), p.c_at = alignment(C);
    if (bias) p.c_at = min64(p.c_at, alignment(bias));
    int64_t bytes = cuda_matmul_scratch(q, p.M, p.N, p.K, b_t) * element_bytes(C->type);
    const Plan *plan = plan_for(&p, bias ? bias->data : NULL, (size_t)bytes);
    void *scratch = bytes ? device_alloc(C->device, MEMORY_ACTIVATIONS, bytes, "pieces of a product") : NULL;
    const real one = 1, old = add;
    cuda_launching(q);
    CUBLAS(cublasLtMatmul(handle, plan->description, &one, B->data, plan->b, A->data, plan->a, &old, C->data,
                          plan->c, C->data, plan->c, &plan->algorithm, scratch, (size_t)bytes,
                          (cudaStream_t)q->stream));
    cuda_launched(q, "matmul", cudaSuccess);
    device_free(C->device, MEMORY_ACTIVATIONS, scratch, bytes);
    if (bias && !plan->adds_bias) cuda_add_row(q, C, bias, C);
}
