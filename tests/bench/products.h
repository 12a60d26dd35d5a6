/* products: the matrix products of a training step, recorded while it runs, and run again alone. What a step takes
 * beyond them is what a trainer adds to its products. */
#ifndef PRODUCTS_H
#define PRODUCTS_H

#include "common/tensor/kernels.h"

typedef enum { PRODUCT_MATMUL, PRODUCT_ATTENTION, PRODUCT_ATTENTION_BACKWARD, PRODUCT_HEAD } ProductKind;

/* One call of a kernel, with the operands it had: shapes, and the memory that held them. */
typedef struct {
    ProductKind kind;
    Tensor A, B, bias, C; /* of a matmul; attention: A is qkv, C its output or the output's gradient */
    Tensor dx, dw;        /* of a head with its loss, whose A is x, B its weight, C its scratch; or none */
    bool a_t, b_t, has_bias, add;
    int64_t H, K; /* of attention */
} Product;

typedef struct {
    Product *items;
    int64_t count, capacity;
} Products;

/* From here on every product that the device's kernels are asked for is appended to the list, until
 * products_record(device, NULL). One device at a time. */
void products_record(Device *device, Products *list);
void products_free(Products *list);

/* Runs one again on the same memory: a matmul by the kernel of the step, attention as its bare products, a tile of
 * queries and a head at a time, without the softmax. Values of activations and gradients are lost, those of weights
 * and of the optimizer are not. */
void product_run(Device *device, const Product *product);

/* 2 M N K of a matmul; attention counts what causality leaves: 2 products forward, 5 backward (Dao et al. 2022). */
double product_flops(const Product *product);
/* M, N, K of a matmul. */
typedef struct {
    int64_t M, N, K;
} ProductSize;
ProductSize product_size(const Product *product);

#endif
