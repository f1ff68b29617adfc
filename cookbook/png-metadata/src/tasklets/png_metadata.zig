//! Reads the head of a PNG image and tells its size in bytes, its magic, its width and its height as JSON.
//! The output bytes are the 13 of the header chunk (IHDR), as they stand in the file.
//! Anything that does not begin as a whole PNG does is `bad_input`. Source: PNG specification, third edition, 5.2 and 11.2.

const std = @import("std");
const grafos = @import("grafos.zig");

comptime {
    _ = grafos; // brings its hooks into the module
}

const magic = "\x89PNG\r\n\x1a\n";
const header_bytes = 13;

/// What every PNG begins with: magic, then a chunk of length, type, data and checksum.
const Head = extern struct {
    magic: [magic.len]u8,
    length: [4]u8,
    kind: [4]u8,
    header: [header_bytes]u8,
    checksum: [4]u8,
};

pub fn run(input: grafos.Buffer) !void {
    var head: Head = undefined;
    const bytes = std.mem.asBytes(&head);
    if ((try input.read(0, bytes)).len < bytes.len) return error.bad_input;
    const width = number(head.header[0..4]);
    const height = number(head.header[4..8]);
    if (!isSound(&head) or !isSide(width) or !isSide(height)) return error.bad_input;

    var text: [128]u8 = undefined;
    try grafos.respond(try std.fmt.bufPrint(
        &text,
        "{{\"size\":{d},\"magic\":\"{x}\",\"width\":{d},\"height\":{d}}}",
        .{ input.len, &head.magic, width, height },
    ));
    try grafos.write(&head.header);
    grafos.log("read the header chunk");
}

fn isSound(head: *const Head) bool {
    return std.mem.eql(u8, &head.magic, magic) and
        number(&head.length) == header_bytes and
        std.mem.eql(u8, &head.kind, "IHDR") and
        number(&head.checksum) == std.hash.Crc32.hash(&(head.kind ++ head.header));
}

/// Zero and what does not fit in 31 bits are no sides of an image.
fn isSide(pixels: u32) bool {
    return pixels > 0 and pixels <= std.math.maxInt(i32);
}

fn number(bytes: *const [4]u8) u32 {
    return std.mem.readInt(u32, bytes, .big);
}
