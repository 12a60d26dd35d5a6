/* tokenizer_load: reads the files of byte-level BPE tokenizers, and believes nothing in them.
 *
 * tokenizer.json is Hugging Face's format. Read are model.vocab, model.merges (each "a b" or ["a",
 * "b"]) and added_tokens. What would make it encode differently from what is built here is refused by
 * name. Left aside: truncation, padding, and a post_processor, which decorates whole sequences; here
 * documents get END_OF_TEXT. */
#include "common/data/tokenizer_internal.h"

#include "common/base/platform.h"
#include "common/data/byte_alphabet.h"
#include "common/data/pretokenize.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NOT_READ "only byte-level BPE as in GPT-2 is read"

/* A tokenizer in the making. */
typedef struct {
    const char *path;
    Vocabulary vocabulary;
    const char **text; /* of token id, as the file writes it, while the JSON lives; NULL: a hole so far */
    bool *is_added;    /* token id */
    int64_t count;     /* ids below this are in use, or holes */
    int64_t capacity;
    Merge *merges;
    int32_t merge_count, merge_capacity;
    AddedToken *added;
    int32_t added_count;
    int unicode; /* see tokenizer_unicode */
} Loader;

/* The string on one line, short and printable, for a message. */
static char *shown(const char *text, size_t count) {
    Str s = {0};
    str_add(&s, "'", 1);
    for (size_t i = 0; i < count && i < 40; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < ' ' || c == 0x7F)
            str_printf(&s, "\\x%02x", c);
        else
            str_add(&s, text + i, 1);
    }
    str_printf(&s, count > 40 ? "...'" : "'");
    return s.data;
}

/* ---- pieces of JSON ---- */

static json_t *read_json(const char *path) {
    size_t bytes;
    char *text = file_read(path, &bytes);
    json_error_t error;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    CHECK(root, "is the file complete?", "'%s' is not JSON: line %d, column %d: %s", path, error.line,
          error.column, error.text);
    CHECK(json_is_object(root), NOT_READ, "'%s' holds no JSON object", path);
    free(text);
    return root;
}

/* Absent and null mean the same everywhere in the format. */
static const json_t *member(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return value && !json_is_null(value) ? value : NULL;
}

static bool flag(const Loader *l, const json_t *object, const char *key, bool otherwise) {
    const json_t *value = member(object, key);
    if (!value) return otherwise;
    CHECK(json_is_boolean(value), NOT_READ, "'%s': '%s' is neither true nor false", l->path, key);
    return json_is_true(value);
}

/* The "type" of a part of the file, printable; "none" where there is no such part. */
static char *type_of(const json_t *part) {
    const char *type = part ? json_string_value(json_object_get(part, "type")) : "none";
    return type ? shown(type, strlen(type)) : shown("unnamed", 7);
}

static void demand_type(const Loader *l, const json_t *root, const char *key, const char *type) {
    const json_t *part = member(root, key);
    const char *found = json_string_value(part ? json_object_get(part, "type") : NULL);
    CHECK(found && strcmp(found, type) == 0, NOT_READ, "'%s': its %s is %s, must be '%s'", l->path, key,
          type_of(part), type);
}

/* ---- tokens ---- */

static void claim_id(Loader *l, const char *text, const json_t *id) {
    CHECK(json_is_integer(id), NOT_READ, "'%s': the id of %s is not a whole number", l->path,
          shown(text, strlen(text)));
    json_int_t value = json_integer_value(id);
    CHECK(value >= 0 && value < l->capacity, "ids run from 0 without a hole",
          "'%s': token %s has id %lld, and there are %lld tokens", l->path, shown(text, strlen(text)),
          (long long)value, (long long)l->capacity);
    CHECK(!l->text[value], "each token has an id of its own", "'%s': tokens %s and %s both have id %lld",
          l->path, shown(l->text[value], strlen(l->text[value])), shown(text, strlen(text)),
          (long long)value);
    l->text[value] = text;
    l->count++;
}

static void add_added(Loader *l, int32_t id, bool special, bool normalized) {
    CHECK(!l->is_added[id], "each token is added once", "'%s': token %s is added twice", l->path,
          shown(l->text[id], strlen(l->text[id])));
    l->is_added[id] = true;
    l->added = xrealloc(l->added, (size_t)(l->added_count + 1) * sizeof *l->added);
    l->added[l->added_count++] = (AddedToken){.id = id, .special = special, .normalized = normalized};
}

