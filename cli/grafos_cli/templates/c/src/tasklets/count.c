// Counts the bytes, lines and words of a text. A text without a single byte is `empty_input`.

#include "counting.h"
#include "grafos.h"

const char *run(struct grafos_buffer input) {
    if (input.length == 0) return "empty_input";
    struct counts counts = {0};
    static uint8_t piece[4096];
    while (counts.bytes < input.length) {
        int32_t length = grafos_read(input, counts.bytes, piece, sizeof piece);
        if (length <= 0) return "input_unreadable";
        count(&counts, piece, (size_t)length);
    }
    char json[JSON_CHARACTERS_MAX];
    if (grafos_respond(json, counts_json(&counts, json)) < 0) return "response_refused";
    grafos_log("counted", 7);
    return NULL;
}
