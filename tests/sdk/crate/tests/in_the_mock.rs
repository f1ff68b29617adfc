//! Tasklets run in the mock as in a cell.

use grafos_std::host::{self, mock_run, Ran};
use grafos_std::{Context, FabricError};
use sdk_tests::*;

fn run(tasklet: fn(&[u8]) -> grafos_std::Output) -> Ran {
    mock_run(tasklet, b"")
}

#[test]
fn response_output_and_log_are_what_the_tasklet_left() {
    let ran = mock_run(echo, b"abc");
    assert_eq!(ran.code, "finished");
    assert_eq!(ran.response.as_deref(), Some("3"));
    assert_eq!(ran.output, b"abc");
    assert_eq!(ran.log, ["read 3 bytes"]);
}

#[test]
fn a_run_starts_without_what_an_earlier_one_left() {
    mock_run(echo, b"abc");
    let ran = run(|_| r#match());
    assert_eq!((ran.response, ran.output.len(), ran.log.len()), (None, 0, 0));
}

#[test]
fn the_context_is_what_was_set() {
    host::reset_mock();
    let mut context = Context::from_json(b"{}").unwrap();
    context.provider = "aws".to_owned();
    context.region = "a \"quoted\" region\n".to_owned();
    host::mock_set_context(&context);
    assert_eq!(grafos_std::Tasklet::context(), context);
    host::reset_mock();
    assert_eq!(grafos_std::Tasklet::context().provider, "local");
}

#[test]
fn a_context_of_a_later_cell_is_understood() {
    let later = br#" {"zone":{"a":[1,2.5e3,null,true]},"provider":"g\u0063p","extra":"\ud83d\ude00"} "#;
    assert_eq!(Context::from_json(later).unwrap().provider, "gcp");
}

#[test]
fn pieces_of_the_input_are_read() {
    assert_eq!(mock_run(|_| last_byte(), b"xyz").output, b"z");
    assert_eq!(mock_run(|_| last_byte(), b"").output, b"");
}

#[test]
fn a_failure_ends_the_run_with_its_text() {
    let ran = mock_run(never_empty, b"");
    assert_eq!((ran.code, ran.text.as_str()), ("program_error", "empty_append"));
    assert_eq!(mock_run(refused, b"").text, "missing_provider");
}

#[test]
fn an_error_of_somebody_else_becomes_a_failure() {
    let ran = mock_run(never_empty, b"\xff");
    assert!(ran.text.contains("invalid utf-8"), "{}", ran.text);
}

#[test]
fn a_long_failure_is_cut_and_has_no_lines() {
    let ran = mock_run(|_| grafos_std::fail("one\ntwo ".repeat(200)), b"");
    assert_eq!(ran.text.len(), 1024);
    assert!(ran.text.starts_with("one two one two"));
}

#[test]
fn the_clock_goes_forward_and_fuel_goes_down() {
    assert_eq!(run(|_| times()).response.as_deref(), Some("[true,true]"));
}

#[test]
fn what_is_no_json_is_an_invalid_response() {
    assert_eq!(run(|_| no_json()).code, "response_invalid");
}

#[test]
fn too_much_of_anything_is_too_large() {
    assert_eq!(run(|_| grafos_std::Output::bytes(vec![0; (8 << 20) + 1])).code, "output_too_large");
    assert_eq!(run(|_| grafos_std::Output::json("x".repeat(1 << 20))).code, "output_too_large");
}

#[test]
fn a_full_log_does_not_end_the_run() {
    let ran = run(|_| {
        for _ in 0..100 {
            grafos_std::log!("{}", "x".repeat(1000));
        }
        grafos_std::log!("{}", "x".repeat(5000));
        grafos_std::Output::empty()
    });
    assert_eq!((ran.code, ran.log.len()), ("finished", 65));
}

#[test]
fn leased_memory_keeps_what_was_written() {
    host::reset_mock();
    host::mock_set_fbmu_arena_size(64);
    let ran = mock_run(leased, b"data");
    assert_eq!(ran.output, b"\0data\0");
    assert_eq!(ran.response.as_deref(), Some(r#""64 Err(CapacityExceeded)""#));
}

#[test]
fn a_run_without_a_lease_has_none() {
    host::reset_mock();
    assert_eq!(mock_run(leased, b"").text, "unsupported");
    assert_eq!(run(|_| blocks().unwrap_or_default()).code, "finished");
}

#[test]
fn a_lease_that_ran_out_says_so_at_every_call() {
    host::reset_mock();
    host::mock_set_fbmu_arena_size(64);
    let memory = grafos_std::mem::FabricMem::hello().unwrap();
    for (status, error) in [
        (-1, FabricError::Disconnected),
        (-2, FabricError::LeaseExpired),
        (-3, FabricError::Fenced),
        (-6, FabricError::Revoked),
        (-22, FabricError::IoError(-22)),
        (-200, FabricError::IoError(-200)),
    ] {
        host::mock_set_lease_status(status);
        assert_eq!(memory.write(0, b"x"), Err(error));
        assert_eq!(memory.read(0, 1), Err(error));
        assert_eq!(grafos_std::mem::FabricMem::hello().err(), Some(error));
    }
}

#[test]
fn more_than_is_leased_is_refused_before_it_is_allocated() {
    host::reset_mock();
    host::mock_set_fbmu_arena_size(64);
    let memory = grafos_std::mem::FabricMem::hello().unwrap();
    assert_eq!(memory.read(0, usize::MAX / 2), Err(FabricError::CapacityExceeded));
    assert_eq!(memory.write(u64::MAX, b"x"), Err(FabricError::CapacityExceeded));
}

#[test]
fn leased_blocks_outlive_a_run() {
    host::reset_mock();
    host::mock_set_fbbu_num_blocks(2);
    assert_eq!(mock_run(|_| blocks(), b"").output[0], 1);
    assert_eq!(mock_run(|_| blocks(), b"").output[0], 2);
    assert_eq!(grafos_std::block::FabricBlock::hello().unwrap().num_blocks(), 2);
}

#[test]
fn every_thread_has_a_cell_of_its_own() {
    host::reset_mock();
    host::mock_set_fbmu_arena_size(64);
    std::thread::spawn(|| assert_eq!(host::fbmu_size(0), -5)).join().unwrap();
    assert_eq!(host::fbmu_size(0), 64);
}

#[test]
fn what_a_cell_refuses_the_mock_refuses() {
    host::reset_mock();
    let mut byte = [0];
    assert_eq!(host::buffer_read(0, 0, &mut byte), -22);
    assert_eq!(host::buffer_read(3, 0, &mut byte), -22);
    assert_eq!(host::buffer_read(2, 1, &mut byte), -22);
    assert_eq!(host::buffer_read(2, 0, &mut byte), 0);
}
