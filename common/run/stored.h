/* stored: the tensors of a checkpoint, wherever in its files their elements lie.
 *
 * A file of one device holds whole tensors. One that several devices have written at once (saver.h) holds what its device
 * had: of a tensor a slice, or a shard of one (param.h), under the name of the whole; several of one tensor are called
 * "name", "name#1" and so on. Its metadata says of each which elements these are, in a list of numbers that a Python program
 * reads with json.loads:
 *
 *   "part": "3 of 8", "step": "100",
 *   "blocks.0.qkv.weight": "[[128,384],1,[[0,32],[128,32],[256,32]],96,0]"
 *     the shape of the whole; the axis it is cut along; runs of indices there (first, how many); with padding so many
 *     indices; and of this slice's elements those from that one on
 *
 * A reader takes the elements it wants straight out of the mapped files, however those are cut and however it cuts itself.
 * That every element of a tensor is there once is looked at before one is read. Nothing in the files is believed. */
#ifndef STORED_H
#define STORED_H

#include "common/run/checkpoint.h"
#include "common/tensor/param.h"

typedef struct Stored Stored;

/* Of all the safetensors files of a checkpoint, or of one file. */
Stored *stored_open(const Checkpoint *checkpoint);
Stored *stored_open_file(const char *path);
void stored_close(Stored *stored);

int64_t stored_count(const Stored *stored);
/* Tensor i in the order of their names: its name, type and whole shape. */
NamedArray stored_tensor(const Stored *stored, int64_t i);
/* -1: there is none of that name. */
int64_t stored_find(const Stored *stored, const char *name);
/* The file in which its first elements are: "model.safetensors". */
const char *stored_file(const Stored *stored, int64_t i);

/* to (the shape of p's data): the elements of tensor `name` that p is, as its slice says; padding is 0. A tensor that is not
 * there, of another shape, not complete, or in two places ends the program. */
void stored_read(Stored *stored, const char *name, const Param *p, Tensor *to);
/* to: all of tensor i, as it is stored. */
void stored_read_whole(Stored *stored, int64_t i, void *to);
/* Has any element of tensor i been read? */
bool stored_was_read(const Stored *stored, int64_t i);

/* ---- writing: what a file's metadata says ---- */

/* A parameter of which this device has no element but padding is no piece. */
bool piece_has_elements(const Param *p);
/* Which elements of the whole p is; the caller frees it. */
char *piece_text(const Param *p);

#endif
