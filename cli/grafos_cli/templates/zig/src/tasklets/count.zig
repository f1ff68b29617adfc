//! Counts the bytes, lines and words of a text. A text without a single byte is `empty_input`.

const std = @import("std");
const grafos = @import("grafos.zig");

comptime {
    _ = grafos; // brings its hooks into the module
}

pub fn run(input: grafos.Buffer) !void {
    if (input.len == 0) return error.empty_input;
    var counts: Counts = .{};
    var piece: [4096]u8 = undefined;
    while (counts.bytes < input.len) counts.add(try input.read(counts.bytes, &piece));

    var text: [80]u8 = undefined;
    try grafos.respond(try counts.json(&text));
    grafos.log("counted");
}

/// What is known of a text so far. Words are what spaces, line ends and other control bytes separate.
const Counts = struct {
    bytes: u32 = 0,
    lines: u32 = 0,
    words: u32 = 0,
    in_word: bool = false,

    fn add(counts: *Counts, piece: []const u8) void {
        for (piece) |byte| {
            const blank = byte <= ' ';
            counts.lines += @intFromBool(byte == '\n');
            counts.words += @intFromBool(!blank and !counts.in_word);
            counts.in_word = !blank;
        }
        counts.bytes += @intCast(piece.len);
    }

    fn json(counts: Counts, into: []u8) ![]u8 {
        return std.fmt.bufPrint(
            into,
            "{{\"bytes\":{d},\"lines\":{d},\"words\":{d}}}",
            .{ counts.bytes, counts.lines, counts.words },
        );
    }
};

test "bytes, lines and words are counted" {
    var counts: Counts = .{};
    counts.add("two words\non two lines\n");
    var text: [80]u8 = undefined;
    try std.testing.expectEqualStrings(
        \\{"bytes":23,"lines":2,"words":5}
    , try counts.json(&text));
}

test "a word may go on in the next piece" {
    var counts: Counts = .{};
    counts.add("a wo");
    counts.add("rd");
    try std.testing.expectEqual(2, counts.words);
}
