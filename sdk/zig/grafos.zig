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

    extern "fabricbios_fbmu_v0" fn fbmu_size(slot: u32) i64;
    extern "fabricbios_fbmu_v0" fn fbmu_read(slot: u32, offset: u64, dst: [*]u8, len: u32) i32;
    extern "fabricbios_fbmu_v0" fn fbmu_write(slot: u32, offset: u64, src: [*]const u8, len: u32) i32;
    extern "fabricbios_fbmu_v0" fn fbmu_attach(ref: [*]const u8, len: u32) i32;
    extern "fabricbios_fbmu_v0" fn fbmu_ref(slot: u32, dst: [*]u8, capacity: u32) i32;
    extern "fabricbios_fbmu_v0" fn fbmu_compare_exchange(slot: u32, offset: u64, expected: u64, new: u64, found: *u64) i32;
    extern "fabricbios_fbmu_v0" fn fbmu_fetch_add(slot: u32, offset: u64, delta: u64, found: *u64) i32;

    extern "fabricbios_fbbu_v0" fn fbbu_get_num_blocks(slot: u32) i64;
    extern "fabricbios_fbbu_v0" fn fbbu_read_block(slot: u32, lba: u64, dst: *[block_bytes]u8) i32;
    extern "fabricbios_fbbu_v0" fn fbbu_write_block(slot: u32, lba: u64, src: *const [block_bytes]u8) i32;

    extern "grafos_svc_v0" fn svc_listen(cap: u32, port: u32, max_sessions: u32) i32;
    extern "grafos_svc_v0" fn svc_wait(listener: u32) i32;
    extern "grafos_svc_v0" fn svc_accept(listener: u32) i32;
    extern "grafos_svc_v0" fn svc_read(session: u32, dst: [*]u8, capacity: u32) i32;
    extern "grafos_svc_v0" fn svc_write(session: u32, src: [*]const u8, len: u32) i32;
    extern "grafos_svc_v0" fn svc_close(session: u32) i32;
};

/// Bytes of a block.
pub const block_bytes = 512;
/// Bytes of a lease reference, at most.
pub const reference_bytes_max = 512;

/// What a host call answers when it does not do what it was asked.
pub const Error = error{
    disconnected,
    lease_expired,
    fenced,
    capacity_exceeded,
    unsupported,
    revoked,
    draining,
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

/// Leased memory: of a lease of the run's own, by its slot, or of a shared region, by its reference.
pub const Memory = struct {
    slot: u32,
    len: u64,

    /// The run's lease in that slot; `unsupported` when it holds none there.
    pub fn at(slot: u32) Error!Memory {
        return .{ .slot = slot, .len = try checkedWide(host.fbmu_size(slot)) };
    }

    /// The shared region that the reference names, wherever it lies.
    pub fn attach(text: []const u8) Error!Memory {
        return at(try checked(host.fbmu_attach(text.ptr, @intCast(text.len))));
    }

    /// The reference of a shared region, for another tasklet; it has at most `reference_bytes_max` bytes.
    pub fn reference(memory: Memory, into: []u8) Error![]u8 {
        return into[0..try checked(host.fbmu_ref(memory.slot, into.ptr, @intCast(into.len)))];
    }

    /// Fills `into` from `offset` on, whole or not at all.
    pub fn read(memory: Memory, offset: u64, into: []u8) Error!void {
        _ = try checked(host.fbmu_read(memory.slot, offset, into.ptr, @intCast(into.len)));
    }

    /// Copies `bytes` to `offset`, whole or not at all.
    pub fn write(memory: Memory, offset: u64, bytes: []const u8) Error!void {
        _ = try checked(host.fbmu_write(memory.slot, offset, bytes.ptr, @intCast(bytes.len)));
    }

    /// Puts `new` into the word at `offset`, a multiple of eight, if it is `expected`; gives what it was.
    pub fn compareExchange(memory: Memory, offset: u64, expected: u64, new: u64) Error!u64 {
        var found: u64 = 0;
        _ = try checked(host.fbmu_compare_exchange(memory.slot, offset, expected, new, &found));
        return found;
    }

    /// Adds to the word at `offset`, wrapping; gives what it was.
    pub fn fetchAdd(memory: Memory, offset: u64, delta: u64) Error!u64 {
        var found: u64 = 0;
        _ = try checked(host.fbmu_fetch_add(memory.slot, offset, delta, &found));
        return found;
    }
};

/// Leased blocks, by the slot of their lease.
pub const Blocks = struct {
    slot: u32,
    count: u64,

    pub fn at(slot: u32) Error!Blocks {
        return .{ .slot = slot, .count = try checkedWide(host.fbbu_get_num_blocks(slot)) };
    }

    pub fn read(blocks: Blocks, lba: u64, into: *[block_bytes]u8) Error!void {
        _ = try checked(host.fbbu_read_block(blocks.slot, lba, into));
    }

    pub fn write(blocks: Blocks, lba: u64, block: *const [block_bytes]u8) Error!void {
        _ = try checked(host.fbbu_write_block(blocks.slot, lba, block));
    }
};

/// The port of a service. Its calls wait without using fuel; `draining` says that no session will come any more.
pub const Listener = struct {
    handle: u32,

    pub fn listen(port: u16, max_sessions: u32) Error!Listener {
        return .{ .handle = try checked(host.svc_listen(0, port, max_sessions)) };
    }

    /// Waits until something can be done: null when a session waits to be accepted, else the session that is ready.
    pub fn wait(listener: Listener) Error!?Session {
        const handle = try checked(host.svc_wait(listener.handle));
        return if (handle == listener.handle) null else .{ .handle = handle };
    }

    pub fn accept(listener: Listener) Error!Session {
        return .{ .handle = try checked(host.svc_accept(listener.handle)) };
    }
};

/// One client of a service. `disconnected` says that it is gone.
pub const Session = struct {
    handle: u32,

    /// The bytes that came; none when the client sends no more.
    pub fn read(session: Session, into: []u8) Error![]u8 {
        return into[0..try checked(host.svc_read(session.handle, into.ptr, @intCast(into.len)))];
    }

    /// How many of the bytes were taken, which may be fewer than there are.
    pub fn write(session: Session, bytes: []const u8) Error!usize {
        return checked(host.svc_write(session.handle, bytes.ptr, @intCast(bytes.len)));
    }

    pub fn close(session: Session) Error!void {
        _ = try checked(host.svc_close(session.handle));
    }
};

fn checkedWide(answer: i64) Error!u64 {
    if (answer >= 0) return @intCast(answer);
    _ = try checked(@truncate(answer));
    return error.io_error;
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
        -9 => error.draining,
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