/* Notes the added tokens, which may also stand in model.vocab. */
static void read_added(Loader *l, const json_t *vocab, const json_t *list) {
    CHECK(!list || json_is_array(list), NOT_READ, "'%s': added_tokens is not a list", l->path);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i), *id = json_object_get(entry, "id");
        const char *text = json_string_value(json_object_get(entry, "content"));
        CHECK(text && *text, NOT_READ, "'%s': entry %zu of added_tokens has no content", l->path, i + 1);
        for (const char *const *p = (const char *const[]){"lstrip", "rstrip", "single_word", NULL}; *p; p++)
            CHECK(!flag(l, entry, *p, false), NOT_READ, "'%s': added token %s has %s, which is not supported",
                  l->path, shown(text, strlen(text)), *p);
        const json_t *same = json_object_get(vocab, text);
        if (same)
            CHECK(json_equal(same, id), "added_tokens repeats the id of model.vocab",
                  "'%s': the id of added token %s differs from the vocabulary's", l->path,
                  shown(text, strlen(text)));
        else
            claim_id(l, text, id);
        add_added(l, (int32_t)json_integer_value(id), flag(l, entry, "special", false),
                  flag(l, entry, "normalized", false));
    }
}

static void read_vocab(Loader *l, const json_t *vocab, const json_t *added) {
    CHECK(json_is_object(vocab) && json_object_size(vocab) > 0, NOT_READ,
          "'%s': the vocabulary is empty or not an object", l->path);
    l->capacity = (int64_t)(json_object_size(vocab) + json_array_size(added));
    l->text = xcalloc((size_t)l->capacity, sizeof *l->text);
    l->is_added = xcalloc((size_t)l->capacity, sizeof *l->is_added);
    const char *text;
    json_t *id;
    json_object_foreach((json_t *)(uintptr_t)vocab, text, id) claim_id(l, text, id);
    ASSERT(l->count > 0);
    read_added(l, vocab, added);
}

/* Once all ids are known: their bytes, in order. Added tokens stand for themselves, and merges do not find
 * one that would be other bytes in the byte alphabet. */
static void spell_tokens(Loader *l) {
    for (int64_t id = 0; id < l->count; id++) {
        const char *text = l->text[id];
        CHECK(text, "ids run from 0 without a hole", "'%s': no token has id %lld", l->path, (long long)id);
        Str bytes = {0};
        bool plain = byte_alphabet_read(text, strlen(text), &bytes);
        CHECK((plain && *text) || l->is_added[id], NOT_READ,
              "'%s': token %s is not written in the characters that stand for bytes", l->path,
              shown(text, strlen(text)));
        bool same = plain && bytes.count == strlen(text) && memcmp(bytes.data, text, bytes.count) == 0;
        if (l->is_added[id])
            vocabulary_add(&l->vocabulary, text, strlen(text), same);
        else
            vocabulary_add(&l->vocabulary, bytes.data, bytes.count, true);
        str_free(&bytes);
    }
}

/* ---- merges ---- */

static int32_t find_token(const Loader *l, const char *text, size_t count) {
    Str bytes = {0};
    int32_t id = byte_alphabet_read(text, count, &bytes) && count
                     ? vocabulary_find(&l->vocabulary, bytes.data, bytes.count)
                     : -1;
    CHECK(id >= 0, "both sides of a merge must be in the vocabulary",
          "'%s': merge %d names the unknown token %s", l->path, l->merge_count + 1, shown(text, count));
    str_free(&bytes);
    return id;
}

static void add_merge(Loader *l, const char *left, size_t left_count, const char *right, size_t right_count) {
    Merge merge = {find_token(l, left, left_count), find_token(l, right, right_count), -1};
    Str joined = {0};
    str_add(&joined, token_bytes(&l->vocabulary, merge.left), token_length(&l->vocabulary, merge.left));
    str_add(&joined, token_bytes(&l->vocabulary, merge.right), token_length(&l->vocabulary, merge.right));
    merge.result = vocabulary_find(&l->vocabulary, joined.data, joined.count);
    CHECK(merge.result >= 0, "the two sides of a merge, joined, must be in the vocabulary",
          "'%s': merge %d, %s with %s, makes no token", l->path, l->merge_count + 1, shown(left, left_count),
          shown(right, right_count));
    str_free(&joined);
    if (l->merge_count == l->merge_capacity) {
        l->merge_capacity = 2 * l->merge_capacity + 256;
        l->merges = xrealloc(l->merges, (size_t)l->merge_capacity * sizeof *l->merges);
    }
    l->merges[l->merge_count++] = merge;
}

