// A program of this machine that ends well when the tasklet's own part is right: `grafos validate` runs it.

#undef NDEBUG // an assertion that is left out proves nothing
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "../src/tasklets/counting.h"

static void bytes_lines_and_words_are_counted(void) {
    struct counts counts = {0};
    const char *text = "two words\non two lines\n";
    count(&counts, (const uint8_t *)text, strlen(text));
    char json[JSON_CHARACTERS_MAX];
    size_t length = counts_json(&counts, json);
    const char *expected = "{\"bytes\":23,\"lines\":2,\"words\":5}";
    assert(length == strlen(expected));
    assert(memcmp(json, expected, length) == 0);
}

static void a_word_may_go_on_in_the_next_piece(void) {
    struct counts counts = {0};
    count(&counts, (const uint8_t *)"a wo", 4);
    count(&counts, (const uint8_t *)"rd", 2);
    assert(counts.words == 2);
}

int main(void) {
    bytes_lines_and_words_are_counted();
    a_word_may_go_on_in_the_next_piece();
    puts("counting: all is well");
    return 0;
}
