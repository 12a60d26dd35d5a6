/* Tokenizer files that are damaged, or of a kind that is not read: one line says what is wrong, and where.
 * TEST variants: float asan */
#define _GNU_SOURCE
#include "common/data/tokenizer.h"
#include "tests/expect_exit.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <jansson.h>

#define FIXTURES "tests/fixtures/tokenizer/"

static char *folder;

static void load(void *path) { tokenizer_free(tokenizer_load(path)); }

static void expect_refusal(const char *name, const char *part, const char *what) {
    char *path = xprintf("%s/%s", folder, name);
    Exit e = expect_exit(load, path);
    if (!part)
        ok(e.status == 0 && !*e.text, "%s: read", what);
    else if (!ok(refused(&e, 1, part) && strstr(e.text, folder), "%s: '%s'", what, part))
        printf("# status %d: %s\n", e.status, e.text);
    free(path);
}

static void write_file(const char *name, const char *text, size_t bytes) {
    char *path = xprintf("%s/%s", folder, name);
    file_write(path, text, bytes);
    free(path);
}

static void remove_file(const char *name) {
    char *path = xprintf("%s/%s", folder, name);
    file_remove(path);
    free(path);
}

/* ---- tokenizer.json with one thing changed ---- */

typedef struct {
    const char *path;  /* keys and positions with dots between; '+' puts the value behind the end of a list */
    const char *value; /* JSON; NULL: take it away */
    const char *part;  /* what the message must hold; NULL: it is read */
} Change;

