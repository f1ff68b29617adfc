//! tasklet-profile-v0 for Zig: the hooks that every tasklet exports, and the host's calls in Zig's manner.
//!
//! A tasklet is a file that imports this one and has `pub fn run(input: grafos.Buffer) !void`. An error that it returns
//! ends the run as a program error, and its name is the text: `return error.bad_input;` says "bad_input".
//! What each call means is in docs/reference/tasklet-abi.md, section 4.

const builtin = @import("builtin");
const program = @import("root");

const host = struct {
    extern "grafos_tasklet_v0" fn buffer_read(handle: u32, offset: u32, dst: [*]u8, len: u32) i32;
    extern "grafos_tasklet_v0" fn response_write(ptr: [*]const u8, len: u32) i32;
    extern "grafos_tasklet_v0" fn output_write(ptr: [*]const u8, len: u32) i32;
    extern "grafos_tasklet_v0" fn log_write(ptr: [*]const u8, len: u32) i32;
    extern "grafos_tasklet_v0" fn fail(ptr: [*]const u8, len: u32) i32;
    extern "grafos_tasklet_v0" fn out_of_memory(wanted: u64) i32;
    extern "grafos_tasklet_v0" fn clock_ns() u64;
    extern "grafos_tasklet_v0" fn fuel_remaining() u64;
};

/// What a host call answers when it does not do what it was asked.
pub const Error = error{
    disconnected,
    lease_expired,
    fenced,
    capacity_exceeded,
    unsupported,
    revoked,
    invalid_argument,
    io_error,
};

/// A buffer of the host, read piece by piece; it need not fit into memory.
pub const Buffer = struct {
    handle: u32,
    len: u32,

    /// Fills `into` from `offset` on, and gives the part that was filled: less than asked at the buffer's end.
    pub fn read(buffer: Buffer, offset: u32, into: []u8) Error![]u8 {
        const count = try checked(host.buffer_read(buffer.handle, offset, into.ptr, @intCast(into.len)));
        return into[0..count];
    }
};

/// Where the run runs: one JSON object. Filled in before `run` is called.
pub var context: Buffer = .{ .handle = 0, .len = 0 };

/// The response: one JSON text. The last call counts.
pub fn respond(json: []const u8) Error!void {
    _ = try checked(host.response_write(json.ptr, @intCast(json.len)));
}

/// Appends to the output bytes.
pub fn write(bytes: []const u8) Error!void {
    _ = try checked(host.output_write(bytes.ptr, @intCast(bytes.len)));
}

/// One entry of the log. A full log is no reason to fail, so nothing is answered.
pub fn log(text: []const u8) void {
    _ = host.log_write(text.ptr, @intCast(text.len));
}

/// Says that the program cannot go on without so many bytes more; the run then ends with `memory_exceeded`.
pub fn outOfMemory(wanted_bytes: u64) error{out_of_memory} {
    _ = host.out_of_memory(wanted_bytes);
    return error.out_of_memory;
}

/// The deterministic clock: nanoseconds since the run began, one a unit of fuel.
pub fn clockNs() u64 {
    return host.clock_ns();
}

/// Units of fuel that are left.
pub fn fuelRemaining() u64 {
    return host.fuel_remaining();
}

fn checked(answer: i32) Error!u32 {
    if (answer >= 0) return @intCast(answer);
    return switch (answer) {
        -1 => error.disconnected,
        -2 => error.lease_expired,
        -3 => error.fenced,
        -4 => error.capacity_exceeded,
        -5 => error.unsupported,
        -6 => error.revoked,
        -22 => error.invalid_argument,
        else => error.io_error,
    };
}

// The hooks. A test of the program is a program of this machine, where nobody calls them.

comptime {
    if (!builtin.is_test) {
        @export(&init, .{ .name = "_grafos_tasklet_init" });
        @export(&runOnce, .{ .name = "_grafos_tasklet_run" });
        @export(&finalize, .{ .name = "_grafos_tasklet_finalize" });
    }
}

fn init(handle: u32, len: u32) callconv(.c) void {
    context = .{ .handle = handle, .len = len };
}

fn runOnce(handle: u32, len: u32) callconv(.c) i32 {
    program.run(.{ .handle = handle, .len = len }) catch |problem| {
        const text = @errorName(problem);
        _ = host.fail(text.ptr, @intCast(text.len));
        return 1;
    };
    return 0;
}

fn finalize() callconv(.c) void {}
