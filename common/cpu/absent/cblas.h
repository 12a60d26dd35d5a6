/* What stands for OpenBLAS where it is not installed. Our own products need none; who asks for its products is refused. */
#ifndef ABSENT_CBLAS_H
#define ABSENT_CBLAS_H

#include "common/base/base.h"

#define OPENBLAS_ABSENT

typedef enum { CblasRowMajor = 101, CblasColMajor = 102 } CBLAS_ORDER;
typedef enum { CblasNoTrans = 111, CblasTrans = 112 } CBLAS_TRANSPOSE;

#define ABSENT_PRODUCT(name, number)                                                                         \
    static inline void name(CBLAS_ORDER order, CBLAS_TRANSPOSE a_t, CBLAS_TRANSPOSE b_t, int M, int N,       \
                            int K, number alpha, const number *A, int lda, const number *B, int ldb,         \
                            number beta, number *C, int ldc) {                                               \
        (void)order, (void)a_t, (void)b_t, (void)M, (void)N, (void)K, (void)alpha, (void)A, (void)lda;       \
        (void)B, (void)ldb, (void)beta, (void)C, (void)ldc;                                                  \
        fail(2, "install OpenBLAS, then make clean and build again",                                         \
             "a product by OpenBLAS: this program is built without it");                                     \
    }
ABSENT_PRODUCT(cblas_sgemm, float)
ABSENT_PRODUCT(cblas_dgemm, double)

static inline void openblas_set_num_threads(int threads) { (void)threads; }
static inline int openblas_get_num_threads(void) { return 1; }
static inline const char *openblas_get_config(void) { return "built without OpenBLAS"; }
static inline const char *openblas_get_corename(void) { return "no CPU"; }

#endif
