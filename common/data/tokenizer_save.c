#include "common/data/tokenizer_internal.h"

#include "common/data/byte_alphabet.h"
#include "common/data/pretokenize.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* How the file writes a token: added ones as they are, the others in the byte alphabet. */
static json_t *written(const Tokenizer *t, int32_t id, bool added) {
    Str s = {0};
    if (added)
        str_add(&s, token_bytes(&t->vocabulary, id), token_length(&t->vocabulary, id));
    else
        byte_alphabet_write(token_bytes(&t->vocabulary, id), token_length(&t->vocabulary, id), &s);
    json_t *string = json_stringn(s.data, s.count);
    str_free(&s);
    return string;
}

static int by_id(const void *a, const void *b) {
    const AddedToken *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

void tokenizer_save(const Tokenizer *t, const char *path) {
    bool *is_added = xcalloc((size_t)t->vocabulary.count, sizeof *is_added);
    AddedToken *sorted = xmalloc((size_t)t->added_count * sizeof *sorted);
    memcpy(sorted, t->added, (size_t)t->added_count * sizeof *sorted);
    qsort(sorted, (size_t)t->added_count, sizeof *sorted, by_id);
    json_t *added = json_array(), *vocab = json_object(), *merges = json_array();
    for (int32_t i = 0; i < t->added_count; i++) {
        is_added[sorted[i].id] = true;
        json_array_append_new(added, json_pack("{s:i, s:o, s:b, s:b, s:b, s:b, s:b}", "id", sorted[i].id,
                                               "content", written(t, sorted[i].id, true), "single_word", 0,
                                               "lstrip", 0, "rstrip", 0, "normalized", sorted[i].normalized,
                                               "special", sorted[i].special));
    }
    for (int32_t id = 0; id < t->vocabulary.count; id++) {
        json_t *token = written(t, id, is_added[id]);
        json_object_set_new(vocab, json_string_value(token), json_integer(id));
        json_decref(token);
    }
    for (int32_t i = 0; i < t->merge_count; i++) {
        json_t *left = written(t, t->merges[i].left, false), *right = written(t, t->merges[i].right, false);
        json_array_append_new(merges,
                              json_sprintf("%s %s", json_string_value(left), json_string_value(right)));
        json_decref(left);
        json_decref(right);
    }
    json_t *pieces = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                               "trim_offsets", 1, "use_regex", 1);
    json_t *cut = json_copy(pieces);
    char unicode[UNICODE_TEXT];
    if (t->unicode) json_object_set_new(cut, "unicode", json_string(unicode_write(t->unicode, unicode)));
    json_t *model = json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout",
                              "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                              "byte_fallback", 0, "ignore_merges", 0, "vocab", vocab, "merges", merges);
    json_t *root = json_pack("{s:s, s:n, s:n, s:o, s:n, s:o, s:n, s:o, s:o}", "version", "1.0", "truncation",
                             "padding", "added_tokens", added, "normalizer", "pre_tokenizer", cut,
                             "post_processor", "decoder", pieces, "model", model);
    char *text = json_dumps(root, JSON_INDENT(1));
    CHECK(text, NULL, "no memory to write '%s'", path);
    file_write(path, text, strlen(text));
    free(text);
    json_decref(root);
    free(is_added);
    free(sorted);
}