static const Change changes[] = {
    {"model", NULL, "has no \"model\""},
    {"model", "7", "has no \"model\""},
    {"model.type", "\"WordPiece\"", "model is 'WordPiece'"},
    {"model.type", "\"Unigram\"", "model is 'Unigram'"},
    {"model.type", "\"WordLevel\\n\"", "model is 'WordLevel\\x0a'"},
    {"model.type", "3", "model is 'unnamed'"},
    {"model.type", NULL, NULL}, /* older files do not say it */
    {"model.dropout", "0.0", NULL},
    {"model.unk_token", "\"<unk>\"", NULL}, /* every byte is known */
    {"post_processor", "{\"type\": \"TemplateProcessing\"}", NULL},
    {"decoder", "null", NULL},
    {"model.byte_fallback", "true", "byte_fallback"},
    {"model.byte_fallback", "1", "neither true nor false"},
    {"model.ignore_merges", "true", "ignore_merges"},
    {"model.dropout", "0.1", "dropout"},
    {"model.continuing_subword_prefix", "\"##\"", "continuing_subword_prefix"},
    {"model.end_of_word_suffix", "\"</w>\"", "end_of_word_suffix"},
    {"normalizer", "{\"type\": \"NFC\"}", "normalizer 'NFC'"},
    {"pre_tokenizer", "null", "pre_tokenizer is 'none'"},
    {"pre_tokenizer", "[]", "pre_tokenizer is 'unnamed'"},
    {"pre_tokenizer.type", "\"Whitespace\"", "pre_tokenizer is 'Whitespace'"},
    {"pre_tokenizer.type", "\"Metaspace\"", "pre_tokenizer is 'Metaspace'"},
    {"pre_tokenizer.type", "\"Sequence\"", "pre_tokenizer is 'Sequence'"},
    {"pre_tokenizer.add_prefix_space", "true", "add_prefix_space"},
    {"pre_tokenizer.add_prefix_space", NULL, "add_prefix_space"}, /* true where it is not said */
    {"pre_tokenizer.use_regex", "false", "use_regex"},
    {"decoder.type", "\"WordPiece\"", "decoder is 'WordPiece'"},

    {"model.vocab", NULL, "vocabulary is empty or not an object"},
    {"model.vocab", "{}", "vocabulary is empty or not an object"},
    {"model.vocab", "[1, 2]", "vocabulary is empty or not an object"},
    {"model.vocab.!", NULL, "no token has id 1"},
    {"model.vocab.!", "699", "both have id 699"},
    {"model.vocab.!", "-1", "token '!' has id -1"},
    {"model.vocab.!", "5000000000", "token '!' has id 5000000000"},
    {"model.vocab.!", "1.0", "the id of '!' is not a whole number"},
    {"model.vocab.!", "\"1\"", "the id of '!' is not a whole number"},
    {"model.vocab.!", "null", "the id of '!' is not a whole number"},
    {"model.vocab.a b", "700", "token 'a b' is not written in the characters"},
    {"model.vocab.\xe6\x97\xa5", "700", "is not written in the characters"},
    {"model.vocab.", "700", "token '' is not written in the characters"},

    {"model.merges", NULL, "merges is not a list"},
    {"model.merges", "\"a b\"", "merges is not a list"},
    {"model.merges.3", "17", "merge 4 is neither"},
    {"model.merges.3", "[\"a\"]", "merge 4 is neither"},
    {"model.merges.3", "[\"a\", \"b\", \"c\"]", "merge 4 is neither"},
    {"model.merges.3", "[\"a\", 1]", "merge 4 is neither"},
    {"model.merges.3", "\"ab\"", "merge 4 is 'ab'"},
    {"model.merges.3", "\"a b c\"", "merge 4 names the unknown token 'b c'"},
    {"model.merges.3", "\"a \"", "merge 4 names the unknown token ''"},
    {"model.merges.3", "[\"a\", \"xyzzy\"]", "merge 4 names the unknown token 'xyzzy'"},
    {"model.merges.3", "[\"q\", \"q\"]", "merge 4, 'q' with 'q', makes no token"},
    {"model.merges.3", "[\"<|endoftext|>\", \"a\"]", "makes no token"},
    {"model.merges.+", "[\"\\u0120\", \"t\"]", "are the same"},

    {"added_tokens", "{}", "added_tokens is not a list"},
    {"added_tokens", "[]", "has no token <|endoftext|>"},
    {"added_tokens.0", "5", "entry 1 of added_tokens has no content"},
    {"added_tokens.0.content", NULL, "entry 1 of added_tokens has no content"},
    {"added_tokens.0.content", "\"\"", "entry 1 of added_tokens has no content"},
    {"added_tokens.0.content", "\"!\"", "the id of added token '!' differs"},
    {"added_tokens.0.content", "\"<s>\"", "both have id 0"},
    {"added_tokens.0.id", "7", "the id of added token '<|endoftext|>' differs"},
    {"added_tokens.0.lstrip", "true", "has lstrip"},
    {"added_tokens.0.rstrip", "true", "has rstrip"},
    {"added_tokens.0.single_word", "true", "has single_word"},
    {"added_tokens.0.special", "\"yes\"", "'special' is neither true nor false"},
    {"added_tokens.+", "{\"id\": 0, \"content\": \"<|endoftext|>\"}", "'<|endoftext|>' is added twice"},
    {"added_tokens.+", "{\"id\": 700, \"content\": \"a b\"}", NULL},
    {"added_tokens.+", "{\"id\": 703, \"content\": \"a b\"}", "token 'a b' has id 703"},
    {"added_tokens.+", "{\"content\": \"a b\"}", "the id of 'a b' is not a whole number"},
    {"added_tokens.+", "{\"id\": 64, \"content\": \"a\"}", "the id of added token 'a' differs"},
    {"added_tokens.+", "{\"id\": 65, \"content\": \"a\"}", NULL},
};

static void change(json_t *root, const Change *c) {
    char *path = xstrdup(c->path), *key = path;
    for (char *dot; (dot = strchr(key, '.')); key = dot + 1) {
        *dot = 0;
        root = json_is_array(root) ? json_array_get(root, (size_t)atoi(key)) : json_object_get(root, key);
    }
    json_t *value = c->value ? json_loads(c->value, JSON_DECODE_ANY, NULL) : NULL;
    if (json_is_array(root) && *key == '+')
        json_array_append_new(root, value);
    else if (json_is_array(root))
        json_array_set_new(root, (size_t)atoi(key), value);
    else if (value)
        json_object_set_new(root, key, value);
    else
        json_object_del(root, key);
    free(path);
}

static void check_changes(void) {
    for (int i = 0; i < COUNT_OF(changes); i++) {
        json_t *root = json_load_file(FIXTURES "tokenizer.json", 0, NULL);
        change(root, &changes[i]);
        char *text = json_dumps(root, 0);
        write_file("tokenizer.json", text, strlen(text));
        char *what = xprintf("%s = %s", changes[i].path, changes[i].value ? changes[i].value : "(gone)");
        expect_refusal("tokenizer.json", changes[i].part, what);
        free(what);
        free(text);
        json_decref(root);
    }
}