/* "a b"; no token has a space in it, which the byte alphabet writes as another character. */
static void add_merge_line(Loader *l, const char *line, size_t count) {
    const char *space = memchr(line, ' ', count);
    CHECK(space, "a merge is two tokens with a space between", "'%s': merge %d is %s", l->path,
          l->merge_count + 1, shown(line, count));
    add_merge(l, line, (size_t)(space - line), space + 1, (size_t)(line + count - space - 1));
}

static void read_merges(Loader *l, const json_t *merges) {
    CHECK(json_is_array(merges), NOT_READ, "'%s': model.merges is not a list", l->path);
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *entry = json_array_get(merges, i);
        if (json_is_string(entry)) {
            add_merge_line(l, json_string_value(entry), json_string_length(entry));
            continue;
        }
        const json_t *left = json_array_get(entry, 0), *right = json_array_get(entry, 1);
        CHECK(json_array_size(entry) == 2 && json_is_string(left) && json_is_string(right),
              "a merge is \"a b\" or [\"a\", \"b\"]", "'%s': merge %zu is neither", l->path, i + 1);
        add_merge(l, json_string_value(left), json_string_length(left), json_string_value(right),
                  json_string_length(right));
    }
}

/* ---- the two kinds of files ---- */

/* A list of merges that was cut short, by a broken download say, is a list of merges: only the vocabulary tells that some
 * are missing. A token that nothing makes does no harm by itself, so this is no error. */
static void warn_of_unmade(const Tokenizer *t, const char *merges_path) {
    bool *known = xcalloc((size_t)t->vocabulary.count, sizeof *known);
    for (int byte = 0; byte < 256; byte++) known[t->byte_token[byte]] = true;
    for (int32_t i = 0; i < t->added_count; i++) known[t->added[i].id] = true;
    for (int32_t i = 0; i < t->merge_count; i++) known[t->merges[i].result] = true;
    int32_t unmade = 0;
    for (int32_t id = 0; id < t->vocabulary.count; id++) unmade += !known[id];
    if (unmade && platform_rank() <= 0)
        warn("'%s' has no merge that makes %d of its vocabulary's %d tokens, which are neither bytes nor "
             "special: no text "
             "will be cut into them; is the file complete?",
             merges_path, unmade, t->vocabulary.count);
    free(known);
}

/* The pieces that a text is cut into depend on it, and with them the tokens. Another library's file does not say. */
static int read_unicode(const Loader *l, const json_t *pieces) {
    const json_t *value = member(pieces, "unicode");
    if (!value) return 0;
    const char *text = json_string_value(value);
    int major, minor, end = 0;
    bool read =
        text && sscanf(text, "%2d.%2d%n", &major, &minor, &end) == 2 && !text[end] && major > 0 && minor >= 0;
    CHECK(read, "it is a version of Unicode, such as \"14.0\"", "'%s': its pre_tokenizer has unicode %s",
          l->path, text ? shown(text, strlen(text)) : "that is no string");
    return 100 * major + minor;
}

static void warn_of_unicode(const Tokenizer *t, const char *path) {
    int here = unicode_version();
    char theirs[UNICODE_TEXT], ours[UNICODE_TEXT];
    if (t->unicode && t->unicode != here && platform_rank() <= 0)
        warn("'%s' was trained on text cut by Unicode %s, and PCRE2 here cuts by %s: characters that came in "
             "between "
             "become other tokens",
             path, unicode_write(t->unicode, theirs), unicode_write(here, ours));
}

static Tokenizer *finish(Loader *l, json_t *root, const char *merges_path) {
    json_decref(root);
    free(l->text);
    free(l->is_added);
    Tokenizer *t = tokenizer_new(l->vocabulary, l->merges, l->merge_count, l->added, l->added_count, l->path);
    t->unicode = l->unicode;
    warn_of_unmade(t, merges_path);
    warn_of_unicode(t, merges_path);
    return t;
}

