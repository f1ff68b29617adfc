// What the tasklet knows without its host, so that it can be tested without one.

#ifndef COUNTING_H
#define COUNTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_CHARACTERS_MAX 80 // three numbers of at most ten digits, and their names

// What is known of a text so far. Words are what spaces, line ends and other control bytes separate.
struct counts {
    uint32_t bytes, lines, words;
    bool in_word;
};

static void count(struct counts *counts, const uint8_t *piece, size_t length) {
    for (size_t i = 0; i < length; i++) {
        bool blank = piece[i] <= ' ';
        counts->lines += piece[i] == '\n';
        counts->words += !blank && !counts->in_word;
        counts->in_word = !blank;
    }
    counts->bytes += (uint32_t)length;
}

static char *put_text(char *at, const char *text) {
    while (*text != '\0') *at++ = *text++;
    return at;
}

static char *put_number(char *at, uint32_t number) {
    if (number >= 10) at = put_number(at, number / 10);
    *at++ = (char)('0' + number % 10);
    return at;
}

// Writes the counts as JSON, and gives how many characters it has: at most JSON_CHARACTERS_MAX.
static size_t counts_json(const struct counts *counts, char *json) {
    char *at = put_number(put_text(json, "{\"bytes\":"), counts->bytes);
    at = put_number(put_text(at, ",\"lines\":"), counts->lines);
    at = put_number(put_text(at, ",\"words\":"), counts->words);
    return (size_t)(put_text(at, "}") - json);
}

#endif