/* ---- files that are cut short or no such thing at all ---- */

static void check_texts(void) {
    size_t bytes;
    char *text = file_read(FIXTURES "tokenizer.json", &bytes);
    int bad = 0;
    for (size_t i = 0; i < 40; i++) {
        size_t kept = i < 20 ? i : bytes - (i - 19) * bytes / 21;
        write_file("tokenizer.json", text, kept);
        char *path = xprintf("%s/tokenizer.json", folder);
        Exit e = expect_exit(load, path);
        bad += !refused(&e, 1, "is not JSON: line 1");
        free(path);
    }
    ok(!bad, "cut short at 40 places: %d not refused", bad);
    free(text);
    static const char *const texts[][2] = {
        {"[1]", "holds no JSON object"},
        {"{}", "has no \"model\""},
        {"{\"a\": 1, \"a\": 2}", "duplicate object key"},
        {"{\"a\": \"\xff\"}", "is not JSON"},
        {"{\"a\": \"\\u0000\"}", "is not JSON"},
        {"{\"a\": 99999999999999999999999}", "is not JSON"},
        {"\x7f"
         "ELF",
         "is not JSON"},
    };
    for (int i = 0; i < COUNT_OF(texts); i++) {
        write_file("tokenizer.json", texts[i][0], strlen(texts[i][0]));
        expect_refusal("tokenizer.json", texts[i][1], texts[i][0]);
    }
    Str deep = {0};
    for (int i = 0; i < 100000; i++) str_add(&deep, "[", 1);
    write_file("tokenizer.json", deep.data, deep.count);
    expect_refusal("tokenizer.json", "is not JSON", "100,000 open brackets");
    str_free(&deep);
    remove_file("tokenizer.json");
    expect_refusal("tokenizer.json", "cannot open", "no such file");
    expect_refusal(".", "no tokenizer in the folder", "an empty folder");
}

/* ---- GPT-2's two files ---- */

static void check_pair(void) {
    size_t vocab_bytes, merges_bytes;
    char *vocab = file_read(FIXTURES "gpt2/vocab.json", &vocab_bytes);
    char *merges = file_read(FIXTURES "gpt2/merges.txt", &merges_bytes);
    write_file("vocab.json", vocab, vocab_bytes);
    expect_refusal(".", "no tokenizer in the folder", "vocab.json alone");
    expect_refusal("vocab.json", "has no \"model\"", "vocab.json as if it were tokenizer.json");
    static const char *const lines[][2] = {
        {"ab", "merge 1 is 'ab'"},
        {"a b c", "unknown token 'b c'"},
        {" ", "unknown token ''"},
        {"a \xff", "unknown token"},
        {"\xc4", "merge 1 is"},
        {"a \xc4", "unknown token"},
        {"q q", "'q' with 'q', makes no token"},
        {"#version: 0.2\n\xc4\xa0 t\r\n\xc4\xa0 t\n", "merges 1 and 2 are the same"},
    };
    for (int i = 0; i < COUNT_OF(lines); i++) {
        write_file("merges.txt", lines[i][0], strlen(lines[i][0]));
        expect_refusal(".", lines[i][1], "merges.txt");
    }
    write_file("merges.txt", merges, merges_bytes);
    static const char *const vocabularies[][2] = {
        {"{}", "vocabulary is empty"},
        {"{\"a\": 0}", "unknown token"},
        {"{\"a\": 1}", "token 'a' has id 1"},
        {"{\"a\": 0, \"b\": 0}", "tokens 'a' and 'b' both have id 0"},
        {"{\"<|endoftext|>\": {}}", "is not a whole number"},
    };
    for (int i = 0; i < COUNT_OF(vocabularies); i++) {
        write_file("vocab.json", vocabularies[i][0], strlen(vocabularies[i][0]));
        expect_refusal(".", vocabularies[i][1], vocabularies[i][0]);
    }
    write_file("merges.txt", "", 0);
    write_file("vocab.json", "{\"a\": 0}", 8);
    expect_refusal(".", "has no token for byte 0x00", "a vocabulary without all bytes");
    char *end = strstr(vocab, "<|endoftext|>");
    memcpy(end, "<|endofpage|>", 13);
    write_file("vocab.json", vocab, vocab_bytes);
    expect_refusal(".", "has no token <|endoftext|>", "a vocabulary that cannot end a document");
    free(vocab);
    free(merges);
}

