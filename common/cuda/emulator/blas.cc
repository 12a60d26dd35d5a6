/* cublasLt, by OpenBLAS. A product is one single-threaded call: its bits are the same each time. */
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "common/cuda/emulator/streams.h"

#include <cblas.h>
#include <vector>

struct cublasLtContext {};
struct EmulatorProduct {
    cublasComputeType_t compute;
    cublasOperation_t a_t, b_t;
    cublasLtEpilogue_t end;
    const void *bias;
};
struct EmulatorMatrix {
    cudaDataType type;
    int64_t rows, columns, ld; /* an element is at column * ld + row */
};
struct EmulatorPreference {
    uint64_t workspace;
};

static size_t bytes_of(cudaDataType type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }
static size_t bytes_of(const EmulatorMatrix &m) {
    return (size_t)((m.columns - 1) * m.ld + m.rows) * bytes_of(m.type);
}

/* The matrix's elements as a product computes with them: those of bf16 widened into `wide`. */
static const float *widened(const EmulatorMatrix &m, const void *data, std::vector<float> &wide) {
    if (m.type == CUDA_R_32F) return (const float *)data;
    wide.resize(bytes_of(m) / 2);
    for (size_t i = 0; i < wide.size(); i++) wide[i] = __bfloat162float(((const __nv_bfloat16 *)data)[i]);
    return wide.data();
}

static CBLAS_TRANSPOSE transposed(cublasOperation_t op) {
    return op == CUBLAS_OP_T ? CblasTrans : CblasNoTrans;
}

/* All that a product needs when its turn in the stream has come. */
struct Call {
    EmulatorProduct p;
    EmulatorMatrix a, b, d;
    double alpha, beta;
    const void *A, *B;
    void *D, *workspace;
    size_t workspace_bytes;

    int64_t depth() const { return p.a_t == CUBLAS_OP_T ? a.rows : a.columns; }

    void in_double(const double *x, const double *y, double *z) const {
        cblas_dgemm(CblasColMajor, transposed(p.a_t), transposed(p.b_t), (int)d.rows, (int)d.columns,
                    (int)depth(), alpha, x, (int)a.ld, y, (int)b.ld, beta, z, (int)d.ld);
    }
    void in_float(const void *x, const void *y, void *z) const {
        std::vector<float> wide_a, wide_b, wide_d;
        const float *xs = widened(a, x, wide_a), *ys = widened(b, y, wide_b);
        float *zs = (float *)z;
        if (d.type == CUDA_R_16BF) {
            if (beta != 0) widened(d, z, wide_d);
            wide_d.resize(bytes_of(d) / 2);
            zs = wide_d.data();
        }
        cblas_sgemm(CblasColMajor, transposed(p.a_t), transposed(p.b_t), (int)d.rows, (int)d.columns,
                    (int)depth(), (float)alpha, xs, (int)a.ld, ys, (int)b.ld, (float)beta, zs, (int)d.ld);
        if (p.end == CUBLASLT_EPILOGUE_BIAS) {
            const float *bias = (const float *)emulator_reads(p.bias, (size_t)d.rows * 4, "matmul");
            for (int64_t column = 0; column < d.columns; column++)
                for (int64_t row = 0; row < d.rows; row++) zs[column * d.ld + row] += bias[row];
        }
        for (size_t i = 0; i < wide_d.size(); i++) ((__nv_bfloat16 *)z)[i] = __float2bfloat16(wide_d[i]);
    }
    void run() const {
        const char *who = "matmul";
        const void *x = emulator_reads(A, bytes_of(a), who), *y = emulator_reads(B, bytes_of(b), who);
        if (beta != 0) emulator_reads(D, bytes_of(d), who);
        if (workspace_bytes) emulator_writes(workspace, workspace_bytes, who); /* none else's meanwhile */
        void *z = emulator_writes(D, bytes_of(d), who);
        if (d.type == CUDA_R_64F)
            in_double((const double *)x, (const double *)y, (double *)z);
        else
            in_float(x, y, z);
    }
};

extern "C" {
const char *cublasLtGetStatusName(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
    default: return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
}
const char *cublasLtGetStatusString(cublasStatus_t) { return "said by the emulator"; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    openblas_set_num_threads(1);
    *handle = new cublasLtContext;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *description, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    if ((compute == CUBLAS_COMPUTE_64F ? CUDA_R_64F : CUDA_R_32F) != scale)
        return CUBLAS_STATUS_INVALID_VALUE;
    *description = new EmulatorProduct{compute, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, NULL};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t what, const void *value,
                                              size_t bytes) {
    void *to = what == CUBLASLT_MATMUL_DESC_TRANSA     ? (void *)&description->a_t
               : what == CUBLASLT_MATMUL_DESC_TRANSB   ? (void *)&description->b_t
               : what == CUBLASLT_MATMUL_DESC_EPILOGUE ? (void *)&description->end
                                                       : (void *)&description->bias;
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
    if (!rows || !columns || ld < (int64_t)rows) return CUBLAS_STATUS_INVALID_VALUE;
    *layout = new EmulatorMatrix{type, (int64_t)rows, (int64_t)columns, ld};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
    *preference = new EmulatorPreference{0};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void *value, size_t bytes) {
    if (what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) memcpy(&preference->workspace, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t *found, int *count) {
    bool wide = description->compute == CUBLAS_COMPUTE_64F;
    bool possible = a->type == b->type && c->type == d->type && wide == (a->type == CUDA_R_64F) &&
                    (d->type == a->type || (a->type == CUDA_R_16BF && d->type == CUDA_R_32F));
    /* no bias of f64, so that a caller's way without one is walked as well */
    if (description->end == CUBLASLT_EPILOGUE_BIAS && d->type != CUDA_R_32F) possible = false;
    *count = 0;
    if (!possible || most < 1) return CUBLAS_STATUS_NOT_SUPPORTED;
    *found = {{preference->workspace}, (size_t)preference->workspace};
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t description, const void *alpha,
                              const void *A, cublasLtMatrixLayout_t a, const void *B,
                              cublasLtMatrixLayout_t b, const void *beta, const void *C,
                              cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
    bool wide = description->compute == CUBLAS_COMPUTE_64F;
    if (C != D || c != d || workspace_bytes < algorithm->workspace) return CUBLAS_STATUS_INVALID_VALUE;
    Call call = {*description,
                 *a,
                 *b,
                 *d,
                 wide ? *(const double *)alpha : *(const float *)alpha,
                 wide ? *(const double *)beta : *(const float *)beta,
                 A,
                 B,
                 D,
                 workspace,
                 workspace_bytes};
    emulator_enqueue(stream, "matmul", [=] { return call.run(), true; });
    return CUBLAS_STATUS_SUCCESS;
}
}
