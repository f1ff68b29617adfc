//! Says where it runs. Asked for one place, it answers from no other: so a signed answer proves the place.

const std = @import("std");
const grafos = @import("grafos.zig");

comptime {
    _ = grafos; // brings its hooks into the module
}

const module_version = "0.1.0";
const input_bytes_max = 4096;
const json_options = std.json.ParseOptions{ .ignore_unknown_fields = true };

/// What is asked: a provider, and if it matters a cell and a region; `echo` is any text.
const IdentifyInput = struct {
    provider: []const u8,
    cell_id: []const u8 = "",
    region: []const u8 = "",
    echo: []const u8 = "",
};

const WhereItRan = struct {
    provider: []const u8,
    cell_id: []const u8,
    region: []const u8,
};

/// What is answered; `echo_len` counts bytes.
const IdentifyOutput = struct {
    ran_on: WhereItRan,
    echo_len: usize,
    module_version: []const u8,
};

/// The answer of a cell at `here`, or why there is none. It knows nothing of cells, so that any test can call it.
fn compute(memory: std.mem.Allocator, input: []const u8, here: WhereItRan) !IdentifyOutput {
    const asked = std.json.parseFromSliceLeaky(IdentifyInput, memory, input, json_options) catch return error.invalid_input;
    if (asked.provider.len == 0) return error.missing_provider;
    if (!std.mem.eql(u8, asked.provider, here.provider)) return error.another_place;
    if (!fits(asked.cell_id, here.cell_id) or !fits(asked.region, here.region)) return error.another_place;
    return .{ .ran_on = here, .echo_len = asked.echo.len, .module_version = module_version };
}

fn fits(wanted: []const u8, is: []const u8) bool {
    return wanted.len == 0 or std.mem.eql(u8, wanted, is);
}

var scratch: [16 * input_bytes_max]u8 = undefined;

pub fn run(input: grafos.Buffer) !void {
    var fixed = std.heap.FixedBufferAllocator.init(&scratch);
    const memory = fixed.allocator();
    const here = try std.json.parseFromSliceLeaky(WhereItRan, memory, try whole(memory, grafos.context), json_options);
    grafos.log("asked");
    const answer = try compute(memory, try whole(memory, input), here);
    try grafos.respond(try std.json.Stringify.valueAlloc(memory, answer, .{}));
}

fn whole(memory: std.mem.Allocator, buffer: grafos.Buffer) ![]u8 {
    if (buffer.len == 0 or buffer.len > input_bytes_max) return error.invalid_input;
    return buffer.read(0, try memory.alloc(u8, buffer.len));
}

// --- tests: the six cases of the tasklet in Rust ---

const gcp = WhereItRan{ .provider = "gcp", .cell_id = "gcp-1", .region = "us-central1" };

fn asked_there(input: []const u8) !IdentifyOutput {
    var fixed = std.heap.FixedBufferAllocator.init(&scratch);
    return compute(fixed.allocator(), input, gcp);
}

test "the answer says where it ran" {
    const answer = try asked_there("{\"provider\":\"gcp\",\"cell_id\":\"gcp-1\",\"region\":\"us-central1\"}");
    try std.testing.expectEqualDeep(IdentifyOutput{ .ran_on = gcp, .echo_len = 0, .module_version = "0.1.0" }, answer);
}

test "a provider alone is enough" {
    try std.testing.expectEqualDeep(gcp, (try asked_there("{\"provider\":\"gcp\"}")).ran_on);
}

test "the echo is counted in bytes" {
    try std.testing.expectEqual(5, (try asked_there("{\"provider\":\"gcp\",\"echo\":\"gr\u{fc}n\"}")).echo_len);
}

test "without a provider there is no answer" {
    try std.testing.expectError(error.missing_provider, asked_there("{\"provider\":\"\"}"));
}

test "what is no question is refused" {
    for ([_][]const u8{ "{\"provider\":", "{\"echo\":\"x\"}", "{\"provider\":1}", "" }) |text| {
        try std.testing.expectError(error.invalid_input, asked_there(text));
    }
}

test "nobody answers for another place" {
    for ([_][]const u8{ "{\"provider\":\"aws\"}", "{\"provider\":\"gcp\",\"cell_id\":\"gcp-2\"}" }) |text| {
        try std.testing.expectError(error.another_place, asked_there(text));
    }
}