/* ---- merges that are missing ---- */

static void expect_warning(const char *name, const char *part, const char *what) {
    char *path = xprintf("%s/%s", folder, name);
    Exit e = expect_exit(load, path);
    if (!ok(e.status == 0 && !strchr(e.text, '\n') && strstr(e.text, ": warning: ") && strstr(e.text, part),
            "%s: '%s'", what, part))
        printf("# status %d: %s\n", e.status, e.text);
    free(path);
}

/* The fixture makes each of its 443 merged tokens once. */
static void check_cut_merges(void) {
    size_t vocab_bytes, merges_bytes;
    char *vocab = file_read(FIXTURES "gpt2/vocab.json", &vocab_bytes);
    char *merges = file_read(FIXTURES "gpt2/merges.txt", &merges_bytes), *end = merges;
    write_file("vocab.json", vocab, vocab_bytes);
    write_file("merges.txt", merges, merges_bytes);
    expect_refusal(".", NULL, "vocab.json and merges.txt, whole");
    for (int line = 0; line < 1 + 400; line++) end = strchr(end, '\n') + 1;
    write_file("merges.txt", merges, (size_t)(end - merges));
    expect_warning(".", "merges.txt' has no merge that makes 43 of its vocabulary's 700 tokens",
                   "43 merges cut off");
    write_file("merges.txt", "", 0);
    expect_warning(".", "makes 443 of", "an empty merges.txt");
    end = strchr(strchr(merges, '\n') + 1, '\n');
    write_file("merges.txt", merges, (size_t)(end - merges));
    expect_warning(".", "makes 442 of", "cut at the end of a line");
    remove_file("vocab.json");
    remove_file("merges.txt");

    write_file("encoder.json", vocab, vocab_bytes);
    expect_refusal(".", "no tokenizer in the folder", "encoder.json alone");
    write_file("vocab.bpe", merges, merges_bytes);
    expect_refusal(".", NULL, "OpenAI's names");
    Tokenizer *theirs = tokenizer_load(folder), *same = tokenizer_load(FIXTURES "gpt2");
    ok(tokenizer_hash(theirs) == tokenizer_hash(same), "OpenAI's names: the same tokenizer");
    tokenizer_free(theirs);
    tokenizer_free(same);
    write_file("vocab.bpe", merges, (size_t)(end - merges));
    expect_warning(".", "vocab.bpe' has no merge that makes 442 of", "vocab.bpe cut short");

    json_t *root = json_load_file(FIXTURES "tokenizer.json", 0, NULL);
    json_array_clear(json_object_get(json_object_get(root, "model"), "merges"));
    char *text = json_dumps(root, 0);
    write_file("tokenizer.json", text, strlen(text));
    expect_warning("tokenizer.json", "makes 443 of", "a tokenizer.json without merges");
    free(text);
    json_decref(root);
    free(vocab);
    free(merges);
}

/* ---- calls ---- */

static void decode_beyond(void *id) {
    Tokenizer *t = tokenizer_load(FIXTURES "tokenizer.json");
    Str out = {0};
    tokenizer_decode(t, id, 1, &out);
}

static void train_small(void *unused) {
    (void)unused;
    tokenizer_train("abc", 3, 256);
}

static void save_nowhere(void *unused) {
    (void)unused;
    tokenizer_save(tokenizer_load(FIXTURES "tokenizer.json"), "/nonexistent/tokenizer.json");
}

static void check_calls(void) {
    Exit e = expect_exit(decode_beyond, &(int32_t){700});
    ok(refused(&e, 1, "token 700 at position 0"), "a token beyond the vocabulary");
    e = expect_exit(decode_beyond, &(int32_t){-1});
    ok(refused(&e, 1, "token -1 at position 0"), "a negative token");
    e = expect_exit(train_small, NULL);
    ok(refused(&e, 2, "a vocabulary of 256 tokens"), "a vocabulary without room for all bytes");
    e = expect_exit(save_nowhere, NULL);
    ok(refused(&e, 1, "/nonexistent/tokenizer.json"), "nowhere to save");
}

int main(int argc, char **argv) {
    (void)argc;
    base_set_program(argv[0]);
    folder = file_temp_folder("shard-test");
    check_changes();
    check_texts();
    check_pair();
    check_cut_merges();
    check_calls();
    file_remove(folder);
    free(folder);
    return tap_done();
}