static Tokenizer *load_tokenizer_json(const char *path) {
    Loader l = {.path = path};
    json_t *root = read_json(path);
    const json_t *model = member(root, "model");
    CHECK(json_is_object(model), "for GPT-2's two files, name the folder that holds them",
          "'%s' has no \"model\"", path);
    if (member(model, "type") || !member(model, "merges")) demand_type(&l, root, "model", "BPE");
    demand_type(&l, root, "pre_tokenizer", "ByteLevel");
    const json_t *pieces = member(root, "pre_tokenizer");
    CHECK(!flag(&l, pieces, "add_prefix_space", true), NOT_READ,
          "'%s': its pre_tokenizer has add_prefix_space, so that decoding would not give the text back",
          path);
    CHECK(flag(&l, pieces, "use_regex", true), NOT_READ, "'%s': its pre_tokenizer has use_regex off", path);
    l.unicode = read_unicode(&l, pieces);
    if (member(root, "decoder")) demand_type(&l, root, "decoder", "ByteLevel");
    CHECK(!member(root, "normalizer"), NOT_READ, "'%s': its normalizer %s would change the text", path,
          type_of(member(root, "normalizer")));
    for (const char *const *p = (const char *const[]){"byte_fallback", "ignore_merges", NULL}; *p; p++)
        CHECK(!flag(&l, model, *p, false), NOT_READ, "'%s': its model has %s, which is not supported", path,
              *p);
    for (const char *const *p =
             (const char *const[]){"continuing_subword_prefix", "end_of_word_suffix", "dropout", NULL};
         *p; p++) {
        const json_t *value = member(model, *p);
        bool nothing = !value || (json_is_string(value) && !json_string_length(value)) ||
                       (json_is_number(value) && json_number_value(value) == 0);
        CHECK(nothing, NOT_READ, "'%s': its model has %s, which is not supported", path, *p);
    }
    read_vocab(&l, member(model, "vocab"), member(root, "added_tokens"));
    spell_tokens(&l);
    read_merges(&l, member(model, "merges"));
    return finish(&l, root, path);
}

/* GPT-2's pair of files. The vocabulary has END_OF_TEXT in it and does not say that it is special. */
static Tokenizer *load_vocab_and_merges(const char *vocab_path, const char *merges_path) {
    Loader l = {.path = vocab_path};
    json_t *vocab = read_json(vocab_path);
    read_vocab(&l, vocab, NULL);
    const json_t *end_of_text = json_object_get(vocab, END_OF_TEXT);
    if (end_of_text) add_added(&l, (int32_t)json_integer_value(end_of_text), true, false);
    spell_tokens(&l);
    size_t bytes;
    char *text = file_read(merges_path, &bytes);
    l.path = merges_path;
    for (char *line = text, *end = text + bytes; line < end;) {
        char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        size_t count = (size_t)(stop - line);
        if (count && line[count - 1] == '\r') count--;
        bool version = line == text && count >= 8 && memcmp(line, "#version", 8) == 0;
        if (count && !version) add_merge_line(&l, line, count);
        line = stop + (stop < end);
    }
    free(text);
    l.path = vocab_path;
    return finish(&l, vocab, merges_path);
}

/* The pair of files in the folder, if both are there; NULL otherwise. */
static Tokenizer *load_pair(const char *folder, const char *vocab_name, const char *merges_name) {
    char *vocab = xprintf("%s/%s", folder, vocab_name), *merges = xprintf("%s/%s", folder, merges_name);
    bool there = file_exists(vocab) && file_exists(merges);
    Tokenizer *t = there ? load_vocab_and_merges(vocab, merges) : NULL;
    free(vocab);
    free(merges);
    return t;
}

Tokenizer *tokenizer_load(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) return load_tokenizer_json(path);
    char *whole = xprintf("%s/tokenizer.json", path);
    Tokenizer *t =
        file_exists(whole) ? load_tokenizer_json(whole) : load_pair(path, "vocab.json", "merges.txt");
    if (!t) t = load_pair(path, "encoder.json", "vocab.bpe"); /* the names that OpenAI gave them */
    CHECK(t, "it should hold tokenizer.json, or vocab.json and merges.txt, or encoder.json and vocab.bpe",
          "no tokenizer in the folder '%s'", path);
    free(whole);
    return t;
}
